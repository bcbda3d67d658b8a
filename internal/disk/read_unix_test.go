//go:build unix

package disk_test

import (
	"path/filepath"
	"testing"

	"cria/internal/disk"

	"golang.org/x/sys/unix"
)

// A pipe that nobody writes to and a device without an end are refused at once.
func TestReadFileRefusesPipes(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	for _, path := range []string{pipe, "/dev/zero"} {
		if _, err := disk.ReadFile(path, 1<<20); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}
