package data

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// value is a JSON value, of whatever kind of file, with its place for messages.
type value struct {
	kind  byte     // its first byte in JSON: '"', '{', '[', 't', 'f', 'n' or '0' for any number; 0 for one that was read over
	text  string   // of a string, its characters; of a number, its spelling
	items []value  // of an array its elements, of an object its values
	keys  []string // of an object
	at    position
}

// empty tells whether nothing is in it: null, "", [] or {}.
func (v *value) empty() bool {
	return v.kind == 'n' || v.kind == '"' && v.text == "" || (v.kind == '[' || v.kind == '{') && len(v.items) == 0
}

// member is the value of a key, nil where the object has none.
func (v *value) member(key string) *value {
	for i, k := range v.keys {
		if k == key {
			return &v.items[i]
		}
	}
	return nil
}

// what names the value's kind in a message.
func (v *value) what() string {
	switch v.kind {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	case '0':
		return "a number"
	}
	return "something else"
}

// appendJSON writes the value as JSON without needless escapes, keeping the order of keys and the spelling of numbers.
func (v *value) appendJSON(b []byte) []byte {
	switch v.kind {
	case '"':
		return appendString(b, v.text)
	case '[':
		b = append(b, '[')
		for i := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.items[i].appendJSON(b)
		}
		return append(b, ']')
	case '{':
		b = append(b, '{')
		for i := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, v.keys[i]), ':')
			b = v.items[i].appendJSON(b)
		}
		return append(b, '}')
	case 't':
		return append(b, "true"...)
	case 'f':
		return append(b, "false"...)
	case '0':
		return append(b, v.text...)
	}
	return append(b, "null"...)
}

func appendString(b []byte, s string) []byte {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r == '"' || r == '\\' || r == utf8.RuneError || r == 0x2028 || r == 0x2029
	}) {
		return append(append(append(b, '"'), s...), '"')
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(s) != nil {
		return strconv.AppendQuote(b, s) // cannot be: strings always encode
	}
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}

// record is one row of a file: its columns, in the file's order.
type record struct {
	at      position
	row     int // from 1
	columns []string
	values  []value // one a column

	file string
}

func (r *record) column(name string) *value {
	for i, c := range r.columns {
		if c == name {
			return &r.values[i]
		}
	}
	return nil
}

// fault says what is wrong at a place of the row.
func (r *record) fault(at position, format string, args ...any) error {
	return faultAt(r.file, r.row, at, format, args...)
}

// object and array of constructed values.
func object(keys []string, items ...value) value { return value{kind: '{', keys: keys, items: items} }
func text(s string) value                        { return value{kind: '"', text: s} }
