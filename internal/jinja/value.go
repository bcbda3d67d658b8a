package jinja

import (
	"fmt"
	"math/big"
	"unicode/utf8"
)

// Value is a value of a template, with the behaviour of the Python type that typeName names.
// Values are immutable, but for the attributes of a namespace and what iterators have
// consumed.
type Value interface {
	typeName() string
}

type (
	none        struct{}
	boolValue   bool
	intValue    int64
	bigValue    struct{ i *big.Int } // an integer that does not fit intValue
	floatValue  float64
	strValue    string
	markupValue string // a string that is HTML already: the result of escape and safe
	listValue   struct{ items []Value }

	tupleValue struct {
		items []Value
		group bool // of groupby: items have the names grouper and list
	}

	rangeValue struct{ start, stop, step, n int64 }

	// undefined is what a missing variable, attribute or item evaluates to: it prints as
	// nothing and is false; nearly everything else is an error.
	undefined struct {
		hint string // the message, if it is not made from the rest
		of   string // what lacks name, as Jinja2's object_type_repr; "" for a variable
		name Value
	}

	namespaceValue struct {
		names    []string
		attrs    map[string]Value
		printing bool // repr is inside of it: it may hold itself
	}

	cyclerValue struct {
		items []Value
		pos   int
	}

	joinerValue struct {
		sep  Value
		used bool
	}

	// boundValue is a method of a value.
	boundValue struct {
		self Value
		fn   *native
	}
)

func (none) typeName() string            { return "NoneType" }
func (boolValue) typeName() string       { return "bool" }
func (intValue) typeName() string        { return "int" }
func (bigValue) typeName() string        { return "int" }
func (floatValue) typeName() string      { return "float" }
func (strValue) typeName() string        { return "str" }
func (markupValue) typeName() string     { return "Markup" }
func (*listValue) typeName() string      { return "list" }
func (*tupleValue) typeName() string     { return "tuple" }
func (*rangeValue) typeName() string     { return "range" }
func (*undefined) typeName() string      { return "Undefined" }
func (*namespaceValue) typeName() string { return "Namespace" }
func (*cyclerValue) typeName() string    { return "Cycler" }
func (*joinerValue) typeName() string    { return "Joiner" }
func (*boundValue) typeName() string     { return "builtin_function_or_method" }
func (*native) typeName() string         { return "function" }

// undefinedError is the error of using u.
func undefinedError(u *undefined) error {
	if u.hint != "" {
		return fmt.Errorf("%s", u.hint)
	}
	name := briefRepr(u.name)
	if u.of == "" {
		return fmt.Errorf("%s is undefined", name)
	}
	if _, ok := asStr(u.name); !ok {
		return fmt.Errorf("%s has no element %s", u.of, name)
	}
	return fmt.Errorf("'%s' has no attribute %s", u.of, name)
}

// missing is the undefined value of an absent attribute or item of v.
func missing(v, name Value) *undefined {
	of := v.typeName() + " object"
	switch v.(type) {
	case none:
		of = "None"
	case *namespaceValue, *cyclerValue, *joinerValue:
		of = "jinja2.utils." + of
	case *loopValue, *macroValue:
		of = "jinja2.runtime." + of
	}
	return &undefined{of: of, name: name}
}

func unsafeAttribute(v Value, name string) *undefined {
	return &undefined{hint: fmt.Sprintf("access to attribute %s of '%s' object is unsafe.", reprString(name), v.typeName())}
}

// asStr returns the text of a str or Markup.
func asStr(v Value) (string, bool) {
	switch v := v.(type) {
	case strValue:
		return string(v), true
	case markupValue:
		return string(v), true
	}
	return "", false
}

// like makes a string of the type of v: Markup if v is.
func like(v Value, s string) Value {
	if _, ok := v.(markupValue); ok {
		return markupValue(s)
	}
	return strValue(s)
}

// truth is Python's bool(v).
func (r *run) truth(v Value) (bool, error) {
	switch v := v.(type) {
	case none, *undefined:
		return false, nil
	case boolValue:
		return bool(v), nil
	case intValue:
		return v != 0, nil
	case floatValue:
		return v != 0, nil
	}
	if _, ok := v.(*cyclerValue); ok {
		return true, nil
	}
	if n, ok, err := r.length(v); ok || err != nil {
		return n != 0, err
	}
	return true, nil
}

// length is Python's len(v); ok is false if v has none.
func (r *run) length(v Value) (n int, ok bool, err error) {
	switch v := v.(type) {
	case strValue:
		n, err = r.countRunes(string(v))
	case markupValue:
		n, err = r.countRunes(string(v))
	case *listValue:
		n = len(v.items)
	case *tupleValue:
		n = len(v.items)
	case *dictValue:
		n = len(v.keys)
	case *viewValue:
		n = len(v.dict.keys)
	case *rangeValue:
		n = int(v.n)
	case *undefined:
	case *loopValue:
		n, err = v.length(r)
	default:
		return 0, false, nil
	}
	return n, true, err
}

// iterator hands out values one at a time. Python's generators and iterators are such
// values: they can be consumed once.
type iterator struct {
	kind  string // the Python type's name
	items []Value
	next  func() (Value, error) // nil: items; returns nil at the end
	depth int                   // of iterators that read from iterators
}

func (it *iterator) typeName() string { return it.kind }

// advance returns the next value, or nil at the end.
func (it *iterator) advance(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	if it.next != nil {
		return it.next()
	}
	if len(it.items) == 0 {
		return nil, nil
	}
	v := it.items[0]
	it.items = it.items[1:]
	return v, nil
}

// generator makes an iterator that reads from others. Iterators over iterators nest calls of
// next, which is why their depth is bounded.
func (r *run) generator(source *iterator, next func() (Value, error)) (*iterator, error) {
	depth := 1
	if source != nil {
		depth = source.depth + 1
	}
	if depth > r.limits.Depth {
		return nil, fmt.Errorf("filters over filters nest deeper than %d levels", r.limits.Depth)
	}
	return &iterator{kind: "generator", next: next, depth: depth}, nil
}

// iterate is Python's iter(v).
func (r *run) iterate(v Value) (*iterator, error) {
	if it, ok := v.(*iterator); ok {
		return it, nil
	}
	if rng, ok := v.(*rangeValue); ok {
		i := int64(0)
		return &iterator{kind: "range_iterator", next: func() (Value, error) {
			if i >= rng.n {
				return nil, nil
			}
			i++
			return intValue(rng.start + (i-1)*rng.step), nil
		}}, nil
	}
	if s, ok := asStr(v); ok {
		return &iterator{kind: "str_iterator", next: func() (Value, error) {
			if s == "" {
				return nil, nil
			}
			_, size := utf8.DecodeRuneInString(s)
			c := s[:size]
			s = s[size:]
			return strValue(c), nil
		}}, nil
	}
	items, err := r.items(v)
	if err != nil {
		return nil, err
	}
	return &iterator{kind: v.typeName() + "_iterator", items: items}, nil
}

// items is Python's list(v). The slice may be v's own: it is not to be changed.
func (r *run) items(v Value) ([]Value, error) {
	switch v := v.(type) {
	case *listValue:
		return v.items, nil
	case *tupleValue:
		return v.items, nil
	case *dictValue:
		return v.keys, nil
	case *viewValue:
		return v.items(r)
	case *undefined:
		return nil, nil
	case *rangeValue:
		it, _ := r.iterate(v)
		return r.collect(it)
	case *iterator:
		return r.collect(v)
	case strValue, markupValue:
		s, _ := asStr(v)
		n := utf8.RuneCountInString(s)
		if err := r.alloc(stringBytes * n); err != nil {
			return nil, err
		}
		items := make([]Value, 0, n)
		for _, c := range s {
			items = append(items, strValue(string(c)))
		}
		return items, nil
	}
	return nil, fmt.Errorf("'%s' object is not iterable", v.typeName())
}

// collect consumes an iterator.
func (r *run) collect(it *iterator) ([]Value, error) {
	var items []Value
	for {
		v, err := it.advance(r)
		if err != nil || v == nil {
			return items, err
		}
		if err := r.alloc(2 * valueBytes); err != nil {
			return nil, err
		}
		items = append(items, v)
	}
}

func (r *run) list(items []Value) (Value, error) {
	return &listValue{items}, r.allocItems(len(items))
}
