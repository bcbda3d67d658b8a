package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/hub"
	"cria/internal/hub/hubtest"
)

// pullHub is a hub with a model, a dataset and an environment that leads to it.
func pullHub(t *testing.T) (s *hubtest.Server, commit string) {
	t.Helper()
	s = hubtest.New()
	t.Cleanup(s.Close)
	commit = s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: map[string][]byte{
		"config.json": []byte("{}"), "tokenizer.json": []byte("{}"), "model.safetensors": make([]byte, 2<<20), "pytorch_model.bin": make([]byte, 1000), "onnx/x.json": []byte("{}"),
	}})
	s.Add(hubtest.Repo{Kind: "dataset", Name: "org/d", Files: map[string][]byte{"data/a.json": []byte("[]"), "x.py": []byte("import os")}})
	home := t.TempDir()
	for name, value := range map[string]string{"HOME": home, "HF_ENDPOINT": s.URL, "MODELSCOPE_ENDPOINT": s.URL, "HF_HUB_CACHE": filepath.Join(home, "hf"), "MODELSCOPE_CACHE": filepath.Join(home, "ms"),
		"HF_HOME": "", "HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "", "MODELSCOPE_API_TOKEN": "", "HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "", "CRIA_SOURCE": "", "USE_MODELSCOPE_HUB": ""} {
		t.Setenv(name, value)
	}
	return s, commit
}

func TestPull(t *testing.T) {
	s, commit := pullHub(t)
	dry := cria(t, "pull", "org/m", "--dry-run").ok(t)
	if !strings.Contains(dry.out, "model.safetensors") || strings.Contains(dry.out, "pytorch") || !strings.Contains(dry.err, "pytorch_model.bin") || !strings.Contains(dry.err, "2.0 MiB") {
		t.Errorf("--dry-run:\n%s%s", dry.out, dry.err)
	}
	if _, err := os.Stat(os.Getenv("HF_HUB_CACHE")); err == nil {
		t.Error("--dry-run writes")
	}
	first := cria(t, "pull", "org/m").ok(t)
	dir := strings.TrimSpace(first.out)
	if info, err := os.Stat(filepath.Join(dir, "model.safetensors")); err != nil || info.Size() != 2<<20 {
		t.Fatalf("%q: %v", dir, err)
	}
	var r pulled
	if err := json.Unmarshal([]byte(cria(t, "pull", "hf:org/m@"+commit, "--json").ok(t).out), &r); err != nil || r.Dir != dir || r.Commit != commit || len(r.Files) != 3 || r.Missing != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if out := cria(t, "pull", "org/m", "--source", "ms").ok(t).out; !strings.HasPrefix(out, os.Getenv("MODELSCOPE_CACHE")) {
		t.Error(out)
	}
	t.Setenv("CRIA_SOURCE", "ms")
	if out := cria(t, "pull", "--dataset", "org/d").ok(t).out; !strings.HasPrefix(out, filepath.Join(os.Getenv("MODELSCOPE_CACHE"), "datasets")) {
		t.Error(out)
	}
	to := filepath.Join(t.TempDir(), "plain")
	if out := cria(t, "pull", "hf:org/m", "--to", to, "--include", "*.json").ok(t).out; strings.TrimSpace(out) != to {
		t.Error(out)
	}
	if _, err := os.Stat(filepath.Join(to, "onnx", "x.json")); err != nil {
		t.Error(err)
	}
	t.Setenv("HF_HUB_OFFLINE", "1")
	n := len(s.Requests())
	if out := cria(t, "pull", "hf:org/m").ok(t).out; strings.TrimSpace(out) != dir {
		t.Error(out)
	}
	cria(t, "pull", "hf:org/other").fails(t, exitError, "HF_HUB_OFFLINE", "org/other")
	if len(s.Requests()) != n {
		t.Error("offline, and yet requests were made")
	}
}

func TestPullRefuses(t *testing.T) {
	pullHub(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "cria pull organisation/name"},
		{[]string{"gpt2"}, exitUsage, "organisation/name"},
		{[]string{"xx:org/m"}, exitUsage, "hf:"},
		{[]string{"org/m", "--source", "gh"}, exitUsage, "--source"},
		{[]string{"org/m@a", "--revision", "b"}, exitUsage, "twice"},
		{[]string{"org/m", "--all-files", "--include", "x"}, exitUsage, "exclude"},
		{[]string{"org/m", "--force"}, exitUsage, "--to"},
		{[]string{"org/m", "--revision", "v7"}, exitError, "v7"},
		{[]string{"org/m", "--include", "*.gguf"}, exitError, "none of the files"},
		{[]string{"org/none"}, exitError, "HF_TOKEN"},
	} {
		cria(t, append([]string{"pull"}, c.args...)...).fails(t, c.code, c.want)
	}
	t.Setenv("CRIA_SOURCE", "gh")
	cria(t, "pull", "org/m").fails(t, exitUsage, "CRIA_SOURCE")
}

func TestFilesWanted(t *testing.T) {
	want := filesWanted(pullFlags{include: []string{"*.json", "data/?.parquet", "a+b"}})
	for path, yes := range map[string]bool{"x.json": true, "a/b/x.json": true, "x.jsonl": false, "data/1.parquet": true, "data/12.parquet": false, "x/data/1.parquet": false, "a+b": true, "aab": false, "x/a+b": true} {
		if want(path) != yes {
			t.Errorf("%s: %v", path, !yes)
		}
	}
	if filesWanted(pullFlags{}) != nil || !filesWanted(pullFlags{all: true})("x.bin") {
		t.Error("wrong choice without patterns")
	}
}

// TestPullBars feeds the bars with what a pull tells of a file that is fetched twice: they neither block nor fail.
func TestPullBars(t *testing.T) {
	var out strings.Builder
	u := newUI(nil, &out, &out)
	u.tty = true
	b := newPullBars(u)
	b.event(hub.Event{File: "a", Done: 3 << 20, Size: 3 << 20, Checking: true})
	b.start(5 << 20)
	for _, e := range []hub.Event{{File: "a", Done: 1 << 20, Size: 3 << 20}, {File: "a", Done: 3 << 20, Size: 3 << 20}, {File: "a", Done: 1 << 20, Size: 3 << 20, Checking: true},
		{Note: "again"}, {File: "a", Done: 0, Size: 3 << 20}, {File: "b", Done: 100, Size: 100}, {File: "empty"}, {File: "a", Done: 3 << 20, Size: 3 << 20}, {File: "a", Done: 3 << 20, Size: 3 << 20, Checking: true}} {
		b.event(e)
	}
	b.close()
}
