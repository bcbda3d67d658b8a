package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// FormatError is a fault in a dataset file. Line and Column count from 1, columns in characters (bytes in CSV files); Line is 0
// in files without lines, Row 0 outside of rows.
type FormatError struct {
	File         string
	Line, Column int
	Row          int
	Reason       string
}

func (e *FormatError) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d:%d", e.Line, e.Column)
	}
	if e.Row > 0 {
		s += fmt.Sprintf(": row %d", e.Row)
	}
	return s + ": " + e.Reason
}

// maxRow is the size up to which a row is read: a longer one is no dialogue but a broken file.
const maxRow = 16 << 20

// maxDepth is how deep a column may nest.
const maxDepth = 64

// position is a place in a file: both count from 1, columns in characters.
type position struct{ line, column int }

// scanner reads JSON (RFC 8259) as a stream. It knows line and column of every fault, refuses what encoding/json repairs in
// silence (invalid UTF-8, lone surrogates, repeated keys), and holds no more than one string at a time.
type scanner struct {
	r    *bufio.Reader
	name string
	position
	row  int // the row being read, for faults
	left int // bytes that the row may still have
	buf  []byte
}

func newScanner(r io.Reader, name string) *scanner {
	return &scanner{r: bufio.NewReaderSize(r, 64<<10), name: name, position: position{1, 1}, left: maxRow}
}

func (s *scanner) fault(format string, args ...any) error {
	return s.faultAt(s.position, format, args...)
}

func (s *scanner) faultAt(p position, format string, args ...any) error {
	return faultAt(s.name, s.row, p, format, args...)
}

func faultAt(file string, row int, p position, format string, args ...any) error {
	return &FormatError{File: file, Line: p.line, Column: p.column, Row: row, Reason: fmt.Sprintf(format, args...)}
}

// unexpected turns the end of the file into a fault.
func (s *scanner) unexpected(err error) error {
	if err == io.EOF {
		return s.fault("the file ends in the middle of a row")
	}
	return err
}

// describe names the byte c, about to be read, for a message.
func (s *scanner) describe(c byte) string {
	switch {
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == 't' || c == 'f':
		return "true or false"
	case c == 'n':
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	case c < utf8.RuneSelf:
		return fmt.Sprintf("%q", rune(c))
	}
	b, _ := s.r.Peek(utf8.UTFMax)
	if r, n := utf8.DecodeRune(b); n > 1 {
		return fmt.Sprintf("%q", r)
	}
	return fmt.Sprintf("byte 0x%02x", c)
}

// byte reads one byte. Continuation bytes of UTF-8 do not move the column.
func (s *scanner) byte() (byte, error) {
	c, err := s.r.ReadByte()
	if err != nil {
		return 0, s.readError(err)
	}
	if s.left--; s.left < 0 {
		return 0, s.fault("longer than %d MiB", maxRow>>20)
	}
	switch {
	case c == '\n':
		s.line++
		s.column = 1
	case c < utf8.RuneSelf || c >= 0xc0:
		s.column++
	}
	return c, nil
}

func (s *scanner) readError(err error) error {
	if err == io.EOF {
		return err
	}
	return fmt.Errorf("dataset: reading %s: %w", s.name, err)
}

// skipByteOrderMark passes over the mark of UTF-8 and refuses UTF-16.
func (s *scanner) skipByteOrderMark() error {
	b, err := s.r.Peek(3)
	if err != nil && err != io.EOF {
		return s.readError(err)
	}
	switch {
	case string(b) == "\ufeff":
		s.r.Discard(3)
	case len(b) >= 2 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff):
		return s.fault("the file is UTF-16: convert it to UTF-8")
	case len(b) >= 2 && b[0] == 0x1f && b[1] == 0x8b:
		return s.fault("the file is compressed (gzip): give it a name that ends in .gz, or unpack it")
	}
	return nil
}

// peekToken skips white space and returns the next byte without reading it; io.EOF at the end of the file.
func (s *scanner) peekToken() (byte, error) {
	for {
		b, err := s.r.Peek(1)
		if err != nil {
			return 0, s.readError(err)
		}
		switch b[0] {
		case ' ', '\t', '\r', '\n':
			if s.row == 0 {
				s.left = maxRow
			}
			if _, err := s.byte(); err != nil {
				return 0, err
			}
		default:
			return b[0], nil
		}
	}
}

// expect reads the byte want, after white space.
func (s *scanner) expect(want byte, where string) error {
	c, err := s.peekToken()
	if err != nil {
		return s.unexpected(err)
	}
	if c != want {
		return s.fault("expected %q %s, found %s", want, where, s.describe(c))
	}
	_, err = s.byte()
	return err
}

// array reads an array whose [ is next, calling element for each of its elements when the element is next.
func (s *scanner) array(element func() error) error {
	if err := s.expect('[', "of an array"); err != nil {
		return err
	}
	for first := true; ; first = false {
		c, err := s.peekToken()
		if err != nil {
			return s.unexpected(err)
		}
		if c == ']' && first {
			_, err := s.byte()
			return err
		}
		if !first {
			if c != ',' && c != ']' {
				return s.fault("expected , or ] after an element, found %s", s.describe(c))
			}
			if _, err := s.byte(); err != nil {
				return err
			}
			if c == ']' {
				return nil
			}
			if _, err := s.peekToken(); err != nil {
				return s.unexpected(err)
			}
		}
		if err := element(); err != nil {
			return err
		}
	}
}

// object reads an object whose { is next, calling value for each key when the value is next. Repeated keys are faults.
func (s *scanner) object(value func(key string) error) error {
	if err := s.expect('{', "of a row"); err != nil {
		return err
	}
	var keys []string
	for first := true; ; first = false {
		c, err := s.peekToken()
		if err != nil {
			return s.unexpected(err)
		}
		if c == '}' && first {
			_, err := s.byte()
			return err
		}
		if !first {
			if c != ',' && c != '}' {
				return s.fault("expected , or } after a value, found %s", s.describe(c))
			}
			if _, err := s.byte(); err != nil {
				return err
			}
			if c == '}' {
				return nil
			}
			if c, err = s.peekToken(); err != nil {
				return s.unexpected(err)
			}
		}
		if c != '"' {
			return s.fault("expected a key in double quotes, found %s", s.describe(c))
		}
		at := s.position
		key, err := s.string()
		if err != nil {
			return err
		}
		if slices.Contains(keys, key) {
			return s.faultAt(at, "key %.60q appears twice", key)
		}
		if keys = append(keys, key); len(keys) > 1000 {
			return s.faultAt(at, "more than 1000 keys in one object")
		}
		if err := s.expect(':', "after a key"); err != nil {
			return err
		}
		if err := value(key); err != nil {
			return err
		}
	}
}

// string reads a string whose opening quote is next.
func (s *scanner) string() (string, error) {
	if err := s.expect('"', "of a string"); err != nil {
		return "", err
	}
	s.buf = s.buf[:0]
	for {
		at := s.position
		c, err := s.byte()
		if err != nil {
			return "", s.unexpected(err)
		}
		switch {
		case c == '"':
			return string(s.buf), nil
		case c == '\\':
			if err := s.escape(at); err != nil {
				return "", err
			}
		case c < ' ':
			return "", s.faultAt(at, "the control character %q in a string: is the closing quote missing?", rune(c))
		case c < utf8.RuneSelf:
			s.buf = append(s.buf, c)
		default:
			if err := s.multibyte(c, at); err != nil {
				return "", err
			}
		}
	}
}

// multibyte reads the rest of a UTF-8 sequence that begins with c.
func (s *scanner) multibyte(c byte, at position) error {
	start := len(s.buf)
	s.buf = append(s.buf, c)
	for !utf8.FullRune(s.buf[start:]) {
		b, err := s.byte()
		if err != nil {
			return s.unexpected(err)
		}
		s.buf = append(s.buf, b)
	}
	if r, n := utf8.DecodeRune(s.buf[start:]); r == utf8.RuneError && n == 1 {
		return s.faultAt(at, "byte 0x%02x is not UTF-8: convert the file", c)
	}
	return nil
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads what follows a backslash at the place at.
func (s *scanner) escape(at position) error {
	c, err := s.byte()
	if err != nil {
		return s.unexpected(err)
	}
	if plain, ok := escapes[c]; ok {
		s.buf = append(s.buf, plain)
		return nil
	}
	if c != 'u' {
		return s.faultAt(at, "unknown escape \\%c in a string", c)
	}
	r, err := s.hex(at)
	if err != nil {
		return err
	}
	if utf16.IsSurrogate(r) {
		var low rune
		if b, _ := s.r.Peek(2); string(b) == `\u` {
			s.byte()
			s.byte()
			if low, err = s.hex(at); err != nil {
				return err
			}
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return s.faultAt(at, "half of a surrogate pair is not a character")
		}
	}
	s.buf = utf8.AppendRune(s.buf, r)
	return nil
}

func (s *scanner) hex(at position) (rune, error) {
	var r rune
	for range 4 {
		c, err := s.byte()
		if err != nil {
			return 0, s.unexpected(err)
		}
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, s.faultAt(at, "\\u needs four hexadecimal digits")
		}
		r = r<<4 | rune(c)
	}
	return r, nil
}

// value reads any value.
func (s *scanner) value(depth int) (v value, err error) {
	if depth > maxDepth {
		return v, s.fault("nested deeper than %d", maxDepth)
	}
	c, err := s.peekToken()
	if err != nil {
		return v, s.unexpected(err)
	}
	v.kind, v.at = c, s.position
	switch {
	case c == '"':
		v.text, err = s.string()
	case c == '[':
		err = s.array(func() error {
			item, err := s.value(depth + 1)
			v.items = append(v.items, item)
			return err
		})
	case c == '{':
		err = s.object(func(key string) error {
			item, err := s.value(depth + 1)
			v.keys, v.items = append(v.keys, key), append(v.items, item)
			return err
		})
	case c == '-' || c >= '0' && c <= '9':
		v.kind = '0'
		err = s.number()
		v.text = string(s.buf)
	default:
		_, err = s.skip(depth)
	}
	return v, err
}

// skip reads over any value and tells whether it was empty: null, "", [] or {}.
func (s *scanner) skip(depth int) (empty bool, err error) {
	if depth > maxDepth {
		return false, s.fault("nested deeper than %d", maxDepth)
	}
	c, err := s.peekToken()
	if err != nil {
		return false, s.unexpected(err)
	}
	empty = true
	switch {
	case c == '"':
		text, err := s.string()
		return text == "", err
	case c == '[':
		err = s.array(func() error { empty = false; _, err := s.skip(depth + 1); return err })
		return empty, err
	case c == '{':
		err = s.object(func(string) error { empty = false; _, err := s.skip(depth + 1); return err })
		return empty, err
	case c == 't':
		return false, s.word("true")
	case c == 'f':
		return false, s.word("false")
	case c == 'n':
		return true, s.word("null")
	case c == '-' || c >= '0' && c <= '9':
		return false, s.number()
	}
	return false, s.fault("expected a value, found %s", s.describe(c))
}

func (s *scanner) word(w string) error {
	at := s.position
	for i := range len(w) {
		c, err := s.byte()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err != nil || c != w[i] {
			return s.faultAt(at, "expected %s", w)
		}
	}
	return nil
}

// number reads over a number.
func (s *scanner) number() error {
	at := s.position
	s.buf = s.buf[:0]
	for {
		b, err := s.r.Peek(1)
		if err != nil && err != io.EOF {
			return s.readError(err)
		}
		if err == io.EOF || !bytes.ContainsAny(b, "0123456789+-.eE") {
			break
		}
		c, err := s.byte()
		if err != nil {
			return err
		}
		s.buf = append(s.buf, c)
	}
	if !json.Valid(s.buf) {
		return s.faultAt(at, "%.40q is not a number", s.buf)
	}
	return nil
}
