package foreign

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// pairs is a mapping in the order of the file.
type pairs []pair

type pair struct {
	key   string
	value any
}

var (
	plain    = regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./-]*$`)
	reserved = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n", "all"}
)

// encode returns a value as YAML on one line.
func encode(v any) string {
	var items []string
	switch v := v.(type) {
	case string:
		if plain.MatchString(v) && !strings.HasPrefix(v, ".") && !slices.Contains(reserved, strings.ToLower(v)) {
			return v
		}
		return strconv.Quote(v) // all of Go's escapes are YAML's too
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []string:
		for _, s := range v {
			items = append(items, encode(s))
		}
	case []int64:
		for _, i := range v {
			items = append(items, encode(i))
		}
	case pairs:
		for _, p := range v {
			items = append(items, encode(p.key)+": "+encode(p.value))
		}
		return "{" + strings.Join(items, ", ") + "}"
	default:
		return fmt.Sprint(v)
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// render returns the recipe as YAML, in the order of the documentation, with the tool's names in comments.
func (t *translation) render(missing []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Translated from a recipe of %s by cria import-recipe; behind a value stands the key that it comes from.\n", t.tool.name)
	section, group := "", ""
	for _, k := range keysOfCria() {
		v, ok := t.values[k.Name]
		if !ok && !slices.Contains(missing, k.Name) {
			continue
		}
		if k.Section != section {
			section, group = k.Section, ""
			fmt.Fprintf(&b, "\n# %s\n", section)
		}
		if !ok {
			fmt.Fprintf(&b, "# %s: is missing, and required\n", k.Name)
			continue
		}
		name := k.Name
		if g, last, nested := strings.Cut(name, "."); nested {
			if g != group {
				fmt.Fprintf(&b, "%s:\n", g)
			}
			group, name = g, "  "+last
		}
		fmt.Fprintf(&b, "%s: %s", name, encode(v.v))
		if c := v.remark(k.Name); c != "" {
			fmt.Fprintf(&b, "  # %s", c)
		}
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// remark is the comment behind a key: the names that it comes from, where they are not its own.
func (v value) remark(key string) string {
	if v.comment != "" {
		return v.comment
	}
	var names []string
	for _, e := range v.from {
		if !slices.Contains(names, e.name) {
			names = append(names, e.name)
		}
	}
	if slices.Equal(names, []string{key[strings.LastIndex(key, ".")+1:]}) {
		return ""
	}
	// What ends a line would end the comment; no key of the tables has it.
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return -1
	}, strings.Join(names, ", "))
}
