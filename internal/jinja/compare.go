package jinja

import (
	"fmt"
	"strings"
)

// equal is Python's a == b. Who nests values deeper than maxDataDepth gets an error.
func (r *run) equal(a, b Value) (bool, error) { return r.equalAt(a, b, 0) }

func (r *run) equalAt(a, b Value, depth int) (bool, error) {
	if depth > maxDataDepth {
		return false, errTooDeep
	}
	if err := r.step(1); err != nil {
		return false, err
	}
	if isNumber(a) && isNumber(b) {
		order, ordered := compareNumbers(a, b)
		return ordered && order == 0, nil
	}
	if s, ok := asStr(a); ok {
		t, ok := asStr(b)
		if !ok || len(s) != len(t) {
			return false, nil
		}
		return s == t, r.scan(len(s))
	}
	switch a := a.(type) {
	case none:
		_, ok := b.(none)
		return ok, nil
	case *undefined:
		_, ok := b.(*undefined)
		return ok, nil
	case *listValue:
		if b, ok := b.(*listValue); ok {
			return r.equalItems(a.items, b.items, depth)
		}
	case *tupleValue:
		if b, ok := b.(*tupleValue); ok {
			return r.equalItems(a.items, b.items, depth)
		}
	case *dictValue:
		if b, ok := b.(*dictValue); ok {
			return r.equalDicts(a, b, depth)
		}
	case *rangeValue:
		if b, ok := b.(*rangeValue); ok {
			return a.n == b.n && (a.n == 0 || a.start == b.start && (a.n == 1 || a.step == b.step)), nil
		}
	case *viewValue:
		if b, ok := b.(*viewValue); ok && a.kind != "dict_values" && a.kind == b.kind {
			if a.kind == "dict_items" {
				return r.equalDicts(a.dict, b.dict, depth)
			}
			return sameKeys(a.dict, b.dict), r.step(len(a.dict.keys))
		}
	}
	return a == b, nil // the rest are pointers: identity
}

func sameKeys(a, b *dictValue) bool {
	for _, k := range a.keys {
		if v, _ := b.get(k); v == nil {
			return false
		}
	}
	return len(a.keys) == len(b.keys)
}

func (r *run) equalItems(a, b []Value, depth int) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if eq, err := r.equalAt(a[i], b[i], depth+1); !eq || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *run) equalDicts(a, b *dictValue, depth int) (bool, error) {
	if len(a.keys) != len(b.keys) {
		return false, nil
	}
	for i, k := range a.keys {
		v, _ := b.get(k)
		if v == nil {
			return false, nil
		}
		if eq, err := r.equalAt(a.values[i], v, depth+1); !eq || err != nil {
			return false, err
		}
	}
	return true, nil
}

// compare applies <, <=, > or >= as Python does.
func (r *run) compare(op string, a, b Value) (bool, error) { return r.compareAt(op, a, b, 0) }

func (r *run) compareAt(op string, a, b Value, depth int) (bool, error) {
	if depth > maxDataDepth {
		return false, errTooDeep
	}
	if err := r.step(1); err != nil {
		return false, err
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*undefined); ok {
			return false, undefinedError(u)
		}
	}
	if isNumber(a) && isNumber(b) {
		order, ordered := compareNumbers(a, b)
		return ordered && satisfies(op, order), nil
	}
	if s, ok := asStr(a); ok {
		if t, ok := asStr(b); ok {
			return satisfies(op, strings.Compare(s, t)), r.scan(min(len(s), len(t)))
		}
	}
	var x, y []Value
	switch a := a.(type) {
	case *listValue:
		if b, ok := b.(*listValue); ok {
			x, y = a.items, b.items
			return r.compareItems(op, x, y, depth)
		}
	case *tupleValue:
		if b, ok := b.(*tupleValue); ok {
			x, y = a.items, b.items
			return r.compareItems(op, x, y, depth)
		}
	}
	return false, fmt.Errorf("'%s' not supported between instances of '%s' and '%s'", op, a.typeName(), b.typeName())
}

func (r *run) compareItems(op string, a, b []Value, depth int) (bool, error) {
	for i := 0; i < len(a) && i < len(b); i++ {
		eq, err := r.equalAt(a[i], b[i], depth+1)
		if err != nil {
			return false, err
		}
		if !eq {
			return r.compareAt(op, a[i], b[i], depth+1)
		}
	}
	return satisfies(op, len(a)-len(b)), nil
}

func satisfies(op string, order int) bool {
	switch op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

// contains is Python's item in v.
func (r *run) contains(v, item Value) (bool, error) {
	if s, ok := asStr(v); ok {
		sub, ok := asStr(item)
		if !ok {
			return false, fmt.Errorf("'in <string>' requires string as left operand, not %s", item.typeName())
		}
		return strings.Contains(s, sub), r.scan(len(s))
	}
	switch v := v.(type) {
	case *dictValue:
		found, err := r.find(v, item)
		return found != nil, err
	case *viewValue:
		if v.kind == "dict_keys" {
			found, err := r.find(v.dict, item)
			return found != nil, err
		}
	case *rangeValue:
		if _, ok := item.(*undefined); ok {
			return false, nil
		}
	case *listValue, *tupleValue, *undefined, *iterator:
	default:
		return false, fmt.Errorf("argument of type '%s' is not iterable", v.typeName())
	}
	it, err := r.iterate(v)
	if err != nil {
		return false, err
	}
	for {
		x, err := it.advance(r)
		if err != nil || x == nil {
			return false, err
		}
		if eq, err := r.equal(x, item); eq || err != nil {
			return eq, err
		}
	}
}

// same is Python's a is b, as far as it can be told: small values are one object.
func (r *run) same(a, b Value) (bool, error) {
	if a.typeName() != b.typeName() {
		return false, nil
	}
	switch a.(type) {
	case none, boolValue, intValue, strValue, floatValue:
		return r.equal(a, b)
	case bigValue, markupValue:
		return false, nil
	}
	return a == b, nil
}
