package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newerAdapter is the golden adapter as peft 0.18 would have written it.
func newerAdapter(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, change := range map[string]func(string) string{
		"adapter_config.json": func(s string) string {
			return strings.Replace(s, "{", `{"eva_config": null, "peft_version": "0.18.0",`, 1)
		},
		"adapter_model.safetensors": func(s string) string { return s },
	} {
		b, err := os.ReadFile(golden + "tiny/adapter/" + name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), change(string(b)))
	}
	return dir
}

func TestDoctorAdapter(t *testing.T) {
	r := cria(t, "doctor", "adapter", golden+"tiny/adapter", "--model", tiny).ok(t)
	for _, want := range []string{"peft 0.11.1    takes it", "vLLM           takes it", "llama.cpp      takes it", "compared with " + tiny, "28 modules", "chat template: the base's"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("standard output lacks %q:\n%s", want, r.out)
		}
	}

	dir := newerAdapter(t)
	before := tree(t, dir)
	r = cria(t, "doctor", "adapter", dir)
	if r.code != exitError || !strings.Contains(r.out, "does not know eva_config, peft_version") || !strings.Contains(r.err, "cria doctor adapter "+dir+" --fix OUT") {
		t.Errorf("exit code %d\n%s\n%s", r.code, r.out, r.err)
	}
	out := filepath.Join(t.TempDir(), "out")
	var e struct {
		Path  string
		Taken bool
		Fixed struct {
			Path     string
			Verdicts []struct{ Program, Answer string }
		}
	}
	cria(t, "doctor", "adapter", dir, "--fix", out, "--json").parse(t, &e)
	if e.Path != dir || e.Taken || e.Fixed.Path != out || len(e.Fixed.Verdicts) != 4 || e.Fixed.Verdicts[0].Answer != "takes it" {
		t.Errorf("%+v", e)
	}
	sameTree(t, dir, before)
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors"} {
		a, err := os.ReadFile(filepath.Join(out, name))
		want, err2 := os.ReadFile(golden + "tiny/adapter/" + name)
		if err != nil || err2 != nil || string(a) != string(want) {
			t.Errorf("%s is not the golden one: %v, %v", name, err, err2)
		}
	}
	cria(t, "generate", tiny, "--adapter", out, "--prompt", "hi", "--max-new-tokens", "2").ok(t)

	cria(t, "doctor", "adapter", dir, "--fix", out).fails(t, exitError, "exists")
	cria(t, "doctor", "adapter", dir, "--fix", filepath.Join(dir, "x")).fails(t, exitError, "not altered")
	cria(t, "doctor", "adapter").fails(t, exitUsage, "name one adapter")
	cria(t, "doctor", "adapter", dir, dir).fails(t, exitUsage, "name one adapter")
	cria(t, "doctor", "adapter", tiny).fails(t, exitError, "is not an adapter directory")
	cria(t, "doctor", "nonsense").fails(t, exitUsage, "cria doctor adapter DIR")
	sameTree(t, dir, before)
}

// TestMLXAdapter: commands that take --adapter take MLX's.
func TestMLXAdapter(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "adapter_config.json"), `{"fine_tune_type": "dora", "lora_parameters": {"rank": 8, "scale": 4.0}, "model": "`+tiny+`"}`)
	cria(t, "generate", tiny, "--adapter", dir, "--prompt", "hi").fails(t, exitError, `fine_tune_type is "dora"`)
	cria(t, "merge", "--adapter", dir, "--output", filepath.Join(dir, "x")).fails(t, exitError, "DoRA")
}
