package safetensors

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/mmap"
)

// Names of a model's weights in a Hugging Face directory.
const (
	SingleFile = "model.safetensors"
	IndexFile  = "model.safetensors.index.json"
)

// maxIndex limits the index file: 1 MB describes about 10,000 tensors.
const maxIndex = 64 << 20

// File is an open safetensors file, or all shards of a sharded model.
type File struct {
	maps     []*mmap.File
	tensors  map[string]Tensor
	names    []string
	metadata map[string]string
}

// Open maps the file at path and checks its header.
func Open(path string) (*File, error) {
	f := &File{tensors: map[string]Tensor{}, metadata: map[string]string{}}
	if _, err := f.add(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	f.names = slices.Sorted(maps.Keys(f.tensors))
	return f, nil
}

// OpenDir opens the weights of a model directory: model.safetensors, or where
// there is none the shards that model.safetensors.index.json lists. The index's
// weight_map must name every tensor of every shard, and nothing else. Metadata
// of shards is merged, the later file winning.
//
// Shards must lie in dir itself. A symbolic link may not leave dir, with one
// exception: in the hub caches' layout, where dir is
// models--org--name/snapshots/<commit>, it may point into
// models--org--name/blobs or into the blobs beside models--org--name.
func OpenDir(dir string) (*File, error) {
	single := filepath.Join(dir, SingleFile)
	_, err := os.Lstat(single)
	switch {
	case err == nil:
		if err := checkInside(dir, SingleFile); err != nil {
			return nil, err
		}
		return Open(single)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	weightMap, err := readIndex(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds neither %s nor %s: %w%s", dir, SingleFile, IndexFile, fs.ErrNotExist, pickled(dir))
	}
	if err != nil {
		return nil, err
	}
	f := &File{tensors: map[string]Tensor{}, metadata: map[string]string{}}
	if err := f.addShards(dir, weightMap); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	f.names = slices.Sorted(maps.Keys(f.tensors))
	return f, nil
}

func (f *File) addShards(dir string, weightMap map[string]string) error {
	for _, shard := range slices.Compact(slices.Sorted(maps.Values(weightMap))) {
		if err := checkInside(dir, shard); err != nil {
			return err
		}
		names, err := f.add(filepath.Join(dir, shard))
		if err != nil {
			return err
		}
		for _, name := range names {
			switch listed, ok := weightMap[name]; {
			case !ok:
				return fmt.Errorf("%s: tensor %q of %s is not in weight_map", filepath.Join(dir, IndexFile), name, shard)
			case listed != shard:
				return fmt.Errorf("%s: tensor %q is in %s, but weight_map says %s", filepath.Join(dir, IndexFile), name, shard, listed)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(weightMap)) {
		if _, ok := f.tensors[name]; !ok {
			return fmt.Errorf("%s: weight_map says that tensor %q is in %s, but it is not there", filepath.Join(dir, IndexFile), name, weightMap[name])
		}
	}
	return nil
}

// add maps one file and returns the names of its tensors.
func (f *File) add(path string) ([]string, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, err
	}
	f.maps = append(f.maps, m)
	tensors, metadata, err := parse(m.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	maps.Copy(f.metadata, metadata)
	names := make([]string, len(tensors))
	for i, t := range tensors {
		if _, ok := f.tensors[t.Name]; ok {
			return nil, fmt.Errorf("%s: tensor %q is also in another shard", path, t.Name)
		}
		f.tensors[t.Name] = t
		names[i] = t.Name
	}
	return names, nil
}

// readIndex returns the weight_map of dir's index.
func readIndex(dir string) (map[string]string, error) {
	if _, err := os.Lstat(filepath.Join(dir, IndexFile)); err != nil {
		return nil, err
	}
	if err := checkInside(dir, IndexFile); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, IndexFile)
	m, err := mmap.Open(path)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if n := len(m.Bytes()); n > maxIndex {
		return nil, fmt.Errorf("%s: %d bytes are over the limit of %d", path, n, maxIndex)
	}
	weightMap, err := parseIndex(m.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return weightMap, nil
}

func parseIndex(text []byte) (map[string]string, error) {
	d, err := newDecoder(text)
	if err != nil {
		return nil, err
	}
	var weightMap map[string]string
	err = d.object(func(key string) error {
		if key != "weight_map" {
			var ignored any
			return d.Decode(&ignored)
		}
		weightMap = map[string]string{}
		return d.object(func(name string) error {
			shard, err := d.string()
			if err != nil {
				return err
			}
			if !localName(shard) {
				return fmt.Errorf("weight_map: %q is not the name of a safetensors file in the model's directory", shard)
			}
			weightMap[name] = shard
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if len(weightMap) == 0 {
		return nil, errors.New("no weight_map in it")
	}
	return weightMap, d.finish()
}

// pickled says what to do where a model has its weights in PyTorch's own format only.
func pickled(dir string) string {
	entries, _ := os.ReadDir(dir)
	if !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return strings.HasPrefix(e.Name(), "pytorch_model") && strings.HasSuffix(e.Name(), ".bin")
	}) {
		return ""
	}
	return "; the weights are in pickle files, which can run code when they are read, so cria does not read them: save them as safetensors"
}

// localName reports whether name is a plain safetensors file name, on every
// operating system (no separator, no drive, no device, no hidden file).
func localName(name string) bool {
	return strings.HasSuffix(name, ".safetensors") && name[0] != '.' &&
		!strings.ContainsAny(name, `/\:*?"<>|`) && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) &&
		filepath.IsLocal(name)
}

// checkInside follows the links of dir/name and says whether the file may be
// read; OpenDir has the rule.
func checkInside(dir, name string) error {
	path := filepath.Join(dir, name)
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; a part of the model is missing, download it again", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	home, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if home, err = filepath.Abs(home); err != nil {
		return err
	}
	if real, err = filepath.Abs(real); err != nil {
		return err
	}
	if inside(home, real) {
		return nil
	}
	if snapshots := filepath.Dir(home); filepath.Base(snapshots) == "snapshots" {
		repository := filepath.Dir(snapshots)
		for _, blobs := range []string{filepath.Join(repository, "blobs"), filepath.Join(filepath.Dir(repository), "blobs")} {
			if inside(blobs, real) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s is a link to %s, outside the model's directory: copy the file or name its real directory", path, real)
}

func inside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// Tensor returns the tensor of that name; its Data is valid until Close.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Names lists the tensors in alphabetical order. The caller must not change it.
func (f *File) Names() []string { return f.names }

// Metadata is the header's __metadata__. The caller must not change it.
func (f *File) Metadata() map[string]string { return f.metadata }

// Close removes the mappings; no tensor's Data may be used afterwards.
func (f *File) Close() error {
	var errs []error
	for _, m := range f.maps {
		errs = append(errs, m.Close())
	}
	f.maps, f.tensors, f.names = nil, nil, nil
	return errors.Join(errs...)
}
