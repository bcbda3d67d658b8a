package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestMatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[1]")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b.safetensors", "a.safetensors", "a.json", "checkpoint-3"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, want := range map[string][]string{"*.safetensors": {"a.safetensors", "b.safetensors"}, "checkpoint-*": {"checkpoint-3"}, "a.json": {"a.json"}, "x*": nil} {
		for i := range want {
			want[i] = filepath.Join(dir, want[i])
		}
		if got := Match(dir, pattern); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", pattern, got, want)
		}
	}
	if got := Match(filepath.Join(dir, "none"), "*"); got != nil {
		t.Error(got)
	}
}
