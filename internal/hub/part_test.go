package hub

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cria/internal/hub/hubtest"
)

// TestSpans compares the set with one boolean for each byte.
func TestSpans(t *testing.T) {
	const size = 64
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var s, other spans
		var in, out [size]bool
		for range rng.IntN(12) {
			a, b := rng.Int64N(size), rng.Int64N(size+1)
			s = s.add(span{a, b})
			for i := a; i < b; i++ {
				in[i] = true
			}
			if c := rng.Int64N(size); rng.IntN(3) == 0 {
				other = other.add(span{c, min(size, c+5)})
				for i := c; i < min(size, c+5); i++ {
					out[i] = true
				}
			}
		}
		check := func(what string, s spans, has func(i int64) bool) {
			last, total := int64(-1), int64(0)
			var got [size]bool
			for _, a := range s {
				if a.start <= last || a.end <= a.start {
					t.Fatalf("%s: %v is not in order", what, s)
				}
				for i := a.start; i < a.end; i++ {
					got[i] = true
				}
				last, total = a.end, total+a.end-a.start
			}
			for i := range int64(size) {
				if got[i] != has(i) {
					t.Fatalf("%s: byte %d of %v", what, i, s)
				}
			}
			if total != s.total() {
				t.Fatalf("%s: total %d of %v", what, s.total(), s)
			}
		}
		check("add", s, func(i int64) bool { return in[i] })
		check("without", s.without(other), func(i int64) bool { return in[i] && !out[i] })
		check("gaps", s.gaps(size), func(i int64) bool { return !in[i] })
	}
}

func testPart(t *testing.T, dir string, f File) *part {
	t.Helper()
	p, err := openPart(filepath.Join(dir, f.key()+".part"), f, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestJournal writes a part in several sessions and tears its journal at every byte: what is read back was written.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	f := File{Path: "x", Size: 1000, SHA256: strings.Repeat("ab", 32)}
	p := testPart(t, dir, f)
	p.write(make([]byte, 100), 0)
	p.sync()
	p.write(make([]byte, 50), 100)
	p.write(make([]byte, 200), 700)
	if _, err := openPart(p.path, f, time.Hour); !errors.Is(err, errBusy) {
		t.Errorf("opened twice: %v", err)
	}
	p.Close()
	whole, err := os.ReadFile(journalPath(p.path))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		torn := filepath.Join(dir, "torn.journal")
		os.WriteFile(torn, whole[:n], 0o666)
		doubt, safe := readJournal(torn, f, f.Size)
		for _, s := range append(doubt, safe...) {
			if s != (span{0, 100}) && s != (span{100, 150}) && s != (span{700, 900}) {
				t.Fatalf("cut at %d: %v, %v", n, doubt, safe)
			}
		}
	}
	p = testPart(t, dir, f)
	if len(p.safe) != 1 || p.safe[0] != (span{0, 100}) || p.doubt.total() != 250 {
		t.Errorf("safe %v, doubt %v", p.safe, p.doubt)
	}
	p.write(make([]byte, 10), 990)
	p.sync()
	if some, err := p.forget(); !some || err != nil || p.done().total() != 110 {
		t.Errorf("%v, %v: left %v", some, err, p.done())
	}
	if some, err := p.forget(); some || err != nil || p.done().total() != 0 {
		t.Errorf("%v, %v: left %v", some, err, p.done())
	}
	p.Close()
	// A journal of other content, and a part that is shorter than its journal says.
	os.WriteFile(journalPath(p.path), whole, 0o666)
	if d, s := readJournal(journalPath(p.path), File{Size: 1000, SHA256: strings.Repeat("cd", 32)}, 1000); d != nil || s != nil {
		t.Errorf("of another file: %v, %v", d, s)
	}
	if d, s := readJournal(journalPath(p.path), f, 120); d.total()+s.total() != 100 {
		t.Errorf("beyond the end: %v, %v", d, s)
	}
}

// TestPowerLoss resumes a part whose journal tells of bytes that a loss of power took: only these are fetched again.
func TestPowerLoss(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 8<<20)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	env := testEnv(t, s.URL)
	c := quick(env)
	ref := Ref{HuggingFace, Model, "org/m", ""}
	plan, err := c.Plan(context.Background(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.store.prepare(); err != nil {
		t.Fatal(err)
	}
	var weights File
	for _, f := range plan.Files {
		if f.Path == weightsFile {
			weights = f
		}
	}
	right := files[weightsFile]
	p := testPart(t, plan.store.work(), weights)
	p.write(right[:5<<20], 0)
	p.sync()
	p.write(make([]byte, 1<<20), 5<<20) // never reached the disk
	p.write(right[6<<20:7<<20], 6<<20)
	p.Close()
	before := s.BytesSent()
	dir, err := c.Pull(context.Background(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, wantedFiles(files))
	if n := s.BytesSent() - before; n < 3<<20 || n > 3<<20+100_000 {
		t.Errorf("%d bytes were fetched, want 3 MiB: 1 that was missing, 2 in doubt", n)
	}
}

// TestStuckProcess passes by another process that holds a part and does not get on.
func TestStuckProcess(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 1<<20)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	c := quick(testEnv(t, s.URL))
	c.busy = 300 * time.Millisecond
	ref := Ref{HuggingFace, Model, "org/m", ""}
	plan, err := c.Plan(context.Background(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.store.prepare(); err != nil {
		t.Fatal(err)
	}
	for _, f := range plan.Files {
		p := testPart(t, plan.store.work(), f)
		defer p.Close()
	}
	dir, err := c.Pull(context.Background(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, wantedFiles(files))
}

// TestFullDisk keeps what was fetched when writing fails, and says which file it was.
func TestFullDisk(t *testing.T) {
	f := File{Path: "x.safetensors", Size: 1000, SHA256: strings.Repeat("ab", 32)}
	p := testPart(t, t.TempDir(), f)
	p.write(make([]byte, 10), 0)
	p.f.Close()
	err := p.write(make([]byte, 10), 10)
	var perm permanent
	if !errors.As(err, &perm) || !strings.Contains(err.Error(), "x.safetensors") || !strings.Contains(err.Error(), "is kept") {
		t.Errorf("%v", err)
	}
	p.Close()
}

func FuzzJournal(f *testing.F) {
	file := File{Path: "x", Size: 1000, SHA256: strings.Repeat("ab", 32)}
	head := journalHead + file.SHA256 + " 1000\n"
	f.Add([]byte(head + journalLine('=', span{0, 10}) + "\n" + journalLine('+', span{20, 1000}) + "\n"))
	f.Add([]byte(head + "= 0 99999999999999999999 00000000\n"))
	f.Add([]byte("cria-journal 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "j")
		os.WriteFile(name, b, 0o666)
		doubt, safe := readJournal(name, file, 1000)
		for _, s := range append(doubt, safe...) {
			if s.start < 0 || s.end > 1000 || s.start >= s.end || !bytes.HasPrefix(b, []byte(head)) {
				t.Errorf("%v of %q", s, b)
			}
		}
	})
}

// FuzzHeaders lets a hub say anything in the headers that are read.
func FuzzHeaders(f *testing.F) {
	f.Add(`<https://huggingface.co/api/x?cursor=y>; rel="next"`, "bytes 0-9/10", "7", `"api";r=0;t=55`)
	f.Add(`<>; rel=next, <x`, "bytes 99999999999999999999-0/*", "-1", "r=0;t=999999999")
	base, _ := url.Parse("https://mirror.example/hf")
	h := newHost("H", base, "t", "T", "E", huggingFaceHosts)
	f.Fuzz(func(t *testing.T, link, rng, retry, limit string) {
		if u, err := nextPage(h, base, link); err == nil && u != nil && !h.own(u) {
			t.Errorf("%q leads to %s", link, u)
		}
		if u, err := h.follow(base, link); err == nil && u.Scheme != "https" {
			t.Errorf("%q leads to %s", link, u)
		}
		if w := pause(http.Header{"Retry-After": {retry}, "Ratelimit": {limit}}, time.Now()); w < 0 {
			t.Errorf("%q, %q: a pause of %v", retry, limit, w)
		}
		tr := &transfer{c: &Client{tries: 3}, h: h, file: File{Path: "x", Size: 10}}
		resp := &http.Response{StatusCode: 206, Header: http.Header{"Content-Range": {rng}}, Request: &http.Request{URL: base}}
		if err := tr.judge(resp, span{2, 5}, false); err == nil && rng != "bytes 2-4/10" {
			t.Errorf("Content-Range %q was taken for 2-4/10", rng)
		}
	})
}
