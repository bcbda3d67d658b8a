package hub

import (
	"fmt"
	"path/filepath"
	"testing"
)

// Both caches are listed, without what is not whole, is of the other kind, or has a name that no repository has.
func TestRepositories(t *testing.T) {
	env := Env{HFCache: t.TempDir(), MSCache: t.TempDir()}
	model := map[string][]byte{"config.json": []byte("{}"), "tokenizer.json": []byte("{}"), "model.safetensors": []byte("x")}
	commit := filepath.Join("snapshots", someCommit)
	for _, name := range []string{"models--org--b", "models--org--a-b.c", "models--nameless", "datasets--org--d"} {
		write(t, filepath.Join(env.HFCache, name, commit), model)
		write(t, filepath.Join(env.HFCache, name, "refs"), map[string][]byte{"main": []byte(someCommit)})
	}
	write(t, filepath.Join(env.HFCache, "models--org--half", commit), map[string][]byte{"config.json": []byte("{}")})
	write(t, filepath.Join(env.HFCache, "models--org--half", "refs"), map[string][]byte{"main": []byte(someCommit)})
	write(t, filepath.Join(env.MSCache, "models", "org--m", "snapshots", "master"), model)
	write(t, filepath.Join(env.MSCache, "models", "org"), model) // an older client's
	if got, want := fmt.Sprint(New(env).Repositories(Model)), "[hf:org/a-b.c hf:org/b ms:org/m]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := New(Env{HFCache: filepath.Join(env.HFCache, "none")}).Repositories(Model); got != nil {
		t.Errorf("%v", got)
	}
}
