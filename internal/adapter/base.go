package adapter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cria/internal/disk"
)

// HashBase is the hash of a model's weights by which an adapter knows its base (BaseSHA256): the SHA-256 of the only
// *.safetensors file in dir, or of the lines "name hash\n" of all of them, in alphabetical order. progress, if not nil, is told
// how many bytes are read.
func HashBase(ctx context.Context, dir string, progress func(done, total int64)) (string, error) {
	files := disk.Match(dir, "*.safetensors")
	if len(files) == 0 {
		return "", fmt.Errorf("%s holds no *.safetensors: %w", dir, fs.ErrNotExist)
	}
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
		sum, err := disk.HashFile(ctx, name, func(n int64) {
			if done += n; progress != nil {
				progress(done, total)
			}
		})
		if err != nil {
			return "", err
		}
		if len(files) == 1 {
			return sum, nil
		}
		fmt.Fprintf(all, "%s %s\n", filepath.Base(name), sum)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}
