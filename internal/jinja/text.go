package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// isSpace is Python's str.isspace of one character.
func isSpace(c rune) bool {
	return c >= 0x1c && c <= 0x1f || unicode.IsSpace(c)
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func (r *run) countRunes(s string) (int, error) {
	return utf8.RuneCountInString(s), r.scan(len(s))
}

// byteOffset is where character n of s starts, len(s) behind the last one.
func byteOffset(s string, n int) int {
	for i := range s {
		if n <= 0 {
			return i
		}
		n--
	}
	return len(s)
}

// isLineEnd holds for the characters at which str.splitlines cuts.
func isLineEnd(c rune) bool {
	switch c {
	case '\n', '\v', '\f', '\r', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

// count tells how many characters of s are such.
func count(s string, is func(c rune) bool) int {
	n := 0
	for _, c := range s {
		if is(c) {
			n++
		}
	}
	return n
}

// splitLines cuts s as Python's str.splitlines does.
func splitLines(s string, keepEnds bool) []string {
	var lines []string
	start := 0
	for i, c := range s {
		if !isLineEnd(c) || i < start { // the \n of \r\n
			continue
		}
		end := i + utf8.RuneLen(c)
		if strings.HasPrefix(s[i:], "\r\n") {
			end++
		}
		if keepEnds {
			lines = append(lines, s[start:end])
		} else {
			lines = append(lines, s[start:i])
		}
		start = end
	}
	if start < len(s) {
		lines = append(lines, s[start:])
	}
	return lines
}

// upper, lower and title are Python's, which follow SpecialCasing.txt of Unicode.
func upper(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	return mapCase(s, func(c rune) rune {
		return unicode.ToUpper(c)
	}, specialUpper)
}

func lower(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	for i, c := range s {
		switch c {
		case 'İ':
			b.WriteString("i̇")
		case 'Σ':
			b.WriteRune(lowerSigma(s, i))
		default:
			b.WriteRune(unicode.ToLower(c))
		}
	}
	return b.String()
}

// lowerSigma is ς at the end of a word and σ elsewhere.
func lowerSigma(s string, i int) rune {
	before, after := false, false
	for j := i; j > 0; {
		c, size := utf8.DecodeLastRuneInString(s[:j])
		j -= size
		if !isCaseIgnorable(c) {
			before = isCased(c)
			break
		}
	}
	for _, c := range s[i+len("Σ"):] {
		if !isCaseIgnorable(c) {
			after = isCased(c)
			break
		}
	}
	if before && !after {
		return 'ς'
	}
	return 'σ'
}

func isCased(c rune) bool {
	return isLetterCase(c) || unicode.In(c, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

func isLetterCase(c rune) bool { return unicode.IsUpper(c) || unicode.IsLower(c) }

func isCaseIgnorable(c rune) bool {
	return !isLetterCase(c) && unicode.In(c, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) ||
		strings.ContainsRune("'.:·’․‘﹒＇．：", c)
}

func titleRune(c rune) string {
	if s, ok := specialTitle[c]; ok {
		return s
	}
	return string(unicode.ToTitle(c))
}

func mapCase(s string, simple func(rune) rune, special map[rune]string) string {
	var b strings.Builder
	b.Grow(len(s))
	for _, c := range s {
		if t, ok := special[c]; ok {
			b.WriteString(t)
		} else {
			b.WriteRune(simple(c))
		}
	}
	return b.String()
}

// titleWords is str.title: every run of cased characters starts with a capital.
func titleWords(s string) string {
	var b strings.Builder
	inside := false
	for i, c := range s {
		switch {
		case inside:
			b.WriteString(lowerAt(s, i, c))
		default:
			b.WriteString(titleRune(c))
		}
		inside = isCased(c)
	}
	return b.String()
}

func lowerAt(s string, i int, c rune) string {
	if c == 'Σ' {
		return string(lowerSigma(s, i))
	}
	return lower(string(c))
}

// capitalize is str.capitalize: one capital, the rest lower case.
func capitalize(s string) string {
	var b strings.Builder
	for i, c := range s {
		if i == 0 {
			b.WriteString(titleRune(c))
		} else {
			b.WriteString(lowerAt(s, i, c))
		}
	}
	return b.String()
}

func swapCase(s string) string {
	var b strings.Builder
	for i, c := range s {
		switch {
		case unicode.In(c, unicode.Lu, unicode.Other_Uppercase):
			b.WriteString(lowerAt(s, i, c))
		case unicode.In(c, unicode.Ll, unicode.Other_Lowercase):
			b.WriteString(upper(string(c)))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;")

// escapeHTML is markupsafe.escape of a text.
func (r *run) escapeHTML(s string) (string, error) {
	if err := r.alloc(len(s)); err != nil {
		return "", err
	}
	if strings.ContainsAny(s, `&<>'"`) {
		n := len(s)
		for i := 0; i < len(s); i++ {
			switch s[i] {
			case '&', '\'', '"':
				n += 4
			case '<', '>':
				n += 3
			}
		}
		if err := r.alloc(n - len(s)); err != nil {
			return "", err
		}
	}
	return htmlEscaper.Replace(s), nil
}

// escape is markupsafe.escape of a value: Markup stays as it is.
func (r *run) escape(v Value) (string, error) {
	s, err := r.str(v)
	if err != nil {
		return "", err
	}
	if _, ok := v.(markupValue); ok {
		return s, nil
	}
	return r.escapeHTML(s)
}
