package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/train"
)

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	cria(t, "train", job(t, dir, "sample_max_new_tokens: 0\n")).ok(t)
	out := filepath.Join(dir, "out")
	before := tree(t, out)
	if got := cria(t, "verify", out).ok(t).out; !strings.Contains(got, "the same, every byte") || !strings.Contains(got, "after step 6 of 6") {
		t.Error(got)
	}
	if got := cria(t, "verify", filepath.Join(out, "checkpoint-3"), "threads=1").ok(t).out; !strings.Contains(got, "after step 3 of 6") {
		t.Error(got)
	}
	var v train.Verification
	cria(t, "verify", out, "--inputs", "--json").ok(t).parse(t, &v)
	if v.Trained || len(v.Inputs) != 0 || v.Step != 6 || v.Was.Machine.Kernels != v.Is.Machine.Kernels {
		t.Errorf("%+v", v)
	}
	if r := cria(t, "verify", out, "seed=43"); r.code != exitError || !strings.Contains(r.out, "seed: was 42, is 43") || !strings.Contains(r.err, "was made of something else") {
		t.Errorf("%d\n%s%s", r.code, r.out, r.err)
	}
	sameTree(t, out, before)

	path := filepath.Join(out, "adapter_model.safetensors")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-3] ^= 1
	write(t, path, string(b))
	if r := cria(t, "verify", out); r.code != exitError || !strings.Contains(r.out, "1 of 24 tensors differ") || !strings.Contains(r.err, "not what its run makes") {
		t.Errorf("%d\n%s%s", r.code, r.out, r.err)
	}

	cria(t, "verify").fails(t, exitUsage, "cria verify DIR")
	cria(t, "verify", out, "another").fails(t, exitUsage, "neither a flag nor key=value")
	cria(t, "verify", dir).fails(t, exitError, "has no run.json")
	cria(t, "verify", out, "learning_rte=1").fails(t, exitUsage, "learning_rte")
}
