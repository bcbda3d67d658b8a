package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"cria/internal/disk"
)

// File is one file of a repository, as the hub lists it.
type File struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256,omitempty"`   // of the content
	GitSHA1 string `json:"git_sha1,omitempty"` // of the content as a git blob, where the hub has no SHA-256
}

// key names the content: its hash, which Hugging Face's cache calls the blob by.
func (f File) key() string {
	if f.SHA256 != "" {
		return f.SHA256
	}
	return f.GitSHA1
}

const (
	maxListing = 64 << 20 // bytes of one page
	maxFiles   = 1 << 20
	maxSize    = 1 << 50
	maxPages   = 10000
)

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// checkable says what a wanted file's entry in the listing lacks to be fetched and checked.
func (f File) checkable() error {
	switch {
	case f.Size < 0 || f.Size > maxSize:
		return fmt.Errorf("lists %.100q with a size of %d bytes", f.Path, f.Size)
	case f.SHA256 == "" && f.GitSHA1 == "":
		return fmt.Errorf("lists %.100q without a hash (lfs.oid, oid or Sha256), so it could not be checked", f.Path)
	case f.SHA256 != "" && !sha256Hex.MatchString(f.SHA256), f.SHA256 == "" && !commitID.MatchString(f.GitSHA1):
		return fmt.Errorf("lists %.100q with the hash %.70q, which is none", f.Path, f.key())
	}
	return nil
}

// list resolves the revision and lists the repository's files. The commit is empty where the hub does not say it.
func (c *Client) list(ctx context.Context, r *reporter, ref Ref) (commit string, files []File, err error) {
	if ref.Source == ModelScope {
		commit, files, err = c.listModelScope(ctx, r, ref)
	} else {
		commit, files, err = c.listHuggingFace(ctx, r, ref)
	}
	return commit, files, err
}

// listHuggingFace asks for the commit of the revision, then for the tree of the commit, page by page
// (hf_api.py, model_info and list_repo_tree).
func (c *Client) listHuggingFace(ctx context.Context, r *reporter, ref Ref) (string, []File, error) {
	h := c.hubs[HuggingFace]
	var info struct {
		SHA string `json:"sha"`
	}
	api := "/api/" + ref.plural() + "/" + ref.Name
	if _, err := c.json(ctx, r, ref, h.at(api+"/revision/"+url.PathEscape(ref.revision()), nil), &info); err != nil {
		return "", nil, err
	}
	if !commitID.MatchString(info.SHA) {
		return "", nil, fmt.Errorf("%s does not say which commit %s is (sha is %.60q)", h.base.Host, ref, info.SHA)
	}
	var files []File
	next := h.at(api+"/tree/"+info.SHA, url.Values{"recursive": {"True"}, "expand": {"False"}})
	for page := 0; next != nil; page++ {
		var entries []struct {
			Type, Path, OID string
			Size            int64
			LFS             *struct {
				OID  string
				Size int64
			}
		}
		link, err := c.json(ctx, r, ref, next, &entries)
		if err != nil {
			return "", nil, err
		}
		for _, e := range entries {
			if e.Type != "file" {
				continue
			}
			f := File{Path: e.Path, Size: e.Size, GitSHA1: e.OID}
			if e.LFS != nil {
				f = File{Path: e.Path, Size: e.LFS.Size, SHA256: strings.TrimPrefix(e.LFS.OID, "sha256:")}
			}
			files = append(files, f)
		}
		was := next
		if next, err = nextPage(h, next, link); err != nil {
			return "", nil, err
		}
		if len(files) > maxFiles || page > maxPages || next != nil && *next == *was {
			return "", nil, fmt.Errorf("%s lists more files of %s than cria takes", h.base.Host, ref)
		}
	}
	return info.SHA, files, nil
}

var linkNext = regexp.MustCompile(`<([^<>]*)>\s*;[^,]*\brel="?next"?`)

// nextPage reads the Link header. Mirrors pass on links to the public hub; these are asked of the mirror.
func nextPage(h *host, from *url.URL, link string) (*url.URL, error) {
	m := linkNext.FindStringSubmatch(link)
	if m == nil {
		return nil, nil
	}
	u, err := h.follow(from, m[1])
	if err == nil && !h.own(u) {
		err = fmt.Errorf("%s links the next page at %s, another host", from.Host, u.Host)
	}
	return u, err
}

// modelScopeFile is an entry of ModelScope's listings.
type modelScopeFile struct {
	Type, Path, Sha256, Revision string
	Size, CommittedDate          int64
}

// listModelScope lists the files at a revision (_legacy_api.py, list_repo_files and list_dataset_files_paginated). Where
// the listing does not name the commit, it is the newest that a file names.
func (c *Client) listModelScope(ctx context.Context, r *reporter, ref Ref) (string, []File, error) {
	const pageSize, cut = 200, 3000 // listings of models end there without saying so
	h := c.hubs[ModelScope]
	api := "/api/v1/" + ref.plural() + "/" + ref.Name + "/repo/"
	var commit string
	get := func(query url.Values) ([]modelScopeFile, error) {
		query.Set("Revision", ref.revision())
		name := "files"
		if ref.Kind == Dataset {
			name = "tree"
		}
		var answer struct {
			Data struct {
				Files           []modelScopeFile
				LatestCommitter struct{ ID string }
			}
		}
		_, err := c.json(ctx, r, ref, h.at(api+name, query), &answer)
		if id := answer.Data.LatestCommitter.ID; commitID.MatchString(id) {
			commit = id
		}
		return answer.Data.Files, err
	}
	var entries []modelScopeFile
	if ref.Kind == Dataset {
		for page := 1; ; page++ {
			got, err := get(url.Values{"Recursive": {"True"}, "PageNumber": {fmt.Sprint(page)}, "PageSize": {fmt.Sprint(pageSize)}})
			if err != nil {
				return "", nil, err
			}
			entries = append(entries, got...)
			if len(got) < pageSize {
				break
			}
			if page > maxPages {
				return "", nil, fmt.Errorf("%s lists more files of %s than cria takes", h.base.Host, ref)
			}
		}
	} else {
		got, err := get(url.Values{"Recursive": {"True"}})
		if err != nil {
			return "", nil, err
		}
		if entries = got; len(got) >= cut {
			entries = nil
			for folders := []string{""}; len(folders) > 0; folders = folders[1:] {
				query := url.Values{"Recursive": {"False"}}
				if folders[0] != "" {
					query.Set("Root", folders[0])
				}
				if got, err = get(query); err != nil {
					return "", nil, err
				}
				for _, e := range got {
					if e.Type == "tree" {
						folders = append(folders, e.Path)
					}
				}
				if entries = append(entries, got...); len(got) >= cut || len(entries) > maxFiles {
					return "", nil, fmt.Errorf("%s has too many files in %q of %s to list them all", h.base.Host, folders[0], ref)
				}
			}
		}
	}
	var files []File
	newest, known := int64(0), commit != ""
	for _, e := range entries {
		if e.Type == "tree" {
			continue
		}
		if !known && e.CommittedDate >= newest && commitID.MatchString(e.Revision) {
			newest, commit = e.CommittedDate, e.Revision
		}
		files = append(files, File{Path: e.Path, Size: e.Size, SHA256: strings.ToLower(e.Sha256)})
	}
	return commit, files, nil
}

// fileURL is where a file's content is to be had.
func (c *Client) fileURL(ref Ref, commit, path string) *url.URL {
	h := c.hubs[ref.Source]
	if ref.Source == ModelScope {
		return h.at("/api/v1/"+ref.plural()+"/"+ref.Name+"/repo", url.Values{"Revision": {ref.revision()}, "FilePath": {path}})
	}
	prefix := "/"
	if ref.Kind == Dataset {
		prefix = "/datasets/"
	}
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return h.at(prefix+ref.Name+"/resolve/"+commit+"/"+strings.Join(parts, "/"), nil)
}

// json asks the API, decodes the answer into v and returns its Link header.
func (c *Client) json(ctx context.Context, r *reporter, ref Ref, u *url.URL, v any) (link string, err error) {
	h := c.hubs[ref.Source]
	err = c.retry(ctx, r, "asking "+h.base.Host+" for "+ref.Name, func() (bool, error) {
		resp, err := c.get(ctx, h, u, "")
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false, h.refused(ref, resp)
		}
		if err := plainBody(resp, false); err != nil {
			return false, err
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxListing+1))
		switch {
		case err != nil:
			return false, fmt.Errorf("the answer of %s broke off: %w", resp.Request.URL.Host, err)
		case len(b) > maxListing:
			return false, permanent{fmt.Errorf("%s answers with more than %d bytes", resp.Request.URL.Host, maxListing)}
		}
		if err := disk.Unmarshal(b, v); err != nil {
			return false, fmt.Errorf("%s answers with what is not the hub's JSON: %w", resp.Request.URL.Host, err)
		}
		link = strings.Join(resp.Header.Values("Link"), ", ")
		return false, nil
	})
	return link, err
}

// plainBody refuses answers that cannot be the bytes that were asked for.
func plainBody(resp *http.Response, html bool) error {
	host := resp.Request.URL.Host
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return fmt.Errorf("%s sends the header Content-Encoding: %.40q though identity was asked for; a proxy in between may do so", host, e)
	}
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t == "text/html" && !html {
		return fmt.Errorf("%s answers with a web page (Content-Type text/html): a login page of the network, or the mirror is broken", host)
	}
	return nil
}

// refused turns an answer other than success into an error that says what to do.
func (h *host) refused(ref Ref, resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	var said struct{ Error, Message string }
	if json.Unmarshal(bytes.TrimSpace(body), &said) != nil {
		said.Error, said.Message = "", ""
	}
	message := resp.Header.Get("X-Error-Message")
	for _, s := range []string{said.Error, said.Message} {
		if message == "" {
			message = s
		}
	}
	where := resp.Request.URL.Host
	status := fmt.Sprintf("%s answers %d", where, resp.StatusCode)
	if message != "" {
		status += fmt.Sprintf(" (%.300q)", message)
	}
	what := fmt.Sprintf("%s %s", ref.Kind, ref)
	page := *h.base
	page.User = nil
	address := page.JoinPath(map[bool]string{true: "datasets/"}[ref.Kind == Dataset], ref.Name).String()
	if ref.Source == ModelScope {
		address = page.JoinPath(ref.plural(), ref.Name).String()
	}
	code := resp.Header.Get("X-Error-Code")
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests || s == http.StatusRequestTimeout || s >= 500:
		err := errors.New(status)
		if s == http.StatusTooManyRequests {
			err = fmt.Errorf("%s: too many requests", status)
			if h.token == "" {
				err = fmt.Errorf("%w; with %s more are allowed", err, h.tokenVar)
			}
		}
		return later{err, pause(resp.Header, time.Now())}
	case code == "GatedRepo":
		return permanent{fmt.Errorf("%s is gated: accept its conditions at %s, then set %s to a token of that account (%s)", what, address, h.tokenVar, status)}
	case code == "RevisionNotFound":
		return permanent{fmt.Errorf("%s: there is no revision %q (%s); see %s for its branches and tags", what, ref.revision(), status, address)}
	case code == "EntryNotFound":
		return permanent{fmt.Errorf("%s: the hub lists a file that it does not have (%s); try again later", what, status)}
	case message == "Access to this resource is disabled.":
		return permanent{fmt.Errorf("%s was taken down by the hub (%s)", what, status)}
	case s == http.StatusUnauthorized && h.token != "":
		return permanent{fmt.Errorf("%s: the token in %s is not accepted, or the repository does not exist (%s)", what, h.tokenVar, status)}
	case s == http.StatusUnauthorized, code == "RepoNotFound" && h.token == "":
		return permanent{fmt.Errorf("%s does not exist, or is private (%s): check the name, or set %s", what, status, h.tokenVar)}
	case s == http.StatusForbidden:
		return permanent{fmt.Errorf("%s may not be read with this account (%s): see %s, and check what the token in %s allows", what, status, address, h.tokenVar)}
	case s == http.StatusNotFound, code == "RepoNotFound":
		return permanent{fmt.Errorf("%s: there is no such repository or revision (%s); check the name at %s", what, status, address)}
	}
	err := fmt.Errorf("%s: %s", what, status)
	if resp.StatusCode < 400 {
		return err
	}
	return permanent{err}
}
