// Package foreign translates training recipes of LLaMA-Factory, axolotl, mlx-lm and TRL into recipes of cria, and lists what
// differs.
//
// Each tool has one table of its keys (llamafactory.go, axolotl.go, mlx.go, trl.go; trainer.go has what two of them take from
// transformers) that says what becomes of a key, and a function for what several keys decide together. Names and defaults were
// read in the sources that the tables name.
package foreign

import (
	"fmt"
	"slices"
	"strings"

	"cria/internal/recipe"
)

// Tool is a program whose recipes are translated.
type Tool string

// The tools, as --from names them.
const (
	LLaMAFactory Tool = "llamafactory"
	Axolotl      Tool = "axolotl"
	MLX          Tool = "mlx"
	TRL          Tool = "trl"
)

// Tools lists them all.
var Tools = []Tool{LLaMAFactory, Axolotl, MLX, TRL}

// String is the tool's own spelling of its name.
func (t Tool) String() string { return tools[t].name }

// tool is what a program's recipes are translated with.
type tool struct {
	name     string
	keys     map[string]rule
	prefixes []prefix // for families of keys that are not in keys
	presets  []preset
	finish   func(*translation) // what keys decide together, and what their absence means
}

// prefix is a rule for all keys that begin with a word.
type prefix struct {
	word string
	rule rule
}

// preset is a tool's default that is not cria's: it is written where the recipe does not set the key.
type preset struct {
	key   string // of cria
	value any
	name  string // of the tool's key
}

var tools map[Tool]*tool

func init() { // the tables' functions use Tool.String, which uses tools
	tools = map[Tool]*tool{LLaMAFactory: llamaFactory, Axolotl: axolotl, MLX: mlx, TRL: trl}
}

// Kind says what a note means for the run.
type Kind int

// Kinds of notes, in the order in which they are shown.
const (
	Changed Kind = iota // translated, with another meaning or unit
	Lost                // no counterpart: the run differs
	Idle                // no counterpart and none needed: what is trained stays the same
	Unknown             // a key that the tool's table does not have
)

// Note says what became of some keys.
type Note struct {
	Kind Kind
	Keys []string // dotted: lora_parameters.scale; empty for a note on the tool
	Text string   // without the keys and a full stop; "" with Unknown
}

// Result is a translated recipe.
type Result struct {
	Tool   Tool
	Why    string // the keys by which the tool was recognised, "" where it was named
	Recipe []byte // YAML with comments, which recipe.Load reads, with Missing as overrides
	Notes  []Note // by kind

	// Missing are the required keys of cria that the file does not name.
	Missing []string
}

// Options are what a translation can be told.
type Options struct {
	From Tool // "": recognised by the keys

	// Layers returns the number of layers of a model, 0 where it is not known. mlx-lm counts layers from the last.
	Layers func(model string) int
}

// Translate translates the recipe in content, which was read from file. Files that the recipe names (dataset_info.json, data
// directories) are looked at, relative to the working directory or to file. Faults come as recipe.Errors, with file, line and
// column; what cria cannot train at all (full fine-tuning, DPO) is among them.
func Translate(file string, content []byte, opt Options) (*Result, error) {
	entries, err := read(file, content)
	if err != nil {
		return nil, err
	}
	from, why := opt.From, ""
	if from == "" {
		if from, why, err = recognise(file, entries); err != nil {
			return nil, err
		}
	}
	if tools[from] == nil {
		return nil, recipe.Errors{fault(file, nil, "", "%s is no tool whose recipes are known", from)}
	}
	t := &translation{file: file, tool: tools[from], layers: opt.Layers, given: map[string]entry{}, values: map[string]value{}}
	for _, e := range entries {
		t.take(e)
	}
	t.tool.finish(t)
	t.common()
	if len(t.errs) > 0 {
		return nil, t.sorted()
	}
	r := &Result{Tool: from, Why: why, Notes: t.sortedNotes()}
	for _, key := range []string{"model", "dataset"} {
		if _, ok := t.values[key]; !ok {
			r.Missing = append(r.Missing, key)
		}
	}
	if err := t.check(r.Missing); err != nil {
		return nil, err
	}
	r.Recipe = t.render(r.Missing)
	return r, nil
}

// recognise takes the tool with keys that no other has.
func recognise(file string, entries []entry) (Tool, string, error) {
	marks := map[Tool][]string{}
	for _, e := range entries {
		var owners []Tool
		for _, tool := range Tools {
			if _, ok := tools[tool].keys[e.name]; ok {
				owners = append(owners, tool)
			}
		}
		if len(owners) == 1 {
			marks[owners[0]] = append(marks[owners[0]], e.name)
		}
	}
	var found []Tool
	var words []string
	for _, tool := range Tools {
		if m := marks[tool]; len(m) > 0 {
			found = append(found, tool)
			if len(m) > 4 {
				m = append(m[:4:4], "...")
			}
			words = append(words, fmt.Sprintf("%s (%s)", tool, strings.Join(m, ", ")))
		}
	}
	names := make([]string, len(Tools))
	for i, tool := range Tools {
		names[i] = string(tool)
	}
	choice := "say which tool's recipe this is with --from " + strings.Join(names, "|")
	switch len(found) {
	case 1:
		return found[0], words[0], nil
	case 0:
		return "", "", recipe.Errors{fault(file, nil, "", "no key belongs to one tool only: %s", choice)}
	}
	return "", "", recipe.Errors{fault(file, nil, "", "has keys of %s: %s", strings.Join(words, " and of "), choice)}
}

// titles are the headings of the kinds of notes.
var titles = [...]string{
	Changed: "translated, with a difference",
	Lost:    "no counterpart, so the run differs",
	Idle:    "not needed, what is trained stays the same",
	Unknown: "unknown, not translated",
}

// Text returns the notes as lines: a heading for each kind, and below it keys and what became of them.
func (r *Result) Text() string {
	var b strings.Builder
	if r.Why != "" {
		fmt.Fprintf(&b, "read as a recipe of %s\n", r.Why)
	}
	if len(r.Missing) > 0 {
		fmt.Fprintf(&b, "the file names no %s: write it into the recipe, or on the command line: cria train RECIPE %s=...\n",
			strings.Join(r.Missing, " and no "), strings.Join(r.Missing, "=... "))
	}
	kind := Kind(-1)
	for _, n := range r.Notes {
		if n.Kind != kind {
			kind = n.Kind
			fmt.Fprintf(&b, "%s:\n", titles[kind])
		}
		line := strings.Join(n.Keys, ", ")
		switch {
		case line == "":
			line = n.Text
		case n.Text != "":
			line += ": " + n.Text
		}
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// sortedNotes returns the notes by kind, with those of one text made one.
func (t *translation) sortedNotes() []Note {
	var notes []Note
	for _, n := range t.notes {
		i := slices.IndexFunc(notes, func(o Note) bool { return o.Kind == n.Kind && o.Text == n.Text })
		if i < 0 {
			notes = append(notes, n)
			continue
		}
		for _, k := range n.Keys {
			if !slices.Contains(notes[i].Keys, k) {
				notes[i].Keys = append(notes[i].Keys, k)
			}
		}
	}
	slices.SortStableFunc(notes, func(a, b Note) int { return int(a.Kind - b.Kind) })
	return notes
}
