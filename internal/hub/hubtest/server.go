// Package hubtest has a hub for tests: it speaks the protocols of Hugging Face and of ModelScope from memory, as far as
// downloads need them, and a proxy that breaks its answers in reproducible ways.
//
// What it answers is modelled on what the official Python clients ask for and insist on: huggingface_hub 0.23 and 2.4
// (hf_api.py, file_download.py, utils/_http.py, utils/_pagination.py), modelscope 1.16.1 (hub/api.py,
// hub/file_download.py) and modelscope_hub 0.5 (_legacy_api.py, _openapi.py, _download.py). interop/hub.py lets these
// packages download from it.
package hubtest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server is a hub. Options are set before the first request.
type Server struct {
	URL string // of both protocols, without a slash at the end
	CDN string // the other host, to which large files are redirected by signed links

	PageSize int           // entries in a page of a file tree; 0: 1000
	LinkLife time.Duration // of signed links; 0: an hour
	APILimit int           // API requests in a Window before 429; 0: no limit
	Window   time.Duration // of APILimit; 0: five minutes
	Xet      bool          // large files have the headers of Xet storage beside the ordinary redirect
	Gzip     bool          // Hugging Face compresses small files for those who take it
	Tokens   []string      // that are valid beside those of the repositories

	Throttle int // bytes a second of one answer; 0: no limit

	ListLimit int // entries of a file list of ModelScope, which drops the rest; 0: 3000

	// The habits of mirrors.
	MirrorLinks     bool // next pages are linked at https://huggingface.co
	NoETag          bool // no ETag, X-Linked-Etag and X-Linked-Size
	NoContentLength bool // bodies are sent in chunks, HEAD has no length

	hub, cdn  *httptest.Server
	mu        sync.Mutex
	repos     map[string]*repo // kind/name
	blobs     map[string]*file // SHA-256
	log       []Request
	sent      int64
	answering int       // requests
	answered  sync.Cond // one of them was; its lock is mu
	started   time.Time // of the window of APILimit
	calls     int
}

// Repo is a repository as Add takes it.
type Repo struct {
	Kind, Name string // model or dataset, organisation/name
	Files      map[string][]byte
	Gated      bool                   // Token sees the listing and gets the files, others only the listing
	Private    bool                   // only Token sees it
	Disabled   bool                   // taken down: 403 for all
	LFS        func(path string) bool // which files are large; nil: weights, Parquet and what exceeds 10 MB
	Token      string                 // of those who are let in; empty: nobody is
	Tags       []string               // names of this commit beside the branch
}

// Request is one request that was answered.
type Request struct {
	Method, Path, Query, Host string
	Header                    http.Header
	Status                    int
	Sent                      int64 // bytes of the body
}

type repo struct {
	Repo              // of the newest commit
	id      int       // ModelScope's number of a dataset
	commits []*commit // oldest first
	refs    map[string]*commit
}

type commit struct {
	id    string // 40 hexadecimal digits
	when  time.Time
	files map[string]*file
	names []string // sorted
}

type file struct {
	path   string
	data   []byte
	sha256 string
	git    string // SHA-1 of the git blob; for large files, of its pointer
	lfs    bool

	changed string // the commit that made it what it is
}

// etag is what Hugging Face calls the content.
func (f *file) etag() string {
	if f.lfs {
		return f.sha256
	}
	return f.git
}

// New starts a hub without repositories.
func New() *Server { return start(httptest.NewServer) }

// NewTLS starts one that is reached by https; Certificate is what its clients have to trust.
func NewTLS() *Server { return start(httptest.NewTLSServer) }

func start(serve func(http.Handler) *httptest.Server) *Server {
	s := &Server{repos: map[string]*repo{}, blobs: map[string]*file{}}
	s.answered.L = &s.mu
	s.hub = serve(s.Handler())
	s.cdn = serve(s.logged(http.HandlerFunc(s.serveCDN)))
	s.URL, s.CDN = s.hub.URL, s.cdn.URL
	return s
}

// Certificate is that of both hosts, in PEM; nil without TLS.
func (s *Server) Certificate() []byte {
	if s.hub.TLS == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.hub.Certificate().Raw})
}

// origin is how a request reached the hub.
func origin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// Close ends both servers and open connections.
func (s *Server) Close() {
	for _, h := range []*httptest.Server{s.hub, s.cdn} {
		h.CloseClientConnections()
		h.Close()
	}
}

// Handler answers both protocols; links to large files lead to CDN.
func (s *Server) Handler() http.Handler { return s.logged(http.HandlerFunc(s.serve)) }

// Add makes a commit on main (ModelScope: master), with r's files and no others, and returns its name. The rest of r
// holds for all commits.
func (s *Server) Add(r Repo) (id string) {
	if r.Kind != "model" && r.Kind != "dataset" || strings.Count(r.Name, "/") != 1 {
		panic(fmt.Sprintf("hubtest: no repository can be the %q %q", r.Kind, r.Name))
	}
	large := r.LFS
	if large == nil {
		large = func(p string) bool {
			return slices.Contains([]string{".safetensors", ".bin", ".gguf", ".parquet"}, path.Ext(p)) || len(r.Files[p]) > 10e6
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Kind + "/" + r.Name
	all := s.repos[key]
	if all == nil {
		all = &repo{refs: map[string]*commit{}, id: 1000 + len(s.repos)}
		s.repos[key] = all
	}
	all.Repo = r
	c := &commit{files: map[string]*file{}, names: slices.Sorted(maps.Keys(r.Files)), when: time.Date(2024, 7, 1, 0, len(all.commits), 0, 0, time.UTC)}
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\n", key, len(all.commits))
	for _, p := range c.names {
		data := r.Files[p]
		sum := sha256.Sum256(data)
		f := &file{path: p, data: data, lfs: large(p), sha256: hex.EncodeToString(sum[:])}
		f.git = gitBlob(data)
		if f.lfs {
			f.git = gitBlob(fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", f.sha256, len(data)))
		}
		fmt.Fprintf(h, "%s %s\n", f.git, p)
		c.files[p] = f
	}
	c.id = hex.EncodeToString(h.Sum(nil))
	for p, f := range c.files {
		f.changed = c.id
		if before := all.refs["main"]; before != nil && before.files[p] != nil && before.files[p].git == f.git {
			f.changed = before.files[p].changed
		}
		s.blobs[f.sha256] = f
	}
	all.commits = append(all.commits, c)
	all.refs["main"] = c
	for _, tag := range r.Tags {
		all.refs[tag] = c
	}
	return c.id
}

// gitBlob is the name of data in git: the SHA-1 of "blob ", the length, a zero byte and data.
func gitBlob(data []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// Requests are the requests so far, of both hosts, in the order in which their answers ended. A client may have read an
// answer before its handler has ended, so Requests and BytesSent wait for those that are being answered.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return slices.Clone(s.log)
}

// BytesSent counts the bytes of all bodies.
func (s *Server) BytesSent() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return s.sent
}

// settle waits until no request is being answered; s.mu is locked.
func (s *Server) settle() {
	for s.answering > 0 {
		s.answered.Wait()
	}
}

// find returns a repository and the commit that a branch, a tag or a commit's name, at least seven digits of it, stands
// for; either is nil where there is none.
func (s *Server) find(kind, name, revision string) (*repo, *commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[kind+"/"+name]
	if r == nil {
		return nil, nil
	}
	if c := r.refs[revision]; c != nil {
		return r, c
	}
	for _, c := range r.commits {
		if len(revision) >= 7 && strings.HasPrefix(c.id, revision) {
			return r, c
		}
	}
	return r, nil
}

// logged records requests.
func (s *Server) logged(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &counter{ResponseWriter: w, server: s, head: r.Method == http.MethodHead}
		path, query, header := r.URL.Path, r.URL.RawQuery, r.Header.Clone()
		s.mu.Lock()
		s.answering++
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			s.log = append(s.log, Request{r.Method, path, query, r.Host, header, c.status, c.sent})
			s.sent += c.sent
			s.answering--
			s.answered.Broadcast()
			s.mu.Unlock()
		}()
		h.ServeHTTP(c, r)
	})
}

// counter counts the bytes of a body.
type counter struct {
	http.ResponseWriter
	server *Server
	head   bool
	status int
	sent   int64
}

func (c *counter) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
	if c.server.NoETag {
		for _, h := range []string{"Etag", "X-Linked-Etag", "X-Linked-Size"} {
			c.Header().Del(h)
		}
	}
	if c.server.NoContentLength {
		c.Header().Del("Content-Length")
		defer c.Flush() // net/http counts for itself where a handler is short
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	chunk := len(p)
	if c.server.Throttle > 0 {
		chunk = 4096
	}
	for n := 0; ; {
		m, err := c.ResponseWriter.Write(p[n:min(n+chunk, len(p))])
		n += m
		if !c.head {
			c.sent += int64(m)
		}
		if err != nil || n == len(p) {
			return n, err
		}
		c.Flush()
		time.Sleep(time.Duration(m) * time.Second / time.Duration(c.server.Throttle))
	}
}

func (c *counter) Flush() {
	if f, ok := c.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// serve divides requests by protocol.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	switch p := r.URL.EscapedPath(); {
	case strings.HasPrefix(p, "/api/v1/"), strings.HasPrefix(p, "/openapi/"):
		s.serveModelScope(w, r)
	default:
		s.serveHuggingFace(w, r)
	}
}

// content sends a file, a range of it, or 304, 412 or 416.
func content(w http.ResponseWriter, r *http.Request, f *file) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	w.Header().Set("Accept-Ranges", "bytes")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
}

// answer sends a value as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	w.WriteHeader(status)
	w.Write(data)
}

// token is what a request logs in with: a bearer token, or ModelScope's cookie.
func token(r *http.Request) string {
	if t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return t
	}
	if c, err := r.Cookie("m_session_id"); err == nil {
		return c.Value
	}
	return ""
}

// knows says whether a token is anybody's.
func (s *Server) knows(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.repos {
		if r.Token == token {
			return true
		}
	}
	return slices.Contains(s.Tokens, token)
}

// lets says whether a request comes from one of those who are let in.
func (r *repo) lets(req *http.Request) bool { return r.Token != "" && token(req) == r.Token }

// segments are the parts of a path between slashes, each unescaped.
func segments(escaped string) ([]string, bool) {
	parts := strings.Split(strings.Trim(escaped, "/"), "/")
	for i, p := range parts {
		var err error
		if parts[i], err = url.PathUnescape(p); err != nil {
			return nil, false
		}
	}
	return parts, true
}
