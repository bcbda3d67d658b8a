package starter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cria/internal/data"
	"cria/internal/hub"
	"cria/internal/inspect"
	"cria/internal/tokenizer"
)

// Model is what a user named as the model to train.
type Model struct {
	Name string // as the recipe names it
	Dir  string // where it lies; "": not here yet
	GGUF string // the file of which cria import must make the directory Name first; ""
	Pull bool   // it is on a hub and not in a cache

	Architecture string // ""; not known, as the numbers below are 0
	Parameters   int64
	Layers       int
	Window       int   // tokens of context
	Template     known // whether it has a chat template

	tok *tokenizer.Tokenizer // nil where Dir is ""
}

// known is yes or no, where that is known.
type known int

const (
	unknown known = iota
	no
	yes
)

func knownAs(b bool) known {
	if b {
		return yes
	}
	return no
}

// LookAtModel finds out what name is: a directory in Hugging Face's layout, a GGUF file, or a repository of a hub, of which
// only the caches are asked. A path that is something else, a model that cria cannot train and a name that no hub could have
// are errors.
func LookAtModel(ctx context.Context, name string) (*Model, error) {
	if name == "" {
		return nil, errors.New("a model must be named: a directory, a GGUF file, or organisation/name on a hub")
	}
	dir, err := cached(ctx, name, hub.Model)
	switch {
	case errors.Is(err, hub.ErrOffline):
		return &Model{Name: name, Pull: true}, nil
	case errors.Is(err, errNoName):
		return nil, fmt.Errorf("%q is neither a file or directory here nor the name of a model on a hub (organisation/name, such as HuggingFaceTB/SmolLM2-135M-Instruct)", name)
	case err != nil:
		return nil, err
	}
	r, err := inspect.Path(ctx, dir)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Kind == inspect.KindModel || r.Kind == inspect.KindGGUF:
	case r.Adapter != nil && r.Adapter.BaseModel != "":
		return nil, fmt.Errorf("%s is an adapter, not a model; its model is %s", name, r.Adapter.BaseModel)
	default:
		return nil, fmt.Errorf("%s is no model (cria inspect says: %s); name a directory with config.json, a GGUF file, or organisation/name on a hub", name, r.Kind)
	}
	if len(r.Problems) > 0 {
		return nil, fmt.Errorf("%s cannot be trained: %s", name, strings.Join(r.Problems, "\n"))
	}
	if r.GGUF != nil {
		return importable(ctx, name, r.GGUF)
	}
	m := &Model{Name: name, Dir: r.Path, Architecture: r.Model.Architecture, Parameters: r.Model.Parameters, Layers: r.Model.NumHiddenLayers,
		Window: r.Model.MaxPositionEmbeddings, Template: knownAs(r.Model.Tokenizer.ChatTemplate)}
	if dir == name {
		m.Name = r.Path // of a file in it, such as config.json
	}
	m.tok, err = tokenizer.Load(m.Dir)
	return m, err
}

// importable is a GGUF file as the directory that cria import makes of it, or has made already.
func importable(ctx context.Context, file string, g *inspect.GGUF) (*Model, error) {
	dir := filepath.Base(file)
	if dir = dir[:len(dir)-len(filepath.Ext(dir))]; dir == "" {
		dir = "model"
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return &Model{Name: dir, GGUF: file, Architecture: g.Architecture, Parameters: g.Parameters, Template: knownAs(g.Template)}, nil
	}
	m, err := LookAtModel(ctx, dir)
	if err != nil || m.Dir == "" {
		return nil, fmt.Errorf("%s must become a directory first, and %s is taken by something else: cria import %s DIR, then name DIR", file, dir, file)
	}
	return m, nil
}

// Describe says in a line what was found.
func (m *Model) Describe() string {
	template := map[known]string{unknown: "", no: ", without a chat template", yes: ", with a chat template"}[m.Template]
	switch {
	case m.Pull:
		return "not here yet, so nothing is known of it; cria train fetches it, or cria pull"
	case m.GGUF != "":
		return fmt.Sprintf("a GGUF file: %s, %s parameters%s; it must be imported before it is trained", m.Architecture, data.Thousands(int(m.Parameters)), template)
	}
	return fmt.Sprintf("%s, %s parameters in %d layers, %s tokens of context%s", m.Architecture, data.Thousands(int(m.Parameters)), m.Layers, data.Thousands(m.Window), template)
}

var errNoName = errors.New("no path here, and no name on a hub")

// cached is where a name lies: itself if it exists, else a repository in a cache. What is in none is hub.ErrOffline, what no
// repository could be called errNoName.
func cached(ctx context.Context, name string, kind hub.Kind) (string, error) {
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	env, err := hub.FromEnv(os.Getenv)
	if err != nil {
		return "", err
	}
	if _, err := hub.ParseRef(name, kind, env.DefaultSource); err != nil {
		return "", errNoName
	}
	env.Offline = true // only what is here
	return hub.New(env).Dir(ctx, name, kind, "", hub.Options{})
}
