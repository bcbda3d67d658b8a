package data

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cria/internal/disk"

	"github.com/klauspost/compress/zstd"
)

// kinds of files, by the end of their names. Anything else is looked at as JSON.
var kinds = []struct{ suffix, kind string }{
	{".jsonl", "json"}, {".ndjson", "json"}, {".json", "json"}, {".csv", "csv"}, {".tsv", "tsv"}, {".parquet", "parquet"},
}

// kindOf returns the kind and the compression that a name tells of; known is false for a name that tells nothing.
func kindOf(path string) (kind, compression string, known bool) {
	name := strings.ToLower(filepath.Base(path))
	for _, c := range []string{".gz", ".zst"} {
		if rest, ok := strings.CutSuffix(name, c); ok {
			name, compression = rest, c
		}
	}
	for _, k := range kinds {
		if strings.HasSuffix(name, k.suffix) {
			return k.kind, compression, true
		}
	}
	return "json", compression, false
}

// entry is one entry of a recipe's dataset: some files, and perhaps how many of their rows are taken.
type entry struct {
	files  []string
	sample int // 0: all rows
}

// expand finds the files of an entry: a path, a glob, or a directory, each perhaps with #N.
func expand(path string) (e entry, notes []string, err error) {
	if i := strings.LastIndexByte(path, '#'); i > 0 {
		if n, bad := strconv.ParseUint(path[i+1:], 10, 31); bad == nil {
			if _, err := os.Lstat(path); err != nil {
				if n == 0 {
					return e, nil, fmt.Errorf("dataset: %s: at least one row must be taken", path)
				}
				path, e.sample = path[:i], int(n)
			}
		}
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		e.files, notes, err = inDirectory(path)
		return e, notes, err
	case err == nil:
		if !info.Mode().IsRegular() {
			return e, nil, fmt.Errorf("dataset: %s is not a regular file", path)
		}
		e.files = []string{path}
		return e, nil, nil
	case !errors.Is(err, fs.ErrNotExist) || !strings.ContainsAny(path, "*?["):
		return e, nil, fmt.Errorf("dataset: %w", err)
	}
	found, err := filepath.Glob(path)
	if err != nil {
		return e, nil, fmt.Errorf("dataset: %s: %w", path, err)
	}
	for _, f := range found { // sorted
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
			e.files = append(e.files, f)
		}
	}
	if len(e.files) == 0 {
		return e, nil, fmt.Errorf("dataset: no file matches %s", path)
	}
	return e, nil, nil
}

// about are files that lie beside data and hold none.
var about = regexp.MustCompile(`(?i)^(dataset_infos?|dataset_dict|state|config|readme|manifest)\.json$`)

// parts are names of files or directories that hold one part of a dataset.
var part = regexp.MustCompile(`(?i)(?:^|[/_.-])(train(?:ing)?|test|valid(?:ation)?|val|dev|eval)(?:[/_.-]|\d|$)`)

// inDirectory finds the data files in a directory, as they come from a hub: all of one kind, and where some are named as
// parts, only those of training.
func inDirectory(dir string) (files, notes []string, err error) {
	kind := map[string][]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != dir && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || about.MatchString(d.Name()):
			return nil
		}
		if k, _, known := kindOf(path); known {
			kind[k] = append(kind[k], path)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("dataset: %w", err)
	}
	switch len(kind) {
	case 0:
		return nil, nil, fmt.Errorf("dataset: %s is a directory without data files (JSON, JSON Lines, CSV, TSV or Parquet): name the file", dir)
	case 1:
	default:
		var names []string
		for _, f := range kind {
			names = append(names, f[0])
		}
		slices.Sort(names)
		return nil, nil, fmt.Errorf("dataset: %s holds files of several kinds (such as %s): name those that are meant, a glob will do", dir, strings.Join(names, ", "))
	}
	var train, other []string
	for _, list := range kind {
		for _, f := range list {
			rel, _ := filepath.Rel(dir, f)
			if m := part.FindStringSubmatch(filepath.ToSlash(rel)); m == nil || strings.HasPrefix(strings.ToLower(m[1]), "train") {
				train = append(train, f)
			} else {
				other = append(other, f)
			}
		}
	}
	switch {
	case len(train) == 0:
		train = other
	case len(other) > 0:
		notes = append(notes, fmt.Sprintf("%s: of its files, those for testing are not read (%s)", dir, join(other)))
	}
	return train, notes, nil
}

// openFile opens a file of rows of text, unpacked.
func openFile(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	_, compression, _ := kindOf(path)
	switch compression {
	case ".gz":
		z, err := gzip.NewReader(f)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("dataset: %s: %w", path, err)
		}
		return unpacked{z, z.Close, f}, nil
	case ".zst":
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("dataset: %s: %w", path, err)
		}
		return unpacked{z, func() error { z.Close(); return nil }, f}, nil
	}
	return f, nil
}

type unpacked struct {
	io.Reader
	end func() error
	f   *os.File
}

func (u unpacked) Close() error { return errors.Join(u.end(), u.f.Close()) }

// hashFile is the SHA-256 of a file's bytes, in hexadecimal.
func hashFile(ctx context.Context, path string) (string, error) {
	sum, err := disk.HashFile(ctx, path, nil)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("dataset: %w", err)
	}
	return sum, err
}
