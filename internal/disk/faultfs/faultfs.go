// Package faultfs is a file system in memory for tests: it can lose power and it can fail.
//
// It is pessimistic, as POSIX allows: bytes are durable only after Sync of the file, names only after SyncDir of their
// directory, and what was not synced may be lost in part and in any order. A rename is one step. Renames between
// directories are not modelled.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"cria/internal/disk"
)

// Loss says what of the unsynced state survives a loss of power.
type Loss int

const (
	LoseAll    Loss = iota // nothing: only synced bytes and names
	KeepAll                // everything, as after kill -9
	LoseBytes              // names survive, bytes do not
	LoseNames              // bytes survive, names do not
	Torn                   // names survive; of unsynced bytes the length survives, and every other 512-byte page is zero
	RandomLoss             // each name change survives or not; of each file a random length, the last page perhaps zero
)

// Losses lists every mode.
var Losses = []Loss{LoseAll, KeepAll, LoseBytes, LoseNames, Torn, RandomLoss}

func (l Loss) String() string {
	return [...]string{"lose all", "keep all", "lose bytes", "lose names", "torn", "random"}[l]
}

// ErrShort, injected into a write, makes it write half of its bytes and report no error.
var ErrShort = errors.New("short write")

const page = 512

// FS is a file system in memory with one root; names are cleaned, and relative names count from the root.
// It is not safe for concurrent use.
type FS struct {
	root *node

	ops    int
	failAt int // 0: never
	fail   error
	sticky bool

	// After, if set, is called after every operation that was carried out, with its number from 1.
	After func(op int, what string)
}

type node struct {
	dir  bool
	time time.Time

	data, synced []byte // of a file: as the process sees it, as it is after a loss of power

	names, durable map[string]*node // of a directory, likewise
	pending        []change         // what makes durable into names
	locked         *bool
}

// change is a step from durable to names: from vanishes if set, to appears as n if set.
type change struct {
	from, to string
	n        *node
}

func (c change) apply(names map[string]*node) {
	if c.from != "" && (c.n == nil || names[c.from] == c.n) {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.n
	}
}

func newDir() *node {
	return &node{dir: true, time: time.Now(), names: map[string]*node{}, durable: map[string]*node{}, locked: new(bool)}
}

// New returns an empty file system.
func New() *FS { return &FS{root: newDir()} }

// Ops returns how many operations were asked for since the last Inject, or since New.
func (f *FS) Ops() int { return f.ops }

// Inject lets the at-th operation from now (counted from 1) fail with err, and if sticky every later one; at 0 stops it.
// ErrShort applies to writes; other operations succeed. EROFS applies to operations that change something.
func (f *FS) Inject(at int, err error, sticky bool) {
	f.ops, f.failAt, f.fail, f.sticky = 0, at, err, sticky
}

// Crash returns the file system as it is found after power was lost now. seed is for RandomLoss.
func (f *FS) Crash(loss Loss, seed uint64) *FS {
	return &FS{root: f.root.crash(loss, rand.New(rand.NewPCG(seed, 0)), map[*node]*node{})}
}

// Kill returns the file system as it is found after the process was killed now: nothing is lost, locks are free, but what was
// not synced still is not durable.
func (f *FS) Kill() *FS { return &FS{root: f.root.kill(map[*node]*node{})} }

func (n *node) kill(seen map[*node]*node) *node {
	if n == nil || seen[n] != nil {
		return seen[n]
	}
	c := &node{dir: n.dir, time: n.time, data: slices.Clone(n.data), synced: slices.Clone(n.synced), locked: new(bool)}
	seen[n] = c
	if n.dir {
		c.names, c.durable = map[string]*node{}, map[string]*node{}
		for name, m := range n.names {
			c.names[name] = m.kill(seen)
		}
		for name, m := range n.durable {
			c.durable[name] = m.kill(seen)
		}
		for _, p := range n.pending {
			c.pending = append(c.pending, change{from: p.from, to: p.to, n: p.n.kill(seen)})
		}
	}
	return c
}

func (n *node) crash(loss Loss, rng *rand.Rand, seen map[*node]*node) *node {
	if c := seen[n]; c != nil {
		return c
	}
	if !n.dir {
		c := &node{time: n.time, data: n.surviving(loss, rng), locked: new(bool)}
		c.synced = slices.Clone(c.data)
		seen[n] = c
		return c
	}
	c := newDir()
	seen[n] = c
	names := maps.Clone(n.durable)
	for _, p := range n.pending {
		if loss == KeepAll || loss == LoseBytes || loss == Torn || loss == RandomLoss && rng.IntN(2) == 0 {
			p.apply(names)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c.names[name] = names[name].crash(loss, rng, seen)
	}
	c.durable = maps.Clone(c.names)
	return c
}

// surviving returns the bytes of a file after a loss of power.
func (n *node) surviving(loss Loss, rng *rand.Rand) []byte {
	kept := len(n.synced) // files only grow
	b := slices.Clone(n.data)
	switch loss {
	case LoseAll, LoseBytes:
		b = b[:kept]
	case Torn:
		for at := kept; at < len(b); at += 2 * page {
			clear(b[at:min(at+page, len(b))])
		}
	case RandomLoss:
		b = b[:kept+rng.IntN(len(b)-kept+1)]
		if len(b) > kept && rng.IntN(2) == 0 {
			clear(b[max(kept, len(b)-page):])
		}
	}
	return b
}

// begin counts an operation and returns the error to inject. For a short write it returns ErrShort.
func (f *FS) begin(op, name string, changes, write bool) error {
	f.ops++
	if f.failAt == 0 || f.ops < f.failAt || f.ops > f.failAt && !f.sticky {
		return nil
	}
	switch {
	case f.fail == ErrShort && !write:
		return nil
	case f.fail == ErrShort:
		return ErrShort
	case f.fail == syscall.EROFS && !changes:
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: f.fail}
}

func (f *FS) end(what string) {
	if f.After != nil {
		f.After(f.ops, what)
	}
}

// parent returns the directory that holds name, and name's last component.
func (f *FS) parent(op, name string) (*node, string, error) {
	parts := strings.Split(strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/"), "/")
	n := f.root
	for _, p := range parts[:len(parts)-1] {
		n = n.names[p]
		if n == nil || !n.dir {
			return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, parts[len(parts)-1], nil
}

func (f *FS) find(op, name string) (*node, error) {
	if c := filepath.ToSlash(filepath.Clean(name)); c == "." || c == "/" {
		return f.root, nil
	}
	dir, base, err := f.parent(op, name)
	if err != nil {
		return nil, err
	}
	if n := dir.names[base]; n != nil {
		return n, nil
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func (d *node) change(c change) {
	c.apply(d.names)
	d.pending = append(d.pending, c)
}

func (f *FS) add(op, name string, n *node) error {
	if err := f.begin(op, name, true, false); err != nil {
		return err
	}
	dir, base, err := f.parent(op, name)
	if err != nil {
		return err
	}
	if dir.names[base] != nil {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	dir.change(change{to: base, n: n})
	f.end(op + " " + name)
	return nil
}

func (f *FS) Create(name string) (disk.File, error) {
	n := &node{time: time.Now(), locked: new(bool)}
	if err := f.add("create", name, n); err != nil {
		return nil, err
	}
	return &file{fs: f, n: n, name: name}, nil
}

func (f *FS) Mkdir(name string) error { return f.add("mkdir", name, newDir()) }

func (f *FS) Open(name string) (disk.File, error) { return f.open(name, false) }

// Append is Open: all writes go behind a file's end.
func (f *FS) Append(name string) (disk.File, error) { return f.open(name, true) }

func (f *FS) open(name string, changes bool) (disk.File, error) {
	if err := f.begin("open", name, changes, false); err != nil {
		return nil, err
	}
	n, err := f.find("open", name)
	if err != nil {
		return nil, err
	}
	return &file{fs: f, n: n, name: name}, nil
}

func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.begin("readdir", name, false, false); err != nil {
		return nil, err
	}
	n, err := f.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	var entries []fs.DirEntry
	for _, base := range slices.Sorted(maps.Keys(n.names)) {
		entries = append(entries, fs.FileInfoToDirEntry(info{base, n.names[base]}))
	}
	return entries, nil
}

func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	if err := f.begin("lstat", name, false, false); err != nil {
		return nil, err
	}
	n, err := f.find("lstat", name)
	if err != nil {
		return nil, err
	}
	return info{filepath.Base(name), n}, nil
}

func (f *FS) Rename(from, to string) error {
	if err := f.begin("rename", from, true, false); err != nil {
		return err
	}
	dir, base, err := f.parent("rename", from)
	if err != nil {
		return err
	}
	toDir, toBase, err := f.parent("rename", to)
	if err != nil {
		return err
	}
	n, over := dir.names[base], toDir.names[toBase]
	switch {
	case n == nil:
		err = fs.ErrNotExist
	case dir != toDir:
		err = errors.ErrUnsupported
	case over != nil && (n.dir || over.dir):
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: from, Err: err}
	}
	dir.change(change{from: base, to: toBase, n: n})
	f.end("rename " + from + " to " + to)
	return nil
}

func (f *FS) Remove(name string) error {
	if err := f.begin("remove", name, true, false); err != nil {
		return err
	}
	dir, base, err := f.parent("remove", name)
	if err != nil {
		return err
	}
	switch n := dir.names[base]; {
	case n == nil:
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	case len(n.names) > 0:
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	dir.change(change{from: base})
	f.end("remove " + name)
	return nil
}

func (f *FS) SyncDir(name string) error {
	if err := f.begin("syncdir", name, true, false); err != nil {
		return err
	}
	n, err := f.find("syncdir", name)
	if err != nil {
		return err
	}
	n.durable, n.pending = maps.Clone(n.names), nil
	f.end("syncdir " + name)
	return nil
}

func (f *FS) TryLock(name string) (io.Closer, error) {
	if err := f.begin("lock", name, false, false); err != nil {
		return nil, err
	}
	n, err := f.find("lock", name)
	if err != nil {
		return nil, err
	}
	if *n.locked {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: disk.ErrLocked}
	}
	*n.locked = true
	return unlock{n.locked}, nil
}

type unlock struct{ locked *bool }

func (u unlock) Close() error { *u.locked = false; return nil }

type file struct {
	fs   *FS
	n    *node
	name string
	at   int
}

func (f *file) Read(p []byte) (int, error) {
	if err := f.fs.begin("read", f.name, false, false); err != nil {
		return 0, err
	}
	if f.at >= len(f.n.data) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[f.at:])
	f.at += n
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	err := f.fs.begin("write", f.name, true, true)
	switch {
	case err == ErrShort:
		p, err = p[:len(p)/2], nil
	case err != nil:
		p = p[:len(p)/2] // a full disk takes a part
	}
	f.n.data = append(f.n.data, p...)
	f.fs.end(fmt.Sprintf("write %d bytes to %s", len(p), f.name))
	return len(p), err
}

func (f *file) Sync() error {
	if err := f.fs.begin("sync", f.name, true, false); err != nil {
		return err
	}
	f.n.synced = slices.Clone(f.n.data)
	f.fs.end("sync " + f.name)
	return nil
}

func (f *file) Close() error { return f.fs.begin("close", f.name, false, false) }

type info struct {
	name string
	n    *node
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(len(i.n.data)) }
func (i info) ModTime() time.Time { return i.n.time }
func (i info) IsDir() bool        { return i.n.dir }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.n.dir {
		return fs.ModeDir | 0o777
	}
	return 0o666
}
