package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"cria/internal/disk"
)

// A batch of examples is what one goroutine encodes at a time.
const (
	batchRows  = 256
	batchBytes = 1 << 20

	progressRows = 4096 // from one call of Options.Progress to the next
)

type batch struct {
	examples []Example
	rows     []made
	err      error
	done     chan struct{}
}

// each reads the source and makes its rows on all threads, and hands them on in order. Memory is bounded: so many batches
// are under way at once, and each ends when it is large.
func (s *Source) each(ctx context.Context, encode RowFunc, o *Options, use func(*made) error) ([]File, error) {
	threads := o.Threads
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()

	work := make(chan *batch)
	order := make(chan *batch, 2*threads) // the bound
	for range threads {
		wg.Go(func() {
			for b := range work {
				b.encode(ctx, encode, o)
				close(b.done)
			}
		})
	}
	var files []File
	var readErr error
	wg.Go(func() {
		defer close(work)
		defer close(order)
		b, size := &batch{done: make(chan struct{})}, 0
		send := func() error {
			for _, c := range []chan *batch{order, work} {
				select {
				case c <- b:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			b, size = &batch{done: make(chan struct{})}, 0
			return nil
		}
		files, readErr = s.Each(ctx, func(e *Example) error {
			b.examples = append(b.examples, *e)
			if size += e.size(); len(b.examples) == batchRows || size > batchBytes {
				return send()
			}
			return nil
		})
		// what was read before a fault may have one of its own, which comes first
		if len(b.examples) > 0 && ctx.Err() == nil {
			if err := send(); readErr == nil {
				readErr = err
			}
		}
	})
	for b := range order {
		select {
		case <-b.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		for i := range b.rows {
			if err := use(&b.rows[i]); err != nil {
				return nil, err
			}
		}
		if b.err != nil {
			return nil, b.err
		}
	}
	return files, readErr // both written before order was closed
}

func (b *batch) encode(ctx context.Context, encode RowFunc, o *Options) {
	b.rows = make([]made, 0, len(b.examples))
	for i := range b.examples {
		if b.err = ctx.Err(); b.err != nil {
			return
		}
		e := &b.examples[i]
		m, err := o.row(e, encode)
		if err != nil {
			b.err = err
			return
		}
		m.place = Place{e.file, e.Line, e.Row}
		b.rows = append(b.rows, m)
	}
	b.examples = nil
}

// size is about how many bytes the example takes.
func (e *Example) size() int {
	n := len(e.Instruction) + len(e.Input) + len(e.Output) + len(e.System) + len(e.Text) + len(e.Tools) + 200
	for _, m := range e.Dialogue {
		n += len(m.Content) + len(m.Raw) + 100
	}
	return n
}

// Build makes the rows of the whole source into a new directory dir, in order, and counts them. It stops at the first
// example that encode refuses; see Encode for the other errors.
func (s *Source) Build(ctx context.Context, dir string, encode RowFunc, o Options) error {
	c := newCounter(o)
	err := disk.ReplaceDir(disk.OS{}, dir, func(d *disk.DirWriter) error {
		w, err := newRowWriter(d)
		if err != nil {
			return err
		}
		for _, path := range s.Files() { // names for messages while the files are read
			c.report.Files = append(c.report.Files, File{Path: path})
		}
		files, err := s.each(ctx, encode, &o, func(m *made) error {
			if n := c.report.Examples; o.Progress != nil && n%progressRows == 0 {
				o.Progress(n)
			}
			if !c.add(m) {
				return nil
			}
			return w.add(m.row, m.place)
		})
		if err != nil {
			return &unusable{err}
		}
		for i := range files {
			files[i].SHA256 = s.sums[files[i].Path]
		}
		c.report.Files = files
		report, err := c.finish()
		if err != nil {
			return &unusable{err}
		}
		if err := w.finish(); err != nil {
			return err
		}
		return d.SetMeta(report)
	})
	var bad *unusable
	if errors.As(err, &bad) {
		return bad.error // the dataset's fault, not the directory's
	}
	return err
}

// unusable is an error of the dataset while a directory is written.
type unusable struct{ error }

// OpenSet opens a directory that Build has made, after comparing it with its checksums. paths are the names of the files
// that it was made from, which may have changed.
func OpenSet(dir string, paths []string) (*Set, error) {
	m, err := disk.Verify(disk.OS{}, dir)
	if err != nil {
		return nil, err
	}
	s, err := openSet(dir)
	if err != nil {
		return nil, err
	}
	if err = json.Unmarshal(m.Meta, &s.Report); err == nil && (len(s.Report.Files) > len(paths) || s.Report.Rows != s.n) {
		err = fmt.Errorf("%s: the report does not belong to the rows", dir)
	}
	for i := range s.Report.Files {
		if err == nil {
			s.Report.Files[i].Path = paths[i]
		}
	}
	for i := range s.n {
		if err == nil && s.Place(i).File >= len(s.Report.Files) {
			err = fmt.Errorf("%s: row %d comes from no file", dir, i)
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
