package jinja

import (
	"errors"
	"fmt"
	"strings"
)

// globals are the functions that every template sees, as transformers sets them up.
var globals map[string]Value

func init() {
	globals = map[string]Value{
		"range":           defineRaw("range", globalRange),
		"dict":            defineRaw("dict", globalDict),
		"namespace":       defineRaw("namespace", globalNamespace),
		"cycler":          defineRaw("cycler", globalCycler),
		"joiner":          define("joiner", "sep?", globalJoiner),
		"raise_exception": define("raise_exception", "message", raiseException),
		"strftime_now":    define("strftime_now", "format", strftimeNow),
		"lipsum": defineRaw("lipsum", func(*run, []Value, []keyword) (Value, error) {
			return nil, errors.New("lipsum is refused: a chat template invents no text")
		}),
	}
}

func raiseException(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	if err != nil {
		return nil, err
	}
	return nil, errors.New(s)
}

func strftimeNow(r *run, a []Value) (Value, error) {
	format, err := textArg(a[0])
	if err != nil {
		return nil, err
	}
	if err := r.alloc(strftimeGrowth * len(format)); err != nil {
		return nil, err
	}
	return strValue(strftime(r.now(), format)), nil
}

func globalRange(r *run, args []Value, kw []keyword) (Value, error) {
	if len(kw) > 0 {
		return nil, errors.New("range() takes no keyword arguments")
	}
	if len(args) < 1 || len(args) > 3 {
		return nil, fmt.Errorf("range expected 1 to 3 arguments, got %d", len(args))
	}
	bounds := [3]int{0, 0, 1}
	for i, a := range args {
		n, err := intArg(a, 0)
		if err != nil {
			return nil, err
		}
		bounds[i] = n
	}
	if len(args) == 1 {
		bounds[0], bounds[1] = 0, bounds[0]
	}
	start, stop, step := int64(bounds[0]), int64(bounds[1]), int64(bounds[2])
	n := int64(0)
	switch {
	case step == 0:
		return nil, errors.New("range() arg 3 must not be zero")
	case step > 0 && start < stop:
		n = (stop-start-1)/step + 1
	case step < 0 && start > stop:
		n = (start-stop-1)/-step + 1
	}
	if n > maxRange {
		return nil, fmt.Errorf("Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", maxRange)
	}
	return &rangeValue{start, stop, step, n}, nil
}

// pairs is what dict(*args, **kw) makes.
func (r *run) pairs(args []Value, kw []keyword) (*dictValue, error) {
	if len(args) > 1 {
		return nil, fmt.Errorf("dict expected at most 1 argument, got %d", len(args))
	}
	d := &dictValue{}
	if len(args) == 1 {
		if u, ok := args[0].(*undefined); ok {
			return nil, undefinedError(u)
		}
		if src, ok := args[0].(*dictValue); ok {
			if err := r.allocItems(4 * len(src.keys)); err != nil {
				return nil, err
			}
			d = src.copy()
		} else {
			items, err := r.items(args[0])
			if err != nil {
				return nil, err
			}
			for _, item := range items {
				kv, err := r.items(item)
				if err != nil {
					return nil, err
				}
				if len(kv) != 2 {
					return nil, fmt.Errorf("a pair of key and value has %d values", len(kv))
				}
				if err := r.allocItems(4); err != nil {
					return nil, err
				}
				if err := d.set(kv[0], kv[1]); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, k := range kw {
		if err := r.allocItems(4); err != nil {
			return nil, err
		}
		if err := d.set(strValue(k.name), k.value); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func globalDict(r *run, args []Value, kw []keyword) (Value, error) {
	d, err := r.pairs(args, kw)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func globalNamespace(r *run, args []Value, kw []keyword) (Value, error) {
	d, err := r.pairs(args, kw)
	if err != nil {
		return nil, err
	}
	ns := &namespaceValue{attrs: map[string]Value{}}
	for i, k := range d.keys {
		name, ok := asStr(k)
		if !ok {
			return nil, fmt.Errorf("a namespace's attribute is named by a string, not by %s", k.typeName())
		}
		if err := ns.set(r, name, d.values[i]); err != nil {
			return nil, err
		}
	}
	return ns, nil
}

// set assigns an attribute. As in transformers, names with an underscore in front are
// refused.
func (ns *namespaceValue) set(r *run, name string, v Value) error {
	if strings.HasPrefix(name, "_") {
		return fmt.Errorf("chat templates cannot store underscore-prefixed attributes on a namespace, but got %s: rename the attribute", reprString(name))
	}
	if _, ok := ns.attrs[name]; !ok {
		if err := r.allocItems(4); err != nil {
			return err
		}
		ns.names = append(ns.names, name)
	}
	ns.attrs[name] = v
	return nil
}

func globalCycler(_ *run, args []Value, kw []keyword) (Value, error) {
	if len(args) == 0 || len(kw) > 0 {
		return nil, errors.New("at least one item has to be provided")
	}
	return &cyclerValue{items: args}, nil
}

func globalJoiner(_ *run, a []Value) (Value, error) {
	sep := a[0]
	if sep == nil {
		sep = strValue(", ")
	}
	return &joinerValue{sep: sep}, nil
}
