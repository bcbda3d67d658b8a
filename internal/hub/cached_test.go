package hub

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/hub/hubtest"
)

// write makes files below dir.
func write(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for p, b := range files {
		name := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

const someCommit = "0123456789abcdef0123456789abcdef01234567"

// pythonCache lays files out as huggingface_hub 2.4 does: snapshot_download of a whole repository, with its listing in
// trees/ if tree is set; shared says that weights are in the store that repositories of a cache share
// (utils/_shared_blobs.py), where the blob is a link too.
func pythonCache(t testing.TB, cache string, kind Kind, files map[string][]byte, commit string, tree, shared bool) (snapshot string) {
	t.Helper()
	root := filepath.Join(cache, string(kind)+"s--org--m")
	snapshot = filepath.Join(root, "snapshots", commit)
	listing := map[string]any{}
	for p, b := range files {
		key, err := sum(context.Background(), File{Size: int64(len(b)), SHA256: "x"}, strings.NewReader(string(b)), func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		entry := map[string]any{"size": len(b), "blob_id": gitBlob(b)}
		if strings.HasSuffix(p, ".safetensors") {
			entry["lfs_sha256"], entry["lfs_size"] = key, len(b)
		} else {
			key = gitBlob(b)
		}
		listing[p] = entry
		blob := filepath.Join(root, "blobs", key)
		if shared && strings.HasSuffix(p, ".safetensors") {
			write(t, cache, map[string][]byte{"blobs/" + key[:2] + "/" + key: b})
			os.MkdirAll(filepath.Dir(blob), 0o777)
			if err := os.Symlink(filepath.Join("..", "..", "blobs", key[:2], key), blob); err != nil && !os.IsExist(err) {
				t.Skip(err)
			}
		} else {
			write(t, root, map[string][]byte{"blobs/" + key: b})
		}
		name := filepath.Join(snapshot, filepath.FromSlash(p))
		os.MkdirAll(filepath.Dir(name), 0o777)
		up := strings.Repeat("../", 2+strings.Count(p, "/"))
		if err := os.Symlink(filepath.FromSlash(up+"blobs/"+key), name); err != nil {
			t.Skip(err)
		}
	}
	write(t, root, map[string][]byte{"refs/main": []byte(commit)})
	if tree {
		b, err := json.Marshal(map[string]any{"format_version": 1, "files": listing})
		if err != nil {
			t.Fatal(err)
		}
		write(t, root, map[string][]byte{"trees/" + commit + ".json": b})
	}
	return snapshot
}

func gitBlob(b []byte) string {
	h := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...))
	return hex.EncodeToString(h[:])
}

// TestPythonCacheHuggingFace takes what huggingface_hub cached, if it is whole.
func TestPythonCacheHuggingFace(t *testing.T) {
	files := model(t, 1000, 2000)
	for _, shared := range []bool{false, true} {
		for _, tree := range []bool{false, true} {
			env := testEnv(t, "http://127.0.0.1:1")
			snapshot := pythonCache(t, env.HFCache, Model, files, someCommit, tree, shared)
			c := New(env)
			for _, rev := range []string{"", "main", someCommit} {
				if dir, ok := c.Cached(Ref{HuggingFace, Model, "org/m", rev}); !ok || dir != snapshot {
					t.Errorf("tree %v, revision %q: %q, %v", tree, rev, dir, ok)
				}
			}
			for _, other := range []Ref{{HuggingFace, Model, "org/m", "v1"}, {HuggingFace, Model, "org/n", ""}, {HuggingFace, Dataset, "org/m", ""}, {ModelScope, Model, "org/m", ""}} {
				if dir, ok := c.Cached(other); ok {
					t.Errorf("%v is said to be in %s", other, dir)
				}
			}
			for _, name := range []string{"model-00002-of-00002.safetensors", "tokenizer.json", "config.json", "model.safetensors.index.json"} {
				path := filepath.Join(snapshot, name)
				if err := os.Rename(path, path+".aside"); err != nil {
					t.Fatal(err)
				}
				if dir, why := c.cached(Ref{HuggingFace, Model, "org/m", ""}); dir != "" || why == "" {
					t.Errorf("tree %v: whole without %s", tree, name)
				}
				os.Rename(path+".aside", path)
			}
		}
	}
	// Of a dataset only the listing says whether it is whole.
	data := map[string][]byte{"data/a.json": []byte("[1]"), "data/b.json": []byte("[2]"), "README.md": nil}
	for _, tree := range []bool{false, true} {
		env := testEnv(t, "http://127.0.0.1:1")
		pythonCache(t, env.HFCache, Dataset, data, someCommit, tree, false)
		if dir, why := New(env).cached(Ref{HuggingFace, Dataset, "org/m", ""}); (dir != "") != tree {
			t.Errorf("tree %v: %q (%s)", tree, dir, why)
		}
	}
}

// TestPythonCacheModelScope takes what ModelScope's clients cached, in every place where they do, and leaves their pickled
// index alone.
func TestPythonCacheModelScope(t *testing.T) {
	files := wantedFiles(model(t, 1000, 2000))
	booby := []byte("cos\nsystem\n(S'touch /tmp/never'\ntR.")
	for _, folder := range []string{
		"models/org--m.1/snapshots/master",
		"models/org/m___1", "hub/models/org/m___1", "models/org/m.1",
		"org/m.1", "org/m___1", "hub/org/m.1", "hub/org/m___1",
	} {
		s := hubtest.New()
		s.Add(hubtest.Repo{Kind: "model", Name: "org/m.1", Files: files})
		env := testEnv(t, s.URL)
		dir := filepath.Join(env.MSCache, filepath.FromSlash(folder))
		write(t, dir, files)
		write(t, dir, map[string][]byte{".msc": booby, ".mdl": booby, ".mv": []byte("Revision:master,CreatedAt:1")})
		ref := Ref{ModelScope, Model, "org/m.1", ""}
		if got, ok := New(env).Cached(ref); !ok || got != dir {
			t.Errorf("%s: %q, %v", folder, got, ok)
		}
		before := s.BytesSent()
		if got, err := quick(env).Pull(context.Background(), ref, Options{}); err != nil || got != dir {
			t.Errorf("%s: pulled to %s, %v", folder, got, err)
		}
		if n := s.BytesSent() - before; n > 10_000 {
			t.Errorf("%s: %d bytes were fetched", folder, n)
		}
		for _, name := range []string{".msc", ".mdl"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != string(booby) {
				t.Errorf("%s: %s was touched", folder, name)
			}
		}
		// With a file missing the old folder is not completed, but copied from.
		if err := os.Remove(filepath.Join(dir, "config.json")); err != nil {
			t.Fatal(err)
		}
		if _, ok := New(env).Cached(ref); ok {
			t.Errorf("%s: whole without config.json", folder)
		}
		got, err := quick(env).Pull(context.Background(), ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for p, b := range files {
			if have, err := os.ReadFile(filepath.Join(got, p)); err != nil || string(have) != string(b) {
				t.Errorf("%s: %s: %v", folder, p, err)
			}
		}
		if n := s.BytesSent() - before; n > 20_000 {
			t.Errorf("%s: %d bytes were fetched", folder, n)
		}
		s.Close()
	}
}

// TestTakesBlobs completes a cache that huggingface_hub left half full, and believes no blob's name.
func TestTakesBlobs(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 1<<20, 2<<20, 100_000)
	commit := s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	half := map[string][]byte{}
	for p, b := range files {
		if p != "model-00003-of-00003.safetensors" && p != "config.json" {
			half[p] = b
		}
	}
	for _, shared := range []bool{false, true} {
		env := testEnv(t, s.URL)
		snapshot := pythonCache(t, env.HFCache, Model, half, commit, true, shared)
		first, err := filepath.EvalSymlinks(filepath.Join(snapshot, "model-00001-of-00003.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(first, make([]byte, 1<<20), 0o666); err != nil {
			t.Fatal(err)
		}
		before := s.BytesSent()
		dir, err := quick(env).Pull(context.Background(), Ref{HuggingFace, Model, "org/m", ""}, Options{})
		if err != nil || dir != snapshot {
			t.Fatalf("%s, %v", dir, err)
		}
		mustHold(t, dir, files)
		if n := s.BytesSent() - before; n > 1<<20+150_000 {
			t.Errorf("%d bytes were fetched", n)
		}
	}
}

// TestWithoutLinks makes a cache where symbolic links are not wanted: real files, whole and found again.
func TestWithoutLinks(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 100_000)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	env := testEnv(t, s.URL, "HF_HUB_DISABLE_SYMLINKS=1")
	ref := Ref{HuggingFace, Model, "org/m", ""}
	for range 2 {
		dir, err := quick(env).Pull(context.Background(), ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, dir, wantedFiles(files))
		if info, err := os.Lstat(filepath.Join(dir, weightsFile)); err != nil || !info.Mode().IsRegular() {
			t.Error("a link was made")
		}
	}
}

// TestReadOnlyCache returns what is there although nothing can be written.
func TestReadOnlyCache(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes everywhere")
	}
	s := hubtest.New()
	defer s.Close()
	files := model(t, 1000)
	commit := s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	env := testEnv(t, s.URL)
	snapshot := pythonCache(t, env.HFCache, Model, files, commit, true, false)
	root := filepath.Join(env.HFCache, "models--org--m")
	if err := os.Chmod(root, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(root, 0o777)
	if dir, err := quick(env).Pull(context.Background(), Ref{HuggingFace, Model, "org/m", ""}, Options{}); err != nil || dir != snapshot {
		t.Errorf("%s, %v", dir, err)
	}
}
