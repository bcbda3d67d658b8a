package hubtest

import (
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// serveModelScope answers
//
//	/api/v1/{models,datasets}/{name}
//	/api/v1/{models,datasets}/{name}/revisions
//	/api/v1/models/{name}/repo/files, /api/v1/datasets/{name or number}/repo/tree
//	/api/v1/{models,datasets}/{name}/repo?FilePath=
//	/api/v1/login, /api/v1/repos/internalAccelerationInfo
//	/openapi/v1/{models,datasets}/{name}
func (s *Server) serveModelScope(w http.ResponseWriter, r *http.Request) {
	parts, ok := segments(r.URL.EscapedPath())
	if !ok {
		deny(w, r, http.StatusBadRequest, 10990101001, "invalid path")
		return
	}
	open := parts[0] == "openapi"
	if parts = parts[min(2, len(parts)):]; len(parts) < 2 {
		if len(parts) == 1 && parts[0] == "login" && r.Method == http.MethodPost {
			s.login(w, r)
			return
		}
		deny(w, r, http.StatusNotFound, 10990101404, "not found")
		return
	}
	if parts[0] == "repos" && parts[1] == "internalAccelerationInfo" {
		succeed(w, r, map[string]any{"InternalRegionQueryAddress": ""})
		return
	}
	if parts[0] != "models" && parts[0] != "datasets" {
		deny(w, r, http.StatusNotFound, 10990101404, "not found")
		return
	}
	kind, parts := strings.TrimSuffix(parts[0], "s"), parts[1:]
	name := s.byNumber(kind, parts[0])
	if name != "" {
		parts = parts[1:]
	} else if len(parts) >= 2 {
		name, parts = parts[0]+"/"+parts[1], parts[2:]
	}
	revision := r.URL.Query().Get("Revision")
	switch revision {
	case "", "master":
		revision = "main" // the branch's name in find
	case "main":
		revision = "there is no branch main"
	}
	repo, c := s.find(kind, name, revision)
	if !s.admitModelScope(w, r, repo) {
		return
	}
	if c == nil {
		deny(w, r, http.StatusNotFound, 10010205004, "the revision "+r.URL.Query().Get("Revision")+" does not exist")
		return
	}
	owner, short, _ := strings.Cut(repo.Name, "/")
	switch what := strings.Join(parts, "/"); {
	case open && what == "":
		answer(w, http.StatusOK, map[string]any{"success": true, "request_id": r.Header.Get("X-Request-Id"), "data": map[string]any{
			"id": repo.Name, "display_name": short, "private": repo.Private, "gated": repo.Gated, "downloads": 0, "likes": 0,
			"created_at": stamp(repo.commits[0].when), "last_modified": stamp(c.when)}})
	case what == "":
		succeed(w, r, map[string]any{"Id": repo.id, "Name": short, "Path": owner, "Namespace": owner, "Type": 1, "Visibility": 5, "Revision": "master"})
	case what == "revisions":
		tags := []map[string]any{}
		for _, t := range repo.Tags {
			tags = append(tags, map[string]any{"Revision": t, "CreatedAt": repo.refs[t].when.Unix()})
		}
		succeed(w, r, map[string]any{"RevisionMap": map[string]any{
			"Branches": []map[string]any{{"Revision": "master", "CreatedAt": c.when.Unix()}}, "Tags": tags}})
	case what == "repo/files" && kind == "model", what == "repo/tree":
		s.files(w, r, c)
	case what == "repo":
		s.file(w, r, repo, c)
	default:
		deny(w, r, http.StatusNotFound, 10990101404, "not found")
	}
}

// succeed sends data in ModelScope's envelope.
func succeed(w http.ResponseWriter, r *http.Request, data any) {
	answer(w, http.StatusOK, map[string]any{"Code": 200, "Data": data, "Message": "success", "RequestId": r.Header.Get("X-Request-Id"), "Success": true})
}

// deny sends an error in ModelScope's envelope.
func deny(w http.ResponseWriter, r *http.Request, status, code int, message string) {
	answer(w, status, map[string]any{"Code": code, "Data": nil, "Message": message, "RequestId": r.Header.Get("X-Request-Id"), "Success": false})
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "m_session_id", Value: token(r), Path: "/"})
	succeed(w, r, map[string]any{"AccessToken": "git", "Username": "somebody", "Email": "somebody@example.org"})
}

// byNumber is the name of a dataset that is asked for by number.
func (s *Server) byNumber(kind, number string) string {
	id, err := strconv.Atoi(number)
	if err != nil || kind != "dataset" {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.repos {
		if r.id == id && r.Kind == kind {
			return r.Name
		}
	}
	return ""
}

// admitModelScope answers requests that may not see a repository.
func (s *Server) admitModelScope(w http.ResponseWriter, r *http.Request, repo *repo) bool {
	switch t := token(r); {
	case t != "" && !s.knows(t):
		deny(w, r, http.StatusUnauthorized, 10010205002, "invalid access token")
	case repo == nil || repo.Private && !repo.lets(r):
		deny(w, r, http.StatusNotFound, 10010205001, "the repository does not exist")
	case repo.Disabled:
		deny(w, r, http.StatusForbidden, 10010205003, "the repository is disabled")
	default:
		return true
	}
	return false
}

// files lists a tree: a page of it where PageSize is given, else as much as goes into one answer, without a word about
// what does not.
func (s *Server) files(w http.ResponseWriter, r *http.Request, c *commit) {
	q := r.URL.Query()
	paths, files := c.below(strings.Trim(q.Get("Root"), "/"), strings.EqualFold(q.Get("Recursive"), "true"))
	total, from, to := len(paths), 0, len(paths)
	if size, err := strconv.Atoi(q.Get("PageSize")); err == nil && size > 0 {
		number, _ := strconv.Atoi(q.Get("PageNumber"))
		from = min(max(0, number-1)*size, total)
		to = min(from+size, total)
	} else if limit := s.ListLimit; limit > 0 {
		to = min(to, limit)
	} else {
		to = min(to, 3000)
	}
	list := []map[string]any{}
	for i, p := range paths[from:to] {
		entry := map[string]any{"Name": path.Base(p), "Path": p, "Type": "tree", "Size": 0, "Sha256": "", "Revision": c.id, "CommittedDate": c.when.Unix()}
		if f := files[from+i]; f != nil {
			entry["Type"], entry["Size"], entry["Sha256"], entry["Revision"], entry["IsLFS"] = "blob", len(f.data), f.sha256, f.changed, f.lfs
		}
		list = append(list, entry)
	}
	succeed(w, r, map[string]any{"Files": list, "TotalCount": total, "LatestCommitter": map[string]any{"Id": c.id, "ShortId": c.id[:8]}})
}

// file sends a small file itself, whole whatever range is asked for, and leads to the CDN for a large one.
func (s *Server) file(w http.ResponseWriter, r *http.Request, repo *repo, c *commit) {
	f := c.files[r.URL.Query().Get("FilePath")]
	switch {
	case repo.Gated && !repo.lets(r):
		deny(w, r, http.StatusForbidden, 10010205005, fmt.Sprintf("%s is gated: ask for access on its page", repo.Name))
	case f == nil:
		deny(w, r, http.StatusNotFound, 10010205006, "the file "+r.URL.Query().Get("FilePath")+" does not exist")
	case f.lfs:
		redirect(w, http.StatusFound, s.sign("/lfs/"+f.sha256[:2]+"/"+f.sha256))
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(f.data)))
		w.WriteHeader(http.StatusOK)
		w.Write(f.data)
	}
}
