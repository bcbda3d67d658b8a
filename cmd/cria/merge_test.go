package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMergeAndExport(t *testing.T) {
	adapter := golden + "tiny/adapter"
	dir := t.TempDir()
	merged := filepath.Join(dir, "merged")
	r := cria(t, "merge", "--adapter", adapter, "--model", tiny, "--output", merged).ok(t)
	for _, want := range []string{"compared with those of training: equal", "does not record on which weights", "cria chat"} {
		if !strings.Contains(r.out+r.err, want) {
			t.Errorf("cria merge does not say %q:\n%s\n%s", want, r.out, r.err)
		}
	}
	for _, c := range []struct {
		args []string
		file string
		want exported
	}{
		{[]string{"--adapter", adapter, "--model", tiny, "--format", "hf"}, "hf", exported{Format: "hf"}},
		{[]string{"--model", merged, "--type", "q4_k_m"}, "a.gguf", exported{Format: "gguf", Type: "Q4_K_M"}},
		{[]string{"--adapter", adapter, "--model", tiny, "--format", "gguf-adapter"}, "lora.gguf", exported{Format: "gguf-adapter"}},
		{[]string{"--model", merged, "--format", "ollama", "--type", "Q8_0", "--name", "mine"}, "ollama", exported{Format: "ollama", Type: "Q8_0"}},
	} {
		out := filepath.Join(dir, c.file)
		r := cria(t, append([]string{"export", "--json", "-o", out}, c.args...)...).ok(t)
		var got exported
		if err := json.Unmarshal([]byte(r.out), &got); err != nil {
			t.Fatalf("%v: %s", err, r.out)
		}
		if got.Output != out || got.Format != c.want.Format || got.Type != c.want.Type || got.Bytes < 1000 || got.BaseChecked {
			t.Errorf("%v: %+v", c.args, got)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ollama", "mine.gguf")); err != nil {
		t.Error(err)
	}
	cria(t, "generate", filepath.Join(dir, "hf"), "--prompt", "hi", "--max-new-tokens", "2").ok(t)

	none := filepath.Join(dir, "none")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"merge", "-o", none}, exitUsage, "name the adapter"},
		{[]string{"merge", adapter, none}, exitUsage, "is not a flag"},
		{[]string{"merge", "--adapter", adapter, "--model", tiny}, exitUsage, "--output"},
		{[]string{"merge", "--adapter", adapter, "--model", tiny, "-o", merged}, exitUsage, "exists already"},
		{[]string{"merge", "--adapter", adapter, "-o", none}, exitUsage, `names "g/tiny-llama" as its base model`},
		{[]string{"merge", "--adapter", tiny, "-o", none}, exitError, "is not an adapter directory"},
		{[]string{"merge", "--adapter", adapter, "--model", adapter, "-o", none}, exitError, "is an adapter, not a model"},
		{[]string{"export", "-o", none}, exitUsage, "--adapter DIR or --model DIR"},
		{[]string{"export", "--model", tiny, "--format", "onnx", "-o", none}, exitUsage, "one of hf, gguf"},
		{[]string{"export", "--model", tiny, "--format", "hf", "-o", none}, exitUsage, "needs an adapter"},
		{[]string{"export", "--model", tiny, "--type", "Q3_K", "-o", none}, exitUsage, "one of [F32 F16"},
		{[]string{"export", "--model", tiny, "--adapter", adapter, "--format", "gguf-adapter", "--type", "F16", "-o", none}, exitUsage, "has none"},
	} {
		cria(t, c.args...).fails(t, c.code, c.want)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a refused command wrote something")
	}
}
