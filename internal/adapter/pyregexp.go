package adapter

import (
	"fmt"
	"regexp"
	"strings"
)

// pythonRegexp is a regular expression of Python's re module, as far as it describes a regular language. It is meant for
// module names, which are ASCII without line breaks: there \d, \w, \b, "." and "$" mean the same in both languages.
type pythonRegexp struct {
	prefix *regexp.Regexp // re.match
	whole  *regexp.Regexp // re.fullmatch
}

// matches is re.match: the expression describes the beginning of name.
func (p *pythonRegexp) matches(name string) bool { return p.prefix.MatchString(name) }

// full is re.fullmatch.
func (p *pythonRegexp) full(name string) bool { return p.whole.MatchString(name) }

// Groups of Python that have no counterpart in Go's regexp (RE2), by what follows the parenthesis.
var unsupportedGroups = []struct{ open, name string }{
	{"?=", "lookahead"}, {"?!", "negative lookahead"}, {"?<=", "lookbehind"}, {"?<!", "negative lookbehind"},
	{"?P=", "backreference"}, {"?(", "conditional group"}, {"?>", "atomic group"}, {"?#", "comment"},
}

var (
	plainGroup  = regexp.MustCompile(`^\?(:|P<|-?[ims]+:|[ims]+-[ims]+:)`)
	globalFlags = regexp.MustCompile(`^\?[ims]+\)`)
	repeat      = regexp.MustCompile(`^\{(\d*),(\d*)\}`)
	hexEscape   = regexp.MustCompile(`^x[0-9A-Fa-f]{2}`)
)

// compilePython translates an expression, or says which construct has no translation.
func compilePython(expr string) (*pythonRegexp, error) {
	text, err := translatePython(expr)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", expr, err)
	}
	prefix, err := regexp.Compile(`\A(?:` + text + `)`)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", expr, err)
	}
	whole, err := regexp.Compile(`\A(?:` + text + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", expr, err)
	}
	return &pythonRegexp{prefix, whole}, nil
}

func translatePython(expr string) (string, error) {
	var out strings.Builder
	set := -1 // where the first member of the open [set] is, -1 outside
	for i := 0; i < len(expr); {
		c, rest := expr[i], expr[i+1:]
		inSet := set >= 0
		switch {
		case c == '\\':
			n, err := translateEscape(&out, rest, inSet)
			if err != nil {
				return "", err
			}
			i += 1 + n
			continue
		case inSet && c == ']' && i > set:
			set = -1
		case inSet && c == '[' && strings.HasPrefix(rest, ":"):
			return "", fmt.Errorf("[: inside a set means different things in Python and here, put a backslash before the bracket")
		case inSet:
		case c == '[':
			set = i + 1
			if strings.HasPrefix(rest, "^") {
				out.WriteByte(c)
				c, i = '^', i+1
				set = i + 1
			}
		case c == '(' && strings.HasPrefix(rest, "?"):
			if !plainGroup.MatchString(rest) && !(i == 0 && globalFlags.MatchString(rest)) {
				for _, g := range unsupportedGroups {
					if strings.HasPrefix(rest, g.open) {
						return "", fmt.Errorf("the %s (%s at position %d is not supported; list the modules instead", g.name, g.open, i)
					}
				}
				return "", fmt.Errorf("the group (%.3s at position %d is not supported; list the modules instead", rest, i)
			}
		case c == '{':
			if m := repeat.FindStringSubmatch(expr[i:]); m != nil && m[1] == "" { // {,n} is {0,n}
				fmt.Fprintf(&out, "{0,%s}", m[2])
				i += len(m[0])
				continue
			}
		}
		out.WriteByte(c)
		i++
	}
	return out.String(), nil
}

// translateEscape writes the escape whose letter begins rest, and returns how many bytes of rest it took.
func translateEscape(out *strings.Builder, rest string, inSet bool) (int, error) {
	if rest == "" {
		return 0, fmt.Errorf("a backslash at the end")
	}
	c := rest[0]
	switch letter := 'a' <= c|0x20 && c|0x20 <= 'z'; {
	case c >= 0x80:
		return 0, fmt.Errorf("a backslash before a letter that is not ASCII")
	case '0' <= c && c <= '9':
		return 0, fmt.Errorf("the backreference \\%c is not supported; list the modules instead", c)
	case inSet && strings.ContainsRune("dDsSwW", rune(c)) && strings.HasPrefix(rest[1:], "-") && !strings.HasPrefix(rest[1:], "-]"):
		return 0, fmt.Errorf("the range \\%c- in a set has no beginning", c)
	case !letter, strings.ContainsRune("dDsSwWtnrfva", rune(c)), !inSet && strings.ContainsRune("AbB", rune(c)):
		out.WriteByte('\\')
		out.WriteByte(c)
	case !inSet && c == 'Z':
		out.WriteString(`\z`)
	case hexEscape.MatchString(rest):
		out.WriteString(`\` + rest[:3])
		return 3, nil
	default:
		return 0, fmt.Errorf("the escape \\%c is not supported", c)
	}
	return 1, nil
}
