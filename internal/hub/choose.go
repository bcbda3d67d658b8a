package hub

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Names of weights in Hugging Face's layout.
const (
	weightsFile   = "model.safetensors"
	weightsIndex  = "model.safetensors.index.json"
	adapterConfig = "adapter_config.json"
)

// needed reports whether cria can use a file. Of a model it needs what lies at the top: configuration, tokenizer, template
// and safetensors; folders hold other copies (original/, onnx/, checkpoints). Of a dataset it needs the data and the
// README, whose head describes it.
func needed(kind Kind, p string) bool {
	base, ext := path.Base(p), strings.ToLower(path.Ext(p))
	for part := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(part, ".") {
			return false
		}
	}
	if kind == Dataset {
		return p == "README.md" || slices.Contains([]string{".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt"}, ext)
	}
	switch dir := path.Dir(p); {
	case dir == "additional_chat_templates":
		return ext == ".jinja"
	case dir != ".":
		return false
	case strings.HasSuffix(base, ".index.json"):
		return strings.HasSuffix(base, ".safetensors.index.json")
	}
	return slices.Contains([]string{".safetensors", ".json", ".jinja", ".tiktoken"}, ext) ||
		slices.Contains([]string{"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "merges.txt", "vocab.txt"}, base)
}

// choose divides files into wanted and skipped. index returns the content of the shard index, and is called only if the
// weights are what it lists.
func choose(ref Ref, files []File, want func(string) bool, index func(File) ([]byte, error)) (wanted, skipped []File, err error) {
	all := map[string]File{}
	for _, f := range files {
		all[f.Path] = f
	}
	usual := want == nil
	if usual {
		want = func(p string) bool { return needed(ref.Kind, p) }
		if ref.Kind == Model {
			weights, err := weightsOf(ref, all, index)
			if err != nil {
				return nil, nil, err
			}
			want = func(p string) bool {
				if strings.HasSuffix(p, ".safetensors") {
					return slices.Contains(weights, p)
				}
				return needed(Model, p)
			}
		}
	}
	folded := map[string]string{}
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if !want(p) {
			skipped = append(skipped, all[p])
			continue
		}
		if err := validPath(p); err != nil {
			return nil, nil, fmt.Errorf("%s: %w; nothing was written", ref, err)
		}
		low := strings.ToLower(p)
		if other := folded[low]; other != "" {
			return nil, nil, fmt.Errorf("%s has both %q and %q, which are one file on some systems", ref, other, p)
		}
		folded[low] = p
		wanted = append(wanted, all[p])
	}
	if len(wanted) > 0 {
		return wanted, skipped, nil
	}
	if usual {
		return nil, nil, fmt.Errorf("%s has no files that cria can read%s", ref, holds(skipped))
	}
	return nil, nil, fmt.Errorf("%s has none of the files that were asked for%s", ref, holds(skipped))
}

// weightsOf lists the safetensors files of a model or an adapter. model.safetensors goes before an index, as in
// safetensors.OpenDir; other copies of the weights (consolidated.safetensors, model.fp16.safetensors) are not wanted then.
func weightsOf(ref Ref, all map[string]File, index func(File) ([]byte, error)) ([]string, error) {
	var top []string
	pickles, gguf := false, false
	for p := range all {
		switch ext := strings.ToLower(path.Ext(p)); {
		case ext == ".safetensors" && needed(Model, p):
			top = append(top, p)
		case slices.Contains([]string{".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}, ext):
			pickles = true
		case ext == ".gguf":
			gguf = true
		}
	}
	_, single := all[weightsFile]
	indexFile, indexed := all[weightsIndex]
	switch {
	case single:
		return []string{weightsFile, "adapter_model.safetensors"}, nil
	case indexed:
		text, err := index(indexFile)
		if err != nil {
			return nil, err
		}
		shards, err := shardsOf(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		for _, s := range shards {
			if _, ok := all[s]; !ok {
				return nil, fmt.Errorf("%s is incomplete: %s lists %q, which is not in the repository", ref, weightsIndex, s)
			}
		}
		return append(shards, "adapter_model.safetensors"), nil
	case len(top) > 0:
		return top, nil
	case pickles:
		return nil, fmt.Errorf("%s has its weights only as pickles (*.bin, *.pt, ...): loading one runs whatever code is in it, so cria reads none; "+
			"look for a repository or a revision with safetensors files, or let the author convert it", ref)
	case gguf:
		return nil, fmt.Errorf("%s has GGUF files only: fetch one with --include NAME.gguf --to DIR, then cria import makes a model of it", ref)
	}
	return nil, fmt.Errorf("%s has no weights that cria can read (*.safetensors at the top)%s; --include takes other files", ref, holds(slices.SortedFunc(maps.Values(all), func(a, b File) int { return strings.Compare(a.Path, b.Path) })))
}

// shardsOf reads the names of the shards from an index.
func shardsOf(text []byte) ([]string, error) {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &index); err != nil || len(index.WeightMap) == 0 {
		return nil, fmt.Errorf("%s has no weight_map", weightsIndex)
	}
	shards := slices.Compact(slices.Sorted(maps.Values(index.WeightMap)))
	for _, s := range shards {
		if err := validPath(s); err != nil || strings.Contains(s, "/") || !strings.HasSuffix(s, ".safetensors") {
			return nil, fmt.Errorf("%s lists %.100q, which is no safetensors file beside it", weightsIndex, s)
		}
	}
	return shards, nil
}

// holds names a few files, for messages.
func holds(files []File) string {
	if len(files) == 0 {
		return ": it is empty"
	}
	var names []string
	for _, f := range files[:min(len(files), 5)] {
		names = append(names, fmt.Sprintf("%.60q", f.Path))
	}
	more := ""
	if n := len(files) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return ": it holds " + strings.Join(names, ", ") + more
}
