package recipe

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// elements calls f for every element of a list, or for n itself where it is a scalar.
func elements(n *yaml.Node, f func(n *yaml.Node, suffix string)) {
	if n.Kind != yaml.SequenceNode {
		f(n, "")
		return
	}
	for i, e := range n.Content {
		f(follow(e), fmt.Sprintf("[%d]", i))
	}
}

// pairs calls f for every key of a mapping, and reports keys that are no text or appear twice.
func pairs(n *yaml.Node, report reporter, f func(key string, k, v *yaml.Node)) {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := follow(n.Content[i]), follow(n.Content[i+1])
		switch first := lines[k.Value]; {
		case k.Kind != yaml.ScalarNode:
			report(k, "", "a key must be a name, not "+show(k))
		case k.Tag == "!!merge" && !quoted(k):
			report(k, "", "merge keys (<<) are not taken: write the keys out")
		case first > 0:
			report(k, "."+k.Value, fmt.Sprintf("appears twice, first in line %d", first))
		default:
			lines[k.Value] = max(k.Line, 1)
			f(k.Value, k, v)
		}
	}
}

// follow returns what an alias stands for, at the alias's place.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind != yaml.AliasNode || n.Alias == nil {
		return n
	}
	c := *n.Alias
	c.Line, c.Column = n.Line, n.Column
	return &c
}

func join(items []string) string { return "[" + strings.Join(items, ", ") + "]" }

func quoteAll(items []string) []string {
	q := make([]string, len(items))
	for i, s := range items {
		q[i] = quote(s)
	}
	return q
}

// texts is one text or a list of them, at least one.
type texts struct {
	p    *[]string
	what string
}

func (v texts) kind() string   { return v.what }
func (v texts) target() any    { return v.p }
func (v texts) encode() string { return join(quoteAll(*v.p)) }
func (v texts) decode(n *yaml.Node, report reporter) {
	var list []string
	elements(n, func(e *yaml.Node, suffix string) {
		s, ok := textOf(e)
		switch {
		case !ok && e.Kind == yaml.ScalarNode && !isNull(e):
			report(e, suffix, fmt.Sprintf("must be text, not %s: put it in quotes", show(e)))
		case !ok && suffix != "":
			report(e, suffix, "must be text, not "+show(e))
		case !ok || s == "":
			report(e, suffix, mismatch(v, e))
		}
		list = append(list, s)
	})
	if len(list) == 0 {
		report(n, "", "must be "+v.kind()+", not an empty list")
	}
	*v.p = list
}

// choices is a list of words out of a few.
type choices struct {
	p      *[]string
	values []string
}

func (v choices) kind() string   { return "a list out of " + strings.Join(v.values, ", ") }
func (v choices) target() any    { return v.p }
func (v choices) encode() string { return join(*v.p) }
func (v choices) decode(n *yaml.Node, report reporter) {
	var list []string
	elements(n, func(e *yaml.Node, suffix string) {
		s, ok := textOf(e)
		if !ok || !slices.Contains(v.values, s) {
			report(e, suffix, mismatch(v, e)+meant(e.Value, v.values))
		} else if !slices.Contains(list, s) {
			list = append(list, s)
		}
	})
	*v.p = list
}

// integers is a list of layer numbers, or one.
type integers struct{ p *[]int }

func (v integers) kind() string { return "a layer number or a list of layer numbers, from 0" }
func (v integers) target() any  { return v.p }
func (v integers) encode() string {
	items := make([]string, len(*v.p))
	for i, k := range *v.p {
		items[i] = strconv.Itoa(k)
	}
	return join(items)
}
func (v integers) decode(n *yaml.Node, report reporter) {
	var list []int
	elements(n, func(e *yaml.Node, suffix string) {
		i, ok := wholeOf(e, 0, math.MaxInt32)
		if !ok {
			report(e, suffix, mismatch(v, e))
		} else if !slices.Contains(list, int(i)) {
			list = append(list, int(i))
		}
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		report(n, "", "must be "+v.kind()+", not an empty list")
	}
	*v.p = list
}

// numbers is a mapping of names to finite numbers.
type numbers struct{ p *map[string]float64 }

func (v numbers) kind() string { return "a mapping of names to numbers" }
func (v numbers) target() any  { return v.p }
func (v numbers) encode() string {
	var items []string
	for _, k := range slices.Sorted(maps.Keys(*v.p)) {
		items = append(items, quote(k)+": "+formatNumber((*v.p)[k]))
	}
	return "{" + strings.Join(items, ", ") + "}"
}
func (v numbers) decode(n *yaml.Node, report reporter) {
	if n.Kind != yaml.MappingNode {
		report(n, "", mismatch(v, n))
		return
	}
	m := map[string]float64{}
	pairs(n, report, func(key string, _, e *yaml.Node) {
		f, ok := numberOf(e)
		if !ok {
			report(e, "."+key, "must be a number, not "+show(e))
		}
		m[key] = f
	})
	*v.p = m
	if len(m) == 0 {
		*v.p = nil
	}
}

// columns is a mapping of roles to names of columns.
type columns struct{ p *[]Column }

func (v columns) kind() string {
	return "a mapping of " + strings.Join(roles, ", ") + " to names of columns"
}
func (v columns) target() any { return v.p }
func (v columns) encode() string {
	items := make([]string, len(*v.p))
	for i, c := range *v.p {
		items[i] = c.Role + ": " + quote(c.Name)
	}
	return "{" + strings.Join(items, ", ") + "}"
}
func (v columns) decode(n *yaml.Node, report reporter) {
	if n.Kind != yaml.MappingNode {
		report(n, "", mismatch(v, n))
		return
	}
	var list []Column
	pairs(n, report, func(key string, k, e *yaml.Node) {
		name, ok := textOf(e)
		switch {
		case !slices.Contains(roles, key):
			report(k, "."+key, "is nothing that a column can be for; known are "+strings.Join(roles, ", ")+meant(key, roles))
		case !ok || name == "":
			report(e, "."+key, "must be the name of a column, not "+show(e))
		default:
			if i := slices.IndexFunc(list, func(c Column) bool { return c.Name == name }); i >= 0 {
				report(e, "."+key, fmt.Sprintf("column %s is already used for %s", clip(name), list[i].Role))
			}
			list = append(list, Column{key, name})
		}
	})
	*v.p = list
}

// pattern is a Pattern of whole numbers from 1 to high.
type pattern struct {
	p    *Pattern
	high int64
}

func (v pattern) kind() string { return "a mapping of module names to whole numbers of at least 1" }
func (v pattern) target() any  { return v.p }
func (v pattern) encode() string {
	items := make([]string, len(*v.p))
	for i, e := range *v.p {
		items[i] = quote(e.Key) + ": " + strconv.Itoa(e.Value)
	}
	return "{" + strings.Join(items, ", ") + "}"
}
func (v pattern) decode(n *yaml.Node, report reporter) {
	if n.Kind != yaml.MappingNode {
		report(n, "", mismatch(v, n))
		return
	}
	var list Pattern
	pairs(n, report, func(key string, k, e *yaml.Node) {
		i, ok := wholeOf(e, 1, v.high)
		switch {
		case key == "":
			report(k, "", "a module name must not be empty")
		case !ok:
			report(e, "."+key, mismatch(integer{low: 1, high: v.high}, e))
		}
		list = append(list, PatternEntry{key, int(i)})
	})
	*v.p = list
}

// targets is TargetModules.
type targets struct{ p *TargetModules }

// bare are names without anything that a regular expression for a whole module name would need.
var bare = regexp.MustCompile(`^[A-Za-z0-9_, -]*$`)

func (v targets) kind() string { return "a list of module names, a regular expression, or all-linear" }
func (v targets) target() any  { return v.p }
func (v targets) encode() string {
	if v.p.List == nil {
		return quote(v.p.Pattern)
	}
	return join(quoteAll(v.p.List))
}
func (v targets) decode(n *yaml.Node, report reporter) {
	if s, ok := textOf(n); ok {
		if s != "all-linear" && bare.MatchString(s) {
			report(n, "", fmt.Sprintf("must be %s, not %s: a text is a regular expression for whole module names, write a list [%s]",
				v.kind(), show(n), clip(s)))
			return
		}
		*v.p = TargetModules{Pattern: s}
		return
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		reason := mismatch(v, n)
		if n.Kind == yaml.SequenceNode {
			reason = "must be " + v.kind() + ", not an empty list"
		}
		report(n, "", reason)
		return
	}
	var list []string
	elements(n, func(e *yaml.Node, suffix string) {
		s, ok := textOf(e)
		if !ok || s == "" {
			report(e, suffix, "must be a module name, not "+show(e))
		} else if !slices.Contains(list, s) {
			list = append(list, s)
		}
	})
	*v.p = TargetModules{List: list}
}
