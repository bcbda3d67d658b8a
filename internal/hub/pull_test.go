package hub

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cria/internal/hub/hubtest"
)

// model is a small model's files, with shards of the sizes given or one file if there is one.
func model(t testing.TB, shards ...int) map[string][]byte {
	t.Helper()
	files := map[string][]byte{
		"config.json":              []byte(`{"architectures":["LlamaForCausalLM"]}`),
		"tokenizer.json":           []byte(`{"model":{}}`),
		"tokenizer_config.json":    []byte(`{}`),
		"chat_template.jinja":      []byte("{{ messages }}"),
		"README.md":                []byte("# model"),
		"pytorch_model.bin":        []byte("a pickle"),
		"original/params.json":     []byte(`{}`),
		"onnx/model.safetensors":   []byte("another copy"),
		"modeling_x.py":            []byte("import os"),
		".gitattributes":           []byte("* text"),
		"consolidated.safetensors": []byte("a second copy"),
	}
	weights := map[string]string{}
	for i, n := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
			weights[fmt.Sprint("t", i)] = name
		}
		files[name] = make([]byte, n)
		rand.Read(files[name])
	}
	if len(shards) > 1 {
		b, err := json.Marshal(map[string]any{"weight_map": weights})
		if err != nil {
			t.Fatal(err)
		}
		files["model.safetensors.index.json"] = b
	}
	return files
}

// wantedFiles are the files of model that cria needs.
func wantedFiles(files map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for p, b := range files {
		if !strings.Contains(p, "/") && !strings.HasPrefix(p, ".") && (strings.HasSuffix(p, ".json") || strings.HasSuffix(p, ".jinja") || strings.HasPrefix(p, "model") && strings.HasSuffix(p, ".safetensors")) {
			out[p] = b
		}
	}
	return out
}

// testEnv is an environment with its own caches, and both hubs at url.
func testEnv(t testing.TB, url string, more ...string) Env {
	t.Helper()
	return envAt(t, t.TempDir(), url, more...)
}

func envAt(t testing.TB, dir, url string, more ...string) Env {
	t.Helper()
	vars := map[string]string{"HOME": dir, "HF_ENDPOINT": url, "MODELSCOPE_ENDPOINT": url,
		"HF_HUB_CACHE": filepath.Join(dir, "hf"), "MODELSCOPE_CACHE": filepath.Join(dir, "ms")}
	for _, v := range more {
		name, value, _ := strings.Cut(v, "=")
		vars[name] = value
	}
	env, err := FromEnv(func(name string) string { return vars[name] })
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// quick is a client that does not wait long.
func quick(env Env) *Client {
	c := New(env)
	c.backoff, c.stall, c.busy = time.Millisecond, 2*time.Second, 2*time.Second
	return c
}

// mustHold fails unless dir holds exactly files, and nothing unfinished is left in root.
func mustHold(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == workDir {
				return filepath.SkipDir
			}
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if want, ok := files[filepath.ToSlash(rel)]; !ok || string(b) != string(want) {
			t.Errorf("%s: unexpected, or not the bytes of the repository", rel)
		}
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != len(files) {
		t.Errorf("%s holds %d files, want %d", dir, n, len(files))
	}
}

// leftovers lists what is in work folders besides records.
func leftovers(t testing.TB, root string) (names []string) {
	t.Helper()
	filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Base(filepath.Dir(p)) == workDir && filepath.Ext(p) != ".json" {
			names = append(names, p)
		}
		return nil
	})
	return names
}

func TestPull(t *testing.T) {
	for _, source := range []Source{HuggingFace, ModelScope} {
		for _, to := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/to=%v", source, to), func(t *testing.T) {
				s := hubtest.New()
				defer s.Close()
				files := model(t, 5<<20+1, 70_000, 0)
				commit := s.Add(hubtest.Repo{Kind: "model", Name: "org/m.1", Files: files})
				env := testEnv(t, s.URL)
				c := quick(env)
				ref := Ref{Source: source, Kind: Model, Name: "org/m.1"}
				var opt Options
				if to {
					opt.To = filepath.Join(t.TempDir(), "a", "b")
				}
				if dir, ok := c.Cached(ref); ok {
					t.Fatalf("cached before: %s", dir)
				}
				dir, err := c.Pull(context.Background(), ref, opt)
				if err != nil {
					t.Fatal(err)
				}
				mustHold(t, dir, wantedFiles(files))
				switch want := map[Source]string{HuggingFace: filepath.Join(env.HFCache, "models--org--m.1", "snapshots", commit), ModelScope: filepath.Join(env.MSCache, "models", "org--m.1", "snapshots", "master")}[source]; {
				case to:
					if dir != opt.To {
						t.Errorf("directory %s, want %s", dir, opt.To)
					}
					if _, err := os.Lstat(filepath.Join(dir, workDir)); err == nil {
						t.Error("a work folder is left")
					}
				case dir != want:
					t.Errorf("directory %s, want %s", dir, want)
				default:
					if got, ok := c.Cached(ref); !ok || got != dir {
						t.Errorf("Cached says %q, %v", got, ok)
					}
				}
				if l := leftovers(t, filepath.Dir(env.HFCache)); len(l) > 0 {
					t.Errorf("left: %v", l)
				}
				before := s.BytesSent()
				if again, err := c.Pull(context.Background(), ref, opt); err != nil || again != dir {
					t.Errorf("again: %s, %v", again, err)
				}
				if n := s.BytesSent() - before; n > 20000 {
					t.Errorf("pulled again, the hub sent %d bytes", n)
				}
			})
		}
	}
}
