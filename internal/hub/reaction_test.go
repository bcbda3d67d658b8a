package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cria/internal/hub/hubtest"
)

func pull(env Env, name string, opt Options) (string, error) {
	ref, err := ParseRef(name, Model, HuggingFace)
	if err != nil {
		return "", err
	}
	return quick(env).Pull(context.Background(), ref, opt)
}

// TestRefusals wants a plain message for each thing that cannot be had, and nothing written.
func TestRefusals(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	good := model(t, 100)
	with := func(change func(map[string][]byte)) map[string][]byte {
		m := map[string][]byte{}
		for p, b := range good {
			m[p] = b
		}
		change(m)
		return m
	}
	add := func(r hubtest.Repo) {
		r.Kind = "model"
		if r.Files == nil {
			r.Files = good
		}
		s.Add(r)
	}
	add(hubtest.Repo{Name: "org/good"})
	add(hubtest.Repo{Name: "org/gated", Gated: true, Token: "right"})
	add(hubtest.Repo{Name: "org/private", Private: true, Token: "right"})
	add(hubtest.Repo{Name: "org/disabled", Disabled: true})
	add(hubtest.Repo{Name: "org/pickles", Files: with(func(m map[string][]byte) { delete(m, "model.safetensors"); delete(m, "consolidated.safetensors") })})
	add(hubtest.Repo{Name: "org/gguf", Files: map[string][]byte{"m.gguf": []byte("GGUF"), "README.md": nil}})
	add(hubtest.Repo{Name: "org/empty", Files: map[string][]byte{"README.md": nil}})
	add(hubtest.Repo{Name: "org/shards", Files: map[string][]byte{"config.json": []byte("{}"), "model-00001-of-00002.safetensors": []byte("x"),
		"model.safetensors.index.json": []byte(`{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`)}})
	add(hubtest.Repo{Name: "org/index", Files: map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map":{"a":"../../x.safetensors"}}`)}})
	add(hubtest.Repo{Name: "org/case", Files: with(func(m map[string][]byte) { m["Config.json"] = []byte("{}") })})
	s.Tokens = []string{"other"}

	for _, c := range []struct {
		name  string
		token string
		want  []string // of Hugging Face; the first of ModelScope too unless it begins with -
		ms    string   // what ModelScope's error says instead; "" for the same
	}{
		{"org/missing", "", []string{"does not exist, or is private", "401", "HF_TOKEN"}, "no such repository"},
		{"org/missing", "right", []string{"no such repository", "404"}, ""},
		{"org/good", "wrong", []string{"token", "not accepted", "HF_TOKEN"}, ""},
		{"org/good@v9", "", []string{`no revision "v9"`, "404"}, "no such repository or revision"},
		{"org/gated", "", []string{"gated", "accept its conditions at", "/org/gated", "HF_TOKEN"}, "MODELSCOPE_API_TOKEN"},
		{"org/gated", "other", []string{"gated", "accept its conditions at"}, "403"},
		{"org/private", "", []string{"does not exist, or is private"}, "no such repository"},
		{"org/disabled", "", []string{"taken down"}, "disabled"},
		{"org/pickles", "", []string{"only as pickles", "runs whatever code"}, ""},
		{"org/gguf", "", []string{"GGUF files only", "--include"}, ""},
		{"org/empty", "", []string{"no weights", "README.md"}, ""},
		{"org/shards", "", []string{"incomplete", "model-00002-of-00002.safetensors"}, ""},
		{"org/index", "", []string{"../../x.safetensors"}, ""},
		{"org/case", "", []string{"one file on some systems"}, ""},
	} {
		for _, source := range []string{"hf:", "ms:"} {
			env := testEnv(t, s.URL, "HF_TOKEN="+c.token, "MODELSCOPE_API_TOKEN="+c.token)
			_, err := pull(env, source+c.name, Options{})
			want := c.want
			if source == "ms:" {
				want = c.want[:1]
				if c.ms != "" {
					want = []string{c.ms}
				}
			}
			if err == nil {
				t.Errorf("%s%s with token %q: no error", source, c.name, c.token)
				continue
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%s%s with token %q: %q does not say %q", source, c.name, c.token, err, w)
				}
			}
			if strings.Contains(err.Error(), "Signature") || c.token != "" && c.token != "other" && strings.Contains(err.Error(), c.token+" ") {
				t.Errorf("%s: the error tells a secret: %v", c.name, err)
			}
			if c.name != "org/gated" { // whose listing may be seen
				for _, dir := range []string{env.HFCache, env.MSCache} {
					if _, err := os.Stat(dir); err == nil {
						t.Errorf("%s%s: something was written", source, c.name)
					}
				}
			}
		}
	}
	for _, source := range []string{"hf:", "ms:"} { // and with the right token they are had
		for _, name := range []string{"org/gated", "org/private"} {
			if _, err := pull(testEnv(t, s.URL, "HF_TOKEN=right", "MODELSCOPE_API_TOKEN=right"), source+name, Options{}); err != nil {
				t.Errorf("%s%s: %v", source, name, err)
			}
		}
	}
}

// TestTokenStaysHome looks at every request that comes in: the token goes to the configured host, and to no other, wherever
// that one leads.
func TestTokenStaysHome(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: model(t, 3<<20), Private: true, Token: "secret-token"})
	for _, name := range []string{"hf:org/m", "ms:org/m"} {
		if _, err := pull(testEnv(t, s.URL, "HF_TOKEN=secret-token", "MODELSCOPE_API_TOKEN=secret-token"), name, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	home, away := 0, 0
	for _, r := range s.Requests() {
		has := strings.Contains(fmt.Sprint(r.Header), "secret-token")
		switch mine := "http://"+r.Host == s.URL; {
		case mine && has:
			home++
		case mine:
			t.Errorf("%s %s came without the token", r.Method, r.Path)
		case has:
			t.Errorf("%s got the token", r.Host)
		default:
			away++
		}
		if e := r.Header.Get("Accept-Encoding"); e != "identity" {
			t.Errorf("Accept-Encoding is %q", e)
		}
	}
	if home == 0 || away == 0 {
		t.Errorf("%d requests at home, %d away", home, away)
	}

	// A host that leads elsewhere with every kind of redirect, also by another name of the same machine.
	var leaked []string
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked = append(leaked, fmt.Sprint(r.Header))
		http.Error(w, "{}", http.StatusNotFound)
	}))
	defer thief.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{thief.URL, strings.Replace(thief.URL, "127.0.0.1", "localhost", 1)} {
			hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, to+"/x", status)
			}))
			if _, err := pull(testEnv(t, hub.URL, "HF_TOKEN=secret-token"), "org/m", Options{}); err == nil {
				t.Error("no error")
			}
			hub.Close()
		}
	}
	if len(leaked) != 10 {
		t.Errorf("%d requests were led away, want 10", len(leaked))
	}
	for _, h := range leaked {
		if strings.Contains(h, "secret") {
			t.Errorf("leaked: %s", h)
		}
	}
}

// TestFollow holds the rules for links and redirects.
func TestFollow(t *testing.T) {
	for _, c := range []struct{ base, from, location, want string }{
		{"https://huggingface.co", "https://huggingface.co/a", "/b?x=1", "https://huggingface.co/b?x=1"},
		{"https://huggingface.co", "https://huggingface.co/a", "https://cdn.example/x?Signature=y", "https://cdn.example/x?Signature=y"},
		{"https://huggingface.co", "https://huggingface.co/a", "http://cdn.example/x", "only https"},
		{"https://huggingface.co", "https://huggingface.co/a", "file:///etc/passwd", "no address"},
		{"https://huggingface.co", "https://huggingface.co/a", "ftp://x/y", "only https"},
		{"https://huggingface.co", "https://huggingface.co/a", "https://hf.co/b", "https://hf.co/b"},
		{"https://mirror.example", "https://mirror.example/a", "https://huggingface.co/b?c=d", "https://mirror.example/b?c=d"},
		{"https://mirror.example", "https://mirror.example/a", "https://HuggingFace.co/b", "https://mirror.example/b"},
		{"https://mirror.example", "https://mirror.example/b", "https://huggingface.co/b", "sends back to the public"},
		{"https://nexus.example/hf", "https://nexus.example/hf/a", "https://huggingface.co/b%2Fc", "https://nexus.example/hf/b%2Fc"},
		{"http://127.0.0.1:9", "http://127.0.0.1:9/a", "http://127.0.0.1:8/b", "http://127.0.0.1:8/b"},
		{"http://127.0.0.1:9", "http://127.0.0.1:9/a", "gopher://x/y", "only https"},
	} {
		base, err := endpoint("X", c.base, "")
		if err != nil {
			t.Fatal(err)
		}
		from, _ := base.Parse(c.from)
		u, err := newHost("H", base, "", "T", "E", huggingFaceHosts).follow(from, c.location)
		got := fmt.Sprint(u)
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s from %s: %s, want %s", c.base, c.location, c.from, got, c.want)
		}
	}
}

// TestNextPage asks for the next page at the configured host, or not at all.
func TestNextPage(t *testing.T) {
	base, _ := endpoint("X", "https://mirror.example", "")
	h := newHost("H", base, "", "T", "E", huggingFaceHosts)
	for link, want := range map[string]string{
		"": "<nil>",
		`<https://mirror.example/p?c=1>; rel="next"`:                                        "https://mirror.example/p?c=1",
		`<https://huggingface.co/p?c=1>; rel="next"`:                                        "https://mirror.example/p?c=1",
		`<https://huggingface.co/first>; rel="first", <https://huggingface.co/2>; rel=next`: "https://mirror.example/2",
		`<https://huggingface.co/first>; rel="first"`:                                       "<nil>",
		`<https://evil.example/p>; rel="next"`:                                              "another host",
		`<http://mirror.example/p>; rel="next"`:                                             "only https",
	} {
		u, err := nextPage(h, base, link)
		got := fmt.Sprint(u)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%s: %s, want %s", link, got, want)
		}
	}
}

// TestSlowDisk reads from a host that is quick, with pauses of its own that are longer than a connection may stall.
func TestSlowDisk(t *testing.T) {
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1000)) }))
	defer host.Close()
	c := quick(testEnv(t, host.URL))
	c.stall = 50 * time.Millisecond
	resp, err := c.get(context.Background(), c.hubs[HuggingFace], c.hubs[HuggingFace].base, "")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 3 {
		if n, err := resp.Body.Read(make([]byte, 100)); n == 0 {
			t.Fatal(err)
		}
		time.Sleep(2 * c.stall)
	}
}

// TestMirror pulls from a mirror that links its pages at the public hub and lacks headers.
func TestMirror(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	s.PageSize, s.MirrorLinks, s.NoETag, s.NoContentLength, s.Xet, s.ListLimit = 2, true, true, true, true, 3000
	files := model(t, 2<<20, 100)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	for _, name := range []string{"hf:org/m", "ms:org/m"} {
		dir, err := pull(testEnv(t, s.URL), name, Options{})
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, dir, wantedFiles(files))
	}
}

// TestLongListing wants every page, and the folders of a listing that ModelScope cut off.
func TestLongListing(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	s.PageSize = 700
	data := map[string][]byte{}
	for i := range 1501 {
		data[fmt.Sprintf("data/%04d.json", i)] = fmt.Appendf(nil, "[%d]", i)
	}
	s.Add(hubtest.Repo{Kind: "dataset", Name: "org/d", Files: data})
	many := model(t, 100)
	for i := range 3500 {
		many[fmt.Sprintf("more/%d/%d.json", i/1000, i)] = nil
	}
	s.Add(hubtest.Repo{Kind: "model", Name: "org/many", Files: many})
	for _, source := range []Source{HuggingFace, ModelScope} {
		for ref, want := range map[Ref]int{{source, Dataset, "org/d", ""}: len(data), {source, Model, "org/many", ""}: len(many)} {
			_, files, err := quick(testEnv(t, s.URL)).list(context.Background(), newReporter(nil), ref)
			if err != nil || len(files) != want {
				t.Errorf("%s: %d files, %v; want %d", ref, len(files), err, want)
			}
		}
	}
}

// TestExpiredLinks pulls over signed links that hold for an instant only.
func TestExpiredLinks(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	s.LinkLife = 40 * time.Millisecond
	s.Throttle = 4 << 20
	files := model(t, 3<<20)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	for _, name := range []string{"hf:org/m", "ms:org/m"} {
		env := testEnv(t, s.URL)
		ref, _ := ParseRef(name, Model, HuggingFace)
		c := quick(env)
		c.segment = 256 << 10
		dir, err := c.Pull(context.Background(), ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, dir, wantedFiles(files))
	}
	if !slices.ContainsFunc(s.Requests(), func(r hubtest.Request) bool { return r.Status == http.StatusForbidden }) {
		t.Error("no link expired")
	}
}

// TestRateLimit waits as long as the hub asks, and gives up if that is too long.
func TestRateLimit(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		retry, limit string
		want         time.Duration
	}{
		{"", "", 0}, {"7", "", 7 * time.Second}, {"Tue, 01 Sep 2026 12:00:30 GMT", "", 30 * time.Second}, {"-5", "", 0}, {"soon", "", 0},
		{"", `"api";r=0;t=55`, 56 * time.Second}, {"3", `"api";r=0;t=55`, 56 * time.Second}, {"90", `"api";r=12;t=55`, 90 * time.Second}, {"", `"api";r=10;t=55`, 0},
		{"99999999999999999999", "", 0},
	} {
		h := http.Header{}
		h.Set("Retry-After", c.retry)
		h.Set("RateLimit", c.limit)
		if got := pause(h, now); got != c.want {
			t.Errorf("Retry-After %q, RateLimit %q: %v, want %v", c.retry, c.limit, got, c.want)
		}
	}

	s := hubtest.New()
	defer s.Close()
	s.APILimit, s.Window = 1, time.Second
	files := model(t, 100)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	dir, err := pull(testEnv(t, s.URL), "org/m", Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, wantedFiles(files))

	long := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer long.Close()
	start := time.Now()
	if _, err := pull(testEnv(t, long.URL), "org/m", Options{}); err == nil || !strings.Contains(err.Error(), "1h0m0s") || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// TestOffline counts connections: there are none, whatever is asked for.
func TestOffline(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 1000)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	for _, variable := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		for _, source := range []string{"hf:", "ms:"} {
			home := t.TempDir()
			dir, err := pull(envAt(t, home, s.URL), source+"org/m", Options{})
			if err != nil {
				t.Fatal(err)
			}
			before := len(s.Requests())
			env := envAt(t, home, s.URL, variable+"=1")
			if got, err := pull(env, source+"org/m", Options{}); err != nil || got != dir {
				t.Errorf("%s: %s, %v", source, got, err)
			}
			for _, name := range []string{source + "org/other", source + "org/m@v2"} {
				if _, err := pull(env, name, Options{}); !errors.Is(err, ErrOffline) || !strings.Contains(err.Error(), variable) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := quick(env).Dir(context.Background(), source+"org/other", Model, "", Options{}); !errors.Is(err, ErrOffline) {
				t.Error(err)
			}
			c := quick(env)
			if _, err := c.get(context.Background(), c.hubs[HuggingFace], c.hubs[HuggingFace].base, ""); !errors.Is(err, ErrOffline) {
				t.Errorf("the client can connect: %v", err)
			}
			if n := len(s.Requests()); n != before {
				t.Errorf("%d requests were made", n-before)
			}
		}
	}
}

// TestProxy goes through HTTP_PROXY for a hub that has no address.
func TestProxy(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 1000)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Host)
		mu.Unlock()
		if r.URL.Host == "hub.invalid" {
			s.Handler().ServeHTTP(w, r)
			return
		}
		http.Redirect(w, r, s.URL, http.StatusBadGateway)
	}))
	defer proxy.Close()
	out, err := command("hf:org/m", t.TempDir(), "http://hub.invalid", "HTTP_PROXY="+proxy.URL, "http_proxy=", "NO_PROXY=", "no_proxy=").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mustHold(t, strings.TrimSpace(string(out)), wantedFiles(files))
	mu.Lock()
	defer mu.Unlock()
	if len(asked) < 3 {
		t.Errorf("the proxy saw %v", asked)
	}
}
