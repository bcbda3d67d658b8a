// Package inspect finds out what a path is: a model, a GGUF file, an adapter, a checkpoint, a run's output_dir, a tensor
// file, a dataset or a recipe. It reads only, prints nothing, and describes what is damaged.
package inspect

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"cria/internal/adapter"
	"cria/internal/disk"
	"cria/internal/safetensors"
)

// Kind is what a path holds.
type Kind string

// The kinds of paths.
const (
	KindModel       Kind = "model"       // directory in Hugging Face's layout
	KindGGUF        Kind = "gguf"        // file
	KindAdapter     Kind = "adapter"     // directory in PEFT's layout
	KindCheckpoint  Kind = "checkpoint"  // directory of one training step
	KindRun         Kind = "output_dir"  // directory of a training run
	KindSafetensors Kind = "safetensors" // file
	KindDataset     Kind = "dataset"     // JSON or JSON Lines file
	KindRecipe      Kind = "recipe"      // YAML file
	KindUnknown     Kind = "unknown"
)

// Report is what Path found. The parts that belong to Kind are set as far as they could be read: a checkpoint and a run
// also have an Adapter, and these three the Recipe that they were trained with.
type Report struct {
	Path     string   `json:"path"`
	Kind     Kind     `json:"kind"`
	Problems []string `json:"problems"` // what is damaged, missing or refused, with what to do; empty: none found

	Model       *Model       `json:"model,omitempty"`
	GGUF        *GGUF        `json:"gguf,omitempty"`
	Run         *Run         `json:"run,omitempty"`
	Checkpoint  *Checkpoint  `json:"checkpoint,omitempty"`
	Log         *Log         `json:"log,omitempty"` // of a checkpoint or a run
	Adapter     *Adapter     `json:"adapter,omitempty"`
	Recipe      *Recipe      `json:"recipe,omitempty"`
	Safetensors *Safetensors `json:"safetensors,omitempty"`
	Dataset     *Dataset     `json:"dataset,omitempty"`
}

// problem adds to Problems.
func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Path describes the file or directory at path; of a file that belongs to a directory, such as config.json, the
// directory. Only a path that cannot be read at all, and the end of ctx, are errors.
func Path(ctx context.Context, path string) (*Report, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() && slices.Contains(parts, filepath.Base(path)) {
		path = filepath.Dir(path)
		if info, err = os.Stat(path); err != nil {
			return nil, err
		}
	}
	r := &Report{Path: path, Problems: []string{}}
	switch {
	case info.IsDir():
		err = r.directory(ctx)
	case info.Mode().IsRegular():
		err = r.file(info.Size())
	default:
		r.Kind = KindUnknown
		r.problem("it is neither a file nor a directory (%v)", info.Mode().Type())
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Files that say something only together with their directory.
var parts = []string{configName, "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
	safetensors.IndexFile, adapter.ConfigName, trainerState, criaState, disk.ManifestName}

const (
	configName   = "config.json"
	trainerState = "trainer_state.json"
	criaState    = "cria_state.json"
	recipeName   = "recipe.yaml"
)

var checkpointName = regexp.MustCompile(`^checkpoint-([0-9]{1,9})$`)

// directory tells the kinds of directories apart by the names in them.
func (r *Report) directory(ctx context.Context) error {
	entries, err := os.ReadDir(r.Path)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	steps := false
	for _, e := range entries {
		names[e.Name()] = true
		steps = steps || e.IsDir() && checkpointName.MatchString(e.Name())
	}
	abs, err := filepath.Abs(r.Path)
	if err != nil {
		return err
	}
	switch {
	case steps, names[disk.LockName], names[trainerState] && names[recipeName] && !names[criaState] && !names[disk.ManifestName]:
		r.Kind = KindRun
		return r.run(ctx, entries)
	case checkpointName.MatchString(filepath.Base(abs)), names[criaState], names[trainerState], names["optimizer.safetensors"]:
		r.Kind = KindCheckpoint
		r.checkpoint()
	case names[adapter.ConfigName], names[adapter.TensorsName], names["adapter_model.bin"], names["adapters.safetensors"]:
		r.Kind = KindAdapter
		r.adapter(r.Path)
		r.trainedWith(r.Path)
	case names[configName], names["tokenizer.json"], names[safetensors.SingleFile], names[safetensors.IndexFile]:
		r.Kind = KindModel
		r.model()
	default:
		r.Kind = KindUnknown
		r.problem("nothing in this directory is known%s", listed(entries))
	}
	return nil
}

// listed names some of the entries.
func listed(entries []fs.DirEntry) string {
	if len(entries) == 0 {
		return "; it is empty"
	}
	var names []string
	for _, e := range entries[:min(len(entries), 8)] {
		names = append(names, e.Name())
	}
	if len(entries) > len(names) {
		names = append(names, fmt.Sprintf("and %d more", len(entries)-len(names)))
	}
	return "; it holds " + strings.Join(names, ", ")
}

// file tells the kinds of files apart by their first bytes, then by their names.
func (r *Report) file(size int64) error {
	f, err := os.Open(r.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	head = head[:n]
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n")
	ext := strings.ToLower(filepath.Ext(r.Path))
	switch {
	case bytes.HasPrefix(head, []byte("GGUF")), ext == ".gguf":
		r.Kind = KindGGUF
		r.gguf(size)
	case ext == ".safetensors", n > 8 && head[8] == '{' && binary.LittleEndian.Uint64(head) <= uint64(size):
		r.Kind = KindSafetensors
		r.safetensors(size)
	case ext == ".yaml", ext == ".yml":
		r.Kind = KindRecipe
		if recipe, err := readRecipe(r.Path); err != nil {
			r.problem("%v", err)
		} else {
			r.Recipe = recipe
		}
	case ext == ".json", ext == ".jsonl", ext == ".ndjson", len(text) > 0 && (text[0] == '[' || text[0] == '{'):
		r.Kind = KindDataset
		r.dataset(size)
	case slices.Contains([]string{".bin", ".pt", ".pth", ".ckpt", ".pkl"}, ext):
		r.Kind = KindUnknown
		r.problem("it is probably a pickle file of PyTorch, which can run code when it is read, so cria does not read it; save it as safetensors")
	default:
		r.Kind = KindUnknown
		r.problem("this file is not known; known are GGUF, safetensors, datasets in JSON and recipes in YAML")
	}
	return nil
}

// maxJSON is the size up to which small JSON files are read.
const maxJSON = 64 << 20

// readJSON reads a small JSON file.
func readJSON(path string, v any) error {
	return disk.ReadJSON(path, maxJSON, v)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
