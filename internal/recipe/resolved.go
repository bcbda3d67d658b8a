package recipe

//go:generate go test -run TestDocs -update

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Resolved returns the recipe as YAML with every key and its effective value, which loads as the same recipe. With
// adapter, the lora keys that the adapter decides stand there only where the recipe named them.
func (r *Recipe) Resolved() []byte {
	var b strings.Builder
	section, group := "", ""
	for _, k := range table {
		if k.noEffect || r.Adapter != "" && adapterDecides(k.Name) && !r.IsSet(k.Name) {
			continue
		}
		if k.Section != section {
			section = k.Section
			group = ""
			fmt.Fprintf(&b, "# %s\n", section)
		}
		name := k.Name
		if g, last, nested := strings.Cut(name, "."); nested {
			if g != group {
				fmt.Fprintf(&b, "%s:\n", g)
			}
			group, name = g, "  "+last
		}
		v := k.value(r)
		text := v.encode()
		if k.optional && isUnset(v) {
			text = "null"
		}
		fmt.Fprintf(&b, "%s: %s\n", name, text)
	}
	return []byte(b.String())
}

// adapterDecides tells whether an adapter to start from brings the key's value with it.
func adapterDecides(key string) bool {
	return strings.HasPrefix(key, "lora.") && key != "lora.lora_dropout"
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./-]*$`)
	reserved  = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf", ".nan", "all"}
)

// quote returns s as a YAML scalar on one line that every YAML reader takes for text.
func quote(s string) string {
	if plainText.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) && !numberPattern.MatchString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r) && r != '\ufffd':
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
