package adapter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// HashBase is the hash of a model's weights by which an adapter knows its base (BaseSHA256): the SHA-256 of the only
// *.safetensors file in dir, or of the lines "name hash\n" of all of them, in alphabetical order. progress, if not nil, is told
// how many bytes are read.
func HashBase(ctx context.Context, dir string, progress func(done, total int64)) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", fmt.Errorf("%s holds no *.safetensors: %w", dir, fs.ErrNotExist)
	}
	slices.Sort(files)
	var done, total int64
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return "", err
		}
		total += info.Size()
	}
	all := sha256.New()
	for _, name := range files {
		h := sha256.New()
		err := copyFile(ctx, name, h, func(n int64) {
			if done += n; progress != nil {
				progress(done, total)
			}
		})
		if err != nil {
			return "", err
		}
		if len(files) == 1 {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		fmt.Fprintf(all, "%s %x\n", filepath.Base(name), h.Sum(nil))
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// copyFile copies a file to w in pieces, and tells after each how long it was.
func copyFile(ctx context.Context, name string, w io.Writer, done func(n int64)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(w, f, 16<<20)
		done(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
