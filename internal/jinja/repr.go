package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// str is Python's str(v), what {{ v }} prints.
func (r *run) str(v Value) (string, error) {
	switch v := v.(type) {
	case strValue:
		return string(v), nil
	case markupValue:
		return string(v), nil
	case *undefined:
		return "", nil
	}
	return r.repr(v)
}

// repr is Python's repr(v).
func (r *run) repr(v Value) (string, error) {
	b := &textBuilder{r: r}
	if err := r.writeRepr(b, v, 0); err != nil {
		return "", err
	}
	return b.String(), nil
}

func (r *run) writeRepr(b *textBuilder, v Value, depth int) error {
	if depth > maxDataDepth {
		return errTooDeep
	}
	if err := r.step(1); err != nil {
		return err
	}
	put := b.put
	sequence := func(open string, items []Value, closing string) error {
		if err := put(open); err != nil {
			return err
		}
		for i, item := range items {
			if i > 0 {
				if err := put(", "); err != nil {
					return err
				}
			}
			if err := r.writeRepr(b, item, depth+1); err != nil {
				return err
			}
		}
		return put(closing)
	}
	pair := func(key, value Value) error {
		if err := r.writeRepr(b, key, depth+1); err != nil {
			return err
		}
		if err := put(": "); err != nil {
			return err
		}
		return r.writeRepr(b, value, depth+1)
	}
	switch v := v.(type) {
	case none:
		return put("None")
	case boolValue:
		if v {
			return put("True")
		}
		return put("False")
	case intValue:
		return put(strconv.FormatInt(int64(v), 10))
	case bigValue:
		s, err := bigString(v.i)
		if err != nil {
			return err
		}
		return put(s)
	case floatValue:
		return put(floatRepr(float64(v)))
	case strValue:
		if err := r.alloc(len(v)); err != nil {
			return err
		}
		return put(reprString(string(v)))
	case markupValue:
		if err := r.alloc(len(v)); err != nil {
			return err
		}
		return put("Markup(" + reprString(string(v)) + ")")
	case *listValue:
		return sequence("[", v.items, "]")
	case *tupleValue:
		if len(v.items) == 1 {
			return sequence("(", v.items, ",)")
		}
		return sequence("(", v.items, ")")
	case *dictValue:
		if err := put("{"); err != nil {
			return err
		}
		for i, k := range v.keys {
			if i > 0 {
				if err := put(", "); err != nil {
					return err
				}
			}
			if err := pair(k, v.values[i]); err != nil {
				return err
			}
		}
		return put("}")
	case *viewValue:
		items, err := v.items(r)
		if err != nil {
			return err
		}
		return sequence(v.kind+"([", items, "])")
	case *rangeValue:
		if v.step == 1 {
			return put(fmt.Sprintf("range(%d, %d)", v.start, v.stop))
		}
		return put(fmt.Sprintf("range(%d, %d, %d)", v.start, v.stop, v.step))
	case *undefined:
		return put("Undefined")
	case *namespaceValue:
		if v.printing {
			return put("<Namespace {...}>")
		}
		v.printing = true
		defer func() { v.printing = false }()
		if err := put("<Namespace {"); err != nil {
			return err
		}
		for i, name := range v.names {
			if i > 0 {
				if err := put(", "); err != nil {
					return err
				}
			}
			if err := pair(strValue(name), v.attrs[name]); err != nil {
				return err
			}
		}
		return put("}>")
	case *loopValue:
		n, err := v.length(r)
		if err != nil {
			return err
		}
		return put(fmt.Sprintf("<LoopContext %d/%d>", v.index0+1, n))
	case *macroValue:
		if v.def.name == "" {
			return put("<Macro anonymous>")
		}
		return put("<Macro " + reprString(v.def.name) + ">")
	case *native:
		return put("<function " + v.name + ">")
	case *boundValue:
		return put("<built-in method " + v.fn.name + " of " + v.self.typeName() + " object>")
	}
	return put("<" + v.typeName() + " object>")
}

func bigString(i *big.Int) (string, error) {
	if i.BitLen() > maxIntDigits*4 { // log2(10) is 3.32: surely too long
		return "", fmt.Errorf("an integer of more than %d digits", maxIntDigits)
	}
	s := i.String()
	if len(strings.TrimPrefix(s, "-")) > maxIntDigits {
		return "", fmt.Errorf("an integer of more than %d digits", maxIntDigits)
	}
	return s, nil
}

// floatRepr is the shortest text that reads back as f, as Python writes it.
func floatRepr(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exp, _ := strings.Cut(s, "e")
	if e, _ := strconv.Atoi(exp); e < -4 || e >= 16 {
		return mantissa + "e" + exp
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// reprString quotes s as Python does.
func reprString(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte(quote)
	for _, c := range s {
		switch {
		case c == '\\' || c == rune(quote):
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < utf8.RuneSelf && c >= ' ' && c != 0x7f, c >= utf8.RuneSelf && unicode.IsPrint(c):
			b.WriteRune(c)
		default:
			b.WriteString(escapeRune(c))
		}
	}
	b.WriteByte(quote)
	return b.String()
}

// briefRepr is repr for messages, of names and other short values.
func briefRepr(v Value) string {
	if s, ok := asStr(v); ok {
		if len(s) > 100 {
			s = strings.ToValidUTF8(s[:100], "") + "..."
		}
		return reprString(s)
	}
	switch v := v.(type) {
	case none:
		return "None"
	case intValue:
		return strconv.FormatInt(int64(v), 10)
	case boolValue:
		if v {
			return "True"
		}
		return "False"
	case floatValue:
		return floatRepr(float64(v))
	}
	return "<" + v.typeName() + ">"
}
