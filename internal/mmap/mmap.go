// Package mmap maps whole files into memory, read-only.
package mmap

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
)

// File is a read-only view of a regular file.
//
// The bytes are shared with the file system, so a file must not be shortened
// while it is mapped: reading past its new end is a fault that the operating
// system reports as a signal. Everything in cria that publishes a model file
// replaces it by rename, which leaves an existing mapping intact.
type File struct {
	data  []byte
	unmap func() error
}

// Open maps the regular file at path. An empty file gives an empty view.
func Open(path string) (*File, error) {
	// A pipe blocks in open until somebody writes, so the kind is asked first.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "map", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	size := info.Size()
	switch {
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "map", Path: path, Err: errors.New("not a regular file")}
	case size > math.MaxInt:
		return nil, &fs.PathError{Op: "map", Path: path, Err: fmt.Errorf("%d bytes do not fit in the address space", size)}
	case size == 0:
		return &File{unmap: func() error { return nil }}, nil
	}
	data, unmap, err := mapFile(f, int(size))
	if err != nil {
		return nil, &fs.PathError{Op: "map", Path: path, Err: err}
	}
	return &File{data: data, unmap: unmap}, nil
}

// Bytes returns the file's content, valid until Close. It must not be written to.
func (f *File) Bytes() []byte { return f.data }

// Close removes the mapping; slices of Bytes must not be used afterwards.
// Closing twice is harmless.
func (f *File) Close() error {
	unmap := f.unmap
	f.data, f.unmap = nil, nil
	if unmap == nil {
		return nil
	}
	return unmap()
}
