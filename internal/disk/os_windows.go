package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// removeLocked says whether a locked file can be removed by its holder.
const removeLocked = false

// lockFile locks one byte far behind the end, so that others can still read who holds the lock.
func lockFile(f *os.File) error {
	at := windows.Overlapped{OffsetHigh: 1}
	flags := uint32(windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY)
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("%w: LockFileEx: %v", errors.ErrUnsupported, err)
	}
	return nil
}

// TryLock is not supported: an open handle would keep the name from being renamed.
func (OS) TryLock(name string) (io.Closer, error) {
	if _, err := os.Lstat(name); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("lock %s: %w", name, errors.ErrUnsupported)
}

// SyncDir does nothing: NTFS journals names, and directories cannot be flushed.
func (OS) SyncDir(string) error { return nil }

func freeSpace(path string) (uint64, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, nil, nil); err != nil {
		return 0, &os.PathError{Op: "free space", Path: path, Err: err}
	}
	return free, nil
}
