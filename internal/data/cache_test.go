package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cria/internal/pack"
)

// numbers makes a file of n rows of different lengths, and a RowFunc that counts how often it is called.
func numbers(t *testing.T, n int) (path string, encode RowFunc, calls *atomic.Int64) {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"instruction\":\"%d\",\"output\":\"%s\"}\n", i, strings.Repeat("x", i%40))
	}
	path = filepath.Join(put(t, map[string]string{"d.jsonl": b.String()}), "d.jsonl")
	calls = new(atomic.Int64)
	return path, func(e Example) (pack.Row, error) {
		if calls.Add(1); e.Output == strings.Repeat("x", 13) { // workers are out of step
			time.Sleep(time.Microsecond)
		}
		var r pack.Row
		for k := range len(e.Output) + 2 {
			id, label := int32(e.Row*50+k), pack.Ignore
			if k > 2 && k%5 != 0 {
				label = id
			}
			r.IDs, r.Labels = append(r.IDs, id), append(r.Labels, label)
		}
		return r, nil
	}, calls
}

func cachedRows(t *testing.T, c *Cache, paths []string, recipe any, encode RowFunc, o Options) *Set {
	t.Helper()
	s, err := Open(Spec{Paths: paths})
	if err != nil {
		t.Fatal(err)
	}
	if c.Info == nil {
		c.Info = func(s string) { t.Errorf("note: %s", s) }
	}
	set, err := c.Rows(context.Background(), s, recipe, encode, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

// Rows out of the file are those that Encode makes in memory, whatever the number of threads.
func TestSetIsWhatEncodeMakes(t *testing.T) {
	path, encode, _ := numbers(t, 3000)
	d, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{MaxLength: 30, End: []int32{1}}
	want, report, err := Encode(context.Background(), d.Examples, encode, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, threads := range []int{1, 2, 7} {
		o.Threads = threads
		set := cachedRows(t, &Cache{Dir: t.TempDir()}, []string{path}, threads, encode, o)
		if set.Len() != len(want) {
			t.Fatalf("%d rows, want %d", set.Len(), len(want))
		}
		for i, w := range want {
			got := set.Row(i)
			if !slices.Equal(got.IDs, w.IDs) || !slices.Equal(got.Labels, w.Labels) || set.Tokens(i) != len(w.IDs) || set.Labelled(i) != w.Labelled() ||
				set.Where(i) != d.Examples[w.Example].Where() {
				t.Fatalf("%d threads, row %d: %v %s, want %v", threads, i, got, set.Where(i), w)
			}
		}
		r := set.Report
		r.Files = report.Files // without what only reading knows
		if !reflect.DeepEqual(r, report) {
			t.Errorf("%d threads: report %+v, want %+v", threads, r, report)
		}
	}
}

func TestCache(t *testing.T) {
	path, encode, calls := numbers(t, 500)
	c := &Cache{Dir: filepath.Join(t.TempDir(), "a", "rows")}
	made := func(what string, want bool, paths []string, recipe any, o Options) *Set {
		t.Helper()
		before := calls.Load()
		set := cachedRows(t, c, paths, recipe, encode, o)
		if got := calls.Load() > before; got != want {
			t.Errorf("%s: rows were made: %v, want %v", what, got, want)
		}
		return set
	}
	first := made("first", true, []string{path}, "r", Options{MaxLength: 20})
	again := made("again", false, []string{path}, "r", Options{MaxLength: 20, Threads: 3})
	if !reflect.DeepEqual(first.Report, again.Report) {
		t.Errorf("reports %+v, %+v", first.Report, again.Report)
	}
	made("another limit", true, []string{path}, "r", Options{MaxLength: 21})
	made("another recipe", true, []string{path}, "s", Options{MaxLength: 20})
	made("sampled", true, []string{path + "#9"}, "r", Options{MaxLength: 20})

	moved := filepath.Join(t.TempDir(), "moved.jsonl")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(moved, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if set := made("the same bytes under another name", false, []string{moved}, "r", Options{MaxLength: 20}); set.Where(2) != moved+":3 (row 3)" {
		t.Error(set.Where(2))
	}
	b[len(b)-4] = 'y'
	if err := os.WriteFile(moved, b, 0o666); err != nil {
		t.Fatal(err)
	}
	made("another byte", true, []string{moved}, "r", Options{MaxLength: 20})
}

// Two processes that start on the same data both get their rows, and one entry is left.
func TestCacheOfTwo(t *testing.T) {
	path, encode, _ := numbers(t, 500)
	c := &Cache{Dir: t.TempDir(), Info: func(s string) { t.Errorf("note: %s", s) }}
	var both, done sync.WaitGroup
	both.Add(2)
	var sets [2]*Set
	for i := range sets {
		once := sync.OnceFunc(func() { both.Done(); both.Wait() }) // neither ends before the other has begun
		done.Go(func() {
			s, err := Open(Spec{Paths: []string{path}})
			if err != nil {
				t.Error(err)
				return
			}
			if sets[i], err = c.Rows(context.Background(), s, nil, func(e Example) (pack.Row, error) { once(); return encode(e) }, Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	for _, set := range sets {
		if set == nil {
			continue
		}
		defer set.Close()
		if set.Len() != 500 {
			t.Errorf("%d rows", set.Len())
		}
	}
	if entries, err := os.ReadDir(c.Dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// Every kind of damage to an entry makes the rows again.
func TestDamagedCache(t *testing.T) {
	path, encode, calls := numbers(t, 50)
	damage := map[string]func(t *testing.T, file string){
		"a byte": func(t *testing.T, file string) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(file, b, 0o666); err != nil {
				t.Fatal(err)
			}
		},
		"shorter": func(t *testing.T, file string) {
			if err := os.Truncate(file, 3); err != nil {
				t.Fatal(err)
			}
		},
		"missing": func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		},
	}
	for what, harm := range damage {
		for _, name := range append(rowFiles[:], "MANIFEST.json") {
			var notes []string
			c := &Cache{Dir: t.TempDir(), Info: func(s string) { notes = append(notes, s) }}
			want := cachedRows(t, c, []string{path}, nil, encode, Options{})
			row := want.Row(20)
			want.Close()
			entries, err := os.ReadDir(c.Dir)
			if err != nil || len(entries) != 1 {
				t.Fatal(entries, err)
			}
			harm(t, filepath.Join(c.Dir, entries[0].Name(), name))
			before := calls.Load()
			set := cachedRows(t, c, []string{path}, nil, encode, Options{})
			if calls.Load() == before || len(notes) != 1 || !strings.Contains(notes[0], "damaged") || !slices.Equal(set.Row(20).IDs, row.IDs) {
				t.Errorf("%s, %s: made again %v, notes %q", what, name, calls.Load() > before, notes)
			}
		}
	}
}

// A cache that cannot be written is no obstacle, and what lies elsewhere is gone after Close.
func TestCacheThatCannotBeWritten(t *testing.T) {
	path, encode, _ := numbers(t, 50)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("TMP", temp)
	var notes []string
	set := cachedRows(t, &Cache{Dir: filepath.Join(file, "rows"), Info: func(s string) { notes = append(notes, s) }}, []string{path}, nil, encode, Options{})
	if set.Len() != 50 || len(notes) != 1 || !strings.Contains(notes[0], "CRIA_CACHE") {
		t.Errorf("%d rows, notes %q", set.Len(), notes)
	}
	set.Close()
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Of entries that nobody uses, the newest stay.
func TestCacheIsPruned(t *testing.T) {
	path, encode, _ := numbers(t, 5)
	c := &Cache{Dir: t.TempDir()}
	oldest := ""
	for i := range cacheEntries + 4 {
		cachedRows(t, c, []string{path}, i, encode, Options{})
		entries, err := os.ReadDir(c.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			oldest = entries[0].Name()
		}
		for _, e := range entries { // all but the one that is in use grow old
			when := time.Now().Add(-time.Hour)
			if info, err := e.Info(); err == nil && info.ModTime().Before(when) {
				continue
			}
			if err := os.Chtimes(filepath.Join(c.Dir, e.Name()), when, when); err != nil {
				t.Fatal(err)
			}
		}
		if i == 10 {
			cachedRows(t, c, []string{path}, 0, encode, Options{}) // used again
		}
	}
	entries, err := os.ReadDir(c.Dir)
	if err != nil || len(entries) != cacheEntries {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, oldest)); err != nil {
		t.Error("the entry that was used is gone")
	}
}

// The first fault in order is the one that is told, and nothing is left of a dataset that is refused.
func TestBuildFaults(t *testing.T) {
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "{\"instruction\":\"%d\",\"output\":\"x\"}\n", i)
	}
	path := filepath.Join(put(t, map[string]string{"d.jsonl": b.String() + "{\"instruction\":\n"}), "d.jsonl")
	s, err := Open(Spec{Paths: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, encode RowFunc, o Options) error {
		dir := t.TempDir()
		set, err := (&Cache{Dir: dir, Info: func(s string) { t.Error(s) }}).Rows(ctx, s, nil, encode, o)
		if err == nil {
			set.Close()
			t.Fatal("accepted")
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%v: left %v", err, left)
		}
		return err
	}
	row := func(Example) (pack.Row, error) { return pack.Row{IDs: []int32{1, 2}, Labels: []int32{1, 2}}, nil }
	if err := run(context.Background(), row, Options{}); !strings.HasPrefix(err.Error(), path+":2002:1: row 2001: ") {
		t.Error(err)
	}
	for range 5 {
		err := run(context.Background(), func(e Example) (pack.Row, error) {
			if e.Row%700 == 0 {
				return pack.Row{}, fmt.Errorf("no %d", e.Row)
			}
			return row(e)
		}, Options{Threads: 5})
		if err.Error() != "no 700" {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = run(ctx, func(e Example) (pack.Row, error) {
		if e.Row == 900 {
			cancel()
		}
		return row(e)
	}, Options{Threads: 3})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := run(context.Background(), row, Options{MaxLength: 1, TooLong: Drop}); !strings.HasPrefix(err.Error(), path+":2002:1") {
		t.Error(err)
	}
}

func TestReportCounts(t *testing.T) {
	path := filepath.Join(put(t, map[string]string{"d.jsonl": `{"instruction":"a","output":"b"}
{"instruction":" ","output":"b"}
{"instruction":"a","output":"b","id":2}
{"instruction":"c","output":""}
`}), "d.jsonl")
	const bos = 7
	set := cachedRows(t, &Cache{Dir: t.TempDir()}, []string{path}, nil, func(e Example) (pack.Row, error) {
		ids := []int32{bos, int32(e.Instruction[0]), 9}
		if e.Instruction == "c" {
			ids = append([]int32{bos}, ids...)
		}
		return pack.Row{IDs: ids, Labels: ids}, nil
	}, Options{BOS: bos, HasBOS: true, End: []int32{9}})
	r := &set.Report
	at := func(rows ...int) (t Tally) {
		for _, n := range rows {
			t.add(Place{0, n, n})
		}
		return t
	}
	if !reflect.DeepEqual(r.Blank, at(2, 4)) || !reflect.DeepEqual(r.Duplicate, at(3)) || !reflect.DeepEqual(r.DoubleBOS, at(4)) || r.UntrainedEnd.Rows != 0 {
		t.Errorf("%+v", r)
	}
	if _, err := json.Marshal(r); err != nil || r.First(r.Duplicate) != path+":3 (row 3)" {
		t.Error(err, r.First(r.Duplicate))
	}
}

// A directory of rows that was made to do harm is an error.
func FuzzOpenSet(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0}, []byte{}, make([]byte, 2*indexRecord))
	f.Fuzz(func(t *testing.T, ids, spans, index []byte) {
		dir := t.TempDir()
		for i, b := range [][]byte{ids, spans, index} {
			if err := os.WriteFile(filepath.Join(dir, rowFiles[i]), b, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		s, err := openSet(dir)
		if err != nil {
			return
		}
		defer s.Close()
		for i := range s.Len() {
			if r := s.Row(i); len(r.IDs) != s.Tokens(i) {
				t.Fatal(r)
			}
		}
	})
}
