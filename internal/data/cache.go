package data

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"cria/internal/disk"
)

// What a cache of rows keeps: the entries that were used last.
const (
	cacheEntries = 20
	cacheBytes   = 20 << 30
)

// Cache keeps tokenised rows in a directory, by the hash of everything that they are made of.
type Cache struct {
	Dir  string            // "": rows are made in a temporary directory each time
	Info func(note string) // remarks for the user; nil: none
}

// Rows returns the rows of a source: those that the cache has, or new ones, which it keeps. recipe is everything beside the
// data that decides what rows become, as JSON can say it. Where the cache cannot be written, rows lie in a temporary directory
// until Set.Close.
func (c *Cache) Rows(ctx context.Context, s *Source, recipe any, encode RowFunc, o Options) (*Set, error) {
	if c.Info == nil {
		c = &Cache{c.Dir, func(string) {}}
	}
	before, err := s.state() // before the bytes are hashed, so that the key and the rows are of the same ones
	if err != nil {
		return nil, err
	}
	key, err := s.key(ctx, recipe, &o)
	if err != nil {
		return nil, err
	}
	if c.Dir != "" {
		set, err := c.kept(ctx, key, before, s, encode, o)
		if set != nil || isOfDataset(ctx, err) {
			return set, err
		}
		c.Info(fmt.Sprintf("tokenised rows are not kept (%v); set CRIA_CACHE to a directory that can be written", err))
	}
	dir, err := os.MkdirTemp("", "cria-rows-")
	if err != nil {
		return nil, fmt.Errorf("no place for the tokenised rows: %w", err)
	}
	remove := func() error { return os.RemoveAll(dir) }
	rows := filepath.Join(dir, "rows")
	if err = s.Build(ctx, rows, encode, o); err == nil {
		var set *Set
		if set, err = OpenSet(rows, s.Files()); err == nil {
			set.close = append(set.close, remove)
			return set, nil
		}
	}
	return nil, errors.Join(err, remove())
}

// kept is the cache's entry of a key, made where it is not there or damaged. The files were in the state before when the key
// was made.
func (c *Cache) kept(ctx context.Context, key string, before []string, s *Source, encode RowFunc, o Options) (*Set, error) {
	dir := filepath.Join(c.Dir, key)
	if set, err := OpenSet(dir, s.Files()); err == nil {
		now := time.Now()
		os.Chtimes(dir, now, now) // best effort: it says what was used last
		return set, nil
	} else if _, gone := os.Lstat(dir); gone == nil {
		c.Info(fmt.Sprintf("the tokenised rows in the cache are damaged and are made again (%v)", err))
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	if err := disk.MkdirAll(disk.OS{}, c.Dir); err != nil {
		return nil, err
	}
	if err := disk.CleanTemps(disk.OS{}, c.Dir); err != nil {
		return nil, err
	}
	if err := s.Build(ctx, dir, encode, o); err != nil {
		if set, none := OpenSet(dir, s.Files()); none == nil { // another process was first
			return set, nil
		}
		return nil, err
	}
	if after, err := s.state(); err != nil || !slices.Equal(before, after) {
		os.RemoveAll(dir)
		return nil, &unusable{errors.New("dataset: a file was changed while it was read; start again when it is complete")}
	}
	c.prune(key)
	return OpenSet(dir, s.Files())
}

// isOfDataset tells an error that another directory would not help against.
func isOfDataset(ctx context.Context, err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	return ctx.Err() != nil || !errors.As(err, &path) && !errors.As(err, &link)
}

// prune removes the entries that were not used for longest, all but some.
func (c *Cache) prune(keep string) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return
	}
	type used struct {
		name  string
		when  time.Time
		bytes int64
	}
	var list []used
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || len(e.Name()) != 2*sha256.Size {
			continue
		}
		u := used{e.Name(), info.ModTime(), 0}
		for _, name := range rowFiles {
			if f, err := os.Stat(filepath.Join(c.Dir, e.Name(), name)); err == nil {
				u.bytes += f.Size()
			}
		}
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b used) int { return cmp.Or(b.when.Compare(a.when), cmp.Compare(a.name, b.name)) })
	total := int64(0)
	for i, u := range list {
		if total += u.bytes; u.name != keep && (i >= cacheEntries || total > cacheBytes) {
			disk.RemoveDir(disk.OS{}, filepath.Join(c.Dir, u.name)) // best effort; another process may have it mapped
		}
	}
}

// key is the SHA-256 of everything that decides what the rows are: the bytes of the files, how they are read, the recipe,
// and this program, since another version may make other rows; one that cannot be read is as no other.
func (s *Source) key(ctx context.Context, recipe any, o *Options) (string, error) {
	type file struct{ SHA256, Kind, Compression string }
	var files [][]file
	s.sums = map[string]string{}
	for _, e := range s.entries {
		var list []file
		for _, path := range e.files {
			sum, err := hashFile(ctx, path)
			if err != nil {
				return "", err
			}
			kind, compression, _ := kindOf(path)
			s.sums[path] = sum
			list = append(list, file{sum, kind, compression})
		}
		files = append(files, list)
	}
	sampled := uint64(0)
	var samples []int
	for _, e := range s.entries {
		if samples = append(samples, e.sample); e.sample > 0 {
			sampled = s.spec.Seed
		}
	}
	limits := *o
	limits.Threads, limits.Progress = 0, nil
	b, err := json.Marshal(map[string]any{"row format": rowFormat, "program": cmp.Or(Program(), time.Now().String()), "files": files, "samples": samples, "seed": sampled, "format": s.spec.Format,
		"columns": sortedColumns(s.spec.Columns), "max_samples": s.spec.MaxSamples, "options": limits, "recipe": recipe})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// Program is the SHA-256 of the running program; "" where it cannot be read.
var Program = sync.OnceValue(func() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	sum, err := disk.HashFile(context.Background(), path, nil)
	if err != nil {
		return ""
	}
	return sum
})

// state is what changes when a file is written to.
func (s *Source) state() (out []string, err error) {
	for _, path := range s.Files() {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("dataset: %w", err)
		}
		out = append(out, fmt.Sprint(info.Size(), info.ModTime().UnixNano()))
	}
	return out, nil
}
