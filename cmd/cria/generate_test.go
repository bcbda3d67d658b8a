package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A model whose generation_config.json says do_sample: false answers greedily unless a flag asks for sampling.
func TestGenerationConfigDecides(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	ids := func(args ...string) []int {
		var r struct{ IDs []int }
		cria(t, append([]string{"generate", dir, "--input-ids", "2042,100,101,102", "--max-new-tokens", "24", "--json"}, args...)...).ok(t).parse(t, &r)
		return r.IDs
	}
	greedy := ids("--greedy")
	for _, test := range []struct {
		config string
		args   []string
		greedy bool
	}{
		{`{}`, []string{"--seed", "1"}, false},
		{`{"do_sample": true}`, []string{"--seed", "1"}, false},
		{`{"do_sample": false}`, nil, true},
		{`{"do_sample": false}`, []string{"--temperature", "2"}, false},
		{`{"do_sample": false}`, []string{"--top-k", "0"}, false},
		{`{"do_sample": true, "temperature": 0}`, nil, true},
	} {
		if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(test.config), 0o644); err != nil {
			t.Fatal(err)
		}
		same := true
		for n := 0; same && n < 20; n++ { // a random reply may be the greedy one
			same = slices.Equal(ids(test.args...), greedy)
		}
		if same != test.greedy {
			t.Errorf("%s %v: the greedy reply %v", test.config, test.args, same)
		}
	}
}
