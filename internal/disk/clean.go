package disk

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

// staleAge is how old a temporary name must be before it counts as abandoned where file systems cannot lock.
const staleAge = 24 * time.Hour

// RemoveDir deletes a published directory. It is renamed first, so that a loss of power never leaves a part of it under
// its name.
func RemoveDir(fsys FS, dir string) error {
	dir = filepath.Clean(dir)
	return discard(fsys, dir, beside(dir, kindDeleted, newTag()))
}

// discard renames a directory to a name that nobody reads, and deletes it there.
func discard(fsys FS, dir, del string) error {
	if err := fsys.Rename(dir, del); err != nil {
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return removeTree(fsys, del)
}

// CleanTemps repairs what writers that died have left in parent: unfinished temporary files and directories are removed,
// and a directory that was being replaced is put back if its successor did not arrive. What a living writer works on is
// left alone. Where the file system cannot lock, a temporary name counts as abandoned after a day.
func CleanTemps(fsys FS, parent string) error {
	entries, err := fsys.ReadDir(parent)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		m := besideName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		dst := filepath.Join(parent, m[1])
		switch m[2] {
		case kindTemp:
			err = cleanTemp(fsys, filepath.Join(parent, e.Name()))
		case kindOld:
			err = cleanOld(fsys, dst, m[3])
		case kindDeleted:
			// The rename may not be durable yet if the process died right after it.
			if err = fsys.SyncDir(parent); err == nil {
				err = removeTree(fsys, filepath.Join(parent, e.Name()))
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func cleanTemp(fsys FS, tmp string) error {
	lock, err := fsys.TryLock(tmp)
	if errors.Is(err, ErrLocked) {
		return nil
	}
	if errors.Is(err, errors.ErrUnsupported) {
		if info, err := fsys.Lstat(tmp); err != nil || time.Since(info.ModTime()) < staleAge {
			return err
		}
	} else if err != nil {
		return err
	} else {
		defer lock.Close()
	}
	return removeTree(fsys, tmp)
}

// cleanOld ends a replacement that was cut off. The caller meets <dst>.old-<tag> before <dst>.tmp-<tag> (sorted names), so
// the writer's lock can still be asked for.
func cleanOld(fsys FS, dst, tag string) error {
	lock, err := fsys.TryLock(beside(dst, kindTemp, tag))
	if errors.Is(err, ErrLocked) {
		return nil // between its two renames
	}
	if err == nil {
		defer lock.Close()
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	old := beside(dst, kindOld, tag)
	if _, err := fsys.Lstat(dst); errors.Is(err, fs.ErrNotExist) {
		if err := fsys.Rename(old, dst); err != nil {
			return err
		}
		return fsys.SyncDir(filepath.Dir(dst))
	} else if err != nil {
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(dst)); err != nil { // the new name first
		return err
	}
	return discard(fsys, old, beside(dst, kindDeleted, tag))
}

// removeTree deletes a file or a directory with what is in it. A name that is gone already is no error.
func removeTree(fsys FS, name string) error {
	info, err := fsys.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := fsys.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := removeTree(fsys, filepath.Join(name, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
