package hubtest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// faulty is a hub behind a proxy that does one thing to every range of a large file.
func faulty(t *testing.T, kind Kind, f Faults) (*Server, *Proxy) {
	s := serve(t, Repo{Kind: "model", Name: "o/m", Files: files})
	f.Rate, f.Kinds = 1, []Kind{kind}
	if f.Only == nil {
		f.Only = func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/repos/") }
	}
	p := NewProxy(s.URL, 1, f)
	t.Cleanup(p.Close)
	return s, p
}

func TestFaults(t *testing.T) {
	const from, to = 1000, 60000 // the range asked for
	want := weights[from : to+1]
	type check func(r reply, err error, took time.Duration) bool
	status := func(codes ...int) check {
		return func(r reply, err error, _ time.Duration) bool {
			for _, c := range codes {
				if err == nil && r.StatusCode == c {
					return true
				}
			}
			return false
		}
	}
	// part is a body that is a beginning of what was asked for.
	part := func(r reply) bool { return len(r.body) < len(want) && bytes.HasPrefix(want, r.body) }
	partial := func(r reply, body []byte) bool {
		return r.StatusCode == 206 && r.Header.Get("Content-Range") == "bytes 1000-60000/65536" && bytes.Equal(r.body, body)
	}
	for kind, ok := range map[Kind]check{
		Cut: func(r reply, err error, _ time.Duration) bool {
			return err == nil && part(r) && errors.Is(r.err, io.ErrUnexpectedEOF)
		},
		Reset: func(r reply, err error, _ time.Duration) bool { // what was on its way may be lost
			return errors.Is(err, syscall.ECONNRESET) || err == nil && part(r) && errors.Is(r.err, syscall.ECONNRESET)
		},
		Refuse: func(r reply, err error, _ time.Duration) bool {
			return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
		},
		Stall: func(r reply, err error, took time.Duration) bool {
			return err == nil && part(r) && r.err != nil && took > 300*time.Millisecond
		},
		Delay: func(r reply, err error, took time.Duration) bool {
			return err == nil && partial(r, want) && took > 300*time.Millisecond
		},
		WrongRange: func(r reply, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 206 && strings.HasPrefix(r.Header.Get("Content-Range"), "bytes ") && r.Header.Get("Content-Range") != "bytes 1000-60000/65536"
		},
		WrongBytes: func(r reply, err error, _ time.Duration) bool {
			return err == nil && partial(r, weights[:len(want)])
		},
		Whole: func(r reply, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 200 && bytes.Equal(r.body, weights)
		},
		Flip: func(r reply, err error, _ time.Duration) bool {
			different := 0
			for i := range min(len(r.body), len(want)) {
				if r.body[i] != want[i] {
					different++
				}
			}
			return err == nil && r.err == nil && len(r.body) == len(want) && different == 1
		},
		Short: func(r reply, err error, _ time.Duration) bool {
			return err == nil && r.err == nil && part(r) && (r.ContentLength < 0 || r.ContentLength == int64(len(r.body)))
		},
		Long: func(r reply, err error, _ time.Duration) bool {
			return err == nil && r.err == nil && len(r.body) > len(want) && bytes.HasPrefix(r.body, want)
		},
		HTML: func(r reply, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 200 && strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") && bytes.Contains(r.body, []byte("<html>"))
		},
		Gzip: func(r reply, err error, _ time.Duration) bool {
			z, e := gzip.NewReader(bytes.NewReader(r.body))
			if err != nil || e != nil || r.Header.Get("Content-Encoding") != "gzip" {
				return false
			}
			body, e := io.ReadAll(z)
			return e == nil && bytes.Equal(body, want)
		},
		TooMany: func(r reply, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 429 && r.Header.Get("Retry-After") == "1"
		},
		ServerError: status(500, 502, 503, 504),
		BadRange:    status(416),
		Expired:     status(403),
		Loop: func(r reply, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 302 && r.Header.Get("Location") == r.Request.URL.RequestURI()
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, p := faulty(t, kind, Faults{Stall: 400 * time.Millisecond, Delay: 400 * time.Millisecond})
			link := ask(t, plain, "GET", p.URL+"/o/m/resolve/main/model.safetensors").Header.Get("Location")
			if strings.HasPrefix(link, s.CDN) || !strings.HasPrefix(link, "http://127.0.0.1:") {
				t.Fatalf("redirected past the proxy, to %s", link)
			}
			req, err := http.NewRequest("GET", link, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Range", "bytes=1000-60000")
			req.Header.Set("Accept-Encoding", "identity")
			start := time.Now()
			var r reply
			c := &http.Client{CheckRedirect: plain.CheckRedirect, Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := c.Do(req)
			if err == nil {
				body, e := io.ReadAll(resp.Body)
				resp.Body.Close()
				r = reply{resp, body, e}
			}
			if !ok(r, err, time.Since(start)) {
				t.Errorf("error %v", err)
				if err == nil {
					t.Errorf("%d %v, %d bytes, then %v", r.StatusCode, r.Header, len(r.body), r.err)
				}
			}
			if got := p.Injected(); got[kind] != 1 || len(got) != 1 {
				t.Errorf("injected %v", got)
			}
		})
	}
}

// TestSeeds checks that a seed says what happens to a request, and that it is another thing for another seed.
func TestSeeds(t *testing.T) {
	s := serve(t, Repo{Kind: "model", Name: "o/m", Files: files})
	broken := []Kind{ServerError, HTML, TooMany, Expired} // Expired is not for what is asked for here
	fates := func(seed uint64, paths ...string) map[string][]int {
		p := NewProxy(s.URL, seed, Faults{Rate: 0.5, Kinds: broken})
		defer p.Close()
		out, injected := map[string][]int{}, 0
		for range 8 {
			for _, path := range paths {
				r := ask(t, plain, "GET", p.URL+path)
				out[path] = append(out[path], r.StatusCode)
				if r.StatusCode != 200 || strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
					injected++
				}
			}
		}
		n := 0
		for k, v := range p.Injected() {
			if v > 0 && !strings.Contains("5xx html 429", string(k)) {
				t.Errorf("injected %q", k)
			}
			n += v
		}
		if n != injected || n == 0 || n == 8*len(paths) {
			t.Errorf("seed %d: %d of %d answers are broken, %d are counted", seed, injected, 8*len(paths), n)
		}
		return out
	}
	same := func(a, b map[string][]int) bool {
		return maps.EqualFunc(a, b, func(x, y []int) bool {
			for i := range x {
				if x[i] != y[i] {
					return false
				}
			}
			return true
		})
	}
	a, b := "/api/models/o/m", "/api/v1/models/o/m/revisions"
	first := fates(7, a, b)
	if again := fates(7, b, a); !same(first, again) {
		t.Errorf("seed 7: %v, then %v", first, again)
	}
	if other := fates(8, a, b); same(first, other) {
		t.Errorf("seeds 7 and 8 are both %v", first)
	}
}

func TestProxyLetsPass(t *testing.T) {
	s := serve(t, Repo{Kind: "model", Name: "o/m", Files: files, Token: "secret", Private: true})
	s.PageSize = 1
	p := NewProxy(s.URL, 1, Faults{})
	defer p.Close()
	r := ask(t, plain, "GET", p.URL+"/o/m/resolve/main/model.safetensors", "Authorization: Bearer secret")
	if r = ask(t, plain, "GET", r.Header.Get("Location"), "Range: bytes=3-"); r.StatusCode != 206 || !bytes.Equal(r.body, weights[3:]) {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	r = ask(t, plain, "GET", p.URL+"/api/models/o/m/tree/main?recursive=true", "Authorization: Bearer secret")
	if !strings.HasPrefix(r.Header.Get("Link"), "<"+p.URL+"/") {
		t.Errorf("the next page is at %s", r.Header.Get("Link"))
	}
	for _, q := range s.Requests() {
		if q.Header.Get("User-Agent") != "Go-http-client/1.1" {
			t.Errorf("the proxy changed the headers to %v", q.Header)
		}
	}
	if len(p.Injected()) != 0 {
		t.Errorf("injected %v", p.Injected())
	}
}
