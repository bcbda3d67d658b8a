package hubtest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	small   = []byte(`{"model_type": "llama"}`)
	weights = bytes.Repeat([]byte("0123456789abcdef"), 4096)
	files   = map[string][]byte{"config.json": small, "model.safetensors": weights, "a/b/ü 100%.txt": []byte("x"), "a/c.txt": {}}
)

// plain follows no redirect.
var plain = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

type reply struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

// ask sends a request with headers "Name: value".
func ask(t *testing.T, c *http.Client, method, address string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp, body, err}
}

func decode[T any](t *testing.T, r reply) (v T) {
	t.Helper()
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return v
}

func serve(t *testing.T, repos ...Repo) *Server {
	s := New()
	t.Cleanup(s.Close)
	for _, r := range repos {
		s.Add(r)
	}
	return s
}

func TestHuggingFace(t *testing.T) {
	s := serve(t)
	first := s.Add(Repo{Kind: "model", Name: "o/m", Files: files, Tags: []string{"v/1"}})
	second := s.Add(Repo{Kind: "model", Name: "o/m", Files: map[string][]byte{"config.json": []byte("{}")}})
	if first == second || !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(first) {
		t.Fatalf("commits %s and %s", first, second)
	}
	for revision, want := range map[string]string{"": second, "/revision/main": second, "/revision/v%2F1": first, "/revision/" + first: first} {
		info := decode[struct{ SHA string }](t, ask(t, plain, "GET", s.URL+"/api/models/o/m"+revision))
		if info.SHA != want {
			t.Errorf("revision %q is %s, want %s", revision, info.SHA, want)
		}
	}
	type entry struct {
		Type, Path, OID string
		Size            int
		LFS             struct {
			OID  string
			Size int
		}
	}
	s.PageSize = 2
	var all []entry
	for next, pages := s.URL+"/api/models/o/m/tree/"+first+"?recursive=True&expand=False", 0; next != ""; pages++ {
		r := ask(t, plain, "GET", next)
		all = append(all, decode[[]entry](t, r)...)
		if next = ""; r.Header.Get("Link") != "" {
			m := regexp.MustCompile(`^<(.*)>; rel="next"$`).FindStringSubmatch(r.Header.Get("Link"))
			next = m[1]
		}
		if pages == 3 {
			t.Fatal("more than three pages")
		}
	}
	want := []entry{{Type: "directory", Path: "a"}, {Type: "directory", Path: "a/b"}, {Type: "file", Path: "a/b/ü 100%.txt", Size: 1},
		{Type: "file", Path: "a/c.txt"}, {Type: "file", Path: "config.json", Size: len(small)}, {Type: "file", Path: "model.safetensors", Size: len(weights)}}
	if len(all) != len(want) {
		t.Fatalf("%d entries: %v", len(all), all)
	}
	for i, w := range want {
		if g := all[i]; g.Type != w.Type || g.Path != w.Path || g.Size != w.Size {
			t.Errorf("entry %d is %+v, want %+v", i, g, w)
		}
	}
	if got := all[4].OID; got != fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(small), small))) {
		t.Errorf("config.json is the blob %s", got)
	}
	if got := all[5].LFS; got.OID != fmt.Sprintf("%x", sha256.Sum256(weights)) || got.Size != len(weights) {
		t.Errorf("the weights are %v", got)
	}

	r := ask(t, plain, "HEAD", s.URL+"/o/m/resolve/"+first+"/config.json")
	if l := r.Header.Get("Location"); r.StatusCode != 307 || !strings.HasPrefix(l, "/api/resolve-cache/models/o/m/"+first+"/config.json?") {
		t.Fatalf("a small file: %d, Location %s", r.StatusCode, l)
	}
	r = ask(t, http.DefaultClient, "GET", s.URL+"/o/m/resolve/v%2F1/a/b/%C3%BC%20100%25.txt", "Accept-Encoding: identity")
	if string(r.body) != "x" || r.Header.Get("X-Repo-Commit") != first || r.Header.Get("ETag") != `"`+gitBlob([]byte("x"))+`"` {
		t.Errorf("a small file: %v %s", r.Header, r.body)
	}
	r = ask(t, plain, "HEAD", s.URL+"/o/m/resolve/"+first+"/model.safetensors")
	sum := fmt.Sprintf("%x", sha256.Sum256(weights))
	link, _ := r.Location()
	if r.StatusCode != 302 || r.Header.Get("X-Linked-Etag") != `"`+sum+`"` || r.Header.Get("X-Linked-Size") != fmt.Sprint(len(weights)) || "http://"+link.Host != s.CDN {
		t.Fatalf("a large file: %d %v", r.StatusCode, r.Header)
	}
	before := s.BytesSent()
	r = ask(t, plain, "GET", link.String(), "Range: bytes=10-19")
	if r.StatusCode != 206 || !bytes.Equal(r.body, weights[10:20]) || r.Header.Get("Content-Range") != fmt.Sprintf("bytes 10-19/%d", len(weights)) {
		t.Errorf("a range: %d %v %s", r.StatusCode, r.Header, r.body)
	}
	if n := s.BytesSent() - before; n != 10 {
		t.Errorf("ten bytes are counted as %d", n)
	}
	log := s.Requests()
	if last := log[len(log)-1]; last.Method != "GET" || last.Host != link.Host || last.Sent != 10 || last.Status != 206 || last.Header.Get("Range") != "bytes=10-19" {
		t.Errorf("the log ends with %+v", last)
	}
	if r = ask(t, plain, "GET", link.String(), "Range: bytes=70000-"); r.StatusCode != 416 {
		t.Errorf("a range after the end: %d", r.StatusCode)
	}
	if r = ask(t, plain, "GET", link.String(), "Authorization: Bearer secret"); r.StatusCode != 400 {
		t.Errorf("the CDN took a token: %d", r.StatusCode)
	}
	if r = ask(t, plain, "GET", strings.Replace(link.String(), "Expires=1", "Expires=2", 1)); r.StatusCode != 403 {
		t.Errorf("a link with another time: %d", r.StatusCode)
	}
	s.LinkLife = -time.Second
	if r = ask(t, http.DefaultClient, "GET", s.URL+"/o/m/resolve/"+first+"/model.safetensors"); r.StatusCode != 403 || !strings.Contains(string(r.body), "expired") {
		t.Errorf("a link after its time: %d %s", r.StatusCode, r.body)
	}
}

func TestWhoMaySee(t *testing.T) {
	s := serve(t,
		Repo{Kind: "model", Name: "o/open", Files: files, Token: "other"},
		Repo{Kind: "model", Name: "o/gated", Files: files, Gated: true, Token: "secret"},
		Repo{Kind: "model", Name: "o/private", Files: files, Private: true, Token: "secret"},
		Repo{Kind: "model", Name: "o/disabled", Files: files, Disabled: true})
	for _, c := range []struct {
		path, token string
		status      int
		code        string
	}{
		{"/api/models/o/open", "", 200, ""},
		{"/api/models/o/open", "bad", 401, ""},
		{"/api/models/o/none", "", 401, ""},
		{"/api/models/o/none", "secret", 404, "RepoNotFound"},
		{"/api/datasets/o/open", "secret", 404, "RepoNotFound"},
		{"/api/models/o/open/revision/none", "", 404, "RevisionNotFound"},
		{"/api/models/o/open/revision/master", "", 404, "RevisionNotFound"},
		{"/o/open/resolve/main/none", "", 404, "EntryNotFound"},
		{"/api/models/o/private", "", 401, ""},
		{"/api/models/o/private", "other", 404, "RepoNotFound"},
		{"/api/models/o/private", "secret", 200, ""},
		{"/api/models/o/gated", "", 200, ""},
		{"/o/gated/resolve/main/config.json", "", 401, "GatedRepo"},
		{"/o/gated/resolve/main/config.json", "other", 403, "GatedRepo"},
		{"/o/gated/resolve/main/config.json", "secret", 200, ""},
		{"/api/models/o/disabled", "secret", 403, ""},
		{"/api/v1/models/o/open/revisions", "", 200, ""},
		{"/api/v1/models/o/open/revisions", "bad", 401, ""},
		{"/api/v1/models/o/none/revisions", "", 404, ""},
		{"/api/v1/models/o/private/revisions", "other", 404, ""},
		{"/api/v1/models/o/private/revisions", "secret", 200, ""},
		{"/api/v1/models/o/gated/repo/files", "", 200, ""},
		{"/api/v1/models/o/gated/repo?FilePath=config.json", "other", 403, ""},
		{"/api/v1/models/o/gated/repo?FilePath=config.json", "secret", 200, ""},
		{"/api/v1/models/o/open/repo?FilePath=none", "", 404, ""},
		{"/api/v1/models/o/open/repo/files?Revision=main", "", 404, ""},
		{"/api/v1/models/o/disabled/repo/files", "", 403, ""},
	} {
		var headers []string
		if c.token != "" {
			headers = []string{"Authorization: Bearer " + c.token}
		}
		r := ask(t, http.DefaultClient, "GET", s.URL+c.path, headers...)
		if r.StatusCode != c.status || r.Header.Get("X-Error-Code") != c.code || (c.status != 200) != (r.Header.Get("X-Error-Message") != "") && !strings.HasPrefix(c.path, "/api/v1") {
			t.Errorf("%s with %q: %d %s %q", c.path, c.token, r.StatusCode, r.Header.Get("X-Error-Code"), r.Header.Get("X-Error-Message"))
		}
	}
	if r := ask(t, plain, "GET", s.URL+"/api/v1/models/o/private/revisions", "Cookie: m_session_id=secret"); r.StatusCode != 200 {
		t.Errorf("ModelScope's cookie: %d", r.StatusCode)
	}
}

func TestModelScope(t *testing.T) {
	s := serve(t)
	s.Add(Repo{Kind: "model", Name: "o/m", Files: map[string][]byte{"config.json": small}, Tags: []string{"v1"}})
	commit := s.Add(Repo{Kind: "model", Name: "o/m", Files: files, Tags: []string{"v2"}})
	s.Add(Repo{Kind: "dataset", Name: "o/d", Files: files})
	type list struct {
		Code int
		Data struct {
			Files []struct {
				Path, Type, Sha256 string
				Size               int
			}
			LatestCommitter struct{ ID string }
		}
	}
	tree := decode[list](t, ask(t, plain, "GET", s.URL+"/api/v1/models/o/m/repo/files?Revision=master&Recursive=True"))
	if len(tree.Data.Files) != 6 || tree.Code != 200 || tree.Data.LatestCommitter.ID != commit {
		t.Fatalf("%+v", tree)
	}
	if f := tree.Data.Files[5]; f.Path != "model.safetensors" || f.Sha256 != fmt.Sprintf("%x", sha256.Sum256(weights)) || f.Size != len(weights) || f.Type != "blob" {
		t.Errorf("%+v", f)
	}
	if tree := decode[list](t, ask(t, plain, "GET", s.URL+"/api/v1/models/o/m/repo/files?Revision=v1&Recursive=True")); len(tree.Data.Files) != 1 {
		t.Errorf("the first commit has %+v", tree)
	}
	if tree := decode[list](t, ask(t, plain, "GET", s.URL+"/api/v1/models/o/m/repo/files?Recursive=False&Root=a")); len(tree.Data.Files) != 2 {
		t.Errorf("a folder has %+v", tree)
	}
	s.ListLimit = 3
	if tree := decode[list](t, ask(t, plain, "GET", s.URL+"/api/v1/models/o/m/repo/files?Recursive=True")); len(tree.Data.Files) != 3 {
		t.Errorf("three entries are %+v", tree)
	}
	id := decode[struct{ Data struct{ ID int } }](t, ask(t, plain, "GET", s.URL+"/api/v1/datasets/o/d")).Data.ID
	for _, address := range []string{"/api/v1/datasets/o/d", fmt.Sprint("/api/v1/datasets/", id)} {
		tree := decode[list](t, ask(t, plain, "GET", s.URL+address+"/repo/tree?Recursive=True&PageNumber=2&PageSize=4"))
		if len(tree.Data.Files) != 2 {
			t.Errorf("%s: the second page is %+v", address, tree)
		}
	}
	revisions := ask(t, plain, "GET", s.URL+"/api/v1/models/o/m/revisions")
	if !strings.Contains(string(revisions.body), `"Branches":[{"CreatedAt":1719792060,"Revision":"master"}]`) || !strings.Contains(string(revisions.body), `"Revision":"v2"`) {
		t.Errorf("%s", revisions.body)
	}
	address := s.URL + "/api/v1/models/o/m/repo?Revision=master&FilePath="
	if r := ask(t, plain, "GET", address+url.QueryEscape("a/b/ü 100%.txt"), "Range: bytes=0-0"); r.StatusCode != 200 || string(r.body) != "x" {
		t.Errorf("a small file: %d %s", r.StatusCode, r.body)
	}
	r := ask(t, plain, "GET", address+"model.safetensors")
	if link, err := r.Location(); err != nil || r.StatusCode != 302 || "http://"+link.Host != s.CDN {
		t.Errorf("a large file: %d %v", r.StatusCode, r.Header)
	}
	r = ask(t, http.DefaultClient, "GET", address+"model.safetensors", "Range: bytes=5-")
	if r.StatusCode != 206 || !bytes.Equal(r.body, weights[5:]) || len(r.Header.Get("X-Linked-Etag")) != 66 {
		t.Errorf("a range of a large file: %d %v", r.StatusCode, r.Header)
	}
}

func TestHabits(t *testing.T) {
	repo := Repo{Kind: "model", Name: "o/m", Files: files}
	s := serve(t, repo)
	s.MirrorLinks, s.NoETag, s.NoContentLength, s.PageSize = true, true, true, 1
	r := ask(t, plain, "GET", s.URL+"/api/models/o/m/tree/main?recursive=true")
	if !strings.HasPrefix(r.Header.Get("Link"), "<https://huggingface.co/api/models/o/m/tree/main?") || r.ContentLength != -1 {
		t.Errorf("%v", r.Header)
	}
	for _, method := range []string{"HEAD", "GET"} {
		r = ask(t, plain, method, s.URL+"/o/m/resolve/main/config.json")
		if r.StatusCode != 200 || r.Header.Get("Etag")+r.Header.Get("X-Linked-Etag")+r.Header.Get("X-Linked-Size") != "" || r.ContentLength != -1 {
			t.Errorf("%s: %d %v", method, r.StatusCode, r.Header)
		}
	}

	s = serve(t, repo)
	s.APILimit, s.Xet, s.Gzip = 2, true, true
	for i, want := range []int{200, 200, 429} {
		r := ask(t, plain, "GET", s.URL+"/api/models/o/m")
		if r.StatusCode != want || !strings.HasPrefix(r.Header.Get("RateLimit"), fmt.Sprintf(`"api";r=%d;t=`, max(0, 1-i))) || (want == 429) != (r.Header.Get("Retry-After") != "") {
			t.Errorf("request %d: %d %v", i, r.StatusCode, r.Header)
		}
	}
	if r := ask(t, plain, "HEAD", s.URL+"/o/m/resolve/main/model.safetensors"); r.Header.Get("X-Xet-Hash") == "" || !strings.Contains(r.Header.Get("Link"), "xet-auth") || r.StatusCode != 302 {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	if r := ask(t, http.DefaultClient, "GET", s.URL+"/o/m/resolve/main/config.json"); !r.Uncompressed || !bytes.Equal(r.body, small) {
		t.Errorf("not compressed: %v", r.Header)
	}

	s = NewTLS()
	defer s.Close()
	s.Throttle = 1 << 20
	s.Add(repo)
	if !bytes.HasPrefix(s.Certificate(), []byte("-----BEGIN CERTIFICATE")) {
		t.Errorf("no certificate: %s", s.Certificate())
	}
	start := time.Now()
	if r := ask(t, s.hub.Client(), "GET", s.URL+"/o/m/resolve/main/model.safetensors"); !bytes.Equal(r.body, weights) || time.Since(start) < 50*time.Millisecond {
		t.Errorf("%d bytes in %v", len(r.body), time.Since(start))
	}
}
