package hubtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Proxy stands before a hub and breaks its answers. Where the hub redirects to another host, or links to itself, the
// proxy leads to itself, on a port of its own for each host.
type Proxy struct {
	URL string

	seed      uint64
	faults    Faults
	target    string
	transport *http.Transport
	done      chan struct{}
	mu        sync.Mutex
	fronts    map[string]*httptest.Server // by origin: scheme and host
	asked     map[string]int
	injected  map[Kind]int
}

// NewProxy stands before target, a URL without a path. Equal seeds break equal requests equally.
func NewProxy(target string, seed uint64, f Faults) *Proxy {
	if f.Stall == 0 {
		f.Stall = 2 * time.Second
	}
	if f.Delay == 0 {
		f.Delay = 200 * time.Millisecond
	}
	p := &Proxy{seed: seed, faults: f, target: target, done: make(chan struct{}), fronts: map[string]*httptest.Server{},
		asked: map[string]int{}, injected: map[Kind]int{}, transport: &http.Transport{DisableCompression: true}}
	p.URL = p.front(target)
	return p
}

// Close ends the proxy and open connections.
func (p *Proxy) Close() {
	close(p.done)
	p.mu.Lock()
	fronts := maps.Clone(p.fronts)
	p.mu.Unlock()
	for _, f := range fronts {
		f.CloseClientConnections()
		f.Close()
	}
	p.transport.CloseIdleConnections()
}

// Injected counts what was broken.
func (p *Proxy) Injected() map[Kind]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.injected)
}

// front is the URL at which an origin is reached through the proxy.
func (p *Proxy) front(origin string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fronts[origin] == nil {
		p.fronts[origin] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, origin) }))
	}
	return p.fronts[origin].URL
}

// count is called before the answer is sent: who has read it may ask at once what was injected.
func (p *Proxy) count(k Kind) {
	p.mu.Lock()
	p.injected[k]++
	p.mu.Unlock()
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, origin string) {
	p.mu.Lock()
	key := r.Method + " " + r.URL.Path + " " + r.URL.Query().Get("FilePath")
	before := p.asked[key]
	p.asked[key]++
	p.mu.Unlock()
	kind, rng := p.faults.choose(p.seed, r, before)
	switch kind {
	case Refuse, HTML, TooMany, ServerError, BadRange, Expired, Loop:
		p.count(kind)
		p.instead(w, r, kind, rng)
		return
	case Delay:
		p.wait(r.Context(), p.faults.Delay)
	}
	resp, err := p.ask(r, origin, kind == Whole || kind == WrongBytes)
	if err != nil {
		if r.Context().Err() == nil {
			http.Error(w, "hubtest: "+err.Error(), http.StatusBadGateway)
		}
		return
	}
	defer resp.Body.Close()
	h := w.Header()
	maps.Copy(h, resp.Header)
	for _, name := range []string{"Connection", "Transfer-Encoding", "Keep-Alive"} {
		h.Del(name)
	}
	if l := h.Get("Location"); strings.HasPrefix(l, "http") {
		if u, err := url.Parse(l); err == nil {
			h.Set("Location", p.front(u.Scheme+"://"+u.Host)+strings.TrimPrefix(l, u.Scheme+"://"+u.Host))
		}
	}
	if l := h.Get("Link"); l != "" {
		h.Set("Link", strings.ReplaceAll(l, "<"+p.target+"/", "<"+p.URL+"/"))
	}
	if r.Method == http.MethodGet && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent) {
		if p.broken(w, r, resp, kind, rng) {
			return
		}
	} else if kind == Delay {
		p.count(kind)
	}
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// ask sends a request on.
func (p *Proxy) ask(r *http.Request, origin string, whole bool) (*http.Response, error) {
	out, err := http.NewRequestWithContext(r.Context(), r.Method, origin+r.URL.RequestURI(), r.Body)
	if err != nil {
		return nil, err
	}
	out.Header, out.ContentLength = r.Header.Clone(), r.ContentLength
	if whole {
		out.Header.Del("Range")
	}
	if out.Header.Get("User-Agent") == "" {
		out.Header.Set("User-Agent", "") // net/http would make one
	}
	return p.transport.RoundTrip(out)
}

// instead sends an answer without asking the hub.
func (p *Proxy) instead(w http.ResponseWriter, r *http.Request, kind Kind, rng *rand.Rand) {
	h := w.Header()
	switch kind {
	case Refuse:
		p.hangUp(w)
	case HTML:
		page := "<!DOCTYPE html><html><head><title>Sign in to the network</title></head><body>Please accept the terms.</body></html>\n"
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Length", strconv.Itoa(len(page)))
		io.WriteString(w, page)
	case TooMany:
		h.Set("Retry-After", "1")
		http.Error(w, "Too Many Requests", http.StatusTooManyRequests)
	case ServerError:
		status := []int{500, 502, 503, 504}[rng.IntN(4)]
		http.Error(w, http.StatusText(status), status)
	case BadRange:
		h.Set("Content-Range", "bytes */*")
		http.Error(w, "Range Not Satisfiable", http.StatusRequestedRangeNotSatisfiable)
	case Expired:
		refuseXML(w, http.StatusForbidden, "AccessDenied", "Request has expired")
	case Loop:
		h.Set("Location", r.URL.RequestURI())
		w.WriteHeader(http.StatusFound)
	}
}

// broken sends the hub's answer with a fault in it; false: it is still to be sent as it is.
func (p *Proxy) broken(w http.ResponseWriter, r *http.Request, resp *http.Response, kind Kind, rng *rand.Rand) bool {
	h, length := w.Header(), resp.ContentLength
	at := rng.Int64N(max(1, min(length, 1<<40))) // a place in the body
	if length < 0 {
		at = rng.Int64N(4096)
	}
	send := func(status int, body io.Reader) {
		p.count(kind)
		w.WriteHeader(status)
		io.Copy(w, body)
	}
	head := io.LimitReader(resp.Body, at)
	switch kind {
	case Cut, Reset, Stall:
		send(resp.StatusCode, head)
		w.(http.Flusher).Flush()
		if kind == Stall {
			p.wait(r.Context(), p.faults.Stall)
		}
		if kind == Reset {
			p.hangUp(w)
			return true
		}
		panic(http.ErrAbortHandler)
	case Delay:
		send(resp.StatusCode, resp.Body)
	case WrongRange:
		total := max(length, 2)
		if _, after, ok := strings.Cut(h.Get("Content-Range"), "/"); ok {
			total, _ = strconv.ParseInt(after, 10, 64)
		}
		start := firstByte(r) + 1 + at
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, start+max(length, 1)-1, total))
		send(http.StatusPartialContent, resp.Body)
	case Whole:
		send(resp.StatusCode, resp.Body)
	case WrongBytes:
		// The file has length bytes; the client asked for some of them.
		first, last := firstByte(r), length-1
		if _, to, ok := strings.Cut(r.Header.Get("Range"), "-"); ok && to != "" {
			n, _ := strconv.ParseInt(to, 10, 64)
			last = min(last, n)
		}
		if length < 0 || first == 0 || first > last {
			return false
		}
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, length))
		h.Set("Content-Length", strconv.FormatInt(last-first+1, 10))
		send(http.StatusPartialContent, io.LimitReader(resp.Body, last-first+1))
	case Flip:
		send(resp.StatusCode, &flipper{resp.Body, at})
	case Short:
		if h.Del("Content-Length"); rng.IntN(2) == 0 {
			h.Set("Content-Length", strconv.FormatInt(at, 10))
		}
		if length < 0 {
			h.Del("Content-Length")
		}
		send(resp.StatusCode, head)
	case Long:
		h.Del("Content-Length")
		send(resp.StatusCode, io.MultiReader(resp.Body, bytes.NewReader(make([]byte, 1+rng.IntN(4096)))))
	case Gzip:
		if h.Get("Content-Encoding") != "" {
			return false
		}
		h.Del("Content-Length")
		h.Set("Content-Encoding", "gzip")
		p.count(kind)
		w.WriteHeader(resp.StatusCode)
		z := gzip.NewWriter(w)
		io.Copy(z, resp.Body)
		z.Close()
	default:
		return false
	}
	return true
}

// firstByte is where the range that is asked for begins.
func firstByte(r *http.Request) int64 {
	from, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	n, _ := strconv.ParseInt(from, 10, 64)
	return n
}

// hangUp ends the connection with a TCP reset.
func (p *Proxy) hangUp(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// wait waits until the time is over, the client has gone or the proxy is closed.
func (p *Proxy) wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	case <-p.done:
	}
}

// flipper changes the byte at a place, counted from where it stands.
type flipper struct {
	r  io.Reader
	at int64
}

func (f *flipper) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.at >= 0 && f.at < int64(n) {
		p[f.at] ^= 1 << (f.at & 7)
	}
	f.at -= int64(n)
	return n, err
}
