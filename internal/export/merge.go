package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/disk"
	"cria/internal/safetensors"
	"cria/internal/tokenizer"
)

// shardBytes is the most that a file of weights holds, as transformers' max_shard_size.
var shardBytes = int64(5e9)

// Merged is what the manifest of a merged directory records as meta.
type Merged struct {
	Kind       string `json:"kind"` // "merged"
	Base       string `json:"base"` // name of the base model's directory
	BaseSHA256 string `json:"base_sha256,omitempty"`
	Adapter    string `json:"adapter"` // name of the adapter's directory
}

// copied are the files of a model that a merged one takes over as they are.
func copied(name string) bool {
	switch name {
	case "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
		"vocab.json", "merges.txt", "tokenizer.model", chatTemplateFile:
		return true
	}
	upper := strings.ToUpper(name)
	return strings.HasPrefix(upper, "LICENSE") || strings.HasPrefix(upper, "NOTICE") || strings.HasPrefix(upper, "USE_POLICY")
}

const (
	chatTemplateFile = "chat_template.jinja"
	tokenizerConfig  = "tokenizer_config.json"
)

// Merge writes the model with the adapter merged into its weights as a directory in Hugging Face's layout. A merged weight is
// W + scale·(B A) in float32, as PEFT's merge_and_unload computes it for a model loaded in float32, rounded once to the type in
// which W is stored (bfloat16: to the nearest, ties to even); all other weights are copied. The directory appears whole or not
// at all. (Of a model loaded in bfloat16 PEFT rounds A, B and their product before the sum.)
func (s *Source) Merge(ctx context.Context, dir string, progress Progress) error {
	if s.Adapter == nil {
		return errors.New("there is nothing to merge: name the directory of an adapter")
	}
	if err := Vacant(dir, true); err != nil {
		return err
	}
	files, err := s.companions()
	if err != nil {
		return err
	}
	shards, total := s.shards()
	if err := room(dir, total+64<<20); err != nil {
		return err
	}
	if err := disk.MkdirAll(disk.OS{}, filepath.Dir(filepath.Clean(dir))); err != nil {
		return err
	}
	return disk.PublishDir(disk.OS{}, dir, func(d *disk.DirWriter) error {
		meta := Merged{"merged", filepath.Base(filepath.Clean(s.Model)), s.Adapter.BaseSHA256, filepath.Base(filepath.Clean(s.adapterDir))}
		if err := d.SetMeta(meta); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := d.WriteFile(name, func(w io.Writer) error { _, err := w.Write(files[name]); return err }); err != nil {
				return err
			}
		}
		tok, err := tokenizer.Load(d.Dir())
		if err == nil {
			err = s.check(tok)
		}
		if err != nil {
			return err
		}
		return s.writeShards(ctx, d, shards, total, progress)
	})
}

// companions are the files beside the weights: the base model's, with the chat template and the end of training.
func (s *Source) companions() (map[string][]byte, error) {
	entries, err := os.ReadDir(s.Model)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if !copied(e.Name()) {
			continue
		}
		if files[e.Name()], err = disk.ReadFile(filepath.Join(s.Model, e.Name()), 256<<20); err != nil {
			return nil, err
		}
	}
	if ends := s.ends(); len(ends) > len(s.Chat.EOS) {
		if err := set(files, "generation_config.json", "eos_token_id", ends); err != nil {
			return nil, err
		}
	}
	if s.template == s.Chat.Tokenizer.Config().ChatTemplate {
		return files, nil
	}
	// Readers look for the template in one place or the other.
	if _, ok := files[chatTemplateFile]; ok {
		files[chatTemplateFile] = []byte(s.template)
	}
	return files, set(files, tokenizerConfig, "chat_template", s.template)
}

// set changes one key of a JSON file.
func set(files map[string][]byte, name, key string, v any) error {
	keys := map[string]json.RawMessage{}
	if text, ok := files[name]; ok {
		if err := disk.Unmarshal(text, &keys); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var err error
	if keys[key], err = encode(v); err == nil {
		files[name], err = encode(keys)
	}
	return err
}

// encode is v as indented JSON.
func encode(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return []byte(b.String()), err
}

// shards cuts the model's weights, in the order of the model, into files of at most shardBytes. Weights that no Llama has are
// copied at the end.
func (s *Source) shards() (shards [][]safetensors.Tensor, total int64) {
	var names []string
	for _, t := range s.tensors() {
		names = append(names, t.name)
	}
	for _, name := range s.weights.Names() {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var size int64
	for _, name := range names {
		t, _ := s.weights.Tensor(name)
		n := int64(len(t.Data))
		if len(shards) == 0 || size+n > shardBytes {
			shards, size = append(shards, nil), 0
		}
		last := len(shards) - 1
		shards[last] = append(shards[last], t)
		size += n
		total += n
	}
	return shards, total
}

func (s *Source) writeShards(ctx context.Context, d *disk.DirWriter, shards [][]safetensors.Tensor, total int64, progress Progress) error {
	index := struct {
		Metadata  map[string]int64  `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}{map[string]int64{"total_size": total}, map[string]string{}}
	var done int64
	for i, shard := range shards {
		name := safetensors.SingleFile
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		for _, t := range shard {
			index.WeightMap[t.Name] = name
		}
		err := d.WriteFile(name, func(w io.Writer) error {
			return safetensors.WriteFunc(w, shard, map[string]string{"format": "pt"}, func(w io.Writer, t safetensors.Tensor) error {
				return s.writeMerged(ctx, w, t, func(bytes int) {
					done += int64(bytes)
					progress.tell(done, total)
				})
			})
		})
		if err != nil {
			return err
		}
	}
	if len(shards) == 1 {
		return nil
	}
	text, err := encode(index)
	if err != nil {
		return err
	}
	return d.WriteFile(safetensors.IndexFile, func(w io.Writer) error { _, err := w.Write(text); return err })
}

// writeMerged writes one weight: as it is stored, or with the adapter's part.
func (s *Source) writeMerged(ctx context.Context, w io.Writer, t safetensors.Tensor, told func(bytes int)) error {
	t, ok := s.weights.Tensor(t.Name)
	if !ok {
		return fs.ErrNotExist
	}
	if s.modules[t.Name] == nil {
		for rest := t.Data; len(rest) > 0; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(len(rest), 4<<20)
			if _, err := w.Write(rest[:n]); err != nil {
				return err
			}
			told(n)
			rest = rest[n:]
		}
		return nil
	}
	element := len(t.Data) / t.NumElements()
	return stream(ctx, w, t.Shape[0], t.Shape[1], func(first, n int) ([]byte, error) {
		x, err := s.merged(t, first, n)
		if err != nil {
			return nil, err
		}
		return appendRounded(make([]byte, 0, element*len(x)), t.DType, x)
	}, func(elements int) { told(element * elements) })
}
