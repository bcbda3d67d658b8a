package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// str reads a quoted string and resolves its escapes as Python's unicode-escape codec does.
func (l *lexer) str(start int, quote byte) (token, error) {
	plain := true
	for i := start + 1; i < len(l.src); i++ {
		switch l.src[i] {
		case '\\':
			plain = false
			i++
		case quote:
			l.pos = i + 1
			text := l.src[start+1 : i]
			if plain {
				return token{tokString, text, start}, nil
			}
			text, err := unescape(text)
			return token{tokString, text, start}, err
		}
	}
	return token{pos: start}, fmt.Errorf("unexpected char %q at %d: the string has no end", quote, start)
}

var simpleEscapes = map[byte]byte{'\\': '\\', '\'': '\'', '"': '"', 'a': 7, 'b': 8, 'f': 12, 'n': 10, 'r': 13, 't': 9, 'v': 11}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			i++
			continue
		}
		c := s[i+1]
		i += 2
		if e, ok := simpleEscapes[c]; ok {
			b.WriteByte(e)
			continue
		}
		switch {
		case c == '\n':
		case c >= '0' && c <= '7':
			end := i
			for end < len(s) && end < i+2 && s[end] >= '0' && s[end] <= '7' {
				end++
			}
			n, _ := strconv.ParseUint(s[i-1:end], 8, 32)
			b.WriteRune(rune(n))
			i = end
		case c == 'x' || c == 'u' || c == 'U':
			size := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
			if i+size > len(s) {
				return "", fmt.Errorf("truncated \\%c escape in a string", c)
			}
			n, err := strconv.ParseUint(s[i:i+size], 16, 32)
			if err != nil {
				return "", fmt.Errorf("truncated \\%c escape in a string", c)
			}
			if n > utf8.MaxRune || !utf8.ValidRune(rune(n)) {
				return "", fmt.Errorf("the escape \\%c%s in a string is no character", c, s[i:i+size])
			}
			b.WriteRune(rune(n))
			i += size
		case c == 'N':
			return "", fmt.Errorf("\\N{...} in a string: write the character itself")
		case c < utf8.RuneSelf:
			b.WriteByte('\\')
			b.WriteByte(c)
		default: // the codec sees the character's own escape behind the backslash
			r, size := utf8.DecodeRuneInString(s[i-1:])
			b.WriteString(escapeRune(r))
			i += size - 1
		}
	}
	return b.String(), nil
}

// escapeRune is a character as Python escapes it: \xe9, \u4f60, \U0001f600.
func escapeRune(c rune) string {
	switch {
	case c < 0x100:
		return fmt.Sprintf(`\x%02x`, c)
	case c < 0x10000:
		return fmt.Sprintf(`\u%04x`, c)
	}
	return fmt.Sprintf(`\U%08x`, c)
}
