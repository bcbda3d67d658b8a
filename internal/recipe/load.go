package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxFile is the size up to which a recipe is read.
const maxFile = 1 << 20

// Load reads a recipe, puts the overrides on top and checks the whole. path may be "" where the overrides say everything.
// An override is key=value, the key dotted (lora.r=16) and the value as in YAML, but that text needs no quotes; the last
// override of a key wins. All faults come at once, as Errors. Paths in a recipe are taken as they are, so they are relative
// to the working directory.
func Load(path string, overrides []string) (*Recipe, error) {
	var content []byte
	if path != "" {
		var err error
		if content, err = readFile(path); err != nil {
			return nil, err
		}
	}
	return parse(path, content, overrides)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Errors{{File: path, Reason: "there is no such file"}}
	}
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, Errors{{File: path, Reason: "is a directory: name the YAML file in it"}}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	return b, nil
}

// loader collects what a recipe's sources say.
type loader struct {
	recipe *Recipe
	source place // Override is set while an override is read
	errs   Errors
}

func parse(path string, content []byte, overrides []string) (*Recipe, error) {
	l := &loader{recipe: defaults()}
	l.recipe.file = path
	root := l.document(content)
	if len(l.errs) > 0 {
		return nil, l.errs
	}
	if root != nil {
		l.mapping("", root)
	}
	for i, o := range overrides {
		l.source.Override = i + 1
		l.override(o)
	}
	l.source.Override = 0
	l.check()
	if len(l.errs) > 0 {
		l.errs.sort()
		return nil, l.errs
	}
	return l.recipe, nil
}

// fail adds a fault at a line and column of the source being read.
func (l *loader) fail(line, column int, key, format string, args ...any) {
	p := l.at(&yaml.Node{Line: line, Column: column})
	l.errs = append(l.errs, &Error{File: l.recipe.file, place: p, Key: key, Reason: fmt.Sprintf(format, args...)})
}

// document reads the file's one YAML document and returns its mapping, or nil.
func (l *loader) document(content []byte) *yaml.Node {
	if len(content) > maxFile {
		l.fail(0, 0, "", "is larger than %d MiB: this is no recipe", maxFile>>20)
		return nil
	}
	if !l.isText(content) {
		return nil
	}
	root, err := ParseYAML(content)
	if err != nil {
		line, column, reason := describe(err)
		l.fail(line, column, "", "%s", reason)
		return nil
	}
	switch {
	case root == nil || isNull(root):
		return nil
	case root.Kind != yaml.MappingNode:
		l.fail(root.Line, root.Column, "", "a recipe is a mapping of keys to values, not %s", show(root))
		return nil
	}
	return root
}

// isText checks that content is UTF-8 without control characters, of which YAML's reader tells no place.
func (l *loader) isText(content []byte) bool {
	line, column := 1, 1
	for len(content) > 0 {
		r, n := utf8.DecodeRune(content)
		switch {
		case r == utf8.RuneError && n == 1:
			l.fail(line, column, "", "byte 0x%02x is not UTF-8: save the recipe as UTF-8", content[0])
			return false
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f:
			l.fail(line, column, "", "control character %U", r)
			return false
		case r == '\n':
			line, column = line+1, 0
		}
		column++
		content = content[n:]
	}
	return true
}

// SecondDocument is the error of a file with more than one document.
type SecondDocument struct{ Line int }

func (e SecondDocument) Error() string { return "a second document begins here: a recipe is one" }

// ParseYAML returns the root of the only document in content, nil where there is none.
func ParseYAML(content []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	var document, second yaml.Node
	if err := loader.Load(&document); err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := loader.Load(&second); err == nil {
		return nil, SecondDocument{second.Line}
	} else if err != io.EOF {
		return nil, err
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	return follow(document.Content[0]), nil
}

// describe takes an error of the YAML library apart.
func describe(err error) (line, column int, reason string) {
	var one *yaml.LoadError
	var many *yaml.LoadErrors
	var second SecondDocument
	switch {
	case errors.As(err, &second):
		return second.Line, 1, second.Error()
	case errors.As(err, &many) && len(many.Errors) > 0:
		one = many.Errors[0]
	case errors.As(err, &one):
	default:
		return 0, 0, "not YAML: " + err.Error()
	}
	reason = "not YAML: " + one.Message
	if one.ContextMsg != "" {
		reason += ", " + one.ContextMsg
		if one.ContextMark != one.Mark && one.ContextMark.Line > 0 {
			reason += fmt.Sprintf(" that begins at %d:%d", one.ContextMark.Line, one.ContextMark.Column)
		}
	}
	if strings.Contains(one.Message, "cannot start any token") {
		reason += " (indent with spaces, not tabs; quote values that begin with @, ` or %)"
	}
	return one.Mark.Line, one.Mark.Column, reason
}

// mapping takes the keys of a mapping; prefix is "" or that of a group ("lora.").
func (l *loader) mapping(prefix string, n *yaml.Node) {
	report := func(at *yaml.Node, suffix, reason string) {
		l.fail(at.Line, at.Column, strings.Trim(prefix+strings.TrimPrefix(suffix, "."), "."), "%s", reason)
	}
	pairs(n, report, func(key string, k, v *yaml.Node) {
		if group, last, dotted := strings.Cut(key, "."); dotted && findKey(key) != nil {
			l.fail(k.Line, k.Column, key, "in a file, write %s under %s", last, group)
			return
		}
		l.set(prefix+key, k, v)
	})
}

// set takes one key and its value.
func (l *loader) set(name string, k, v *yaml.Node) {
	for _, g := range groups {
		if name != g {
			continue
		}
		switch {
		case isNull(v):
		case v.Kind == yaml.MappingNode:
			l.recipe.places[g] = l.at(v)
			l.mapping(g+".", v)
		default:
			l.fail(v.Line, v.Column, name, "must be a mapping of keys to values, not %s", show(v))
		}
		return
	}
	key := findKey(name)
	if key == nil {
		l.fail(k.Line, k.Column, clip(name), "%s", unknown(name))
		return
	}
	if tag := explicitTag(v); tag != nil {
		l.fail(tag.Line, tag.Column, name, "remove the tag %s: types are known", tag.Tag)
		return
	}
	value := key.value(l.recipe)
	if isNull(v) && key.optional {
		unset(value)
		delete(l.recipe.places, name)
		return
	}
	value.decode(v, func(n *yaml.Node, suffix, reason string) {
		l.fail(n.Line, n.Column, name+clip(suffix), "%s", reason)
	})
	l.recipe.places[name] = l.at(v)
}

// at returns the place of a node of the source being read.
func (l *loader) at(n *yaml.Node) place {
	p := l.source
	if p.Override == 0 {
		p.Line, p.Column = n.Line, n.Column
	}
	return p
}

// explicitTag returns the first node at or directly below n whose type is written out (!!str 8), or nil. Nothing deeper is
// ever decoded.
func explicitTag(n *yaml.Node) *yaml.Node {
	if n.Style&yaml.TaggedStyle != 0 {
		return n
	}
	for _, c := range n.Content {
		if c = follow(c); c.Style&yaml.TaggedStyle != 0 {
			return c
		}
	}
	return nil
}

// override takes one key=value.
func (l *loader) override(o string) {
	name, text, ok := strings.Cut(o, "=")
	switch {
	case !utf8.ValidString(o):
		l.fail(0, 0, "", "%q is not UTF-8", clip(o))
		return
	case !ok || name == "":
		l.fail(0, 0, "", "%q is no override: write key=value, such as learning_rate=1e-4", clip(o))
		return
	}
	n, err := overrideNode(name, text)
	if err != nil {
		_, _, reason := describe(err)
		l.fail(0, 0, name, "%s: %s", clip(text), reason)
		return
	}
	l.set(name, n, n)
}

// overrideNode makes a node of an override's value. Lists, mappings and quoted scalars are YAML; anything else is a plain
// scalar, whatever characters it has, so that text needs no quotes; null takes an optional key back to none.
func overrideNode(name, value string) (*yaml.Node, error) {
	plain := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	isText := false
	if key := findKey(name); key != nil {
		_, isText = key.value(defaults()).(text)
		if key.optional && value == "null" {
			plain.Tag = "!!null"
		}
	}
	trimmed := strings.TrimSpace(value)
	switch {
	case strings.HasPrefix(trimmed, `"`), strings.HasPrefix(trimmed, "'"):
	case !isText && (strings.HasPrefix(trimmed, "[") || strings.HasPrefix(trimmed, "{")):
	default:
		return plain, nil
	}
	n, err := ParseYAML([]byte(value))
	switch {
	case err != nil && !isText:
		return nil, err
	case err != nil || n == nil || isText && n.Kind != yaml.ScalarNode:
		return plain, nil
	}
	return n, nil
}
