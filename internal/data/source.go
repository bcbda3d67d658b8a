package data

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"cria/internal/torchrng"
)

// Spec says which rows a recipe takes, and how they are read.
type Spec struct {
	// Paths are read in this order. Each is a file, a glob, or a directory with files of one kind; with #N behind it, N of
	// its rows are drawn by Seed and kept in their order.
	Paths      []string
	Format     string            // one of Formats; "" or "auto": recognised, file by file
	Columns    map[string]string // role (see Roles) to the column that has it
	MaxSamples int               // at most so many rows, the first ones; 0: all
	Seed       uint64
}

// Source is a dataset that can be read, more than once.
type Source struct {
	spec    Spec
	entries []entry
	notes   []string
	sums    map[string]string // SHA-256 of files, of those that were asked for
}

// Open finds the files.
func Open(spec Spec) (*Source, error) {
	s := &Source{spec: spec}
	for _, p := range spec.Paths {
		e, notes, err := expand(p)
		if err != nil {
			return nil, err
		}
		s.entries, s.notes = append(s.entries, e), append(s.notes, notes...)
	}
	if len(s.entries) == 0 {
		return nil, errors.New("no dataset file was named")
	}
	return s, nil
}

// Notes are remarks for the user on what is read and what is not.
func (s *Source) Notes() []string { return s.notes }

// Files are the paths of all files, in the order in which they are read.
func (s *Source) Files() (paths []string) {
	for _, e := range s.entries {
		paths = append(paths, e.files...)
	}
	return paths
}

// errEnough ends the reading of a file early.
var errEnough = errors.New("enough")

// Each reads all rows, in order, and hands them on; it stops at the first error, which for a fault in a file is a
// *FormatError. The files that it returns have no hash.
func (s *Source) Each(ctx context.Context, f func(*Example) error) ([]File, error) {
	files, found, err := s.read(ctx, f)
	if err != nil {
		return files, err
	}
	for role, column := range s.spec.Columns {
		if !found[role] {
			return files, fmt.Errorf("dataset: columns names %q for %s, but no row was read that has a column of this name and a use for it", column, role)
		}
	}
	return files, nil
}

// read is Each without the last word on columns: found are the roles for which there was one.
func (s *Source) read(ctx context.Context, f func(*Example) error) (files []File, found map[string]bool, err error) {
	found = map[string]bool{}
	taken := 0
	for _, e := range s.entries {
		chosen, err := e.choose(ctx, s.spec.Seed)
		if err != nil {
			return files, found, err
		}
		row := 0 // of the entry
		for _, path := range e.files {
			files = append(files, File{Path: path, Columns: []string{}, Ignored: []string{}})
			file := &files[len(files)-1]
			r := reading{cells: cells{}}
			err := readRecords(ctx, path, func(c string) bool { return r.layout.wants(c) }, func(rec *record) error {
				row++
				if chosen != nil && !chosen[row-1] {
					return nil
				}
				if s.spec.MaxSamples > 0 && taken == s.spec.MaxSamples {
					return errEnough
				}
				if r.layout == nil {
					if r.layout, err = newLayout(rec, s.spec.Format, s.spec.Columns); err != nil {
						return err
					}
					r.rec = rec
				}
				ex, err := r.example()
				if err != nil {
					return err
				}
				taken++
				file.Rows++
				ex.file = len(files) - 1
				return f(&ex)
			})
			if r.layout != nil {
				for role := range r.found {
					found[role] = true
				}
				file.Format, file.Columns, file.Ignored = r.format, append(file.Columns, r.used...), append(file.Ignored, r.ignored...)
			}
			if err == errEnough {
				return files, found, nil
			}
			if err != nil {
				return files, found, err
			}
		}
	}
	return files, found, nil
}

// choose draws the rows of an entry with #N; nil means all.
func (e *entry) choose(ctx context.Context, seed uint64) ([]bool, error) {
	if e.sample == 0 {
		return nil, nil
	}
	n := 0
	for _, path := range e.files {
		if err := readRecords(ctx, path, func(string) bool { return false }, func(*record) error { n++; return nil }); err != nil {
			return nil, err
		}
	}
	if e.sample >= n {
		return nil, nil
	}
	chosen := make([]bool, n)
	for _, row := range torchrng.New(seed).Perm(n)[:e.sample] {
		chosen[row] = true
	}
	return chosen, nil
}

// readRecords hands on the rows of one file.
func readRecords(ctx context.Context, path string, wanted func(string) bool, each func(*record) error) error {
	kind, compression, _ := kindOf(path)
	if kind == "parquet" {
		if compression != "" {
			return fmt.Errorf("dataset: %s: a Parquet file is compressed inside: unpack it", path)
		}
		return readParquet(ctx, path, wanted, each)
	}
	before, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("dataset: %w", err)
	}
	if before.IsDir() {
		return fmt.Errorf("dataset: %s is a directory", path)
	}
	f, err := openFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n := 0
	checked := func(rec *record) error {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return each(rec)
	}
	switch kind {
	case "csv":
		return readCSV(f, path, ',', checked)
	case "tsv":
		return readCSV(f, path, '\t', checked)
	}
	return readJSONRows(f, path, wanted, checked)
}

// Dataset is what Read found: all examples in file order, and the files.
type Dataset struct {
	Examples []Example
	Files    []File
}

// Read reads whole files into memory, with the format of each recognised by its columns.
func Read(paths ...string) (*Dataset, error) {
	s, err := Open(Spec{Paths: paths})
	if err != nil {
		return nil, err
	}
	var d Dataset
	d.Files, err = s.Each(context.Background(), func(e *Example) error {
		d.Examples = append(d.Examples, *e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range d.Files {
		if d.Files[i].SHA256, err = hashFile(context.Background(), d.Files[i].Path); err != nil {
			return nil, err
		}
	}
	return &d, nil
}

// Split sets rows aside for evaluation: the share fraction of n, rounded up, drawn by seed. Both lists are in order, and
// neither is empty.
func Split(n int, fraction float64, seed uint64) (train, eval []int32, err error) {
	k := int(float64(n)*fraction + 0.999999)
	if k < 1 || k >= n {
		return nil, nil, fmt.Errorf("a share of %v of %d rows leaves nothing to train or to evaluate", fraction, n)
	}
	aside := make([]bool, n)
	for _, row := range torchrng.New(seed).Perm(n)[:k] {
		aside[row] = true
	}
	train, eval = make([]int32, 0, n-k), make([]int32, 0, k)
	for i, a := range aside {
		if a {
			eval = append(eval, int32(i))
		} else {
			train = append(train, int32(i))
		}
	}
	return train, eval, nil
}

// sortedColumns are the pairs of a map of columns, for a hash.
func sortedColumns(m map[string]string) (out []string) {
	for role, column := range m {
		out = append(out, role+"="+column)
	}
	slices.Sort(out)
	return out
}
