//go:build windows

package mmap

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

func mapFile(f *os.File, size int) ([]byte, func() error, error) {
	mapping, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, windows.PAGE_READONLY, 0, 0, nil)
	if err != nil {
		return nil, nil, err
	}
	addr, err := windows.MapViewOfFile(mapping, windows.FILE_MAP_READ, 0, 0, uintptr(size))
	if err != nil {
		return nil, nil, errors.Join(err, windows.CloseHandle(mapping))
	}
	// The view lies outside the Go heap. The conversion goes through the
	// address of addr because vet takes uintptr-to-pointer for a mistake.
	data := unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), size)
	unmap := func() error {
		return errors.Join(windows.UnmapViewOfFile(addr), windows.CloseHandle(mapping))
	}
	return data, unmap, nil
}
