package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// transfer is one file being fetched into its part.
type transfer struct {
	c    *Client
	h    *host
	ref  Ref
	file File
	url  *url.URL // the hub's address of the file
	part *part
	news *reporter

	mu      sync.Mutex
	direct  *url.URL // where the hub redirected to: signed, so that it expires
	refusal int      // answers of that host in a row that the link is no good
	ignored int      // answers in a row that ignored the range
}

const (
	buffer    = 64 << 10 // bytes that a connection reads before it writes them
	wholeFile = 1 << 20  // files up to this size are asked for without a range, in one piece
)

// Errors that change how a file is fetched.
var (
	errNoRanges = errors.New("the host does not serve ranges")
	errHash     = errors.New("the content does not have its hash")
)

// fetch gets the file's bytes, checks the hash of the whole and publishes it as name. Where the hash differs, what a loss of
// power may have taken is fetched again, then everything once.
func (t *transfer) fetch(ctx context.Context, local []string, name string) error {
	for restarted := false; ; {
		err := t.fill(ctx, local)
		local = nil
		if err != nil {
			return errors.Join(err, t.part.Close())
		}
		got, err := sum(ctx, t.file, t.part.f, func(done int64) {
			t.news.send(Event{File: t.file.Path, Done: done, Size: t.file.Size, Checking: true})
		})
		if err != nil {
			return errors.Join(err, t.part.Close())
		}
		if got == t.file.key() {
			return t.part.publish(name)
		}
		some, err := t.part.forget()
		if err != nil {
			return errors.Join(t.part.failed(err), t.part.Close())
		}
		if !some && restarted {
			t.part.remove()
			return permanent{fmt.Errorf("%s: %s sent bytes with the hash %s twice, the listing says %s: %w; nothing of it was kept. A mirror or a proxy in between may be broken; try another",
				t.file.Path, t.h.base.Host, got, t.file.key(), errHash)}
		}
		restarted = restarted || !some
		t.forgetLink()
		t.news.note("%s: the content does not have its hash; fetching %s again", t.file.Path, map[bool]string{true: "a part", false: "all of it"}[some])
	}
}

// fill fetches every byte that the part lacks, from a local copy if one of the right size is given.
func (t *transfer) fill(ctx context.Context, local []string) error {
	t.progress()
	for _, name := range local {
		if err := t.copy(ctx, name); err == nil || ctx.Err() != nil {
			return err
		}
	}
	var err error
	if gaps := t.part.done().gaps(t.file.Size); len(gaps) > 0 && t.file.Size <= wholeFile {
		err = t.stream(ctx)
	} else if len(gaps) > 0 {
		if err = t.parallel(ctx, gaps); errors.Is(err, errNoRanges) {
			t.news.note("%s does not serve ranges of %s: fetching it in one piece", t.h.base.Host, t.file.Path)
			err = t.stream(ctx)
		}
	}
	if err == nil && len(t.part.done().gaps(t.file.Size)) > 0 {
		err = fmt.Errorf("%s: bytes are missing", t.file.Path) // never, or the hash would find it
	}
	return err
}

func (t *transfer) progress() {
	t.news.send(Event{File: t.file.Path, Done: t.part.done().total(), Size: t.file.Size})
}

// copy takes the bytes from another file on this machine, which has the hash.
func (t *transfer) copy(ctx context.Context, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for _, gap := range t.part.done().gaps(t.file.Size) {
		for at := gap.start; at < gap.end; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, err := f.ReadAt(buf[:min(int64(len(buf)), gap.end-at)], at)
			if n == 0 {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := t.part.write(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
		t.progress()
	}
	return nil
}

// parallel fetches the gaps in segments, several at a time. It returns errNoRanges if the host keeps answering with the
// whole file.
func (t *transfer) parallel(ctx context.Context, gaps spans) error {
	var missing []span
	workers := min(fileConnections, int(1+gaps.total()/(4<<20)))
	size := min(t.c.segment, max(1<<20, gaps.total()/int64(workers)))
	for _, g := range gaps {
		for at := g.start; at < g.end; at += size {
			missing = append(missing, span{at, min(at+size, g.end)})
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(missing)) {
					return
				}
				if err := t.piece(ctx, missing[i]); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// piece fetches one segment, trying again from where it broke off.
func (t *transfer) piece(ctx context.Context, s span) error {
	return t.c.retry(ctx, t.news, t.file.Path, func() (bool, error) {
		if s.start == s.end {
			return false, nil
		}
		was := s.start
		err := t.request(ctx, &s)
		return s.start-was >= buffer, err
	})
}

// stream fetches the whole file in one piece; after a break it starts at the beginning.
func (t *transfer) stream(ctx context.Context) error {
	var best int64
	return t.c.retry(ctx, t.news, t.file.Path, func() (bool, error) {
		s := span{0, t.file.Size}
		err := t.request(ctx, &s)
		progress := s.start > best
		best = max(best, s.start)
		return progress, err
	})
}

var contentRange = regexp.MustCompile(`^bytes (\d{1,18})-(\d{1,18})/(\d{1,18})$`)

// request makes one request for s and writes what comes; s.start moves along. A request for all of the file has no Range.
func (t *transfer) request(ctx context.Context, s *span) error {
	select {
	case t.c.slots <- struct{}{}:
		defer func() { <-t.c.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	whole := s.start == 0 && s.end == t.file.Size
	rng := ""
	if !whole {
		rng = fmt.Sprintf("bytes=%d-%d", s.start, s.end-1)
	}
	u := t.link()
	resp, err := t.c.get(ctx, t.h, u, rng)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	from := resp.Request.URL
	if err := t.judge(resp, *s, whole); err != nil {
		return err
	}
	t.keepLink(from)
	buf := make([]byte, buffer)
	for s.start < s.end {
		n, err := io.ReadFull(resp.Body, buf[:min(int64(len(buf)), s.end-s.start)])
		if n > 0 {
			if err := t.part.write(buf[:n], s.start); err != nil {
				return err
			}
			s.start += int64(n)
			t.progress()
		}
		if err != nil {
			return fmt.Errorf("%s broke off after %d of %d bytes: %w", from.Host, s.start, s.end, err)
		}
	}
	return nil
}

// judge decides whether an answer is the bytes that were asked for.
func (t *transfer) judge(resp *http.Response, s span, whole bool) error {
	from := resp.Request.URL
	length := resp.Header.Get("Content-Length")
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		if err := plainBody(resp, strings.HasPrefix(path.Ext(t.file.Path), ".htm")); err != nil {
			return err
		}
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if n, err := strconv.ParseInt(length, 10, 64); length != "" && (err != nil || n != t.file.Size) {
			return fmt.Errorf("%s has %s bytes of %s, the listing says %d: it is out of date or cut off", from.Host, length, t.file.Path, t.file.Size)
		}
		if !whole {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.ignored++; t.ignored > 2 {
				return permanent{errNoRanges}
			}
			return errNoRanges
		}
		return nil
	case http.StatusPartialContent:
		m := contentRange.FindStringSubmatch(resp.Header.Get("Content-Range"))
		want := []string{"", fmt.Sprint(s.start), fmt.Sprint(s.end - 1), fmt.Sprint(t.file.Size)}
		if m == nil || m[1] != want[1] || m[2] != want[2] || m[3] != want[3] {
			return fmt.Errorf("%s sends the header Content-Range: %.80q, wanted were bytes %d-%d of %d", from.Host, resp.Header.Get("Content-Range"), s.start, s.end-1, t.file.Size)
		}
		if n, err := strconv.ParseInt(length, 10, 64); length != "" && (err != nil || n != s.end-s.start) {
			return fmt.Errorf("%s sends %s bytes for a range of %d", from.Host, length, s.end-s.start)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ignored, t.refusal = 0, 0
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%s answers 416: it has %.60q of %s, the listing says %d bytes", from.Host, resp.Header.Get("Content-Range"), t.file.Path, t.file.Size)
	}
	err := t.h.refused(t.ref, resp)
	var p permanent
	if t.h.own(from) || !errors.As(err, &p) {
		return err
	}
	// Not the hub, but where it sent us: the signed link has expired.
	t.mu.Lock()
	defer t.mu.Unlock()
	t.direct = nil
	if t.refusal++; t.refusal >= t.c.tries {
		return permanent{fmt.Errorf("%s: %s answers %d to fresh links of %s", t.file.Path, from.Host, resp.StatusCode, t.h.base.Host)}
	}
	if t.refusal == 1 {
		return later{fmt.Errorf("%s answers %d: the link has expired", from.Host, resp.StatusCode), time.Millisecond}
	}
	return fmt.Errorf("%s answers %d: the link is not accepted", from.Host, resp.StatusCode)
}

// link is where to ask next.
func (t *transfer) link() *url.URL {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.direct != nil {
		return t.direct
	}
	return t.url
}

// keepLink remembers a signed link that worked, which spares the hub a request for each segment.
func (t *transfer) keepLink(u *url.URL) {
	if !t.h.own(u) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.direct = u
	}
}

func (t *transfer) forgetLink() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.direct = nil
}
