package disk_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/disk"
)

// published makes a whole directory on the real file system.
func published(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkpoint-7")
	if err := disk.PublishDir(disk.OS{}, dir, fill(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Verify(disk.OS{}, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyNamesTheDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string) error
		kind   error
		file   string
	}{
		"missing": {func(t *testing.T, d string) error { return os.Remove(filepath.Join(d, "config.json")) }, disk.ErrMissing, "config.json"},
		"short":   {func(t *testing.T, d string) error { return os.Truncate(filepath.Join(d, "model.safetensors"), 2102) }, disk.ErrShort, "model.safetensors"},
		"long":    {func(t *testing.T, d string) error { return os.Truncate(filepath.Join(d, "config.json"), 6) }, disk.ErrAltered, "config.json"},
		"altered": {func(t *testing.T, d string) error {
			write(t, filepath.Join(d, "config.json"), []byte("12345"))
			return nil
		}, disk.ErrAltered, "config.json"},
		"extra":       {func(t *testing.T, d string) error { write(t, filepath.Join(d, "notes.txt"), nil); return nil }, disk.ErrExtra, "notes.txt"},
		"extra dir":   {func(t *testing.T, d string) error { return os.Mkdir(filepath.Join(d, "notes"), 0o777) }, disk.ErrExtra, "notes"},
		"torn":        {func(t *testing.T, d string) error { return os.Truncate(filepath.Join(d, disk.ManifestName), 100) }, disk.ErrManifest, disk.ManifestName},
		"empty":       {func(t *testing.T, d string) error { return os.Truncate(filepath.Join(d, disk.ManifestName), 0) }, disk.ErrManifest, disk.ManifestName},
		"no manifest": {func(t *testing.T, d string) error { return os.Remove(filepath.Join(d, disk.ManifestName)) }, disk.ErrNoManifest, ""},
		"a link": {func(t *testing.T, d string) error {
			path := filepath.Join(d, "config.json")
			return errors.Join(os.Rename(path, d+".config"), os.Symlink(d+".config", path))
		}, disk.ErrAltered, "config.json"},
		"a directory": {func(t *testing.T, d string) error {
			path := filepath.Join(d, "config.json")
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o777))
		}, disk.ErrAltered, "config.json"},
		"huge manifest": {func(t *testing.T, d string) error { return os.Truncate(filepath.Join(d, disk.ManifestName), 1<<30) }, disk.ErrManifest, disk.ManifestName},
	} {
		t.Run(name, func(t *testing.T) {
			dir := published(t)
			if err := c.damage(t, dir); err != nil {
				t.Fatal(err)
			}
			m, err := disk.Verify(disk.OS{}, dir)
			var damage *disk.VerifyError
			if !errors.As(err, &damage) || !errors.Is(err, c.kind) || damage.File != c.file || damage.Dir != dir {
				t.Fatalf("error %v; want %v of %q", err, c.kind, c.file)
			}
			if !strings.Contains(err.Error(), dir) || (m != nil) != (c.kind == disk.ErrExtra) {
				t.Fatalf("error %v, manifest %v", err, m)
			}
		})
	}
	if _, err := disk.Verify(disk.OS{}, filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("no directory: %v", err)
	}
}

// TestVerifyFindsEveryBit flips each bit of the manifest, 1,000 random bits of the files, and cuts each file at each length.
func TestVerifyFindsEveryBit(t *testing.T) {
	dir := published(t)
	found, tried := 0, 0
	try := func(file string, b []byte) {
		write(t, filepath.Join(dir, file), b)
		_, err := disk.Verify(disk.OS{}, dir)
		tried++
		var damage *disk.VerifyError
		if errors.As(err, &damage) && damage.File == file {
			found++
		} else {
			t.Errorf("%s: %d bytes: %v", file, len(b), err)
		}
	}
	flip := func(file string, whole []byte, bit int) {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		try(file, b)
	}

	manifest := read(t, filepath.Join(dir, disk.ManifestName))
	for bit := range 8 * len(manifest) {
		flip(disk.ManifestName, manifest, bit)
	}
	for n := range manifest {
		try(disk.ManifestName, manifest[:n])
	}
	try(disk.ManifestName, append(bytes.Clone(manifest), '\n'))
	write(t, filepath.Join(dir, disk.ManifestName), manifest)

	rng := rand.New(rand.NewPCG(1, 2))
	for _, file := range []string{"model.safetensors", "config.json"} {
		whole := read(t, filepath.Join(dir, file))
		for range 500 {
			flip(file, whole, rng.IntN(8*len(whole)))
		}
		for n := 0; n < len(whole); n += 1 + len(whole)/100 {
			try(file, whole[:n])
		}
		write(t, filepath.Join(dir, file), whole)
	}
	if _, err := disk.Verify(disk.OS{}, dir); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d damages found and named", found, tried)
}

func TestVerifyReportsReadErrors(t *testing.T) {
	s := scenarios[2]
	whole := s.start(t)
	whole.Inject(0, nil, false)
	if _, err := disk.Verify(whole, dst); err != nil {
		t.Fatal(err)
	}
	for k := range whole.Ops() {
		f := s.start(t)
		f.Inject(k+1, io.ErrNoProgress, false)
		_, err := disk.Verify(f, dst)
		var damage *disk.VerifyError
		if errors.As(err, &damage) {
			t.Errorf("operation %d: a read error became damage: %v", k+1, err)
		}
		if !errors.Is(err, io.ErrNoProgress) && err != nil {
			t.Errorf("operation %d: %v", k+1, err)
		}
	}
}

// FuzzVerify reads arbitrary manifests: an error or a manifest, and no crash.
func FuzzVerify(f *testing.F) {
	base := scenarios[2]
	f.Add([]byte(nil))
	f.Add([]byte(`{"format": "cria directory", "version": 1, "files": [{"name": "../x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := base.start(t)
		path := dst + "/" + disk.ManifestName
		if err := mem.Remove(path); err != nil {
			t.Fatal(err)
		}
		file, err := mem.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		file.Write(b)
		if m, err := disk.Verify(mem, dst); err == nil {
			t.Fatalf("a manifest that was not written here is whole: %+v", m)
		}
	})
}

func TestValidName(t *testing.T) {
	good := []string{"a", "adapter_model.safetensors", "0", "A-1_b.c", "checkpoint-100", "console", "com", "com10", "nul-1", strings.Repeat("a", 96)}
	bad := []string{"", ".", "..", ".hidden", "-rf", "_x", "a/b", `a\b`, "/a", "a..b", "a.", "c:", "a b", "a\x00b", "a\n", "é", "名", "con", "CON.txt",
		"nul", "Aux.tar.gz", "com1", "lpt9.x", "~a", "a*", "a?", "a\u202eb", "%2e%2e", strings.Repeat("a", 97)}
	for _, n := range good {
		if err := disk.ValidName(n); err != nil {
			t.Errorf("%q: %v", n, err)
		}
	}
	for _, n := range bad {
		if err := disk.ValidName(n); err == nil {
			t.Errorf("%q is valid", n)
		}
	}
}
