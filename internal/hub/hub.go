// Package hub gets models and datasets from Hugging Face and ModelScope, and finds those that are on this machine already.
//
// A repository's revision is resolved to a commit, its files are listed, and what is needed is fetched in ranges over a
// handful of connections. Every file is checked against the hash of the listing (SHA-256, or the SHA-1 of its git blob)
// before it gets its name. While a file is on its way it is two files in the folder .cria beside its destination:
//
//	<hash>.part     the bytes so far, at their places
//	<hash>.journal  which ranges of it are there (see part.go)
//
// so that a process that is killed at any moment loses what it had not written yet, a fraction of a megabyte, and the next
// one goes on there. The destination is the cache of the hub's Python client, in its own layout, or a plain directory:
//
//	$HF_HUB_CACHE/models--org--name/blobs/<hash>, snapshots/<commit>/<path> (relative links), refs/<revision>
//	$MODELSCOPE_CACHE/models/org--name/snapshots/<revision>/<path>
//
// The layouts and the requests are those of huggingface_hub 2.4 (file_download.py, _snapshot_download.py, _tree_cache.py)
// and modelscope_hub 0.5 (_download.py, _legacy_api.py). The pickles that older ModelScope clients keep beside their files
// are neither read nor written.
package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Source is a hub.
type Source string

// The hubs.
const (
	HuggingFace Source = "hf"
	ModelScope  Source = "ms"
)

// Kind is what a repository holds.
type Kind string

// The kinds of repositories.
const (
	Model   Kind = "model"
	Dataset Kind = "dataset"
)

// Ref names a repository at a revision.
type Ref struct {
	Source   Source
	Kind     Kind
	Name     string // organisation/name
	Revision string // branch, tag or commit; empty: the default branch
}

// ErrOffline is in the chain of errors for what the environment forbids to fetch.
var ErrOffline = errors.New("offline")

// ParseRef reads "org/name", "hf:org/name" or "ms:org/name", each with an optional "@revision". Without a prefix the
// repository is defaultSource's.
func ParseRef(s string, kind Kind, defaultSource Source) (Ref, error) {
	r := Ref{Source: defaultSource, Kind: kind}
	rest := s
	if prefix, after, ok := strings.Cut(s, ":"); ok {
		r.Source, rest = Source(prefix), after
		if r.Source != HuggingFace && r.Source != ModelScope {
			return Ref{}, fmt.Errorf("%.100q: %.20q is no hub; the prefixes are hf: (Hugging Face) and ms: (ModelScope)", s, prefix)
		}
	}
	name, revision, pinned := strings.Cut(rest, "@")
	if err := validName(name); err != nil {
		return Ref{}, fmt.Errorf("%.200q names no repository: %w", s, err)
	}
	if pinned || revision != "" {
		if err := validRevision(revision); err != nil {
			return Ref{}, fmt.Errorf("%.200q: %w", s, err)
		}
	}
	r.Name, r.Revision = name, revision
	return r, nil
}

// String is the form that ParseRef reads.
func (r Ref) String() string {
	s := string(r.Source) + ":" + r.Name
	if r.Revision != "" {
		s += "@" + r.Revision
	}
	return s
}

// revision is the revision with the hub's default filled in.
func (r Ref) revision() string {
	switch {
	case r.Revision != "":
		return r.Revision
	case r.Source == ModelScope:
		return "master"
	}
	return "main"
}

// plural is the kind as both hubs write it in addresses and in their caches.
func (r Ref) plural() string { return string(r.Kind) + "s" }

var commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Options say what is fetched, and where to.
type Options struct {
	// To is a directory of the user's that gets the files; empty: the cache.
	To string
	// Force replaces files in To that differ from the repository's.
	Force bool
	// Files says which files are wanted; nil: those that cria needs, and a repository without them is refused.
	Files func(path string) bool
	// Progress, if set, is told what happens, one call at a time.
	Progress func(Event)
}

// Event is one piece of news from Pull. Done and Size are bytes of File.
type Event struct {
	File       string // path in the repository; empty for a remark on the whole
	Done, Size int64
	Checking   bool   // Done counts what was compared with the hash
	Note       string // a remark in words; if set, Done and Size are not
}

// Client gets repositories. It is safe for several goroutines.
type Client struct {
	env   Env
	hubs  map[Source]*host
	http  *http.Client
	slots chan struct{} // one for each connection that carries a file

	stall    time.Duration // without a byte for so long, a connection counts as dead
	backoff  time.Duration // first pause of a retry, doubled each time
	patience time.Duration // longest pause that a hub may ask for
	tries    int           // without progress
	segment  int64         // largest range of one request
	busy     time.Duration // how long another process may not grow a part before it is passed by
}

// Limits of what one client does at once.
const (
	connections     = 8
	fileConnections = 4
	filesAtOnce     = 4
)

// New returns a client for the environment.
func New(env Env) *Client {
	c := &Client{
		env:      env,
		hubs:     map[Source]*host{},
		slots:    make(chan struct{}, connections),
		stall:    30 * time.Second,
		backoff:  500 * time.Millisecond,
		patience: 6 * time.Minute,
		tries:    7,
		segment:  64 << 20,
		busy:     time.Minute,
	}
	c.hubs[HuggingFace] = newHost("Hugging Face", env.HFEndpoint, env.HFToken, "HF_TOKEN", "HF_ENDPOINT", huggingFaceHosts)
	c.hubs[ModelScope] = newHost("ModelScope", env.MSEndpoint, env.MSToken, "MODELSCOPE_API_TOKEN", "MODELSCOPE_ENDPOINT", modelScopeHosts)
	c.hubs[ModelScope].cookie = "m_session_id"
	c.http = newHTTP(env)
	return c
}

// Pull fetches what is missing of a repository and returns its directory. It asks the hub even if everything is there: the
// revision may have moved. Interrupted, it returns ctx's error, and the next Pull goes on.
func (c *Client) Pull(ctx context.Context, ref Ref, opt Options) (dir string, err error) {
	p, err := c.Plan(ctx, ref, opt)
	if err != nil {
		return "", err
	}
	return p.Fetch(ctx)
}

// Dir turns what a user writes for a model or a dataset into a directory: one that exists, or a repository in a cache, or
// else one that is pulled. A name without prefix means source, and the environment's hub if source is empty; then a copy
// that only the other hub's cache has is taken too. For what is cached no connection is made.
func (c *Client) Dir(ctx context.Context, nameOrDir string, kind Kind, source Source, opt Options) (string, error) {
	if info, err := os.Stat(nameOrDir); err == nil && info.IsDir() {
		return nameOrDir, nil
	}
	first := source
	if first == "" {
		first = c.env.DefaultSource
	}
	ref, err := ParseRef(nameOrDir, kind, first)
	if err != nil {
		return "", fmt.Errorf("%s is no directory, and as the name of a repository it will not do: %w", strconv.Quote(nameOrDir), err)
	}
	dir, why := c.cached(ref)
	if dir != "" {
		return dir, nil
	}
	if source == "" && !strings.Contains(nameOrDir, ":") {
		other := ref
		if other.Source = ModelScope; ref.Source == ModelScope {
			other.Source = HuggingFace
		}
		if dir, _ := c.cached(other); dir != "" {
			newReporter(opt.Progress).note("%s is in the cache of %s and is taken from there", ref.Name, c.hubs[other.Source].name)
			return dir, nil
		}
	}
	if c.env.Offline {
		return "", c.offline(ref, why)
	}
	newReporter(opt.Progress).note("%s is not here yet; fetching it", nameOrDir)
	return c.Pull(ctx, ref, opt)
}

// offline is the error for what would need a connection.
func (c *Client) offline(ref Ref, why string) error {
	return fmt.Errorf("%s %s: %s, and %s forbids connections; pull it once without, or name a directory (%w)", ref.Kind, ref, why, c.env.offlineBy, ErrOffline)
}

// reporter hands events on, one at a time.
type reporter struct {
	mu sync.Mutex
	f  func(Event)
}

func newReporter(f func(Event)) *reporter { return &reporter{f: f} }

func (r *reporter) send(e Event) {
	if r.f == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.f(e)
}

func (r *reporter) note(format string, args ...any) {
	r.send(Event{Note: fmt.Sprintf(format, args...)})
}
