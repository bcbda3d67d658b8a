package safetensors

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func shard(t *testing.T, names ...string) []byte {
	t.Helper()
	var tensors []Tensor
	for _, name := range names {
		tensors = append(tensors, FromFloat32s(name, []int{1}, []float32{1}))
	}
	return write(t, tensors, map[string]string{"format": "pt"})
}

func TestOpenDirShards(t *testing.T) {
	f, err := OpenDir(filepath.Join(golden, "tiny-llama"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := len(f.Names()); n != 39 {
		t.Errorf("%d tensors", n)
	}
	if !slices.IsSorted(f.Names()) {
		t.Error("names are not sorted")
	}
	if f.Metadata()["format"] != "pt" {
		t.Errorf("metadata %v", f.Metadata())
	}
	tensor, ok := f.Tensor("model.layers.3.self_attn.k_proj.weight")
	if !ok || tensor.DType != BF16 || !slices.Equal(tensor.Shape, []int{32, 128}) || tensor.NumElements()*2 != len(tensor.Data) {
		t.Errorf("k_proj: %v %s %v, %d bytes", ok, tensor.DType, tensor.Shape, len(tensor.Data))
	}
	if _, ok := f.Tensor("model.layers.4.self_attn.k_proj.weight"); ok {
		t.Error("found a tensor that is not there")
	}
}

func TestOpenDirPrefersTheSingleFile(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, SingleFile), shard(t, "x"))
	put(t, filepath.Join(dir, IndexFile), []byte("not read"))
	f, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.Names(), []string{"x"}) {
		t.Errorf("names %v", f.Names())
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenDirEmpty(t *testing.T) {
	if _, err := OpenDir(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestOpenDirIndex(t *testing.T) {
	for what, c := range map[string]struct{ index, want string }{
		"whole":              {`{"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`, ""},
		"tensor not listed":  {`{"weight_map":{"a":"1.safetensors"},"x":2}`, ""},
		"tensor not there":   {`{"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"}}`, `"c" is in 2.safetensors, but it is not there`},
		"unlisted in shard":  {`{"weight_map":{"b":"2.safetensors","c":"3.safetensors"}}`, `"d" of 3.safetensors is not in weight_map`},
		"wrong shard":        {`{"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}`, "but weight_map says"},
		"same name in two":   {`{"weight_map":{"a":"1.safetensors","b":"4.safetensors"}}`, "is also in another shard"},
		"shard missing":      {`{"weight_map":{"a":"9.safetensors"}}`, "no such file"},
		"no map":             {`{"metadata":{}}`, "no weight_map"},
		"empty map":          {`{"weight_map":{}}`, "no weight_map"},
		"map twice":          {`{"weight_map":{"a":"1.safetensors"},"weight_map":{"a":"1.safetensors"}}`, "comes twice"},
		"name twice":         {`{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}`, "comes twice"},
		"not an object":      {`[]`, "belongs"},
		"cut off":            {`{"weight_map":{"a":"1.safe`, "EOF"},
		"deep":               {`{"metadata":` + strings.Repeat("[", 1_000_000), "depth"},
		"parent directory":   {`{"weight_map":{"a":"../1.safetensors"}}`, "not the name"},
		"subdirectory":       {`{"weight_map":{"a":"x/1.safetensors"}}`, "not the name"},
		"absolute":           {`{"weight_map":{"a":"/1.safetensors"}}`, "not the name"},
		"backslash":          {`{"weight_map":{"a":"..\\1.safetensors"}}`, "not the name"},
		"drive":              {`{"weight_map":{"a":"c:1.safetensors"}}`, "not the name"},
		"other kind of file": {`{"weight_map":{"a":"pytorch_model.bin"}}`, "not the name"},
		"hidden":             {`{"weight_map":{"a":".safetensors"}}`, "not the name"},
		"no name":            {`{"weight_map":{"a":""}}`, "not the name"},
		"NUL":                {`{"weight_map":{"a":"a\u0000.safetensors"}}`, "not the name"},
	} {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "1.safetensors"), shard(t, "a"))
		put(t, filepath.Join(dir, "2.safetensors"), shard(t, "b"))
		put(t, filepath.Join(dir, "3.safetensors"), shard(t, "c", "d"))
		put(t, filepath.Join(dir, "4.safetensors"), shard(t, "a", "b"))
		put(t, filepath.Join(dir, IndexFile), []byte(c.index))
		f, err := OpenDir(dir)
		switch {
		case err == nil && c.want == "":
			f.Close()
		case err == nil:
			f.Close()
			t.Errorf("%s: accepted", what)
		case c.want == "" || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: error %q does not say %q", what, err, c.want)
		}
	}
}

func TestOpenDirLinks(t *testing.T) {
	root := t.TempDir()
	link := func(target, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, name); err != nil {
			t.Skip("no symbolic links here: ", err)
		}
	}
	put(t, filepath.Join(root, "secret"), shard(t, "s"))
	repo := filepath.Join(root, "models--a--b")
	put(t, filepath.Join(repo, "blobs", "0123"), shard(t, "x"))
	snapshot := filepath.Join(repo, "snapshots", "c0ffee")
	link(filepath.Join("..", "..", "blobs", "0123"), filepath.Join(snapshot, SingleFile))
	put(t, filepath.Join(root, "blobs", "ab", "abcd"), shard(t, "x"))
	link(filepath.Join("..", "..", "blobs", "ab", "abcd"), filepath.Join(repo, "blobs", "abcd"))
	shared := filepath.Join(repo, "snapshots", "5ba4ed")
	link(filepath.Join("..", "..", "blobs", "abcd"), filepath.Join(shared, SingleFile))
	escaped := filepath.Join(repo, "snapshots", "bad")
	link(filepath.Join("..", "..", "..", "secret"), filepath.Join(escaped, SingleFile))
	plain := filepath.Join(root, "plain")
	link(filepath.Join("..", "secret"), filepath.Join(plain, SingleFile))
	within := filepath.Join(root, "within")
	put(t, filepath.Join(within, "weights"), shard(t, "w"))
	link("weights", filepath.Join(within, SingleFile))
	link(within, filepath.Join(root, "alias"))
	sharded := filepath.Join(root, "sharded")
	put(t, filepath.Join(sharded, IndexFile), []byte(`{"weight_map":{"s":"1.safetensors"}}`))
	link(filepath.Join("..", "secret"), filepath.Join(sharded, "1.safetensors"))

	for dir, ok := range map[string]bool{
		snapshot: true, shared: true, within: true, filepath.Join(root, "alias"): true,
		escaped: false, plain: false, sharded: false,
	} {
		f, err := OpenDir(dir)
		if err == nil {
			f.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: error %v, want success %v", dir, err, ok)
		}
		if !ok && err != nil && !strings.Contains(err.Error(), "outside the model's directory") {
			t.Errorf("%s: error %v", dir, err)
		}
	}
}

// What is missing is named, with what to do about it.
func TestOpenDirSaysWhatIsMissing(t *testing.T) {
	none, pickle, shards, loop := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	put(t, filepath.Join(pickle, "pytorch_model-00001-of-00002.bin"), nil)
	put(t, filepath.Join(shards, IndexFile), []byte(`{"weight_map":{"a":"1.safetensors"}}`))
	want := map[string]string{none: SingleFile, pickle: "pickle", shards: "download it again"}
	if os.Symlink(SingleFile, filepath.Join(loop, SingleFile)) == nil {
		want[loop] = filepath.Join(loop, SingleFile)
	}
	for dir, want := range want {
		if _, err := OpenDir(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		weightMap, err := parseIndex(text)
		if err == nil && len(weightMap) == 0 {
			t.Error("empty map accepted")
		}
		for _, name := range weightMap {
			if filepath.Base(name) != name {
				t.Errorf("%q accepted", name)
			}
		}
	})
}
