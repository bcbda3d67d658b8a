// Package starter writes a first recipe: it looks at a model and at data, counts, and chooses values that suit both, each
// with a comment that says why. No connection is made; of what is not on this machine, less is chosen.
package starter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"cria/internal/data"
	"cria/internal/disk"
	"cria/internal/hub"
	"cria/internal/recipe"
	"cria/internal/train"
)

// seed is the recipe's seed: TrainingArguments' default.
const seed = 42

// Answers are what only the user can say.
type Answers struct {
	Model     *Model
	Rows      *Rows
	System    string // what the model is to become, as a system prompt; "": nothing
	OutputDir string
}

// Draft is a recipe that is not written yet.
type Draft struct {
	Text    []byte
	Steps   int          // of the optimizer; 0: not known
	Refused []data.Check // what cria train would refuse the data for
	Notes   []string     // remarks for the user
	Prompt  string       // the prompt_template that was chosen, "" where the model's own template is used

	resolved []byte
}

// setting is a key of the recipe with what stands above it.
type setting struct {
	key     string
	value   string // as an override of recipe.Load
	comment string // "": what the key means
}

// draft collects settings.
type draft struct {
	Answers
	settings []setting
	notes    []string
}

// set adds a key; why says what its value has to do with this model and these data.
func (d *draft) set(key string, value any, why string) {
	text := fmt.Sprint(value)
	switch v := value.(type) { // Go's escapes are YAML's too
	case string:
		text = strconv.QuoteToASCII(v)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = strconv.QuoteToASCII(s)
		}
		text = "[" + strings.Join(quoted, ", ") + "]"
	}
	d.settings = append(d.settings, setting{key, text, why})
}

func (d *draft) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// load makes the recipe of what was set so far, with more overrides.
func (d *draft) load(more ...string) (*recipe.Recipe, error) {
	var overrides []string
	for _, s := range d.settings {
		overrides = append(overrides, s.key+"="+s.value)
	}
	return recipe.Load("", append(overrides, more...))
}

// New chooses a recipe. Where model and data are on this machine the rows are made as training would make them, which
// takes a while for many; onRead, if not nil, is told how many were read. Nothing is left on disk.
func New(ctx context.Context, a Answers, onRead func(rows int)) (*Draft, error) {
	for _, s := range append([]string{a.Model.Name, a.System, a.OutputDir}, a.Rows.Names...) {
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("%.60q is not UTF-8, as all text in a recipe must be", s)
		}
	}
	d := &draft{Answers: a}
	out := &Draft{}
	if err := d.dataKeys(); err != nil {
		return nil, err
	}
	lengths, err := d.count(ctx, onRead, out)
	if err != nil {
		return nil, err
	}
	kept := d.lengthKeys(lengths)
	d.set("output_dir", a.OutputDir, "")
	d.loraKeys()
	out.Steps = d.stepKeys(kept)

	r, err := d.load()
	if err != nil {
		return nil, err
	}
	out.resolved, out.Prompt, out.Notes = r.Resolved(), r.PromptTemplate, d.notes
	out.Text = d.text(out.resolved)
	return out, nil
}

// mostProbed is how many rows are tokenised to see how long rows are.
const mostProbed = 50_000

// count makes the rows, or the first of very many, and returns how many tokens each has, sorted; nil where model or data are
// not here.
func (d *draft) count(ctx context.Context, onRead func(int), out *Draft) (lengths []int, err error) {
	if d.Model.Dir == "" || !d.Rows.Here {
		return nil, nil
	}
	r, err := d.load(fmt.Sprintf("max_samples=%d", mostProbed))
	if err != nil {
		return nil, err
	}
	cache, err := os.MkdirTemp("", "cria-init-") // max_length will be another one, so these rows are of no use later
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(cache)
	find := func(ctx context.Context, name, kind string) (string, error) { return cached(ctx, name, hub.Kind(kind)) }
	rows, err := train.Rows(ctx, r, train.Options{Find: find, OnRead: onRead, Cache: cache})
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for _, c := range rows.Checks() {
		if c.State == data.Refused && c.Name != "context_window" { // max_length sees to that
			out.Refused = append(out.Refused, c)
		}
	}
	for i := range rows.Train.Len() {
		lengths = append(lengths, rows.Train.Tokens(i))
	}
	slices.Sort(lengths)
	return lengths, nil
}

// text writes the settings as YAML, as resolved spells the values.
func (d *draft) text(resolved []byte) []byte {
	spelled := map[string]string{} // "key: value" by dotted key
	group := ""
	for line := range strings.Lines(string(resolved)) {
		line = strings.TrimRight(line, "\n")
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case value == "":
			group = key + "."
		case strings.HasPrefix(line, " "):
			spelled[group+key] = line
		case key == "dataset" && len(d.Rows.Names) == 1: // not as a list
			spelled[key] = key + ": " + strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(value), "["), "]")
		default:
			spelled[key] = line
		}
	}
	meanings := map[string]string{}
	for _, k := range recipe.Keys() {
		meanings[k.Name] = strings.ReplaceAll(k.Meaning, "`", "")
	}
	var b bytes.Buffer
	b.WriteString("# Written by cria init. Paths are relative to the directory in which cria is run; cria train --help lists all keys.\n")
	group = ""
	for _, s := range d.settings {
		g, _, nested := strings.Cut(s.key, ".")
		indent := ""
		if nested {
			if indent = "  "; g != group {
				fmt.Fprintf(&b, "\n%s:\n", g)
			}
			group = g
		}
		comment := s.comment
		if comment == "" {
			comment = meanings[s.key]
		}
		if !nested {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s# %s\n%s\n", indent, oneLine(comment), spelled[s.key])
	}
	return b.Bytes()
}

// oneLine makes a comment of what may hold names that a user or a file chose: on one line, and not too long.
func oneLine(s string) string {
	const most = 180
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s))
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(runes)
}

// Publish writes the recipe to path, whole or not at all, after loading it back from the disk. What is there already is
// refused with fs.ErrExist, unless replace says otherwise.
func (d *Draft) Publish(path string, replace bool) error {
	return disk.PublishChecked(disk.OS{}, path, func(w io.Writer) error {
		_, err := w.Write(d.Text)
		return err
	}, func(temp string) error {
		r, err := recipe.Load(temp, nil)
		switch {
		case err != nil:
			return fmt.Errorf("the recipe cannot be read back, which is a fault in cria: %w", err)
		case !bytes.Equal(r.Resolved(), d.resolved):
			return errors.New("the recipe reads back as another one, which is a fault in cria; please report it with your answers")
		}
		if _, err := os.Lstat(path); err == nil && !replace {
			return fs.ErrExist
		}
		return nil
	})
}
