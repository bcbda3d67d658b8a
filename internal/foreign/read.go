package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"cria/internal/recipe"

	"go.yaml.in/yaml/v4"
)

// Limits of what is read: a recipe of the tools has a few kilobytes.
const (
	maxFile  = 1 << 20
	maxNodes = 20_000 // after aliases are put in
	maxDepth = 32
)

// entry is a key of a recipe and its value.
type entry struct {
	name string     // dotted below the top: lora_parameters.scale
	key  *yaml.Node // where the key is written
	node *yaml.Node // the value, without aliases
}

// fault is a fault at a node, or in the file as a whole.
func fault(file string, at *yaml.Node, key, format string, args ...any) *recipe.Error {
	e := &recipe.Error{File: file, Key: clip(key), Reason: fmt.Sprintf(format, args...)}
	if at != nil {
		e.Line, e.Column = at.Line, at.Column
	}
	return e
}

// read returns the keys of a file with one YAML or JSON mapping, in its order.
func read(file string, content []byte) ([]entry, error) {
	fail := func(line, column int, format string, args ...any) ([]entry, error) {
		return nil, recipe.Errors{fault(file, &yaml.Node{Line: line, Column: column}, "", format, args...)}
	}
	if len(content) > maxFile {
		return fail(0, 0, "is larger than %d MiB: this is no recipe", maxFile>>20)
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if at := badByte(content); at >= 0 {
		return fail(1+bytes.Count(content[:at], []byte("\n")), 0, "byte 0x%02x is no text: a recipe is a YAML or JSON file in UTF-8", content[at])
	}
	if json.Valid(content) {
		content = bytes.ReplaceAll(content, []byte("\t"), []byte(" ")) // outside of texts only, where YAML does not take them
	}
	root, err := recipe.ParseYAML(content)
	if err != nil {
		var one *yaml.LoadError
		var many *yaml.LoadErrors
		var second recipe.SecondDocument
		switch {
		case errors.As(err, &second):
			return fail(0, 0, "a second document begins in line %d: a recipe is one", second.Line)
		case errors.As(err, &many) && len(many.Errors) > 0:
			one = many.Errors[0]
		case !errors.As(err, &one):
			return fail(0, 0, "%s", err)
		}
		return fail(one.Mark.Line, one.Mark.Column, "not YAML: %s", one.Message)
	}
	if root == nil || root.Kind != yaml.MappingNode {
		what := "nothing"
		if root != nil {
			what = show(root)
		}
		return fail(1, 1, "a recipe is a mapping of keys to values, not %s", what)
	}
	x := expander{file: file}
	root = x.copy(root, 0)
	if x.err != nil {
		return nil, recipe.Errors{x.err}
	}
	return pairsOf("", root), nil
}

// badByte returns the offset of the first byte that is not UTF-8 or a control character, -1 where there is none.
func badByte(content []byte) int {
	for i := 0; i < len(content); {
		r, n := utf8.DecodeRune(content[i:])
		if r == utf8.RuneError && n == 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f {
			return i
		}
		i += n
	}
	return -1
}

// expander copies a tree with aliases replaced, within limits, and checks its keys.
type expander struct {
	file  string
	nodes int
	err   *recipe.Error
}

func (x *expander) copy(n *yaml.Node, depth int) *yaml.Node {
	at := n
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	c := *n
	c.Line, c.Column, c.Content = at.Line, at.Column, nil
	if x.nodes++; x.err == nil && (x.nodes > maxNodes || depth > maxDepth) {
		x.err = fault(x.file, at, "", "more than %d values, or more than %d inside each other: this is no recipe", maxNodes, maxDepth)
	}
	if x.err != nil {
		return &c
	}
	for _, e := range n.Content {
		c.Content = append(c.Content, x.copy(e, depth+1))
	}
	if c.Kind != yaml.MappingNode || x.err != nil {
		return &c
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(c.Content) && x.err == nil; i += 2 {
		switch k := c.Content[i]; {
		case k.Kind != yaml.ScalarNode:
			x.err = fault(x.file, k, "", "a key must be a name, not %s", show(k))
		case k.Tag == "!!merge":
			x.err = fault(x.file, k, "", "merge keys (<<) are not taken: write the keys out")
		case lines[k.Value] > 0:
			x.err = fault(x.file, k, k.Value, "appears twice, first in line %d", lines[k.Value])
		default:
			lines[k.Value] = max(k.Line, 1)
		}
	}
	return &c
}

// pairsOf lists a mapping's keys, with a prefix before their names.
func pairsOf(prefix string, n *yaml.Node) (list []entry) {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		list = append(list, entry{prefix + n.Content[i].Value, n.Content[i], n.Content[i+1]})
	}
	return list
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// isOff tells values that switch something off.
func isOff(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode {
		return len(n.Content) == 0
	}
	if on, ok := boolOf(n); ok {
		return !on
	}
	if v, ok := numberOf(n); ok {
		return v == 0
	}
	return isNull(n) || n.Value == "" || strings.EqualFold(n.Value, "none")
}

// boolOf reads what YAML 1.1, with which the tools read, takes for true and false.
func boolOf(n *yaml.Node) (b, ok bool) {
	if n.Kind != yaml.ScalarNode {
		return false, false
	}
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}

// numberOf reads a number, in quotes too: the tools turn 5e-5, which YAML 1.1 takes for text, into a number.
func numberOf(n *yaml.Node) (float64, bool) {
	if n.Kind != yaml.ScalarNode || strings.ContainsAny(n.Value, "xX_pPnNiI") {
		return 0, false
	}
	v, err := strconv.ParseFloat(n.Value, 64)
	return v, err == nil
}

// wholeOf reads a whole number, also one with a point and zeros: 3.0.
func wholeOf(n *yaml.Node) (int64, bool) {
	v, ok := numberOf(n)
	if !ok || v != float64(int64(v)) || v > 1<<53 || v < -(1<<53) {
		return 0, false
	}
	return int64(v), true
}

// textOf reads a text. A number is one too.
func textOf(n *yaml.Node) (string, bool) {
	return n.Value, n.Kind == yaml.ScalarNode && !isNull(n)
}

// show names a node in a message.
func show(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind != yaml.ScalarNode || isNull(n):
		return "nothing"
	}
	return strconv.Quote(clip(n.Value))
}

// clip shortens a long text for a message.
func clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
