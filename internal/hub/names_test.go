package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hostilePaths are paths that no repository may make cria write.
var hostilePaths = []string{
	"", ".", "..", "/", "//", "a//b", "a/", "/a", "./a", "a/./b", "../a", "a/../b", "a/..", "a/../../b", "../../../../etc/passwd.json",
	"/etc/passwd", "//host/share/a", `\\host\share\a`, `..\a`, `a\..\b`, `a\b`, `C:\a`, "C:/a", "C:a", "c:", "a:b", "a.json:stream", `\\?\C:\a`, `\\.\pipe\a`,
	"con", "CON", "con.json", "Con.tar.gz", "nul", "NUL.json", "aux", "prn.txt", "com0", "com1", "COM9.json", "lpt1", "LPT9.x", "com¹", "lpt³.json", "CONIN$", "conout$",
	"a/nul/b", "nul /x", "a.", "a..", "a. ", "a ", " a", "a/b./c", "a/ b", "...", ". .", "a\x00b", "a\nb", "a\rb", "a\tb", "a\x1b[2Jb", "a\x7f", "a\u0085b",
	"a\u202eb", "a\u2066b", "a\u200bb", "a\ufeffb", "\ufffd", "\xff", "a\xc3", "a*b", "a?b", `a"b`, "a<b", "a>b", "a|b",
	".git/config", ".git", "a/.git/hooks/x", ".GIT/hooks/post-checkout", ".Git", ".cria/x", ".CRIA/x", "a/.cria/b",
	strings.Repeat("a", 256), strings.Repeat("a/", 600) + "b", strings.Repeat("é", 128), "a/" + strings.Repeat("b", 256) + "/c",
}

func TestValidPath(t *testing.T) {
	for _, p := range hostilePaths {
		if validPath(p) == nil {
			t.Errorf("%q is allowed", p)
		}
	}
	for _, p := range []string{"a", "a.json", "a/b/c.json", ".gitattributes", "a-b_c+d,e=f@g~h", "数据/训练集 一.json", "naïve.json", "a b.json", "console.json", "com.json", "com10.json",
		"nullable/aux1", "..a", "a..b", "...a", "(1).json", "[a].json", "{x}", "a'b", "a&b;c$d%41", strings.Repeat("a", 255)} {
		if err := validPath(p); err != nil {
			t.Error(err)
		}
	}
}

// TestHostilePaths lets hubs list each of these paths as a file that is wanted, and looks that nothing is written.
func TestHostilePaths(t *testing.T) {
	var listed string
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hash := strings.Repeat("ab", 32)
		var v any
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/v1/"):
			v = map[string]any{"Code": 200, "Data": map[string]any{"Files": []any{map[string]any{"Type": "blob", "Path": listed, "Size": 1, "Sha256": hash}}}}
		case strings.Contains(r.URL.Path, "/revision/"):
			v = map[string]any{"sha": someCommit}
		case strings.Contains(r.URL.Path, "/tree/"):
			v = []any{map[string]any{"type": "file", "path": listed, "size": 1, "oid": someCommit, "lfs": map[string]any{"oid": hash, "size": 1}}}
		default:
			t.Errorf("%q: %s was asked for", listed, r.URL.Path)
		}
		json.NewEncoder(w).Encode(v)
	}))
	defer hub.Close()
	top := t.TempDir()
	env := envAt(t, filepath.Join(top, "home"), hub.URL)
	for _, listed = range hostilePaths {
		for _, source := range []string{"hf:", "ms:"} {
			for _, to := range []string{"", filepath.Join(top, "to")} {
				ref, _ := ParseRef(source+"org/m", Dataset, HuggingFace)
				if dir, err := quick(env).Pull(context.Background(), ref, Options{To: to, Files: func(string) bool { return true }}); err == nil {
					t.Errorf("%q was pulled to %s", listed, dir)
				}
			}
		}
	}
	if entries, err := os.ReadDir(top); err != nil || len(entries) > 0 {
		t.Errorf("written: %v, %v", entries, err)
	}
}

func TestParseRef(t *testing.T) {
	for s, want := range map[string]Ref{
		"org/name":             {ModelScope, Model, "org/name", ""},
		"hf:org/name":          {HuggingFace, Model, "org/name", ""},
		"ms:org/name":          {ModelScope, Model, "org/name", ""},
		"hf:a/b@main":          {HuggingFace, Model, "a/b", "main"},
		"a/b@refs/pr/1":        {ModelScope, Model, "a/b", "refs/pr/1"},
		"A-1/b.c_d-E.2@v1.0+x": {ModelScope, Model, "A-1/b.c_d-E.2", "v1.0+x"},
		"hf:a/b@" + someCommit: {HuggingFace, Model, "a/b", someCommit},
	} {
		got, err := ParseRef(s, Model, ModelScope)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
		if again, err := ParseRef(got.String(), Model, HuggingFace); err != nil || again != got {
			t.Errorf("%q: its String %q is read as %+v, %v", s, got, again, err)
		}
	}
	long := strings.Repeat("a", 97)
	for _, s := range []string{"", "/", "a", "gpt2", "a/", "/a", "a/b/c", "a//b", "./a", "../a", "a/..", "a/.b", ".a/b", "-a/b", "a/-b", "a/b-", "a/b.", "a./b", "a--b/c", "a/b--c", "a..b/c", "a/b.git",
		"a b/c", "a/b c", "a/b\n", "a/b\x00", "a/é", "hf:", "hf:a", "hf:/a", "hf:hf:a/b", "xx:a/b", "https://huggingface.co/a/b", "C:/a", `C:\a\b`, `a\b`, "HF:a/b", "a/con", "nul/b", "a/LPT1.x",
		long + "/a", "a/" + long, "a/b@", "a/b@/", "a/b@x/", "a/b@/x", "a/b@..", "a/b@a/../b", "a/b@a..b", "a/b@-x", "a/b@x y", "a/b@x.lock", "a/b@x@y", "a/b@~1", "a/b@x:y", "a/b@a//b", "a/b@.x",
		"a/b@nul", "a/b@x.", "a/b@" + strings.Repeat("x", 201), "a/b?x", "a/b#x", "a/%2e%2e"} {
		if r, err := ParseRef(s, Model, HuggingFace); err == nil {
			t.Errorf("%q is read as %+v", s, r)
		}
	}
}

func FuzzValidPath(f *testing.F) {
	for _, p := range hostilePaths {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if validPath(p) != nil {
			return
		}
		root := filepath.FromSlash("/some/root")
		if joined := filepath.Join(root, filepath.FromSlash(p)); !strings.HasPrefix(joined, root+string(filepath.Separator)) || !filepath.IsLocal(filepath.FromSlash(p)) || filepath.ToSlash(joined[len(root)+1:]) != p {
			t.Errorf("%q leads to %q", p, joined)
		}
	})
}

func TestEnv(t *testing.T) {
	home := t.TempDir()
	write(t, home, map[string][]byte{".cache/huggingface/token": []byte(" from-file\n"), "h/token": []byte("from-home"), "elsewhere": []byte("from-path")})
	for _, c := range []struct {
		vars string
		get  func(Env) any
		want any
	}{
		{"", func(e Env) any { return e.HFCache }, filepath.Join(home, ".cache/huggingface/hub")},
		{"XDG_CACHE_HOME=/x", func(e Env) any { return e.HFCache }, "/x/huggingface/hub"},
		{"HF_HOME=~/h", func(e Env) any { return e.HFCache }, filepath.Join(home, "h/hub")},
		{"HF_HOME=~/h HF_HUB_CACHE=$HOME/c", func(e Env) any { return e.HFCache }, filepath.Join(home, "c")},
		{"HUGGINGFACE_HUB_CACHE=/old", func(e Env) any { return e.HFCache }, "/old"},
		{"", func(e Env) any { return e.MSCache }, filepath.Join(home, ".cache/modelscope")},
		{"MODELSCOPE_CACHE=/m", func(e Env) any { return e.MSCache }, "/m"},
		{"", func(e Env) any { return e.HFToken }, "from-file"},
		{"HF_HOME=~/h", func(e Env) any { return e.HFToken }, "from-home"},
		{"HF_TOKEN_PATH=~/elsewhere", func(e Env) any { return e.HFToken }, "from-path"},
		{"HF_TOKEN=a HUGGING_FACE_HUB_TOKEN=b", func(e Env) any { return e.HFToken }, "a"},
		{"HUGGING_FACE_HUB_TOKEN=b", func(e Env) any { return e.HFToken }, "b"},
		{"MODELSCOPE_API_TOKEN=m", func(e Env) any { return e.MSToken }, "m"},
		{"", func(e Env) any { return e.HFEndpoint.String() }, "https://huggingface.co"},
		{"HF_ENDPOINT=https://hf-mirror.com/", func(e Env) any { return e.HFEndpoint.String() }, "https://hf-mirror.com"},
		{"HF_ENDPOINT=hf-mirror.com", func(e Env) any { return e.HFEndpoint.String() }, "https://hf-mirror.com"},
		{"HF_ENDPOINT=http://10.0.0.1:8080/hf", func(e Env) any { return e.HFEndpoint.String() }, "http://10.0.0.1:8080/hf"},
		{"", func(e Env) any { return e.MSEndpoint.String() }, "https://modelscope.cn"},
		{"MODELSCOPE_PREFER_AI_SITE=true", func(e Env) any { return e.MSEndpoint.String() }, "https://www.modelscope.ai"},
		{"MODELSCOPE_DOMAIN=www.modelscope.cn", func(e Env) any { return e.MSEndpoint.String() }, "https://www.modelscope.cn"},
		{"MODELSCOPE_DOMAIN=a MODELSCOPE_ENDPOINT=http://b", func(e Env) any { return e.MSEndpoint.String() }, "http://b"},
		{"", func(e Env) any { return e.DefaultSource }, HuggingFace},
		{"CRIA_SOURCE=ms", func(e Env) any { return e.DefaultSource }, ModelScope},
		{"USE_MODELSCOPE_HUB=1", func(e Env) any { return e.DefaultSource }, ModelScope},
		{"USE_MODELSCOPE_HUB=1 CRIA_SOURCE=hf", func(e Env) any { return e.DefaultSource }, HuggingFace},
		{"USE_MODELSCOPE_HUB=0", func(e Env) any { return e.DefaultSource }, HuggingFace},
		{"MODELSCOPE_CACHE=/m", func(e Env) any { return e.DefaultSource }, ModelScope},
		{"MODELSCOPE_CACHE=/m HF_HOME=/h", func(e Env) any { return e.DefaultSource }, HuggingFace},
		{"HF_HUB_OFFLINE=1", func(e Env) any { return e.Offline }, true},
		{"TRANSFORMERS_OFFLINE=yes", func(e Env) any { return e.Offline }, true},
		{"HF_HUB_OFFLINE=0", func(e Env) any { return e.Offline }, false},
		{"CRIA_SOURCE=github", nil, "CRIA_SOURCE"},
		{"HF_ENDPOINT=ftp://x", nil, "HF_ENDPOINT"},
		{"HF_ENDPOINT=https://x?y", nil, "HF_ENDPOINT"},
		{"MODELSCOPE_ENDPOINT=https://", nil, "MODELSCOPE_ENDPOINT"},
		{"HF_TOKEN=a\x01b", nil, "HF_TOKEN"},
	} {
		vars := map[string]string{"HOME": home}
		for _, v := range strings.Fields(c.vars) {
			name, value, _ := strings.Cut(v, "=")
			vars[name] = value
		}
		e, err := FromEnv(func(n string) string { return vars[n] })
		switch {
		case c.get == nil && (err == nil || !strings.Contains(err.Error(), fmt.Sprint(c.want))):
			t.Errorf("%s: %v", c.vars, err)
		case c.get != nil && err != nil:
			t.Errorf("%s: %v", c.vars, err)
		case c.get != nil && c.get(e) != c.want:
			t.Errorf("%s: %v, want %v", c.vars, c.get(e), c.want)
		}
	}
}
