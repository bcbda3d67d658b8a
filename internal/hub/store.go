package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"cria/internal/disk"
)

// store is where the files of one revision go.
type store struct {
	root  string // the repository's folder in a cache, or the user's directory; nothing is written outside
	rel   string // of the finished directory, below root, with forward slashes
	blobs bool   // Hugging Face's layout: contents in blobs, the finished directory links to them
	keep  string // name of the record in workDir; empty: none is kept
}

// cache is ref's place in the cache of its hub. ModelScope's client names snapshots by revision, not by commit.
func (c *Client) cache(ref Ref, commit string) store {
	if ref.Source == ModelScope {
		rev := ref.revision()
		return store{root: filepath.Join(c.env.MSCache, ref.plural(), strings.ReplaceAll(ref.Name, "/", "--")),
			rel: "snapshots/" + rev, keep: url.PathEscape(rev) + ".json"}
	}
	return store{root: filepath.Join(c.env.HFCache, ref.plural()+"--"+strings.ReplaceAll(ref.Name, "/", "--")),
		rel: "snapshots/" + commit, blobs: true, keep: commit + ".json"}
}

func (s store) dir() string          { return filepath.Join(s.root, filepath.FromSlash(s.rel)) }
func (s store) work() string         { return filepath.Join(s.root, workDir) }
func (s store) file(p string) string { return filepath.Join(s.dir(), filepath.FromSlash(p)) }
func (s store) part(f File) string   { return filepath.Join(s.work(), f.key()+".part") }
func (s store) blob(f File) string   { return filepath.Join(s.root, filepath.FromSlash(s.blobRel(f))) }
func (s store) blobRel(f File) string {
	if s.blobs {
		return "blobs/" + f.key()
	}
	return workDir + "/" + f.key()
}

// record is what cria remembers of a revision in a cache: which files are there and were checked, in <workDir>/<keep>.
type record struct {
	Repository string        `json:"repository"`
	Commit     string        `json:"commit"`
	Usual      bool          `json:"usual"` // all files are there that cria needs
	Files      []checkedFile `json:"files"`
}

// checkedFile is a file whose hash was right when it was modified last at MTime, in nanoseconds since 1970.
type checkedFile struct {
	File
	MTime int64 `json:"mtime"`
}

func (s store) readRecord() (r record, ok bool) {
	if s.keep == "" {
		return r, false
	}
	err := disk.ReadJSON(filepath.Join(s.work(), s.keep), maxListing, &r)
	return r, err == nil
}

// checked reports whether the content at name was compared with f's hash and has not been touched since.
func (r record) checked(f File, info fs.FileInfo) bool {
	for _, c := range r.Files {
		if c.key() == f.key() && c.Size == info.Size() && c.MTime == info.ModTime().UnixNano() {
			return true
		}
	}
	return false
}

// regular describes what is at name, following links; only a regular file counts.
func regular(name string) (fs.FileInfo, bool) {
	info, err := os.Stat(name)
	return info, err == nil && info.Mode().IsRegular()
}

// prepare makes the folders.
func (s store) prepare() error {
	dirs := []string{s.work()}
	if s.blobs {
		dirs = append(dirs, filepath.Join(s.root, "blobs"))
	}
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o777); err != nil {
			return fmt.Errorf("%w; set HF_HUB_CACHE, MODELSCOPE_CACHE or --to to a directory that can be written", err)
		}
		if info, err := os.Lstat(d); err != nil || !info.IsDir() {
			return fmt.Errorf("%s is not a directory of its own", d)
		}
	}
	return nil
}

// publish puts files, whose contents are all checked, under their names in the finished directory. What is in place already
// is left; right says so of what another process has put there meanwhile.
func (s store) publish(files []File, inPlace map[string]bool, noLinks bool, right func(File) bool) error {
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return err
	}
	defer root.Close()
	at := s.rel
	if _, err := root.Lstat(s.rel); s.blobs && errors.Is(err, fs.ErrNotExist) {
		at = workDir + "/tmp-" + tag() // the directory appears whole
	}
	if err := root.MkdirAll(at, 0o777); err != nil {
		return err
	}
	waiting := map[string]int{} // files that still need a content
	for _, f := range files {
		if !inPlace[f.Path] {
			waiting[f.key()]++
		}
	}
	for _, f := range files {
		if inPlace[f.Path] {
			continue
		}
		name := path.Join(at, f.Path)
		if err := root.MkdirAll(path.Dir(name), 0o777); err != nil {
			return err
		}
		waiting[f.key()]--
		if err := s.place(root, f, name, noLinks, waiting[f.key()] == 0); err != nil && !(errors.Is(err, fs.ErrNotExist) && right(f)) {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	disk.OS{}.SyncDir(filepath.Join(s.root, filepath.FromSlash(at))) // best effort: the next run puts right what is missing
	if at == s.rel {
		return nil
	}
	if err := root.MkdirAll(path.Dir(s.rel), 0o777); err != nil {
		return err
	}
	err = root.Rename(at, s.rel)
	if err != nil {
		root.RemoveAll(at)
		if _, there := root.Lstat(s.rel); there == nil { // another process was faster
			return s.publish(files, inPlace, noLinks, right)
		}
		return err
	}
	return nil
}

// place gives one content its name. last says that no other file needs it.
func (s store) place(root *os.Root, f File, name string, noLinks, last bool) error {
	blob := s.blobRel(f)
	tmp := workDir + "/tmp-" + tag()
	if s.blobs {
		up := strings.Repeat("../", strings.Count(path.Join(s.rel, f.Path), "/"))
		err := errors.ErrUnsupported
		if !noLinks {
			err = root.Symlink(filepath.FromSlash(up+blob), tmp)
		}
		if err != nil {
			err = root.Link(blob, tmp)
		}
		if err == nil {
			return root.Rename(tmp, name)
		}
	}
	if last {
		return root.Rename(blob, name)
	}
	from, err := root.Open(blob)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = to.ReadFrom(from)
	if err = errors.Join(err, to.Sync(), to.Close()); err != nil {
		root.Remove(tmp)
		return err
	}
	return root.Rename(tmp, name)
}

// replace puts data under a name below root in one step.
func (s store) replace(name string, data []byte) error {
	tmp := filepath.Join(s.work(), "tmp-"+tag())
	err := writeSynced(tmp, data)
	if err == nil {
		if err = os.MkdirAll(filepath.Dir(name), 0o777); err == nil {
			err = os.Rename(tmp, name)
		}
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return disk.OS{}.SyncDir(filepath.Dir(name))
}

// remember writes the record of files that are all in place, and adds what an older record of the commit knows.
func (s store) remember(ref Ref, commit string, files []File, usual bool) error {
	r := record{Repository: ref.String(), Commit: commit, Usual: usual}
	named := map[string]bool{}
	for _, f := range files {
		info, ok := regular(s.file(f.Path))
		if !ok {
			return fmt.Errorf("%s disappeared", s.file(f.Path))
		}
		r.Files = append(r.Files, checkedFile{f, info.ModTime().UnixNano()})
		named[f.Path] = true
	}
	if old, ok := s.readRecord(); ok && old.Commit == commit {
		r.Usual = r.Usual || old.Usual
		for _, f := range old.Files {
			if !named[f.Path] {
				r.Files = append(r.Files, f)
			}
		}
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return s.replace(filepath.Join(s.work(), s.keep), append(b, '\n'))
}

// sweep removes what is left of fetching a file that is in place. A part that somebody works on stays, with its journal.
func (s store) sweep(f File) {
	for _, name := range disk.Match(s.work(), f.key()+"*.part") {
		if lock, err := tryLock(name); err == nil {
			os.Remove(journalPath(name))
			os.Remove(name)
			lock.Close()
		}
	}
	if len(disk.Match(s.work(), f.key()+"*.part")) == 0 {
		for _, name := range disk.Match(s.work(), f.key()+"*") {
			os.Remove(name)
		}
	}
}
