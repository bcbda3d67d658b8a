package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cria/internal/disk"
	"cria/internal/disk/faultfs"
)

// fill writes two files whose bytes depend on version: one of several pages in pieces, one tiny.
func fill(version byte) func(w *disk.DirWriter) error {
	return func(w *disk.DirWriter) error {
		if err := w.SetMeta(map[string]any{"step": version}); err != nil {
			return err
		}
		for _, f := range []struct {
			name          string
			pieces, bytes int
		}{{"model.safetensors", 3, 701}, {"config.json", 1, 5}} {
			out, err := w.Create(f.name)
			if err != nil {
				return err
			}
			for range f.pieces {
				if _, err := out.Write(bytes.Repeat([]byte{version}, f.bytes)); err != nil {
					return err
				}
			}
			if err := out.Close(); err != nil {
				return err
			}
		}
		return nil
	}
}

// state names what lies under dst: "" nothing, "empty", "1" or "2" a whole directory or file of that version.
func state(t *testing.T, f disk.FS, dst string) (string, error) {
	t.Helper()
	info, err := f.Lstat(dst)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		file, err := f.Open(dst)
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(file)
		if err != nil {
			return "", err
		}
		for v := byte(1); v <= 2; v++ {
			if bytes.Equal(b, content(v)) {
				return fmt.Sprint(v), nil
			}
		}
		return "", fmt.Errorf("a file of %d strange bytes", len(b))
	}
	if entries, err := f.ReadDir(dst); err == nil && len(entries) == 0 {
		return "empty", nil
	}
	m, err := disk.Verify(f, dst)
	if err != nil {
		return "", err
	}
	if m.Files[0].Size != 5 || m.Files[1].Size != 3*701 {
		return "", fmt.Errorf("files of other sizes: %v", m.Files)
	}
	var version string
	if _, err := fmt.Sscanf(strings.Join(strings.Fields(string(m.Meta)), ""), `{"step":%1s}`, &version); err != nil {
		return "", err
	}
	return version, nil
}

func content(version byte) []byte { return bytes.Repeat([]byte{version}, 1300) }

// names lists a directory.
func names(t *testing.T, f disk.FS, dir string) []string {
	t.Helper()
	entries, err := f.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

type scenario struct {
	name   string
	before func(f disk.FS) error
	run    func(f disk.FS) error
	old    string // state before
	new    string // state after success
}

const dst = "run/checkpoint-7"

var scenarios = []scenario{
	{"fresh", nil,
		func(f disk.FS) error { return disk.PublishDir(f, dst, fill(2)) }, "", "2"},
	{"over an empty directory", func(f disk.FS) error { return disk.MkdirAll(f, dst) },
		func(f disk.FS) error { return disk.PublishDir(f, dst, fill(2)) }, "empty", "2"},
	{"replace", func(f disk.FS) error { return disk.PublishDir(f, dst, fill(1)) },
		func(f disk.FS) error { return disk.ReplaceDir(f, dst, fill(2)) }, "1", "2"},
	{"remove", func(f disk.FS) error { return disk.PublishDir(f, dst, fill(1)) },
		func(f disk.FS) error { return disk.RemoveDir(f, dst) }, "1", ""},
	{"new file", nil,
		func(f disk.FS) error { return disk.PublishFile(f, dst, content(2)) }, "", "2"},
	{"replace file", func(f disk.FS) error { return disk.PublishFile(f, dst, content(1)) },
		func(f disk.FS) error { return disk.PublishFile(f, dst, content(2)) }, "1", "2"},
}

// start returns the durable state in which the scenario begins.
func (s scenario) start(t *testing.T) *faultfs.FS {
	t.Helper()
	f := faultfs.New()
	if err := disk.MkdirAll(f, "run"); err != nil {
		t.Fatal(err)
	}
	if s.before != nil {
		if err := s.before(f); err != nil {
			t.Fatal(err)
		}
	}
	return f.Crash(faultfs.LoseAll, 0)
}

// allowed says whether a state may be found after the operation was cut off.
func (s scenario) allowed(state string) bool {
	return state == s.old || state == s.new || s.old == "empty" && state == ""
}

// TestPowerLoss cuts the power, or kills the process, after every operation of every scenario, in every mode of loss, repairs
// what is found, and cuts the power again after every operation of the repair.
func TestPowerLoss(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			states := 0
			check := func(f *faultfs.FS, what string, want func(string) bool) {
				t.Helper()
				states++
				if err := disk.CleanTemps(f, "run"); err != nil {
					t.Fatalf("%s: clean: %v", what, err)
				}
				got, err := state(t, f, dst)
				if err != nil || !want(got) {
					t.Fatalf("%s: state %q, %v; want %q or %q", what, got, err, s.old, s.new)
				}
				for _, n := range names(t, f, "run") {
					if n != filepath.Base(dst) {
						t.Fatalf("%s: %s is left", what, n)
					}
				}
			}
			each := func(f *faultfs.FS, what string, visit func(c *faultfs.FS, what string)) {
				for _, loss := range faultfs.Losses {
					seeds := uint64(1)
					if loss == faultfs.RandomLoss {
						seeds = 16
					}
					for seed := range seeds {
						visit(f.Crash(loss, seed), fmt.Sprintf("%s, %v %d", what, loss, seed))
					}
				}
			}

			f := s.start(t)
			f.After = func(op int, what string) {
				interrupt := func(c *faultfs.FS, what string) {
					again := c.Kill()
					check(c, what, s.allowed)
					again.After = func(op int, repair string) {
						each(again, fmt.Sprintf("%s, again after %d (%s)", what, op, repair), func(c *faultfs.FS, what string) {
							check(c, what, s.allowed)
						})
					}
					if err := disk.CleanTemps(again, "run"); err != nil {
						t.Fatal(err)
					}
				}
				what = fmt.Sprintf("after %d (%s)", op, what)
				each(f, what, interrupt)
				interrupt(f.Kill(), what+", killed")
			}
			f.Inject(0, nil, false)
			if err := s.run(f); err != nil {
				t.Fatal(err)
			}
			f.After = nil
			each(f, "after success", func(c *faultfs.FS, what string) {
				check(c, what, func(got string) bool { return got == s.new })
			})
			t.Logf("%d of %d states are old or new", states, states)
		})
	}
}

// TestFaults fails every operation of every scenario, once and from then on.
func TestFaults(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			runs := 0
			for _, fault := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, faultfs.ErrShort} {
				for _, sticky := range []bool{false, true} {
					for k := 1; ; k++ {
						f := s.start(t)
						f.Inject(k, fault, sticky)
						err := s.run(f)
						if f.Ops() < k {
							break
						}
						runs++
						f.Inject(0, nil, false)
						what := fmt.Sprintf("%v at operation %d, sticky %v", fault, k, sticky)
						got, serr := state(t, f, dst)
						switch {
						case err == nil && (got != s.new || serr != nil):
							t.Fatalf("%s: success, but state %q, %v", what, got, serr)
						case err != nil && fault == faultfs.ErrShort && !errors.Is(err, io.ErrShortWrite),
							err != nil && fault != faultfs.ErrShort && !errors.Is(err, fault):
							t.Fatalf("%s: error %v", what, err)
						case err != nil && !sticky && (serr != nil || !s.allowed(got)):
							t.Fatalf("%s: error %v, state %q, %v", what, err, got, serr)
						}
						if err := disk.CleanTemps(f, "run"); err != nil {
							t.Fatalf("%s: clean: %v", what, err)
						}
						got, serr = state(t, f, dst)
						if serr != nil || !s.allowed(got) {
							t.Fatalf("%s: after cleaning state %q, %v", what, got, serr)
						}
						if n := names(t, f, "run"); len(n) > 1 {
							t.Fatalf("%s: %q are left", what, n)
						}
					}
				}
			}
			t.Logf("%d of %d faults leave old or new", runs, runs)
		})
	}
}

// TestCleanTempsLeavesLivingWriters runs the cleaner after every operation of a writer that goes on.
func TestCleanTempsLeavesLivingWriters(t *testing.T) {
	for _, s := range scenarios {
		if s.name == "remove" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			f := s.start(t)
			last := f.Ops()
			busy := false
			f.After = func(op int, what string) {
				if busy || strings.HasPrefix(what, "mkdir") || strings.HasPrefix(what, "create "+dst) {
					return // not yet locked: the writer takes another name, see TestStolenTemp
				}
				busy = true
				defer func() { busy = false }()
				if err := disk.CleanTemps(f, "run"); err != nil {
					t.Fatalf("after %d (%s): %v", op, what, err)
				}
			}
			if err := s.run(f); err != nil {
				t.Fatal(err)
			}
			if got, err := state(t, f, dst); got != s.new || err != nil {
				t.Fatalf("state %q, %v", got, err)
			}
			if f.Ops() == last {
				t.Fatal("nothing ran")
			}
		})
	}
}

// TestStolenTemp lets the cleaner take a temporary name before its writer can lock it.
func TestStolenTemp(t *testing.T) {
	for _, s := range scenarios[:1] {
		f := s.start(t)
		stolen := 0
		f.After = func(_ int, what string) {
			if stolen < 2 && strings.HasPrefix(what, "mkdir") {
				stolen++
				if err := disk.CleanTemps(f, "run"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.run(f); err != nil {
			t.Fatal(err)
		}
		if got, err := state(t, f, dst); got != s.new || err != nil || stolen != 2 {
			t.Fatalf("state %q, %v, stolen %d", got, err, stolen)
		}
	}
}

func TestPublishRefuses(t *testing.T) {
	create := func(names ...string) func(w *disk.DirWriter) error {
		return func(w *disk.DirWriter) error {
			for _, n := range names {
				if f, err := w.Create(n); err == nil { // what fill overlooks must still be found
					f.Close()
				}
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		before, run func(f disk.FS) error
		want        string
	}{
		"existing":        {scenarios[2].before, func(f disk.FS) error { return disk.PublishDir(f, dst, fill(2)) }, "already exists"},
		"a file":          {scenarios[5].before, func(f disk.FS) error { return disk.ReplaceDir(f, dst, fill(2)) }, "already exists"},
		"somebody else's": {func(f disk.FS) error { return disk.MkdirAll(f, dst+"/photos") }, func(f disk.FS) error { return disk.ReplaceDir(f, dst, fill(2)) }, "already exists"},
		"parent":          {nil, func(f disk.FS) error { return disk.PublishDir(f, "none/x", fill(2)) }, "not exist"},
		"name":            {nil, func(f disk.FS) error { return disk.PublishDir(f, dst, create("../x")) }, "../x"},
		"same name":       {nil, func(f disk.FS) error { return disk.PublishDir(f, dst, create("a.json", "A.json")) }, "twice"},
		"manifest":        {nil, func(f disk.FS) error { return disk.PublishDir(f, dst, create("manifest.json")) }, "twice"},
		"meta": {nil, func(f disk.FS) error {
			return disk.PublishDir(f, dst, func(w *disk.DirWriter) error { w.SetMeta(func() {}); return nil })
		}, "meta"},
		"fill fails": {nil, func(f disk.FS) error {
			return disk.PublishDir(f, dst, func(*disk.DirWriter) error { return io.ErrNoProgress })
		}, io.ErrNoProgress.Error()},
		"file fill fails": {nil, func(f disk.FS) error {
			return disk.PublishStream(f, dst, func(io.Writer) error { return io.ErrNoProgress })
		}, io.ErrNoProgress.Error()},
		"directory is a file": {scenarios[5].before, func(f disk.FS) error { return disk.MkdirAll(f, dst) }, "no directory"},
		"not closed": {nil, func(f disk.FS) error {
			return disk.PublishDir(f, dst, func(w *disk.DirWriter) error { _, err := w.Create("a"); return err })
		}, "not closed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := scenario{before: c.before}.start(t)
			before := names(t, f, "run")
			err := c.run(f)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if after := names(t, f, "run"); strings.Join(before, " ") != strings.Join(after, " ") {
				t.Fatalf("%q became %q", before, after)
			}
		})
	}
}
