package hubtest

import (
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serveHuggingFace answers
//
//	/api/{models,datasets}/{name}[/revision/{revision}]
//	/api/{models,datasets}/{name}/tree/{revision}[/{folder}]
//	/[datasets/]{name}/resolve/{revision}/{path}
//	/api/resolve-cache/{models,datasets}/{name}/{commit}/{path}
func (s *Server) serveHuggingFace(w http.ResponseWriter, r *http.Request) {
	parts, ok := segments(r.URL.EscapedPath())
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, http.StatusBadRequest, "", "Bad request")
		return
	}
	api := parts[0] == "api"
	if api {
		parts = parts[1:]
	}
	cached := api && len(parts) > 0 && parts[0] == "resolve-cache"
	if cached {
		parts = parts[1:]
	}
	kind := "model"
	if len(parts) > 0 && (api && parts[0] == "models" || parts[0] == "datasets") {
		kind = strings.TrimSuffix(parts[0], "s")
		parts = parts[1:]
	} else if api {
		refuse(w, http.StatusNotFound, "", "Sorry, we can't find the page you are looking for.")
		return
	}
	if len(parts) < 2 {
		refuse(w, http.StatusNotFound, "", "Sorry, we can't find the page you are looking for.")
		return
	}
	name, rest := parts[0]+"/"+parts[1], parts[2:]
	what, revision := "info", "main"
	if cached {
		what = "resolve-cache"
	} else if len(rest) > 0 {
		what, rest = rest[0], rest[1:]
	}
	if len(rest) > 0 {
		revision, rest = rest[0], rest[1:]
	}
	if !s.limit(w, api && !cached) {
		return
	}
	repo, c := s.find(kind, name, revision)
	if !s.admit(w, r, repo) {
		return
	}
	if c == nil {
		refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+revision)
		return
	}
	switch {
	case api && (what == "info" || what == "revision") && len(rest) == 0:
		s.info(w, r, repo, c)
	case api && what == "tree":
		s.tree(w, r, c, strings.Join(rest, "/"))
	case what == "resolve" && !api || cached:
		s.resolve(w, r, repo, c, strings.Join(rest, "/"), cached)
	default:
		refuse(w, http.StatusNotFound, "", "Sorry, we can't find the page you are looking for.")
	}
}

// refuse sends an error as Hugging Face does: for programs in headers, for people in JSON.
func refuse(w http.ResponseWriter, status int, code, message string) {
	if code != "" {
		w.Header().Set("X-Error-Code", code)
	}
	w.Header().Set("X-Error-Message", message)
	answer(w, status, map[string]string{"error": message})
}

// admit answers requests that may not see a repository.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, repo *repo) bool {
	switch t := token(r); {
	case t != "" && !s.knows(t):
		refuse(w, http.StatusUnauthorized, "", "Invalid credentials in Authorization header")
	case (repo == nil || repo.Private && !repo.lets(r)) && t == "":
		// A repository that is missing cannot be told from one that is private.
		refuse(w, http.StatusUnauthorized, "", "Invalid username or password.")
	case repo == nil || repo.Private && !repo.lets(r):
		refuse(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
	case repo.Disabled:
		refuse(w, http.StatusForbidden, "", "Access to this resource is disabled.")
	default:
		return true
	}
	return false
}

// limit counts requests and says so in headers; beyond APILimit it answers them.
func (s *Server) limit(w http.ResponseWriter, api bool) bool {
	name, quota, left, window := "resolvers", 3000, 2999, s.Window
	if window == 0 {
		window = 5 * time.Minute
	}
	reset := window
	if api {
		s.mu.Lock()
		if time.Since(s.started) > window {
			s.started, s.calls = time.Now(), 0
		}
		s.calls++
		name, quota = "api", s.APILimit
		if quota == 0 {
			quota = 500 + s.calls
		}
		left, reset = quota-s.calls, window-time.Since(s.started)
		s.mu.Unlock()
	}
	seconds := int(reset/time.Second) + 1
	w.Header().Set("RateLimit", fmt.Sprintf(`"%s";r=%d;t=%d`, name, max(0, left), seconds))
	w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"fixed window";"%s";q=%d;w=%d`, name, quota, max(1, int(window/time.Second))))
	if left < 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		refuse(w, http.StatusTooManyRequests, "", "We had to rate limit you.")
		return false
	}
	return true
}

func (s *Server) info(w http.ResponseWriter, r *http.Request, repo *repo, c *commit) {
	siblings := []map[string]any{}
	for _, p := range c.names {
		f, entry := c.files[p], map[string]any{"rfilename": p}
		if r.URL.Query().Get("blobs") != "" {
			entry["size"], entry["blobId"] = len(f.data), f.git
			if f.lfs {
				entry["lfs"] = map[string]any{"sha256": f.sha256, "size": len(f.data), "pointerSize": pointerSize}
			}
		}
		siblings = append(siblings, entry)
	}
	var gated any = false
	if repo.Gated {
		gated = "auto"
	}
	owner, _, _ := strings.Cut(repo.Name, "/")
	answer(w, http.StatusOK, map[string]any{
		"_id": fmt.Sprintf("%024x", repo.id), "id": repo.Name, "author": owner, "sha": c.id, "private": repo.Private, "gated": gated, "disabled": false,
		"downloads": 0, "likes": 0, "tags": []string{}, "siblings": siblings, "usedStorage": 0,
		"createdAt": stamp(repo.commits[0].when), "lastModified": stamp(c.when),
	})
}

const pointerSize = 134 // of git LFS, for sizes of nine digits

func stamp(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z") }

// below lists files and folders below a folder ("" is the root), sorted; file is nil for folders.
func (c *commit) below(folder string, recursive bool) (paths []string, files []*file) {
	seen := map[string]*file{}
	for _, p := range c.names {
		rest, ok := p, true
		if folder != "" {
			rest, ok = strings.CutPrefix(p, folder+"/")
		}
		if !ok {
			continue
		}
		deep := strings.Contains(rest, "/")
		if recursive || !deep {
			seen[p] = c.files[p]
		}
		for d := path.Dir(rest); d != "."; d = path.Dir(d) {
			if recursive || !strings.Contains(d, "/") {
				seen[path.Join(folder, d)] = nil
			}
		}
	}
	for p := range seen {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		files = append(files, seen[p])
	}
	return paths, files
}

// tree lists a page of a folder; the next page is in the header Link.
func (s *Server) tree(w http.ResponseWriter, r *http.Request, c *commit, folder string) {
	q := r.URL.Query()
	paths, files := c.below(folder, strings.EqualFold(q.Get("recursive"), "true") || q.Get("recursive") == "1")
	if folder != "" && len(paths) == 0 {
		w.Header().Set("X-Repo-Commit", c.id)
		refuse(w, http.StatusNotFound, "EntryNotFound", folder+" does not exist on this revision")
		return
	}
	size := s.PageSize
	if size == 0 {
		size = 1000
	}
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		size = min(size, n)
	}
	var from int
	if cursor := q.Get("cursor"); cursor != "" {
		text, _ := base64.RawURLEncoding.DecodeString(cursor)
		if n, err := fmt.Sscanf(string(text), "from:%d", &from); n != 1 || err != nil || from > len(paths) {
			refuse(w, http.StatusBadRequest, "", "Invalid cursor")
			return
		}
	}
	to := min(from+size, len(paths))
	page := []map[string]any{}
	for i, p := range paths[from:to] {
		f := files[from+i]
		if f == nil {
			page = append(page, map[string]any{"type": "directory", "oid": gitBlob([]byte(p)), "size": 0, "path": p})
			continue
		}
		entry := map[string]any{"type": "file", "oid": f.git, "size": len(f.data), "path": p}
		if f.lfs {
			entry["lfs"] = map[string]any{"oid": f.sha256, "size": len(f.data), "pointerSize": pointerSize}
			if s.Xet {
				entry["xetHash"] = f.sha256
			}
		}
		page = append(page, entry)
	}
	if to < len(paths) {
		q.Set("cursor", base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "from:%d", to)))
		base := origin(r)
		if s.MirrorLinks {
			base = "https://huggingface.co"
		}
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?%s>; rel="next"`, base, r.URL.EscapedPath(), q.Encode()))
	}
	answer(w, http.StatusOK, page)
}

// resolve leads to a file: large ones to a signed link of the CDN, others to a path that holds for this commit alone.
func (s *Server) resolve(w http.ResponseWriter, r *http.Request, repo *repo, c *commit, p string, cached bool) {
	h := w.Header()
	h.Set("X-Repo-Commit", c.id)
	switch lets := repo.lets(r); {
	case repo.Gated && !lets && token(r) == "":
		refuse(w, http.StatusUnauthorized, "GatedRepo", fmt.Sprintf("Access to %s %s is restricted. You must have access to it and be authenticated to access it. Please log in.", repo.Kind, repo.Name))
		return
	case repo.Gated && !lets:
		refuse(w, http.StatusForbidden, "GatedRepo", fmt.Sprintf("Access to %s %s is restricted and you are not in the authorized list. Visit %s/%s to ask for access.", repo.Kind, repo.Name, s.URL, repo.Name))
		return
	}
	f := c.files[p]
	if f == nil {
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	h.Set("Content-Disposition", fmt.Sprintf("inline; filename*=UTF-8''%s; filename=%q;", url.PathEscape(path.Base(p)), path.Base(p)))
	h.Set("X-Linked-Size", strconv.Itoa(len(f.data)))
	h.Set("X-Linked-Etag", `"`+f.etag()+`"`)
	switch {
	case f.lfs:
		if s.Xet {
			h.Set("X-Xet-Hash", f.sha256)
			h.Set("Link", fmt.Sprintf(`<%s/api/%ss/%s/xet-read-token/%s>; rel="xet-auth"`, origin(r), repo.Kind, repo.Name, c.id))
		}
		redirect(w, http.StatusFound, s.sign("/repos/"+f.sha256[:2]+"/"+f.sha256))
	case !cached && !s.NoETag:
		// The Hub's redirect is relative and its query says what it said before.
		redirect(w, http.StatusTemporaryRedirect, fmt.Sprintf("/api/resolve-cache/%ss/%s/%s/%s?%s=&etag=%s", repo.Kind, repo.Name, c.id, escape(p), url.QueryEscape(r.URL.EscapedPath()), url.QueryEscape(`"`+f.etag()+`"`)))
	default:
		h.Set("ETag", `"`+f.etag()+`"`)
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Vary", "Origin, Accept, Accept-Encoding")
		if s.Gzip && r.Method == http.MethodGet && r.Header.Get("Range") == "" && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			h.Set("ETag", `W/"`+f.etag()+`"`)
			z := gzip.NewWriter(w)
			z.Write(f.data)
			z.Close()
			return
		}
		content(w, r, f)
	}
}

// escape escapes a path's parts and keeps its slashes.
func escape(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// redirect leaves the body to those who follow.
func redirect(w http.ResponseWriter, status int, to string) {
	text := http.StatusText(status) + ". Redirecting to " + to
	w.Header().Set("Location", to)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	w.Write([]byte(text))
}
