package hub

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cria/internal/disk"
)

// part is a file on its way: <hash>.part, and <hash>.journal with the ranges of it that were written:
//
//	cria-journal 1 <hash> <size>
//	<mark> <start> <end> <CRC-32 of the three, 8 hexadecimal digits>
//	...
//
// A line is appended, without fsync, as soon as its bytes are written: that outlives the process, not a loss of power.
// Every few seconds the bytes are synced and a new journal, synced too, takes the old one's place. So the marks are
//
//	=  on the disk before the journal was written
//	+  written by this process since
//	?  written by an earlier process that did not come to sync it
//
// and everything counts as done at first. If the hash of the whole then differs, what is marked ? is fetched again: a loss
// of power may have taken it. If it differs once more, all is fetched again.
type part struct {
	path  string // of the bytes
	file  File
	f     *os.File
	lock  io.Closer
	every time.Duration // between syncs

	mu      sync.Mutex
	journal *os.File
	safe    spans // marked =
	doubt   spans // marked ?
	fresh   spans // marked +
	err     error // the first failure to write
	stop    chan struct{}
	syncer  sync.WaitGroup
}

const (
	journalHead = "cria-journal 1 "
	maxJournal  = 64 << 20
)

func journalPath(part string) string { return strings.TrimSuffix(part, ".part") + ".journal" }

// tryLock is the file system's lock; tests have file systems that lie about it.
var tryLock = disk.OS{}.TryLock

// errBusy says that another process works on the part.
var errBusy = errors.New("another process is fetching this file")

// openPart opens or makes the part at path and takes its lock. If another process has the lock, or if the file system cannot
// lock and the part was written to in the last busy, it returns errBusy.
func openPart(path string, f File, busy time.Duration) (*part, error) {
	for range 10 {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		info, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, err
		}
		lock, err := tryLock(path)
		switch {
		case errors.Is(err, disk.ErrLocked):
			file.Close()
			return nil, errBusy
		case errors.Is(err, errors.ErrUnsupported):
			if info.Size() > 0 && time.Since(touched(path)) < busy {
				file.Close()
				return nil, errBusy
			}
			lock = io.NopCloser(nil)
		case errors.Is(err, fs.ErrNotExist):
			file.Close()
			continue
		case err != nil:
			file.Close()
			return nil, err
		}
		if named, err := os.Stat(path); err != nil || !os.SameFile(info, named) { // published by another between our calls
			lock.Close()
			file.Close()
			continue
		}
		p := &part{path: path, file: f, f: file, lock: lock, every: 2 * time.Second, stop: make(chan struct{})}
		p.doubt, p.safe = readJournal(journalPath(path), f, info.Size())
		if err := p.rewrite(); err != nil {
			p.Close()
			return nil, err
		}
		disk.OS{}.SyncDir(filepath.Dir(path)) // best effort: without it a loss of power may take the whole part
		p.syncer.Go(p.syncNowAndThen)
		return p, nil
	}
	return nil, fmt.Errorf("%s keeps disappearing", path)
}

// touched is when a part or its journal was last written to.
func touched(path string) (t time.Time) {
	for _, name := range []string{path, journalPath(path)} {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(t) {
			t = info.ModTime()
		}
	}
	return t
}

// readJournal reads the ranges of a journal, up to the first line that is not whole. A journal of something else is empty.
func readJournal(path string, f File, size int64) (doubt, safe spans) {
	b, err := disk.ReadFile(path, maxJournal)
	if err != nil {
		return nil, nil
	}
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	if string(head) != fmt.Sprint(journalHead, f.key(), " ", f.Size) {
		return nil, nil
	}
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		var mark rune
		var s span
		var sum uint32
		if n, err := fmt.Sscanf(string(line), "%c %d %d %8x", &mark, &s.start, &s.end, &sum); !whole || err != nil || n != 4 {
			break
		}
		if string(line) != journalLine(byte(mark), s) {
			break
		}
		rest = after
		switch {
		case s.start < 0 || s.start >= s.end || s.end > min(f.Size, size): // the file system lost the end
		case mark == '=':
			safe = safe.add(s)
		default:
			doubt = doubt.add(s)
		}
	}
	return doubt, safe
}

func journalLine(mark byte, s span) string {
	text := fmt.Sprintf("%c %d %d", mark, s.start, s.end)
	return fmt.Sprintf("%s %08x", text, crc32.ChecksumIEEE([]byte(text)))
}

// rewrite puts a new journal in the old one's place. p.mu is held, or nobody else has p yet.
func (p *part) rewrite() error {
	var b bytes.Buffer
	fmt.Fprintln(&b, fmt.Sprint(journalHead, p.file.key(), " ", p.file.Size))
	for mark, set := range map[byte]spans{'=': p.safe, '?': p.doubt, '+': p.fresh} {
		for _, s := range set {
			fmt.Fprintln(&b, journalLine(mark, s))
		}
	}
	path := journalPath(p.path)
	tmp := path + "." + tag()
	err := writeSynced(tmp, b.Bytes())
	if p.journal != nil {
		err = errors.Join(err, p.journal.Close()) // Windows renames nothing over an open file
		p.journal = nil
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	p.journal, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o666)
	return err
}

// writeSynced makes a new, durable file.
func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// tag is 12 random hexadecimal digits.
func tag() string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// done is the set of bytes that are written.
func (p *part) done() spans {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doneLocked()
}

func (p *part) doneLocked() spans {
	var all spans
	for _, set := range []spans{p.safe, p.doubt, p.fresh} {
		for _, s := range set {
			all = all.add(s)
		}
	}
	return all
}

// write puts bytes at their place and into the journal. Several goroutines may write at once.
func (p *part) write(b []byte, at int64) error {
	if _, err := p.f.WriteAt(b, at); err != nil {
		return p.failed(err)
	}
	s := span{at, at + int64(len(b))}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.fresh = p.fresh.add(s)
	if _, err := p.journal.WriteString(journalLine('+', s) + "\n"); err != nil {
		p.err = p.failed(err)
		return p.err
	}
	return nil
}

func (p *part) failed(err error) error {
	return permanent{fmt.Errorf("writing %s: %w; what was fetched is kept, and the next run goes on there", p.file.Path, err)}
}

func (p *part) syncNowAndThen() {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.sync()
		}
	}
}

// sync makes what is written durable and says so in the journal.
func (p *part) sync() {
	p.mu.Lock()
	fresh := append(spans(nil), p.fresh...)
	p.mu.Unlock()
	if len(fresh) == 0 {
		return
	}
	err := p.f.Sync()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		for _, s := range fresh {
			p.safe = p.safe.add(s)
		}
		p.fresh = p.fresh.without(fresh)
		err = p.rewrite()
	}
	if err != nil && p.err == nil {
		p.err = p.failed(err)
	}
}

// forget drops the doubtful ranges, or all if there are none, and reports whether some of the file is left.
func (p *part) forget() (some bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if some = len(p.doubt) > 0; some {
		p.safe, p.fresh = p.safe.without(p.doubt), p.fresh.without(p.doubt)
	} else {
		p.safe, p.fresh = nil, nil
	}
	p.doubt = nil
	return some, p.rewrite()
}

// publish gives the part, whose hash was checked, its name. The part is closed.
func (p *part) publish(name string) error {
	held, err1 := p.f.Stat()
	named, err2 := os.Stat(p.path)
	err := errors.Join(err1, err2)
	if err == nil && !os.SameFile(held, named) {
		err = fmt.Errorf("%s was taken away by another process: %w", p.path, fs.ErrNotExist)
	}
	if err == nil {
		err = p.f.Sync()
	}
	err = errors.Join(err, p.closeFiles())
	if err == nil {
		err = os.Rename(p.path, name)
	}
	if err == nil {
		os.Remove(journalPath(p.path))
	}
	p.lock.Close()
	if err != nil {
		return p.failed(err)
	}
	if err := (disk.OS{}).SyncDir(filepath.Dir(name)); err != nil {
		return p.failed(err)
	}
	return nil
}

// Close ends the work on the part and leaves it for the next.
func (p *part) Close() error {
	err := p.closeFiles()
	p.lock.Close()
	return err
}

func (p *part) closeFiles() error {
	close(p.stop)
	p.syncer.Wait()
	var err error
	if p.journal != nil {
		err = p.journal.Close()
	}
	return errors.Join(err, p.f.Close())
}

// remove deletes the part and its journal.
func (p *part) remove() {
	p.Close()
	os.Remove(journalPath(p.path))
	os.Remove(p.path)
}

// newHash returns the hash that a file is checked with: SHA-256, or the SHA-1 of its git blob.
func newHash(f File) hash.Hash {
	if f.SHA256 != "" {
		return sha256.New()
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", f.Size)
	return h
}

// sum reads size bytes and returns their hash, in the hexadecimal form of f's.
func sum(ctx context.Context, f File, r io.ReaderAt, progress func(done int64)) (string, error) {
	h := newHash(f)
	buf := make([]byte, 1<<20)
	in := io.NewSectionReader(r, 0, f.Size)
	for done := int64(0); done < f.Size; {
		if err := ctx.Err(); err != nil {
			return "", context.Cause(ctx)
		}
		n, err := io.ReadFull(in, buf[:min(f.Size-done, int64(len(buf)))])
		if err != nil {
			return "", err
		}
		h.Write(buf[:n])
		done += int64(n)
		progress(done)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
