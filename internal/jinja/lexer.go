package jinja

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is the kind of a token, named as Jinja2's describe_token names it in messages.
type kind string

const (
	tokEOF           kind = "end of template"
	tokData          kind = "template data / text"
	tokVariableBegin kind = "begin of print statement"
	tokVariableEnd   kind = "end of print statement"
	tokBlockBegin    kind = "begin of statement block"
	tokBlockEnd      kind = "end of statement block"
	tokName          kind = "name"
	tokString        kind = "string"
	tokInteger       kind = "integer"
	tokFloat         kind = "float"
	tokOperator      kind = "operator"
)

type token struct {
	kind kind
	text string // the data, name, number or operator; a string's value
	pos  int    // byte offset in the source
}

func (t token) describe() string {
	switch t.kind {
	case tokName, tokOperator:
		return t.text
	}
	return string(t.kind)
}

func (t token) is(op string) bool     { return t.kind == tokOperator && t.text == op }
func (t token) isName(n string) bool  { return t.kind == tokName && t.text == n }
func (t token) oneOf(n []string) bool { return t.kind == tokName && contains(n, t.text) }

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// lexer cuts a source into tokens on demand, with the rules of jinja2/lexer.py for
// trim_blocks and lstrip_blocks.
type lexer struct {
	src   string
	pos   int
	mode  kind    // tokData, tokVariableBegin or tokBlockBegin: what we are inside of
	open  []byte  // closing brackets still expected
	queue []token // found but not handed out
}

// normalizeNewlines makes every line end "\n" and drops one at the very end.
func normalizeNewlines(src string) string {
	src = strings.ReplaceAll(src, "\r\n", "\n")
	src = strings.ReplaceAll(src, "\r", "\n")
	return strings.TrimSuffix(src, "\n")
}

func (l *lexer) next() (token, error) {
	for {
		if len(l.queue) > 0 {
			t := l.queue[0]
			l.queue = l.queue[1:]
			return t, nil
		}
		if l.mode != tokData {
			return l.inside()
		}
		if l.pos >= len(l.src) {
			return token{kind: tokEOF, pos: len(l.src)}, nil
		}
		if err := l.outside(); err != nil {
			return token{pos: l.pos}, err
		}
	}
}

// outside reads text up to the next tag and that tag's begin; comments and raw blocks whole.
func (l *lexer) outside() error {
	l.queue = l.queue[:0]
	start := l.pos
	tag := start
	for {
		i := strings.IndexByte(l.src[tag:], '{')
		if i < 0 || tag+i+1 >= len(l.src) {
			l.data(l.src[start:], start)
			l.pos = len(l.src)
			return nil
		}
		tag += i
		if c := l.src[tag+1]; c == '{' || c == '%' || c == '#' {
			break
		}
		tag++
	}
	l.pos = tag
	sign := l.sign(tag + 2)
	l.data(l.strip(start, tag, sign), start)
	body := tag + 2
	if sign != 0 {
		body++
	}
	switch l.src[tag+1] {
	case '{':
		l.mode, l.pos = tokVariableBegin, body
		l.queue = append(l.queue, token{tokVariableBegin, "", tag})
	case '#':
		i := strings.Index(l.src[body:], "#}")
		if i < 0 {
			if body < len(l.src) { // Jinja2 takes a comment that opens at the very end
				return fmt.Errorf("missing end of comment tag")
			}
			l.pos = body
			return nil
		}
		end := body + i
		if i > 0 && (l.src[end-1] == '-' || l.src[end-1] == '+') {
			end--
		}
		l.pos, _ = l.tagEnd(end, "#}", true)
	case '%':
		if raw, ok := l.rawBegin(body); ok {
			return l.raw(raw)
		}
		l.mode, l.pos = tokBlockBegin, body
		l.queue = append(l.queue, token{tokBlockBegin, "", tag})
	}
	return nil
}

func (l *lexer) data(text string, pos int) {
	if text != "" {
		l.queue = append(l.queue, token{tokData, text, pos})
	}
}

func (l *lexer) sign(pos int) byte {
	if pos < len(l.src) && (l.src[pos] == '-' || l.src[pos] == '+') {
		return l.src[pos]
	}
	return 0
}

// strip returns the text before the tag at end, without the white space that the tag's sign
// or lstrip_blocks removes.
func (l *lexer) strip(start, end int, sign byte) string {
	text := l.src[start:end]
	switch {
	case sign == '-':
		return strings.TrimRightFunc(text, isSpace)
	case sign == '+' || l.src[end+1] == '{':
		return text
	}
	line := strings.LastIndexByte(text, '\n') + 1
	if line > 0 || start == 0 || l.src[start-1] == '\n' {
		if strings.TrimLeftFunc(text[line:], isSpace) == "" {
			return text[:line]
		}
	}
	return text
}

// tagEnd matches [-+]?close at pos and returns where the tag ends: after white space for
// "-", after one line end otherwise if trim.
func (l *lexer) tagEnd(pos int, closing string, trim bool) (int, bool) {
	sign := l.sign(pos)
	if sign != 0 {
		pos++
	}
	if !strings.HasPrefix(l.src[pos:], closing) {
		return 0, false
	}
	pos += len(closing)
	switch {
	case sign == '-':
		return l.skipSpace(pos), true
	case sign == 0 && trim && pos < len(l.src) && l.src[pos] == '\n':
		return pos + 1, true
	}
	return pos, true
}

func (l *lexer) skipSpace(pos int) int {
	return len(l.src) - len(strings.TrimLeftFunc(l.src[pos:], isSpace))
}

// rawBegin matches the rest of {% raw %} at pos.
func (l *lexer) rawBegin(pos int) (int, bool) {
	pos = l.skipSpace(pos)
	if !strings.HasPrefix(l.src[pos:], "raw") {
		return 0, false
	}
	pos = l.skipSpace(pos + len("raw"))
	if l.sign(pos) == '+' {
		return 0, false
	}
	return l.tagEnd(pos, "%}", false)
}

// raw reads verbatim text from start up to and with {% endraw %}.
func (l *lexer) raw(start int) error {
	if start >= len(l.src) { // Jinja2 takes a raw block that opens at the very end
		l.pos = start
		return nil
	}
	for tag := start; ; tag++ {
		i := strings.Index(l.src[tag:], "{%")
		if i < 0 {
			return fmt.Errorf("missing end of raw directive")
		}
		tag += i
		sign := l.sign(tag + 2)
		pos := tag + 2
		if sign != 0 {
			pos++
		}
		pos = l.skipSpace(pos)
		if !strings.HasPrefix(l.src[pos:], "endraw") {
			continue
		}
		end, ok := l.tagEnd(l.skipSpace(pos+len("endraw")), "%}", true)
		if !ok {
			continue
		}
		l.data(l.strip(start, tag, sign), start)
		l.pos = end
		return nil
	}
}

// inside reads one token of a {{ }} or {% %} tag.
func (l *lexer) inside() (token, error) {
	for {
		if len(l.open) == 0 {
			end, closing, trim := tokVariableEnd, "}}", false
			if l.mode == tokBlockBegin {
				end, closing, trim = tokBlockEnd, "%}", true
			}
			if !(l.mode == tokVariableBegin && l.sign(l.pos) == '+') {
				if pos, ok := l.tagEnd(l.pos, closing, trim); ok {
					t := token{end, "", l.pos}
					l.pos, l.mode = pos, tokData
					return t, nil
				}
			}
		}
		pos := l.skipSpace(l.pos)
		if pos == l.pos {
			break
		}
		l.pos = pos
	}
	start := l.pos
	if start >= len(l.src) {
		return token{kind: tokEOF, pos: start}, nil
	}
	c, _ := utf8.DecodeRuneInString(l.src[start:])
	switch {
	case c >= '0' && c <= '9':
		return l.number(start), nil
	case isNameStart(c):
		for i, c := range l.src[start:] {
			if !isNamePart(c) {
				l.pos = start + i
				return token{tokName, l.src[start:l.pos], start}, nil
			}
		}
		l.pos = len(l.src)
		return token{tokName, l.src[start:], start}, nil
	case c == '"' || c == '\'':
		return l.str(start, byte(c))
	}
	for _, op := range operators {
		if strings.HasPrefix(l.src[start:], op) {
			l.pos += len(op)
			return token{tokOperator, op, start}, l.balance(op)
		}
	}
	return token{pos: start}, fmt.Errorf("unexpected char %s at %d", reprString(string(c)), start)
}

// operators lists the longest first.
var operators = []string{"//", "**", "==", "!=", ">=", "<=",
	"+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}

func (l *lexer) balance(op string) error {
	switch op {
	case "(":
		l.open = append(l.open, ')')
	case "[":
		l.open = append(l.open, ']')
	case "{":
		l.open = append(l.open, '}')
	case ")", "]", "}":
		if len(l.open) == 0 {
			return fmt.Errorf("unexpected '%s'", op)
		}
		want := l.open[len(l.open)-1]
		l.open = l.open[:len(l.open)-1]
		if op[0] != want {
			return fmt.Errorf("unexpected '%s', expected '%c'", op, want)
		}
	}
	return nil
}

func isNameStart(c rune) bool { return c == '_' || unicode.IsLetter(c) || unicode.Is(unicode.Nl, c) }

func isNamePart(c rune) bool {
	return isNameStart(c) || unicode.In(c, unicode.Mn, unicode.Mc, unicode.Nd, unicode.Pc)
}

// digits skips runs of digits that may be separated by single underscores.
func (l *lexer) digits(pos int, is func(byte) bool) int {
	for pos < len(l.src) {
		switch {
		case is(l.src[pos]):
			pos++
		case l.src[pos] == '_' && pos+1 < len(l.src) && is(l.src[pos+1]):
			pos += 2
		default:
			return pos
		}
	}
	return pos
}

func isDecimal(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool {
	return isDecimal(c) || c|0x20 >= 'a' && c|0x20 <= 'f'
}

// number reads an integer or a float; digits after a dot of x.0.1 are integers.
func (l *lexer) number(start int) token {
	if start == 0 || l.src[start-1] != '.' {
		pos := l.digits(start, isDecimal)
		float := false
		if pos+1 < len(l.src) && l.src[pos] == '.' && isDecimal(l.src[pos+1]) {
			pos = l.digits(pos+1, isDecimal)
			float = true
		}
		if pos < len(l.src) && l.src[pos]|0x20 == 'e' {
			exp := pos + 1
			if l.sign(exp) != 0 {
				exp++
			}
			if exp < len(l.src) && isDecimal(l.src[exp]) {
				pos = l.digits(exp, isDecimal)
				float = true
			}
		}
		if float {
			l.pos = pos
			return token{tokFloat, strings.ReplaceAll(l.src[start:pos], "_", ""), start}
		}
	}
	pos := 0
	if l.src[start] != '0' {
		pos = l.digits(start, isDecimal)
	} else {
		pos = l.digits(start, func(c byte) bool { return c == '0' })
		if start+1 < len(l.src) {
			var is func(byte) bool
			switch l.src[start+1] | 0x20 {
			case 'x':
				is = isHex
			case 'o':
				is = func(c byte) bool { return c >= '0' && c <= '7' }
			case 'b':
				is = func(c byte) bool { return c == '0' || c == '1' }
			}
			if is != nil {
				if end := l.digits(start+2, is); end > start+2 {
					pos = end
				}
			}
		}
	}
	l.pos = pos
	return token{tokInteger, strings.ReplaceAll(l.src[start:pos], "_", ""), start}
}
