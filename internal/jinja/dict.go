package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// dictValue is a mapping in the order of insertion. Keys equal as in Python: 1, 1.0 and True
// are one key.
type dictValue struct {
	keys, values []Value
	index        map[any]int // by hashKey; nil while there are few keys
}

func (*dictValue) typeName() string { return "dict" }

const fewKeys = 8

// set adds or replaces; only who makes a dictionary calls it.
func (d *dictValue) set(key, value Value) error {
	h, err := hashKey(key)
	if err != nil {
		return err
	}
	if i, ok := d.lookup(h); ok {
		d.values[i] = value
		return nil
	}
	d.keys, d.values = append(d.keys, key), append(d.values, value)
	if d.index != nil {
		d.index[h] = len(d.keys) - 1
	} else if len(d.keys) > fewKeys {
		d.index = make(map[any]int, 2*len(d.keys))
		for i, k := range d.keys {
			h, _ := hashKey(k)
			d.index[h] = i
		}
	}
	return nil
}

func (d *dictValue) lookup(h any) (int, bool) {
	if d.index != nil {
		i, ok := d.index[h]
		return i, ok
	}
	for i, k := range d.keys {
		if other, _ := hashKey(k); other == h {
			return i, true
		}
	}
	return 0, false
}

// get returns the value of key, or nil. The error is that key cannot be a key.
func (d *dictValue) get(key Value) (Value, error) {
	h, err := hashKey(key)
	if err != nil {
		return nil, err
	}
	if i, ok := d.lookup(h); ok {
		return d.values[i], nil
	}
	return nil, nil
}

func (d *dictValue) copy() *dictValue {
	c := &dictValue{keys: append([]Value(nil), d.keys...), values: append([]Value(nil), d.values...)}
	if d.index != nil {
		c.index = make(map[any]int, len(d.index))
		for k, v := range d.index {
			c.index[k] = v
		}
	}
	return c
}

// Keys of other types than string and int64.
type (
	floatKey float64
	bigKey   string
	tupleKey string
	noneKey  struct{}
	undefKey struct{}
)

// find is get, paid for.
func (r *run) find(d *dictValue, key Value) (Value, error) {
	if s, ok := asStr(key); ok {
		if err := r.scan(len(s)); err != nil {
			return nil, err
		}
	}
	return d.get(key)
}

// hashKey maps equal keys to equal Go values.
func hashKey(v Value) (any, error) {
	switch v := v.(type) {
	case strValue:
		return string(v), nil
	case markupValue:
		return string(v), nil
	case intValue:
		return int64(v), nil
	case boolValue:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case floatValue:
		f := float64(v)
		if f == math.Trunc(f) && !math.IsInf(f, 0) {
			if math.Abs(f) < 1<<62 {
				return int64(f), nil
			}
			i, _ := big.NewFloat(f).Int(nil)
			return bigKey(i.Text(16)), nil
		}
		return floatKey(f), nil
	case bigValue:
		return bigKey(v.i.Text(16)), nil
	case none:
		return noneKey{}, nil
	case *undefined:
		return undefKey{}, nil
	case *rangeValue:
		return *v, nil
	case *tupleValue:
		var b strings.Builder
		if err := hashTuple(&b, v); err != nil {
			return nil, err
		}
		return tupleKey(b.String()), nil
	case *listValue, *dictValue, *viewValue:
		return nil, fmt.Errorf("unhashable type: '%s'", v.typeName())
	}
	return v, nil // the rest are pointers: identity
}

const maxTupleKey = 1 << 12 // bytes of a tuple's hashKey

// hashTuple writes the keys of the items so that equal tuples write the same. Its length
// bounds the recursion.
func hashTuple(b *strings.Builder, t *tupleValue) error {
	b.WriteByte('(')
	for _, item := range t.items {
		if b.Len() > maxTupleKey {
			return errors.New("a tuple is too large to be a key")
		}
		if inner, ok := item.(*tupleValue); ok {
			if err := hashTuple(b, inner); err != nil {
				return err
			}
			continue
		}
		h, err := hashKey(item)
		if err != nil {
			return err
		}
		if s, ok := h.(string); ok && len(s) > maxTupleKey {
			return errors.New("a tuple is too large to be a key")
		}
		s := fmt.Sprintf("%v", h)
		fmt.Fprintf(b, "%T:%d:%s,", h, len(s), s)
	}
	b.WriteByte(')')
	return nil
}

// viewValue is what keys(), values() and items() of a dict return.
type viewValue struct {
	dict *dictValue
	kind string // dict_keys, dict_values or dict_items
}

func (v *viewValue) typeName() string { return v.kind }

func (v *viewValue) items(r *run) ([]Value, error) {
	switch v.kind {
	case "dict_keys":
		return v.dict.keys, nil
	case "dict_values":
		return v.dict.values, nil
	}
	if err := r.allocItems(4 * len(v.dict.keys)); err != nil {
		return nil, err
	}
	items := make([]Value, len(v.dict.keys))
	for i, k := range v.dict.keys {
		items[i] = &tupleValue{items: []Value{k, v.dict.values[i]}}
	}
	return items, nil
}
