package main

import (
	"context"
	"fmt"
	"os"

	"cria/internal/hub"
	"cria/internal/recipe"
)

// directory turns what a user names for a model, an adapter or a dataset into a path: what exists here under that name, else
// a repository that is in a cache of a hub's client, else one that is fetched, with its progress on the terminal. source is
// the hub of names without hf: or ms:, empty for the environment's.
func (ui *ui) directory(ctx context.Context, name string, kind hub.Kind, source string) (string, error) {
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	env, err := hub.FromEnv(os.Getenv)
	if err != nil {
		return "", usageError{err}
	}
	if _, err := hub.ParseRef(name, kind, env.DefaultSource); err != nil {
		return "", fmt.Errorf("%q is neither a directory here nor a name on a hub (organisation/name); cria import makes a directory of a GGUF file", name)
	}
	bars := newPullBars(ui)
	defer bars.close()
	dir, err := hub.New(env).Dir(ctx, name, kind, hub.Source(source), hub.Options{Progress: bars.event})
	return dir, stoppedPull(ui, err)
}

// find is directory as train.Options.Find wants it.
func (ui *ui) find(r *recipe.Recipe) func(ctx context.Context, name, kind string) (string, error) {
	source := r.Source
	if source == "auto" {
		source = ""
	}
	return func(ctx context.Context, name, kind string) (string, error) {
		return ui.directory(ctx, name, hub.Kind(kind), source)
	}
}

// cached is directory without fetching, for commands that only look.
func (ui *ui) cached(name string) (string, error) {
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	env, err := hub.FromEnv(os.Getenv)
	if err != nil {
		return "", usageError{err}
	}
	ref, err := hub.ParseRef(name, hub.Model, env.DefaultSource)
	if err != nil {
		return name, nil // whoever opens it says what is wrong
	}
	if dir, ok := hub.New(env).Cached(ref); ok {
		return dir, nil
	}
	return "", fmt.Errorf("%q is neither a file or directory here nor a model in the cache; to fetch it: cria pull %s", name, name)
}
