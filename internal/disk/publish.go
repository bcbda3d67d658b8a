package disk

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// PublishDir makes the directory dst out of the files that fill writes, all or nothing. The files go to a temporary
// directory beside dst, each followed by fsync, MANIFEST.json last; then the temporary directory is renamed to dst and the
// parent synced. After a loss of power at any point dst is either absent or whole. On an error of fill or of the file
// system nothing is left under dst, and the temporary directory is removed if the file system still allows it
// (else by CleanTemps).
//
// A dst that exists and is not an empty directory is refused with fs.ErrExist.
func PublishDir(fsys FS, dst string, fill func(w *DirWriter) error) error {
	return publish(fsys, dst, false, fill)
}

// ReplaceDir is PublishDir for a dst that may exist, if it holds a manifest, that is if cria made it. The old directory is
// renamed aside, the new one renamed to dst, the parent synced, and then the old one deleted. After a loss of power at any
// point dst is the old or the new directory, whole, once CleanTemps has run: only between the two renames is the name
// empty, and CleanTemps then puts the old directory back.
func ReplaceDir(fsys FS, dst string, fill func(w *DirWriter) error) error {
	return publish(fsys, dst, true, fill)
}

// What lies under a name that is to be published.
type occupant int

const (
	nothing occupant = iota
	emptyDir
	ownDir // it has a manifest
	foreign
)

func look(fsys FS, dst string) (occupant, error) {
	info, err := fsys.Lstat(dst)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nothing, nil
	case err != nil:
		return foreign, err
	case !info.IsDir():
		return foreign, nil
	}
	entries, err := fsys.ReadDir(dst)
	switch {
	case err != nil:
		return foreign, err
	case len(entries) == 0:
		return emptyDir, nil
	case slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == ManifestName }):
		return ownDir, nil
	}
	return foreign, nil
}

func publish(fsys FS, dst string, replace bool, fill func(w *DirWriter) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("publish %s: %w", dst, err)
		}
	}()
	dst = filepath.Clean(dst)
	before, err := look(fsys, dst)
	if err != nil {
		return err
	}
	if before == foreign || before == ownDir && !replace {
		return fmt.Errorf("%w; choose another name or move it away", fs.ErrExist)
	}

	tag, lock, err := makeTemp(fsys, dst, fsys.Mkdir)
	if err != nil {
		return err
	}
	defer lock.Close()
	tmp := beside(dst, kindTemp, tag)
	moved := false
	defer func() {
		if !moved {
			removeTree(fsys, tmp) // best effort; CleanTemps finds what is left
		}
	}()

	w := &DirWriter{fsys: fsys, dir: tmp, files: []FileSum{}}
	if err := fill(w); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}

	parent := filepath.Dir(dst)
	switch before {
	case emptyDir:
		if err := fsys.Remove(dst); err != nil {
			return err
		}
	case ownDir:
		old := beside(dst, kindOld, tag)
		if err := fsys.Rename(dst, old); err != nil {
			return err
		}
		if err := fsys.Rename(tmp, dst); err != nil {
			if back := fsys.Rename(old, dst); back != nil {
				return fmt.Errorf("%w; the old directory is %s and could not be put back: %v", err, old, back)
			}
			return err
		}
		moved = true
		if err := fsys.SyncDir(parent); err != nil {
			return fmt.Errorf("written, but the system does not say that it is durable: %w", err)
		}
		discard(fsys, old, beside(dst, kindDeleted, tag)) // the new directory is safe; CleanTemps finds what is left
		return nil
	}
	if err := fsys.Rename(tmp, dst); err != nil {
		return err
	}
	moved = true
	if err := fsys.SyncDir(parent); err != nil {
		return fmt.Errorf("written, but the system does not say that it is durable: %w", err)
	}
	return nil
}

// makeTemp makes a fresh name beside dst and locks it, so that CleanTemps leaves it alone. Where the file system cannot
// lock, the lock is empty.
func makeTemp(fsys FS, dst string, create func(name string) error) (tag string, lock io.Closer, err error) {
	for range 10 {
		tag = newTag()
		tmp := beside(dst, kindTemp, tag)
		if err := create(tmp); err != nil {
			return "", nil, err
		}
		lock, err = fsys.TryLock(tmp)
		if errors.Is(err, ErrLocked) || errors.Is(err, fs.ErrNotExist) {
			continue // a cleaner came between the two calls
		}
		if errors.Is(err, errors.ErrUnsupported) {
			return tag, io.NopCloser(nil), nil
		}
		if err == nil {
			if _, err = fsys.Lstat(tmp); err == nil {
				return tag, lock, nil
			}
			lock.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			removeTree(fsys, tmp)
			return "", nil, err
		}
	}
	return "", nil, fmt.Errorf("temporary names beside %s keep disappearing", dst)
}

// DirWriter takes the files of one directory that is being published. It is for one goroutine.
type DirWriter struct {
	fsys  FS
	dir   string
	meta  json.RawMessage
	files []FileSum
	open  int
	err   error // the first failure; nothing is published after it, even if fill overlooks it
}

// SetMeta puts v, as JSON, into the manifest's "meta".
func (w *DirWriter) SetMeta(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return w.fail(fmt.Errorf("%s: meta: %w", ManifestName, err))
	}
	w.meta = b
	return nil
}

// Dir is the temporary directory in which closed files can be read before they are published.
func (w *DirWriter) Dir() string { return w.dir }

// Create starts the file called name (see ValidName; names that differ only in case collide). Close makes it durable and must be
// called before fill returns.
func (w *DirWriter) Create(name string) (io.WriteCloser, error) {
	if err := ValidName(name); err != nil {
		return nil, w.fail(err)
	}
	same := func(f FileSum) bool { return strings.EqualFold(f.Name, name) }
	if strings.EqualFold(name, ManifestName) || slices.ContainsFunc(w.files, same) {
		return nil, w.fail(fmt.Errorf("file %s: written twice", name))
	}
	f, err := w.fsys.Create(filepath.Join(w.dir, name))
	if err != nil {
		return nil, w.fail(err)
	}
	w.files = append(w.files, FileSum{Name: name})
	w.open++
	return &dirFile{w: w, f: f, index: len(w.files) - 1, hash: sha256.New()}, nil
}

// WriteFile creates the file called name with what fill writes.
func (w *DirWriter) WriteFile(name string, fill func(io.Writer) error) error {
	f, err := w.Create(name)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 64<<10)
	if err = fill(b); err == nil {
		err = b.Flush()
	}
	return errors.Join(err, f.Close())
}

func (w *DirWriter) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	return err
}

// finish writes the manifest and makes the directory durable.
func (w *DirWriter) finish() error {
	if w.err != nil {
		return w.err
	}
	if w.open > 0 {
		return fmt.Errorf("%d files were not closed", w.open)
	}
	slices.SortFunc(w.files, func(a, b FileSum) int { return strings.Compare(a.Name, b.Name) })
	m := Manifest{Format: manifestFormat, Version: manifestVersion, Meta: w.meta, Files: w.files}
	b, err := m.encode()
	if err != nil {
		return err
	}
	f, err := w.fsys.Create(filepath.Join(w.dir, ManifestName))
	if err != nil {
		return err
	}
	if err := writeSyncClose(f, b); err != nil {
		return fmt.Errorf("write %s: %w", ManifestName, err)
	}
	return w.fsys.SyncDir(w.dir)
}

type dirFile struct {
	w      *DirWriter
	f      File
	index  int
	hash   hash.Hash
	size   int64
	closed bool
}

func (d *dirFile) Write(p []byte) (int, error) {
	n, err := d.f.Write(p)
	d.hash.Write(p[:n])
	d.size += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return n, d.w.fail(fmt.Errorf("write %s at byte %d: %w", d.w.files[d.index].Name, d.size, err))
	}
	return n, nil
}

func (d *dirFile) Close() error {
	if d.closed {
		return fs.ErrClosed
	}
	d.closed = true
	d.w.open--
	sum := &d.w.files[d.index]
	sum.Size, sum.SHA256 = d.size, hex.EncodeToString(d.hash.Sum(nil))
	err := d.f.Sync()
	if cerr := d.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return d.w.fail(fmt.Errorf("close %s after %d bytes: %w", sum.Name, d.size, err))
	}
	return nil
}

func writeSyncClose(f File, b []byte) error {
	n, err := f.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// PublishFile puts data under path in one step: a reader, and the disk after a loss of power, has the old file or the new.
func PublishFile(fsys FS, path string, data []byte) error {
	return PublishStream(fsys, path, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	})
}

// PublishStream is PublishFile for a file that fill writes piece by piece.
func PublishStream(fsys FS, path string, fill func(w io.Writer) error) error {
	return PublishChecked(fsys, path, fill, func(string) error { return nil })
}

// PublishChecked is PublishStream with a check, which is given the temporary name of the whole file: with an error of check
// nothing is published.
func PublishChecked(fsys FS, path string, fill func(w io.Writer) error, check func(temp string) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("publish %s: %w", path, err)
		}
	}()
	path = filepath.Clean(path)
	var f File
	tag, lock, err := makeTemp(fsys, path, func(name string) error {
		if f != nil {
			f.Close() // of a name that a cleaner removed
		}
		f, err = fsys.Create(name)
		return err
	})
	if err != nil {
		if f != nil {
			f.Close()
		}
		return err
	}
	defer lock.Close()
	tmp := beside(path, kindTemp, tag)
	w := &checkedWriter{f: f}
	err = fill(w)
	if err == nil {
		err = w.err
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = check(tmp)
	}
	if err == nil {
		err = fsys.Rename(tmp, path)
	}
	if err != nil {
		fsys.Remove(tmp) // best effort; CleanTemps finds what is left
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("written, but the system does not say that it is durable: %w", err)
	}
	return nil
}

// checkedWriter keeps the first failure and turns a short write into one.
type checkedWriter struct {
	f   File
	n   int64
	err error
}

func (w *checkedWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.f.Write(p)
	w.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = fmt.Errorf("write at byte %d: %w", w.n, err)
	}
	return n, w.err
}
