// Package disk is the one door to files that cria writes: atomic publishing, manifests, locks and free space.
//
// Everything durable goes through the small [FS] interface, so that a test can lose power after every operation and fail
// every operation (package faultfs). What a reader finds under a published name is always whole:
//
//	<dst>.tmp-<12 hex>   being written; locked by its writer, worthless once the writer is dead
//	<dst>                published: files, then MANIFEST.json with the size and SHA-256 of each
//	<dst>.old-<12 hex>   the directory that is being replaced, whole; put back if the replacement never arrived
//	<dst>.del-<12 hex>   being deleted, worthless
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrLocked is returned by FS.TryLock while another open lock on the same file or directory exists.
var ErrLocked = errors.New("locked by another process")

// FS is the set of file operations that cria's writers use. Names are paths in the operating system's syntax.
// Implementations: [OS], and faultfs.FS in tests.
type FS interface {
	// Create makes a new file for writing; it fails with fs.ErrExist if the name is taken.
	Create(name string) (File, error)
	// Append opens an existing file for writing behind its end.
	Append(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// Mkdir makes a directory; it fails with fs.ErrExist if the name is taken.
	Mkdir(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Lstat describes a name without following a symbolic link.
	Lstat(name string) (fs.FileInfo, error)
	// Rename moves a file over a file or nothing, or a directory over nothing, within one directory, in one step.
	Rename(from, to string) error
	// Remove deletes a file or an empty directory.
	Remove(name string) error
	// SyncDir makes the names in a directory durable (fsync); where the system has no such call it does nothing.
	SyncDir(name string) error
	// TryLock takes the exclusive advisory lock of an existing file or directory. The lock follows renames and ends with
	// Close or with the process. It fails with ErrLocked while somebody has it, and with errors.ErrUnsupported where the
	// system or the file system cannot lock.
	TryLock(name string) (io.Closer, error)
}

// File is an open file of an [FS].
type File interface {
	io.Reader
	io.Writer
	io.Closer
	// Sync makes the file's bytes durable (fsync), not its name.
	Sync() error
}

// OS is the operating system's file system.
type OS struct{}

var _ FS = OS{}

func (OS) Create(name string) (File, error) {
	return file(os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666))
}

func (OS) Append(name string) (File, error) {
	return file(os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0))
}

func (OS) Open(name string) (File, error) { return file(os.Open(name)) }

// file keeps a nil *os.File from becoming a File that is not nil.
func file(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (OS) Mkdir(name string) error                    { return os.Mkdir(name, 0o777) }
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (OS) Lstat(name string) (fs.FileInfo, error)     { return os.Lstat(name) }
func (OS) Rename(from, to string) error               { return os.Rename(from, to) }
func (OS) Remove(name string) error                   { return os.Remove(name) }

// MkdirAll makes dir and its missing parents, each durable.
func MkdirAll(fsys FS, dir string) error {
	dir = filepath.Clean(dir)
	switch info, err := fsys.Lstat(dir); {
	case err == nil && (info.IsDir() || info.Mode()&fs.ModeSymlink != 0):
		return nil
	case err == nil:
		return fmt.Errorf("make directory %s: %w and is no directory", dir, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fsys.SyncDir(parent)
}
