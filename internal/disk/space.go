package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// FreeSpace returns how many bytes this user can still write to the file system of path. Where path does not exist yet,
// its nearest existing parent counts.
func FreeSpace(path string) (bytes uint64, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return 0, err
	}
	for {
		_, err := os.Stat(path)
		if err == nil {
			return freeSpace(path)
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return 0, err
		}
		path = parent
	}
}
