package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	golden = "../../testdata/golden/"
	tiny   = golden + "tiny-llama"
)

// result is what one command line did.
type result struct {
	code     int
	out, err string
}

// cria runs a command line without a terminal.
func cria(t testing.TB, args ...string) result {
	t.Helper()
	return criaWith(t, "", args...)
}

func criaWith(t testing.TB, in string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(args, strings.NewReader(in), &out, &errOut)
	r := result{code, out.String(), errOut.String()}
	if strings.Contains(r.out+r.err, "\x1b") {
		t.Errorf("cria %v writes escape sequences without a terminal:\n%q", args, r.out+r.err)
	}
	if strings.Contains(r.err, "internal error") {
		t.Errorf("cria %v: %s", args, r.err)
	}
	return r
}

// ok fails the test unless the command succeeded.
func (r result) ok(t testing.TB) result {
	t.Helper()
	if r.code != exitOK {
		t.Fatalf("exit code %d\n%s", r.code, r.err)
	}
	return r
}

// fails tests exit code and message of a command that was refused: nothing on standard output, every word of want on
// standard error.
func (r result) fails(t testing.TB, code int, want ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s", r.code, code, r.err)
	}
	if r.out != "" {
		t.Errorf("standard output has %q", r.out)
	}
	if !strings.HasPrefix(r.err, "error: ") && !strings.Contains(r.err, "\nerror: ") {
		t.Errorf("standard error has no error: %s", r.err)
	}
	for _, w := range want {
		if !strings.Contains(r.err, w) {
			t.Errorf("standard error lacks %q:\n%s", w, r.err)
		}
	}
}

// parse reads standard output as one JSON document.
func (r result) parse(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.ok(t).out), v); err != nil {
		t.Fatalf("standard output is not JSON: %v\n%s", err, r.out)
	}
}

// tree is the content of a directory: every name with its type and hash.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		m[path] = d.Type().String()
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			m[path] += fmt.Sprintf(" %x", sha256.Sum256(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sameTree fails the test if dir is no longer what it was.
func sameTree(t testing.TB, dir string, before map[string]string) {
	t.Helper()
	after := tree(t, dir)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if before[name] != after[name] {
			t.Errorf("%s was made or changed", name)
		}
	}
	for name := range before {
		if after[name] == "" {
			t.Errorf("%s was removed", name)
		}
	}
}

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func loadJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func TestHelp(t *testing.T) {
	root := newRoot(newUI(nil, nil, nil))
	for _, c := range root.Commands() {
		if !c.Runnable() {
			continue
		}
		r := cria(t, c.Name(), "--help").ok(t)
		if r.err != "" {
			t.Errorf("cria %s --help writes to standard error: %s", c.Name(), r.err)
		}
		if !strings.Contains(r.out, "Usage:") {
			t.Errorf("cria %s --help has no usage:\n%s", c.Name(), r.out)
		}
		if !strings.Contains(r.out, "Examples:\n  cria "+c.Name()) {
			t.Errorf("cria %s --help has no examples:\n%s", c.Name(), r.out)
		}
	}
	if r := cria(t).ok(t); !strings.Contains(r.out, "Available Commands:") {
		t.Errorf("cria alone says\n%s", r.out)
	}
	if r := cria(t, "completion", "bash").ok(t); !strings.Contains(r.out, "cria") {
		t.Error("cria completion bash writes nothing")
	}
	if r := cria(t, "--version").ok(t); !strings.HasPrefix(r.out, "cria version ") {
		t.Errorf("cria --version says %q", r.out)
	}
}

func TestWrongCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"trian"}, []string{`unknown command "trian"`, "train"}},
		{[]string{"frobnicate"}, []string{`unknown command "frobnicate"`}},
		{[]string{"generate", "--nonsense"}, []string{"--nonsense"}},
		{[]string{"generate", tiny}, []string{"--prompt", "--input-ids"}},
		{[]string{"generate", "--input-ids", "1"}, []string{"name the model, its directory or its name on a hub"}},
		{[]string{"generate", tiny, tiny + "/", "--input-ids", "1"}, []string{"two models", tiny}},
		{[]string{"generate", tiny, "--input-ids", "1,x"}, []string{`"x" is not a token id`}},
		{[]string{"generate", tiny, "--input-ids", "1", "compute_dtype=int8"}, []string{"int8", "bfloat16"}},
		{[]string{"generate", tiny, "--input-ids", "1", "temperature=0"}, []string{"--greedy"}},
		{[]string{"train", "-x"}, []string{"unknown flag -x"}},
		{[]string{"train", "--learning_rate"}, []string{"--learning_rate needs a value"}},
		{[]string{"train", "a.yaml", "b.yaml"}, []string{"two recipes"}},
		{[]string{"train"}, []string{"model", "dataset"}},
		{[]string{"import", "x.gguf"}, []string{"FILE.gguf DIR"}},
		{[]string{"inspect"}, []string{"cria inspect PATH"}},
		{[]string{"inspect", "a", "b"}, []string{"cria inspect PATH"}},
		{[]string{"tokenize"}, []string{"cria tokenize DIR"}},
		{[]string{"tokenize", tiny, "text", "--decode", "1"}, []string{"either TEXT or --decode"}},
		{[]string{"tokenize", tiny, "--decode", "1,,2"}, []string{"--decode"}},
		{[]string{"tokenize", tiny, "--decode", "2048"}, []string{"no token 2048", "2047"}},
		{[]string{"doctor", "now"}, []string{"now"}},
		{[]string{"demo", "learning_rate"}, []string{"key=value"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			cria(t, c.args...).fails(t, exitUsage, c.want...)
		})
	}
}
