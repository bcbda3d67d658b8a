package hub

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"cria/internal/disk"
)

// Plan is what a pull will do, before anything is written.
type Plan struct {
	Ref     Ref
	Commit  string // empty where the hub does not say it
	Dir     string // the directory, once Fetch is done
	Files   []File // that will be there, sorted by path
	Skipped []File // that the repository has beside them
	Missing int64  // bytes that are to be fetched

	c       *Client
	opt     Options
	news    *reporter
	store   store
	inPlace map[string]bool     // paths that are in Dir already
	ready   map[string]bool     // keys whose content is in the store, checked
	local   map[string][]string // copies elsewhere on this machine, by key
	damaged []string            // files with the right name and the wrong content
	done    bool                // nothing to do: Dir is whole
}

// Plan asks the hub what the repository has and looks what is here already, checking hashes of what cria has not checked
// before. Offline it succeeds only if the cache has everything.
func (c *Client) Plan(ctx context.Context, ref Ref, opt Options) (*Plan, error) {
	p := &Plan{Ref: ref, c: c, opt: opt, news: newReporter(opt.Progress), inPlace: map[string]bool{}, ready: map[string]bool{}, local: map[string][]string{}}
	if c.env.Offline {
		dir, why := c.cached(ref)
		if dir == "" || opt.To != "" || opt.Files != nil {
			return nil, c.offline(ref, cmp.Or(why, "what is asked for is not in the cache as it stands"))
		}
		p.Dir, p.done = dir, true
		return p, nil
	}
	commit, files, err := c.list(ctx, p.news, ref)
	if err != nil {
		return nil, err
	}
	p.Commit = commit
	p.store = c.cache(ref, commit)
	memory, _ := p.store.readRecord()
	if opt.To != "" {
		to, err := filepath.Abs(opt.To)
		if err != nil {
			return nil, err
		}
		p.store = store{root: to, rel: "."}
	}
	p.Dir = p.store.dir()
	index := func(f File) ([]byte, error) { return p.small(ctx, f) }
	if p.Files, p.Skipped, err = choose(ref, files, opt.Files, index); err != nil {
		return nil, err
	}
	for _, f := range p.Files {
		if err := f.checkable(); err != nil {
			return nil, fmt.Errorf("%s %w", c.hubs[ref.Source].base.Host, err)
		}
	}
	if err := p.look(ctx, memory); err != nil {
		return nil, err
	}
	if ref.Source == ModelScope && opt.To == "" {
		p.useOldCache()
	}
	return p, nil
}

// small returns the content of a small file of the listing, from here or from the hub; nothing is written.
func (p *Plan) small(ctx context.Context, f File) ([]byte, error) {
	if err := f.checkable(); err != nil {
		return nil, fmt.Errorf("%s %w", p.c.hubs[p.Ref.Source].base.Host, err)
	}
	const limit = 64 << 20
	if f.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", f.Path, f.Size, limit)
	}
	right := func(b []byte) bool {
		got, err := sum(ctx, f, bytes.NewReader(b), func(int64) {})
		return err == nil && got == f.key() && int64(len(b)) == f.Size
	}
	for _, name := range []string{p.store.file(f.Path), p.store.blob(f)} {
		if b, err := disk.ReadFile(name, f.Size); err == nil && right(b) {
			return b, nil
		}
	}
	var out []byte
	t := p.transfer(f)
	err := p.c.retry(ctx, p.news, f.Path, func() (bool, error) {
		resp, err := p.c.get(ctx, t.h, t.url, "")
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if err := t.judge(resp, span{0, f.Size}, true); err != nil {
			return false, err
		}
		if out, err = io.ReadAll(io.LimitReader(resp.Body, f.Size)); err == nil && !right(out) {
			err = fmt.Errorf("%s: %s sends %d bytes that do not have the hash %s: %w", f.Path, resp.Request.URL.Host, len(out), f.key(), errHash)
		}
		return false, err
	})
	return out, err
}

func (p *Plan) transfer(f File) *transfer {
	return &transfer{c: p.c, h: p.c.hubs[p.Ref.Source], ref: p.Ref, file: f, url: p.c.fileURL(p.Ref, p.Commit, f.Path), news: p.news}
}

// right reports whether the file at name has f's content. What the record knows is not read again.
func (p *Plan) right(ctx context.Context, name string, f File, memory record) (bool, error) {
	info, ok := regular(name)
	if !ok || info.Size() != f.Size {
		return false, nil
	}
	if memory.checked(f, info) {
		return true, nil
	}
	in, err := os.Open(name)
	if err != nil {
		return false, nil
	}
	defer in.Close()
	got, err := sum(ctx, f, in, func(done int64) {
		p.news.send(Event{File: f.Path, Done: done, Size: f.Size, Checking: true})
	})
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return err == nil && got == f.key(), nil
}

// look finds out what is on this machine.
func (p *Plan) look(ctx context.Context, memory record) error {
	var differ []string
	counted := map[string]bool{}
	for _, f := range p.Files {
		name := p.store.file(f.Path)
		ok, err := p.right(ctx, name, f, memory)
		if err != nil {
			return err
		}
		if p.inPlace[f.Path] = ok; ok {
			continue
		}
		if _, err := os.Lstat(name); err == nil {
			differ = append(differ, f.Path)
		}
		key := f.key()
		if counted[key] {
			continue
		}
		counted[key] = true
		blob := p.store.blob(f)
		if p.ready[key], err = p.right(ctx, blob, f, memory); err != nil {
			return err
		}
		if p.ready[key] {
			continue
		}
		if _, err := os.Lstat(blob); err == nil {
			p.damaged = append(p.damaged, blob)
		}
		for _, name := range p.elsewhere(f) {
			ok, err := p.right(ctx, name, f, memory)
			if err != nil {
				return err
			}
			if ok {
				p.local[key] = append(p.local[key], name)
				break
			}
		}
		if p.local[key] == nil {
			p.Missing += f.Size - p.started(f)
		}
	}
	if p.opt.To != "" && !p.opt.Force && len(differ) > 0 {
		return fmt.Errorf("%s has %s, and the repository has something else under that name; move it away, name another directory, or use --force to replace it",
			p.opt.To, strings.Join(differ[:min(len(differ), 5)], ", "))
	}
	return nil
}

// started is how many bytes of a file an earlier run has fetched.
func (p *Plan) started(f File) int64 {
	info, ok := regular(p.store.part(f))
	if !ok {
		return 0
	}
	doubt, safe := readJournal(journalPath(p.store.part(f)), f, info.Size())
	for _, s := range safe {
		doubt = doubt.add(s)
	}
	return doubt.total()
}

// elsewhere lists where copies of a file may be: for a directory of the user's the cache, for ModelScope's cache the
// folders of older clients and other revisions.
func (p *Plan) elsewhere(f File) (names []string) {
	s := p.c.cache(p.Ref, p.Commit)
	if p.opt.To != "" {
		names = append(names, s.file(f.Path), s.blob(f))
	}
	if p.Ref.Source == ModelScope {
		for _, dir := range append(disk.Match(filepath.Join(s.root, "snapshots"), "*"), p.c.oldCaches(p.Ref)...) {
			names = append(names, filepath.Join(dir, filepath.FromSlash(f.Path)))
		}
	}
	return names
}

// useOldCache makes the folder of an older ModelScope client the result if it has everything. Nothing is ever written there:
// its index is a pickle.
func (p *Plan) useOldCache() {
	for _, dir := range p.c.oldCaches(p.Ref) {
		if len(p.Files) > 0 && !slices.ContainsFunc(p.Files, func(f File) bool {
			return !slices.Contains(p.local[f.key()], filepath.Join(dir, filepath.FromSlash(f.Path)))
		}) {
			p.Dir, p.Missing, p.done = dir, 0, true
			return
		}
	}
}

// Fetch does what the plan says and returns the directory.
func (p *Plan) Fetch(ctx context.Context) (dir string, err error) {
	if p.done {
		return p.Dir, nil
	}
	if err := p.space(); err != nil {
		return "", err
	}
	prepared := p.store.prepare()
	if !slices.ContainsFunc(p.Files, func(f File) bool { return !p.inPlace[f.Path] }) {
		if prepared == nil {
			p.finish() // best effort: the cache may be one that others look after
		}
		return p.Dir, nil
	}
	if prepared != nil {
		return "", prepared
	}
	for _, name := range p.damaged {
		p.news.note("%s does not have the content of its name; fetching it again", name)
		if err := os.Remove(name); err != nil {
			return "", err
		}
	}
	if err := p.fetchAll(ctx); err != nil {
		return "", err
	}
	if err := p.store.publish(p.Files, p.inPlace, p.c.env.NoLinks, func(f File) bool {
		ok, _ := p.right(ctx, p.store.file(f.Path), f, record{})
		return ok
	}); err != nil {
		return "", err
	}
	if err := p.finish(); err != nil {
		return "", err
	}
	return p.Dir, nil
}

// space refuses what does not fit.
func (p *Plan) space() error {
	need := p.Missing
	for key := range p.local {
		for _, f := range p.Files {
			if f.key() == key {
				need += f.Size
				break
			}
		}
	}
	const spare = 16 << 20
	free, err := disk.FreeSpace(p.store.root)
	if err != nil || need == 0 || free >= uint64(need+spare) {
		return nil
	}
	return fmt.Errorf("%s has %d MB free, %s needs %d MB; make room, or name another directory with --to, HF_HUB_CACHE or MODELSCOPE_CACHE",
		p.store.root, free/1e6, p.Ref, (need+spare)/1e6)
}

// fetchAll gets every content that is not here, the small ones first.
func (p *Plan) fetchAll(ctx context.Context) error {
	var queue []File
	queued := map[string]bool{}
	for _, f := range p.Files {
		if !p.inPlace[f.Path] && !p.ready[f.key()] && !queued[f.key()] {
			queued[f.key()] = true
			queue = append(queue, f)
		}
	}
	slices.SortStableFunc(queue, func(a, b File) int { return cmp.Compare(a.Size, b.Size) })
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	files := make(chan File)
	var all sync.WaitGroup
	for range filesAtOnce {
		all.Go(func() {
			for f := range files {
				if err := p.fetchFile(ctx, f); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for _, f := range queue {
		select {
		case files <- f:
		case <-ctx.Done():
			break feed
		}
	}
	close(files)
	all.Wait()
	return context.Cause(ctx)
}

// fetchFile gets one content into the store. While another process works on it, it waits, as long as that one gets on.
func (p *Plan) fetchFile(ctx context.Context, f File) error {
	name, path := p.store.blob(f), p.store.part(f)
	told := false
	for taken := 0; ; {
		if ok, err := p.arrived(ctx, f); ok || err != nil {
			return err
		}
		part, err := openPart(path, f, p.c.busy)
		if err == nil {
			if ok, err := p.arrived(ctx, f); ok || err != nil { // while we opened
				part.remove()
				return err
			}
			t := p.transfer(f)
			t.part = part
			err = t.fetch(ctx, p.local[f.key()], name)
		}
		if errors.Is(err, fs.ErrNotExist) && taken < 10 { // where locks do not hold, another process may publish our part
			taken++
			continue
		}
		if !errors.Is(err, errBusy) {
			return err
		}
		if !told {
			told = true
			p.news.note("another process is fetching %s; waiting for it", f.Path)
		}
		if time.Since(touched(path)) > p.c.busy {
			p.news.note("the other process does not get on with %s; fetching it here", f.Path)
			path = filepath.Join(p.store.work(), f.key()+"."+tag()+".part")
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// arrived reports whether the content is in the store, or has its name already: another process may have been faster.
func (p *Plan) arrived(ctx context.Context, f File) (bool, error) {
	ok, err := p.right(ctx, p.store.blob(f), f, record{})
	if ok || err != nil || p.store.blobs {
		return ok, err
	}
	return p.right(ctx, p.store.file(f.Path), f, record{})
}

// finish writes down what is there now and removes what earlier runs left.
func (p *Plan) finish() error {
	s := p.store
	if s.keep != "" {
		if old, ok := s.readRecord(); ok && !s.blobs && old.Commit != p.Commit {
			p.removeStale(old)
		}
		if err := s.remember(p.Ref, p.Commit, p.Files, p.opt.Files == nil); err != nil {
			return err
		}
		if rev := p.Ref.revision(); s.blobs && rev != p.Commit {
			ref := filepath.Join(s.root, "refs", filepath.FromSlash(rev))
			if b, err := os.ReadFile(ref); err != nil || string(b) != p.Commit {
				if err := s.replace(ref, []byte(p.Commit)); err != nil {
					return err
				}
			}
		}
	}
	for _, f := range p.Files {
		s.sweep(f)
	}
	entries, _ := os.ReadDir(s.work())
	for _, e := range entries {
		old := 7 * 24 * time.Hour // parts of other commits
		if strings.HasPrefix(e.Name(), "tmp-") {
			old = p.c.busy // who is alive needs such a name for an instant
		}
		if info, err := e.Info(); err == nil && filepath.Ext(e.Name()) != ".json" && time.Since(info.ModTime()) > old {
			os.RemoveAll(filepath.Join(s.work(), e.Name()))
		}
	}
	os.Remove(s.work()) // only if it is empty
	return nil
}

// removeStale removes from a directory that follows a branch the files that cria put there and the branch no longer has.
func (p *Plan) removeStale(old record) {
	has := map[string]bool{}
	for _, f := range append(slices.Clone(p.Files), p.Skipped...) {
		has[f.Path] = true
	}
	root, err := os.OpenRoot(p.store.dir())
	if err != nil {
		return
	}
	defer root.Close()
	for _, f := range old.Files {
		if !has[f.Path] {
			root.Remove(filepath.FromSlash(f.Path))
		}
	}
}
