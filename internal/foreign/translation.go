package foreign

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cria/internal/recipe"

	"go.yaml.in/yaml/v4"
)

// translation is a recipe on its way.
type translation struct {
	file   string
	tool   *tool
	layers func(model string) int

	given  map[string]entry // keys of the file with a value, by name
	nulls  []string         // keys without one
	values map[string]value // by cria's keys
	notes  []Note
	errs   recipe.Errors
}

// value is the value of one of cria's keys.
type value struct {
	v       any
	from    []entry // what it was made of
	comment string  // instead of the names of from
}

// keysOfCria are the keys of a recipe, in the order of the documentation.
var keysOfCria = sync.OnceValue(recipe.Keys)

// rule says what becomes of a key.
type rule func(*translation, entry)

// take applies a key's rule. A key without a value is as good as absent, as the tools see it.
func (t *translation) take(e entry) {
	r, ok := t.tool.keys[e.name]
	if !ok {
		for _, p := range t.tool.prefixes {
			if strings.HasPrefix(e.name, p.word) {
				r, ok = p.rule, true
				break
			}
		}
	}
	switch {
	case !ok:
		t.note(Unknown, "", e.name)
	case isNull(e.node):
		t.nulls = append(t.nulls, e.name)
		t.note(Idle, "empty, so the default holds", e.name)
	default:
		t.given[e.name] = e
		r(t, e)
	}
}

// set gives a key of cria its value, made of keys of the file.
func (t *translation) set(key string, v any, from ...entry) { t.values[key] = value{v: v, from: from} }

// preset gives a key of cria the tool's own default, unless it has a value. name is the tool's key.
func (t *translation) preset(key string, v any, name string) {
	if _, ok := t.values[key]; !ok {
		t.values[key] = value{v: v, comment: fmt.Sprintf("default of %s: %s", t.tool.name, name)}
	}
}

func (t *translation) note(kind Kind, text string, keys ...string) {
	t.notes = append(t.notes, Note{Kind: kind, Keys: keys, Text: text})
}

func (t *translation) fail(e entry, format string, args ...any) {
	t.errs = append(t.errs, fault(t.file, e.node, e.name, format, args...))
}

func (t *translation) mustBe(e entry, what string) {
	t.fail(e, "must be %s, not %s", what, show(e.node))
}

func (t *translation) sorted() recipe.Errors {
	slices.SortStableFunc(t.errs, func(a, b *recipe.Error) int { return a.Line - b.Line })
	return t.errs
}

// number returns the value of one of cria's keys, or other where it has none.
func (t *translation) number(key string, other float64) float64 {
	switch v := t.values[key].v.(type) {
	case float64:
		return v
	case int64:
		return float64(v)
	}
	return other
}

// flagGiven returns a flag of the file; absent counts as other.
func (t *translation) flagGiven(name string, other bool) bool {
	e, ok := t.given[name]
	if !ok {
		return other
	}
	b, ok := boolOf(e.node)
	if !ok {
		t.mustBe(e, "true or false")
	}
	return b
}

// textGiven returns a text of the file, "" where it is absent.
func (t *translation) textGiven(name string) string {
	e, ok := t.given[name]
	if !ok {
		return ""
	}
	s, ok := textOf(e.node)
	if !ok {
		t.mustBe(e, "text")
	}
	return s
}

// later leaves a key to the tool's finish function.
func later(*translation, entry) {}

// idle is the rule of keys that change nothing in what is trained.
func idle(why string) rule {
	return func(t *translation, e entry) { t.note(Idle, why, e.name) }
}

// lost is the rule of keys that change what is trained and that cria has nothing for, unless they are off or at one of some
// values that change nothing.
func lost(why string, harmless ...string) rule {
	return func(t *translation, e entry) {
		if isOff(e.node) || e.node.Kind == yaml.ScalarNode && slices.Contains(harmless, strings.ToLower(e.node.Value)) {
			t.note(Idle, "off, or as cria does it anyway", e.name)
			return
		}
		t.note(Lost, why, e.name)
	}
}

// refuse is the rule of keys that say, unless they are off, that cria cannot do the training at all.
func refuse(why string) rule {
	return func(t *translation, e entry) {
		if isOff(e.node) {
			t.note(Idle, "off, or as cria does it anyway", e.name)
			return
		}
		t.fail(e, "%s", why)
	}
}

// named makes the rules of keys that have the same meaning under a name of cria's.
func named[T any](read func(*yaml.Node) (T, bool), what string) func(key string) rule {
	return func(key string) rule {
		return func(t *translation, e entry) {
			if v, ok := read(e.node); ok {
				t.set(key, v, e)
			} else {
				t.mustBe(e, what)
			}
		}
	}
}

var (
	whole  = named(wholeOf, "a whole number")
	number = named(numberOf, "a number")
	flag   = named(boolOf, "true or false")
	text   = named(func(n *yaml.Node) (string, bool) { s, ok := textOf(n); return s, ok && s != "" }, "text")
)

// list reads a list of texts, or one text with commas.
func (t *translation) list(e entry) (items []string) {
	if e.node.Kind == yaml.ScalarNode && !isNull(e.node) {
		for _, s := range strings.Split(e.node.Value, ",") {
			if s = strings.TrimSpace(s); s != "" {
				items = append(items, s)
			}
		}
		return items
	}
	if e.node.Kind == yaml.SequenceNode {
		for _, n := range e.node.Content {
			s, ok := textOf(n)
			if !ok {
				t.mustBe(entry{e.name, e.key, n}, "text")
				return nil
			}
			items = append(items, s)
		}
		return items
	}
	t.mustBe(e, "a list of texts")
	return nil
}

// targets takes target modules as PEFT does: a list of names, or a text, which is a regular expression or all-linear.
func targets(t *translation, e entry) {
	s, isText := textOf(e.node)
	switch list := t.list(e); {
	case isText && !slices.Contains(linear, s):
		t.set("lora.target_modules", s, e)
	case len(list) == 1 && !slices.Contains(linear, list[0]): // TRL's model_config.py makes a text of a list of one
		t.set("lora.target_modules", list[0], e)
	case len(list) > 0:
		t.set("lora.target_modules", list, e)
	}
}

// each gives a rule to many keys, whose names stand in one text.
func each(r rule, names string) map[string]rule {
	m := map[string]rule{}
	for _, name := range strings.Fields(names) {
		m[name] = r
	}
	return m
}

// tableOf puts tables together; what stands later wins.
func tableOf(parts ...map[string]rule) map[string]rule {
	m := map[string]rule{}
	for _, p := range parts {
		maps.Copy(m, p)
	}
	return m
}

// quantised tells names of models whose weights are quantised.
var quantised = regexp.MustCompile(`(?i)([2-8]-?bit|gptq|awq|gguf|mxfp4)`)

// linear are the names of a Llama's linear layers, without the head.
var linear = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

// common is what holds for the recipes of all tools: the defaults, and what cria's own keys need of each other.
func (t *translation) common() {
	for _, p := range t.tool.presets {
		t.preset(p.key, p.value, p.name)
	}
	if _, ok := t.values["adapter"]; ok { // as in the tools, the adapter's own configuration holds
		for _, key := range []string{"lora.r", "lora.lora_alpha", "lora.target_modules", "lora.use_rslora", "lora.layers_to_transform", "lora.rank_pattern", "lora.alpha_pattern"} {
			for _, e := range t.values[key].from {
				t.note(Idle, "the adapter to start from decides it", e.name)
			}
			delete(t.values, key)
		}
	}
	if _, ok := t.values["lora.layers_to_transform"]; ok && t.values["lora.target_modules"].v == "all-linear" {
		v := t.values["lora.target_modules"]
		v.v = linear // with numbers of layers, names are needed
		t.values["lora.target_modules"] = v
	}
	if model, ok := t.values["model"]; ok {
		if quantised.MatchString(fmt.Sprint(model.v)) {
			t.note(Lost, "by its name a quantised model: name the original, cria trains on weights in 16 or 32 bits", model.from[0].name)
		}
	}
	t.leftover()
}

// leftover notes what neither became part of the recipe nor has a note.
func (t *translation) leftover() {
	said := map[string]bool{}
	say := func(name string) {
		for said[name] = true; strings.Contains(name, "."); said[name] = true { // and the mappings that it is in
			name = name[:strings.LastIndex(name, ".")]
		}
	}
	for _, v := range t.values {
		for _, e := range v.from {
			say(e.name)
		}
	}
	for _, n := range t.notes {
		for _, k := range n.Keys {
			say(k)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.given)) {
		if !said[name] {
			t.note(Idle, "off, or as cria does it anyway", name)
		}
	}
}

// check lets recipe judge the values, and leads its faults back to the file's keys.
func (t *translation) check(missing []string) error {
	var overrides, keys []string
	for _, k := range keysOfCria() {
		if v, ok := t.values[k.Name]; ok {
			keys = append(keys, k.Name)
			overrides = append(overrides, k.Name+"="+encode(v.v))
		}
	}
	if len(keys) != len(t.values) {
		return fmt.Errorf("%s: translated to keys that cria does not have: %v", t.file, slices.Sorted(maps.Keys(t.values)))
	}
	for _, key := range missing {
		keys = append(keys, key)
		overrides = append(overrides, key+"=x")
	}
	_, err := recipe.Load("", overrides)
	var faults recipe.Errors
	if !errors.As(err, &faults) {
		return err
	}
	var errs recipe.Errors
	for _, f := range faults {
		e := &recipe.Error{File: t.file, Key: f.Key, Reason: f.Reason}
		if f.Override > 0 {
			if from := t.values[keys[f.Override-1]].from; len(from) > 0 {
				e.Line, e.Column, e.Key = from[0].node.Line, from[0].node.Column, from[0].name
				if f.Key != from[0].name {
					e.Reason = "becomes " + f.Key + ": " + f.Reason
				}
			}
		}
		errs = append(errs, e)
	}
	return errs
}
