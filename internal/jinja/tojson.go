package jinja

import (
	"fmt"
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonWriter writes values as Python's json.dumps does.
type jsonWriter struct {
	textBuilder
	ascii    bool
	pretty   bool
	indent   string
	itemSep  string
	keySep   string
	sortKeys bool
}

// filterToJSON is transformers' tojson: json.dumps with non-ASCII text as it is.
func filterToJSON(r *run, a []Value) (Value, error) {
	w := &jsonWriter{textBuilder: textBuilder{r: r}, itemSep: ", ", keySep: ": "}
	var err error
	if w.ascii, err = r.boolArg(a[1]); err != nil {
		return nil, err
	}
	if w.sortKeys, err = r.boolArg(a[4]); err != nil {
		return nil, err
	}
	if !noneArg(a[2]) {
		w.pretty, w.itemSep = true, ","
		if s, ok := asStr(a[2]); ok {
			w.indent = s
		} else {
			n, err := intArg(a[2], 0)
			if err != nil {
				return nil, err
			}
			if w.indent, err = r.pad("", n, " ", '<'); err != nil {
				return nil, err
			}
		}
	}
	if !noneArg(a[3]) {
		seps, err := r.items(a[3])
		if err != nil {
			return nil, err
		}
		if len(seps) != 2 {
			return nil, fmt.Errorf("separators are two strings, got %d", len(seps))
		}
		if w.itemSep, err = textArg(seps[0]); err != nil {
			return nil, err
		}
		if w.keySep, err = textArg(seps[1]); err != nil {
			return nil, err
		}
	}
	if err := w.value(a[0], 0); err != nil {
		return nil, err
	}
	return strValue(w.String()), nil
}

// line starts a line of the given depth.
func (w *jsonWriter) line(depth int) error {
	if !w.pretty {
		return nil
	}
	if err := w.put("\n"); err != nil {
		return err
	}
	for range depth {
		if err := w.put(w.indent); err != nil {
			return err
		}
	}
	return nil
}

func (w *jsonWriter) value(v Value, depth int) error {
	if depth > maxDataDepth {
		return errTooDeep
	}
	if err := w.r.step(1); err != nil {
		return err
	}
	switch v := v.(type) {
	case strValue:
		return w.text(string(v))
	case markupValue:
		return w.text(string(v))
	case *listValue:
		return w.list(v.items, depth)
	case *tupleValue:
		return w.list(v.items, depth)
	case *dictValue:
		return w.dict(v, depth)
	}
	s, ok, err := jsonScalar(v)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("Object of type %s is not JSON serializable", v.typeName())
	}
	return w.put(s)
}

func jsonScalar(v Value) (s string, ok bool, err error) {
	switch v := v.(type) {
	case none:
		return "null", true, nil
	case boolValue:
		if v {
			return "true", true, nil
		}
		return "false", true, nil
	case intValue:
		return fmt.Sprint(int64(v)), true, nil
	case bigValue:
		s, err := bigString(v.i)
		return s, true, err
	case floatValue:
		f := float64(v)
		switch {
		case math.IsNaN(f):
			return "NaN", true, nil
		case math.IsInf(f, 1):
			return "Infinity", true, nil
		case math.IsInf(f, -1):
			return "-Infinity", true, nil
		}
		return floatRepr(f), true, nil
	}
	return "", false, nil
}

func (w *jsonWriter) list(items []Value, depth int) error {
	if len(items) == 0 {
		return w.put("[]")
	}
	sep := "["
	for _, item := range items {
		if err := w.put(sep); err != nil {
			return err
		}
		if err := w.line(depth + 1); err != nil {
			return err
		}
		if err := w.value(item, depth+1); err != nil {
			return err
		}
		sep = w.itemSep
	}
	if err := w.line(depth); err != nil {
		return err
	}
	return w.put("]")
}

func (w *jsonWriter) dict(d *dictValue, depth int) error {
	if len(d.keys) == 0 {
		return w.put("{}")
	}
	keys, values := d.keys, d.values
	if w.sortKeys {
		items, err := (&viewValue{d, "dict_items"}).items(w.r)
		if err != nil {
			return err
		}
		if items, err = w.r.order(items, keys, false); err != nil {
			return err
		}
		keys, values = make([]Value, len(items)), make([]Value, len(items))
		for i, item := range items {
			keys[i], values[i] = item.(*tupleValue).items[0], item.(*tupleValue).items[1]
		}
	}
	sep := "{"
	for i, k := range keys {
		if err := w.put(sep); err != nil {
			return err
		}
		if err := w.line(depth + 1); err != nil {
			return err
		}
		name, ok := asStr(k)
		if !ok {
			var err error
			if name, ok, err = jsonScalar(k); err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("keys must be str, int, float, bool or None, not %s", k.typeName())
			}
		}
		if err := w.text(name); err != nil {
			return err
		}
		if err := w.put(w.keySep); err != nil {
			return err
		}
		if err := w.value(values[i], depth+1); err != nil {
			return err
		}
		sep = w.itemSep
	}
	if err := w.line(depth); err != nil {
		return err
	}
	return w.put("}")
}

// text writes a JSON string.
func (w *jsonWriter) text(s string) error {
	size := len(s) + 2
	for _, c := range s {
		if n := len(w.escape(c)); n > 0 {
			size += n - utf8.RuneLen(c)
		}
	}
	if err := w.put(`"`); err != nil {
		return err
	}
	if w.b.Len()+size > w.r.largest {
		return w.r.alloc(-1)
	}
	w.b.Grow(size)
	start := 0
	for i, c := range s {
		esc := w.escape(c)
		if esc == "" {
			continue
		}
		if err := w.put(s[start:i]); err != nil {
			return err
		}
		if err := w.put(esc); err != nil {
			return err
		}
		start = i + utf8.RuneLen(c)
	}
	if err := w.put(s[start:]); err != nil {
		return err
	}
	return w.put(`"`)
}

// escape is how a character is written in a JSON string, "" if as it is.
func (w *jsonWriter) escape(c rune) string {
	switch {
	case c == '"':
		return `\"`
	case c == '\\':
		return `\\`
	case c >= ' ' && (c <= '~' || !w.ascii):
		return ""
	case c == '\n':
		return `\n`
	case c == '\r':
		return `\r`
	case c == '\t':
		return `\t`
	case c == '\b':
		return `\b`
	case c == '\f':
		return `\f`
	case c < 0x10000:
		return fmt.Sprintf(`\u%04x`, c)
	}
	hi, lo := utf16.EncodeRune(c)
	return fmt.Sprintf(`\u%04x\u%04x`, hi, lo)
}
