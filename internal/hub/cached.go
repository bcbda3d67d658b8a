package hub

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cria/internal/disk"
)

// Cached returns the directory of a repository that is whole on this machine, in the cache of its hub, whoever put it
// there. It makes no connection and reads no weights.
func (c *Client) Cached(ref Ref) (dir string, ok bool) {
	dir, _ = c.cached(ref)
	return dir, dir != ""
}

// cached also says why there is no directory.
func (c *Client) cached(ref Ref) (dir, why string) {
	why = "it is not in the cache"
	if ref.Source == ModelScope {
		s := c.cache(ref, "")
		if dir, why = s.whole(ref, why); dir != "" {
			return dir, ""
		}
		for _, old := range c.oldCaches(ref) {
			if dir, why = (store{root: old, rel: "."}).whole(ref, why); dir != "" {
				return dir, ""
			}
		}
		return "", why
	}
	commit := ref.revision()
	if !commitID.MatchString(commit) {
		b, err := disk.ReadFile(filepath.Join(c.cache(ref, "").root, "refs", filepath.FromSlash(commit)), 100)
		if commit = strings.TrimSpace(string(b)); err != nil || !commitID.MatchString(commit) {
			return "", why
		}
	}
	return c.cache(ref, commit).whole(ref, why)
}

// oldCaches lists the folders where ModelScope's clients before 1.38 keep a repository, in the order in which today's looks
// for them (_download.py, _find_legacy_repo_dir; modelscope/hub/utils/utils.py, find_reusable_legacy_repo_dir).
func (c *Client) oldCaches(ref Ref) (dirs []string) {
	base, segment := c.env.MSCache, ref.plural()
	owner, name, _ := strings.Cut(ref.Name, "/")
	safe := strings.ReplaceAll(name, ".", "___")
	candidates := [][]string{{segment, owner, safe}, {"hub", segment, owner, safe}, {segment, owner, name}}
	if ref.Kind == Model {
		candidates = append(candidates, []string{owner, name}, []string{owner, safe}, []string{"hub", owner, name}, []string{"hub", owner, safe})
	}
	for _, parts := range candidates {
		dir := filepath.Join(append([]string{base}, parts...)...)
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// whole returns the store's directory if everything is there that cria needs: by cria's record, by the listing that
// huggingface_hub keeps, or by what a model consists of. Otherwise it says why not; absent is why if nothing is there.
func (s store) whole(ref Ref, absent string) (dir, why string) {
	dir = s.dir()
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", absent
	}
	lacks := func(what string) (string, string) {
		return "", fmt.Sprintf("%s is not complete (it lacks %s)", dir, what)
	}
	if r, ok := s.readRecord(); ok && r.Usual {
		for _, f := range r.Files {
			if info, ok := regular(s.file(f.Path)); !ok || info.Size() != f.Size {
				return lacks(f.Path)
			}
		}
		return dir, ""
	}
	if files, ok := s.tree(); ok {
		index := func(f File) ([]byte, error) { return disk.ReadFile(s.file(f.Path), maxListing) }
		wanted, _, err := choose(ref, files, nil, index)
		if err != nil {
			return "", err.Error()
		}
		for _, f := range wanted {
			if info, ok := regular(s.file(f.Path)); !ok || info.Size() != f.Size {
				return lacks(f.Path)
			}
		}
		return dir, ""
	}
	if ref.Kind == Dataset {
		return "", fmt.Sprintf("%s was put there by another client, and whether it is complete is not written anywhere; name the directory itself if you know", dir)
	}
	has := func(name string) bool { _, ok := regular(s.file(name)); return ok }
	if !has("config.json") {
		if has(adapterConfig) && has("adapter_model.safetensors") {
			return dir, ""
		}
		return lacks("config.json")
	}
	if !has("tokenizer.json") && !has("tokenizer.model") && !has("vocab.json") && !has("vocab.txt") {
		return lacks("the tokenizer's files")
	}
	if has(weightsFile) {
		return dir, ""
	}
	text, err := disk.ReadFile(s.file(weightsIndex), maxListing)
	if err != nil {
		return lacks(weightsFile)
	}
	shards, err := shardsOf(text)
	if err != nil {
		return "", err.Error()
	}
	for _, shard := range shards {
		if !has(shard) {
			return lacks(shard)
		}
	}
	return dir, ""
}

// tree reads the listing of a commit that huggingface_hub keeps (_tree_cache.py): trees/<commit>.json.
func (s store) tree() (files []File, ok bool) {
	if !s.blobs {
		return nil, false
	}
	var t struct {
		FormatVersion int `json:"format_version"`
		Files         map[string]struct {
			Size      int64  `json:"size"`
			BlobID    string `json:"blob_id"`
			LFSSHA256 string `json:"lfs_sha256"`
		} `json:"files"`
	}
	name := filepath.Join(s.root, "trees", filepath.Base(s.dir())+".json")
	if err := disk.ReadJSON(name, maxListing, &t); err != nil || t.FormatVersion != 1 {
		return nil, false
	}
	for p, f := range t.Files {
		files = append(files, File{Path: p, Size: f.Size, SHA256: f.LFSSHA256, GitSHA1: f.BlobID})
	}
	return files, true
}
