package jinja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sort"
	"strconv"
	"strings"
)

// Member is a key of an Object with its value, which is anything that Render takes.
type Member struct {
	Key   string
	Value any
}

// Object makes a mapping that keeps the order of its members; a later member replaces an
// earlier one of the same key. The error names a value that a template cannot have.
func Object(members ...Member) (Value, error) {
	d := &dictValue{}
	for _, m := range members {
		v, err := fromGo(m.Value, 1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Key, err)
		}
		if err := d.set(strValue(strings.ToValidUTF8(m.Key, "\uFFFD")), v); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// FromJSON reads one JSON value. Objects keep the order of their keys, of a repeated key
// the last value counts, and 1 is an integer where 1.0 is a float.
func FromJSON(data []byte) (Value, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := fromJSON(dec, 0)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("JSON at byte %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("JSON at byte %d: more than one value", dec.InputOffset())
	}
	return v, nil
}

func fromJSON(dec *json.Decoder, depth int) (Value, error) {
	if depth > maxDataDepth {
		return nil, errTooDeep
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case json.Number:
		return fromNumber(string(tok))
	case json.Delim:
		if tok == '[' {
			l := &listValue{}
			for dec.More() {
				v, err := fromJSON(dec, depth+1)
				if err != nil {
					return nil, err
				}
				l.items = append(l.items, v)
			}
			_, err := dec.Token()
			return l, err
		}
		d := &dictValue{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := fromJSON(dec, depth+1)
			if err != nil {
				return nil, err
			}
			name, ok := key.(string)
			if !ok {
				return nil, fmt.Errorf("a key is not a string")
			}
			if err := d.set(strValue(name), v); err != nil {
				return nil, err
			}
		}
		_, err := dec.Token()
		return d, err
	}
	return fromGo(tok, depth)
}

func fromNumber(s string) (Value, error) {
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range is infinite, as in Python
			return nil, fmt.Errorf("invalid number %q", s)
		}
		return floatValue(f), nil
	}
	if len(s) > maxIntDigits {
		return nil, fmt.Errorf("an integer of more than %d digits", maxIntDigits)
	}
	i, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return nil, fmt.Errorf("invalid number %q", s)
	}
	return intOf(i), nil
}

// fromGo converts what Render's callers pass. Bytes that are no UTF-8 become U+FFFD.
func fromGo(x any, depth int) (Value, error) {
	if depth > maxDataDepth {
		return nil, errTooDeep
	}
	switch x := x.(type) {
	case nil:
		return none{}, nil
	case Value:
		return x, nil
	case bool:
		return boolValue(x), nil
	case string:
		return strValue(strings.ToValidUTF8(x, "\uFFFD")), nil
	case json.Number:
		return fromNumber(string(x))
	case int:
		return intValue(x), nil
	case int32:
		return intValue(x), nil
	case int64:
		return intValue(x), nil
	case uint64:
		return intOf(new(big.Int).SetUint64(x)), nil
	case float32:
		return floatValue(x), nil
	case float64:
		return floatValue(x), nil
	case []string:
		return fromSlice(x, depth)
	case []Value:
		return fromSlice(x, depth)
	case []any:
		return fromSlice(x, depth)
	case []map[string]any:
		return fromSlice(x, depth)
	case map[string]any:
		return fromMap(x, depth)
	case map[string]string:
		return fromMap(x, depth)
	}
	return nil, fmt.Errorf("a template cannot use a value of Go type %T", x)
}

func fromSlice[T any](xs []T, depth int) (Value, error) {
	l := &listValue{items: make([]Value, len(xs))}
	for i, x := range xs {
		v, err := fromGo(x, depth+1)
		if err != nil {
			return nil, err
		}
		l.items[i] = v
	}
	return l, nil
}

func fromMap[T any](m map[string]T, depth int) (Value, error) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	d := &dictValue{}
	for _, k := range keys {
		v, err := fromGo(m[k], depth+1)
		if err != nil {
			return nil, err
		}
		if err := d.set(strValue(strings.ToValidUTF8(k, "\uFFFD")), v); err != nil {
			return nil, err
		}
	}
	return d, nil
}
