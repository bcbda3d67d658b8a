package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"cria/internal/disk"
)

// jsonReader walks JSON (RFC 8259) in place. A vocabulary is a few hundred thousand short
// strings, for which encoding/json takes half a second; this takes a tenth of it. data
// must be valid UTF-8. Errors do not say what was read, only where; callers add that.
type jsonReader struct {
	data []byte
	pos  int
	buf  []byte // the last string with an escape
}

const maxJSONDepth = 64

func (r *jsonReader) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d: "+format, append([]any{r.pos}, args...)...)
}

// peek skips white space and returns the next byte, or 0 at the end.
func (r *jsonReader) peek() byte {
	for ; r.pos < len(r.data); r.pos++ {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (r *jsonReader) expect(c byte) error {
	if got := r.peek(); got != c {
		if r.pos == len(r.data) {
			return r.errorf("expected %q, but the text ends", c)
		}
		return r.errorf("expected %q, found %q", c, got)
	}
	r.pos++
	return nil
}

// end checks that only white space is left.
func (r *jsonReader) end() error {
	if r.peek(); r.pos < len(r.data) {
		return r.errorf("%q after the end of the value", r.data[r.pos])
	}
	return nil
}

// object calls member for every key; member must read the value. key is valid until the
// next call of str.
func (r *jsonReader) object(member func(key []byte) error) error {
	return r.list('{', '}', func() error {
		key, err := r.str()
		if err != nil {
			return err
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		return member(key)
	})
}

// array calls element for every element; element must read it.
func (r *jsonReader) array(element func() error) error { return r.list('[', ']', element) }

func (r *jsonReader) list(open, end byte, item func() error) error {
	if err := r.expect(open); err != nil {
		return err
	}
	if r.peek() == end {
		r.pos++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if r.peek() == end {
			r.pos++
			return nil
		}
		if err := r.expect(','); err != nil {
			return err
		}
	}
}

// str reads a string. The result is valid until the next call.
func (r *jsonReader) str() ([]byte, error) {
	if err := r.expect('"'); err != nil {
		return nil, err
	}
	start := r.pos
	for ; r.pos < len(r.data); r.pos++ {
		switch c := r.data[r.pos]; {
		case c == '"':
			s := r.data[start:r.pos]
			r.pos++
			return s, nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return nil, r.errorf("control character %q in a string", c)
		}
	}
	return nil, r.errorf("a string does not end")
}

// escaped reads on a string that began at start and has its first escape at pos.
func (r *jsonReader) escaped(start int) ([]byte, error) {
	b := append(r.buf[:0], r.data[start:r.pos]...)
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		r.pos++
		switch {
		case c == '"':
			r.buf = b
			return b, nil
		case c < ' ':
			return nil, r.errorf("control character %q in a string", c)
		case c != '\\':
			b = append(b, c)
			continue
		}
		if r.pos == len(r.data) {
			break
		}
		c = r.data[r.pos]
		r.pos++
		switch c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			c, err := r.codePoint()
			if err != nil {
				return nil, err
			}
			b = utf8.AppendRune(b, c)
		default:
			return nil, r.errorf(`unknown escape \%c in a string`, c)
		}
	}
	return nil, r.errorf("a string does not end")
}

// codePoint reads what follows \u, with the second \u of a surrogate pair.
func (r *jsonReader) codePoint() (rune, error) {
	c, err := r.hex4()
	if err != nil || !utf16.IsSurrogate(c) {
		return c, err
	}
	if !bytes.HasPrefix(r.data[r.pos:], []byte(`\u`)) {
		return 0, r.errorf("half a surrogate pair in a string")
	}
	r.pos += 2
	low, err := r.hex4()
	if err != nil {
		return 0, err
	}
	if c = utf16.DecodeRune(c, low); c == utf8.RuneError {
		return 0, r.errorf("half a surrogate pair in a string")
	}
	return c, nil
}

func (r *jsonReader) hex4() (rune, error) {
	if len(r.data)-r.pos < 4 {
		return 0, r.errorf("a string does not end")
	}
	v := rune(0)
	for range 4 {
		c := r.data[r.pos]
		r.pos++
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, r.errorf(`%q after \u in a string`, c)
		}
		v = v<<4 | rune(c)
	}
	return v, nil
}

// index reads an integer in [0, limit).
func (r *jsonReader) index(limit int) (int, error) {
	r.peek()
	start, v := r.pos, 0
	for ; r.pos < len(r.data) && r.data[r.pos] >= '0' && r.data[r.pos] <= '9'; r.pos++ {
		v = v*10 + int(r.data[r.pos]-'0')
		if v >= limit {
			return 0, r.errorf("number not below %d", limit)
		}
	}
	if digits := r.pos - start; digits == 0 || digits > 1 && r.data[start] == '0' {
		return 0, r.errorf("expected an integer of at least 0")
	}
	return v, nil
}

// raw skips a value and returns its text.
func (r *jsonReader) raw() ([]byte, error) {
	r.peek()
	start := r.pos
	var open [maxJSONDepth]byte
	for depth := 0; ; {
		switch c := r.peek(); c {
		case '"':
			if _, err := r.str(); err != nil {
				return nil, err
			}
		case '{', '[':
			if depth == maxJSONDepth {
				return nil, r.errorf("nested deeper than %d", maxJSONDepth)
			}
			open[depth] = c + 2 // '}' or ']'
			depth++
			r.pos++
		case '}', ']':
			if depth == 0 || open[depth-1] != c {
				return nil, r.errorf("unexpected %q", c)
			}
			depth--
			r.pos++
		case 0:
			return nil, r.errorf("a value does not end")
		case ',', ':':
			if depth == 0 {
				return nil, r.errorf("unexpected %q", c)
			}
			r.pos++
		default:
			r.literal()
		}
		if depth == 0 {
			text := r.data[start:r.pos]
			if !json.Valid(text) { // so far only strings and brackets were looked at
				return nil, fmt.Errorf("byte %d: not a JSON value", start)
			}
			return text, nil
		}
	}
}

// literal skips a number, true, false, null or what else has no business there.
func (r *jsonReader) literal() {
	for ; r.pos < len(r.data); r.pos++ {
		switch r.data[r.pos] {
		case ' ', '\t', '\n', '\r', ',', ':', '"', '{', '}', '[', ']':
			return
		}
	}
}

// decode reads a member into v, and leaves v alone if it is absent (nil) or null.
func decode(name string, text json.RawMessage, v any) error {
	if text == nil {
		return nil
	}
	return within(name, disk.Unmarshal(text, v))
}
