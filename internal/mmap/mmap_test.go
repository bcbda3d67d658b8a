package mmap

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 1, 4095, 4096, 4097, 100_001} {
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(i * 7)
		}
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(f.Bytes(), want) {
			t.Errorf("%d bytes: content differs", size)
		}
		for range 2 {
			if err := f.Close(); err != nil {
				t.Errorf("%d bytes: close: %v", size, err)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "missing")} {
		if f, err := Open(path); err == nil {
			f.Close()
			t.Errorf("Open(%s) succeeded", path)
		}
	}
}

func TestReplacedByRename(t *testing.T) {
	dir := t.TempDir()
	path, next := filepath.Join(dir, "f"), filepath.Join(dir, "g")
	if err := os.WriteFile(path, []byte("old bytes"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(next, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Skip("this system does not replace a mapped file: ", err)
	}
	if string(f.Bytes()) != "old bytes" {
		t.Errorf("mapping changed to %q", f.Bytes())
	}
}
