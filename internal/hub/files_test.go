package hub

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/hub/hubtest"
)

// TestCorruptBlob finds a blob whose bytes changed, and fetches it again.
func TestCorruptBlob(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 100_000)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	for _, source := range []string{"hf:", "ms:"} {
		home := t.TempDir()
		dir, err := pull(envAt(t, home, s.URL), source+"org/m", Options{})
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(path string) error{
			"bytes": func(path string) error { return os.WriteFile(path, make([]byte, 100_000), 0o666) },
			"short": func(path string) error { return os.Truncate(path, 5) },
			"gone":  os.Remove,
		} {
			path, err := filepath.EvalSymlinks(filepath.Join(dir, weightsFile))
			if err != nil {
				t.Fatal(err)
			}
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			if _, err := pull(envAt(t, home, s.URL), source+"org/m", Options{}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			mustHold(t, dir, wantedFiles(files))
		}
	}
}

// TestMovedBranch pulls again after the branch moved: Hugging Face's cache keeps both commits, ModelScope's follows.
func TestMovedBranch(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	old := model(t, 100, 200)
	first := s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: old, Tags: []string{"v1"}})
	home := t.TempDir()
	env := envAt(t, home, s.URL)
	for _, source := range []string{"hf:", "ms:"} {
		if _, err := pull(env, source+"org/m", Options{}); err != nil {
			t.Fatal(err)
		}
	}
	single := model(t, 300)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: single})
	for _, source := range []string{"hf:", "ms:"} {
		dir, err := pull(env, source+"org/m", Options{})
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, dir, wantedFiles(single))
		if got, ok := quick(env).Cached(Ref{Source: Source(source[:2]), Kind: Model, Name: "org/m"}); !ok || got != dir {
			t.Errorf("Cached: %q, %v", got, ok)
		}
	}
	for _, rev := range []string{first, "v1"} {
		dir, err := pull(env, "hf:org/m@"+rev, Options{})
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, dir, wantedFiles(old))
	}
}

// TestTo wants a plain directory whose other files are left alone.
func TestTo(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 3<<20, 500)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	to := t.TempDir()
	mine := filepath.Join(to, "config.json")
	if err := os.WriteFile(mine, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	env := testEnv(t, s.URL)
	if _, err := pull(env, "org/m", Options{To: to}); err == nil || !strings.Contains(err.Error(), "config.json") || !strings.Contains(err.Error(), "--force") {
		t.Fatalf("no refusal: %v", err)
	}
	if b, err := os.ReadFile(mine); err != nil || string(b) != "mine" {
		t.Error("the user's file was touched")
	}
	if _, err := pull(env, "org/m", Options{To: to, Force: true}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, to, wantedFiles(files))
	for p := range wantedFiles(files) {
		if info, err := os.Lstat(filepath.Join(to, p)); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s is no plain file", p)
		}
	}
	// From a cache that has everything nothing is fetched, and the cache's files stay its own.
	if _, err := pull(env, "org/m", Options{}); err != nil {
		t.Fatal(err)
	}
	before := s.BytesSent()
	other := filepath.Join(t.TempDir(), "x")
	if _, err := pull(env, "org/m", Options{To: other}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, other, wantedFiles(files))
	if n := s.BytesSent() - before; n > 20_000 {
		t.Errorf("%d bytes were fetched", n)
	}
	// A link in the directory that leads out of it is not followed.
	evil, outside := t.TempDir(), t.TempDir()
	s.Add(hubtest.Repo{Kind: "model", Name: "org/folder", Files: map[string][]byte{"sub/x.json": []byte("{}")}})
	if err := os.Symlink(outside, filepath.Join(evil, "sub")); err != nil {
		t.Skip(err)
	}
	_, err := pull(env, "org/folder", Options{To: evil, Files: func(string) bool { return true }})
	if entries, _ := os.ReadDir(outside); err == nil || len(entries) > 0 {
		t.Errorf("written outside: %v, %v", entries, err)
	}
	if err := os.Symlink(outside, filepath.Join(evil, workDir+"2")); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(filepath.Join(evil, workDir))
	if err := os.Rename(filepath.Join(evil, workDir+"2"), filepath.Join(evil, workDir)); err != nil {
		t.Fatal(err)
	}
	_, err = pull(env, "org/m", Options{To: evil})
	if entries, _ := os.ReadDir(outside); err == nil || len(entries) > 0 {
		t.Errorf("written outside: %v, %v", entries, err)
	}
}

// TestInclude fetches what is asked for, pickles too: they are not opened.
func TestInclude(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 100)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	env := testEnv(t, s.URL)
	dir, err := pull(env, "org/m", Options{Files: func(p string) bool { return p == "original/params.json" }})
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, map[string][]byte{"original/params.json": files["original/params.json"]})
	if _, ok := quick(env).Cached(Ref{Source: HuggingFace, Kind: Model, Name: "org/m"}); ok {
		t.Error("one file counts as the model")
	}
	if dir, err = pull(env, "org/m", Options{Files: func(string) bool { return true }}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, files)
	if _, err := pull(env, "org/m", Options{Files: func(string) bool { return false }}); err == nil {
		t.Error("nothing was wanted, and that went well")
	}
}

// TestDir takes a directory before a name, and a cache before the network.
func TestDir(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := map[string][]byte{"adapter_config.json": []byte("{}"), "adapter_model.safetensors": []byte("weights"), "README.md": nil}
	s.Add(hubtest.Repo{Kind: "model", Name: "org/adapter", Files: files})
	env := testEnv(t, s.URL)
	ctx, here := context.Background(), t.TempDir()
	if dir, err := quick(env).Dir(ctx, here, Model, "", Options{}); err != nil || dir != here {
		t.Errorf("%s, %v", dir, err)
	}
	for _, bad := range []string{"./nowhere", "/no/such/dir", "", "x", "a/b/c", "C:\\x"} {
		if dir, err := quick(env).Dir(ctx, bad, Model, "", Options{}); err == nil {
			t.Errorf("%q became %s", bad, dir)
		}
	}
	dir, err := quick(env).Dir(ctx, "org/adapter", Model, ModelScope, Options{})
	if err != nil || !strings.HasPrefix(dir, env.MSCache) {
		t.Fatalf("%s, %v", dir, err)
	}
	mustHold(t, dir, map[string][]byte{"adapter_config.json": []byte("{}"), "adapter_model.safetensors": []byte("weights")})
	n := len(s.Requests())
	var notes []string
	again, err := quick(env).Dir(ctx, "org/adapter", Model, "", Options{Progress: func(e Event) { notes = append(notes, e.Note) }})
	if err != nil || again != dir || len(notes) != 1 || len(s.Requests()) != n {
		t.Errorf("%s, %v, %v, %d requests", again, err, notes, len(s.Requests())-n)
	}
}

// TestNoSpace refuses before anything is written what does not fit.
func TestNoSpace(t *testing.T) {
	p := &Plan{Ref: Ref{Name: "org/m"}, Missing: 1 << 60, store: store{root: filepath.Join(t.TempDir(), "x", "y")}}
	if _, err := p.Fetch(context.Background()); err == nil || !strings.Contains(err.Error(), "MB free") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Dir(p.store.root)); err == nil {
		t.Error("something was written")
	}
}

// TestNoRanges pulls from hosts that answer every range with the whole file.
func TestNoRanges(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 12<<20)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	p := hubtest.NewProxy(s.URL, 1, hubtest.Faults{Rate: 1, Kinds: []hubtest.Kind{hubtest.Whole}})
	defer p.Close()
	var notes []string
	dir, err := pull(testEnv(t, p.URL), "org/m", Options{Progress: func(e Event) {
		if e.Note != "" {
			notes = append(notes, e.Note)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, wantedFiles(files))
	if len(notes) != 1 || !strings.Contains(notes[0], "in one piece") {
		t.Errorf("%q", notes)
	}
}
