package jinja

import (
	"errors"
	"fmt"
)

// methods are those of Python's types, by type and name. What would change a value, or is
// not worth having, is there without a function: the sandbox refuses its use.
var methods map[string]map[string]*native

func init() {
	methods = map[string]map[string]*native{
		"str":   stringMethods(),
		"list":  sequenceMethods(),
		"tuple": sequenceMethods(),
		"range": sequenceMethods(),
		"dict":  dictMethods(),
		"float": {"is_integer": define("is_integer", "self /", func(_ *run, a []Value) (Value, error) {
			_, err := fromFloat(float64(a[0].(floatValue)))
			return boolValue(err == nil && roundFloat(float64(a[0].(floatValue)), 0) == float64(a[0].(floatValue))), nil
		})},
		"int": {"bit_length": define("bit_length", "self /", func(_ *run, a []Value) (Value, error) {
			return intValue(asBig(a[0]).BitLen()), nil
		})},
		"Cycler": {
			"next":  define("next", "self /", cyclerNext),
			"reset": define("reset", "self /", cyclerReset),
		},
	}
	methods["Markup"] = methods["str"]
	methods["bool"] = methods["int"]
	methods["list"]["copy"] = define("copy", "self /", func(r *run, a []Value) (Value, error) {
		return r.list(append([]Value(nil), a[0].(*listValue).items...))
	})
	for _, name := range []string{"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"} {
		methods["list"][name] = &native{name: name}
	}
}

func cyclerNext(_ *run, a []Value) (Value, error) {
	c := a[0].(*cyclerValue)
	v := c.items[c.pos]
	c.pos = (c.pos + 1) % len(c.items)
	return v, nil
}

func cyclerReset(_ *run, a []Value) (Value, error) {
	a[0].(*cyclerValue).pos = 0
	return none{}, nil
}

func sequenceMethods() map[string]*native {
	return map[string]*native{
		"count": define("count", "self value /", func(r *run, a []Value) (Value, error) {
			items, err := r.items(a[0])
			if err != nil {
				return nil, err
			}
			n := 0
			for _, item := range items {
				eq, err := r.equal(item, a[1])
				if err != nil {
					return nil, err
				}
				if eq {
					n++
				}
			}
			return intValue(n), nil
		}),
		"index": define("index", "self value start? stop? /", func(r *run, a []Value) (Value, error) {
			items, err := r.items(a[0])
			if err != nil {
				return nil, err
			}
			for _, bound := range a[2:] {
				if bound != nil && asBig(bound) == nil {
					return nil, errors.New("slice indices must be integers or have an __index__ method")
				}
			}
			start, _, count, err := sliceIndices(len(items), [3]Value{a[2], a[3], nil})
			if err != nil {
				return nil, err
			}
			for i := start; i < start+count; i++ {
				if eq, err := r.equal(items[i], a[1]); eq || err != nil {
					return intValue(i), err
				}
			}
			return nil, fmt.Errorf("%s is not in %s", briefRepr(a[1]), a[0].typeName())
		}),
	}
}

func dictMethods() map[string]*native {
	view := func(name string) *native {
		return define(name, "self /", func(_ *run, a []Value) (Value, error) {
			return &viewValue{a[0].(*dictValue), "dict_" + name}, nil
		})
	}
	m := map[string]*native{
		"keys":   view("keys"),
		"values": view("values"),
		"items":  view("items"),
		"get": define("get", "self key default? /", func(r *run, a []Value) (Value, error) {
			v, err := r.find(a[0].(*dictValue), a[1])
			switch {
			case v != nil || err != nil:
				return v, err
			case a[2] != nil:
				return a[2], nil
			}
			return none{}, nil
		}),
		"copy": define("copy", "self /", func(r *run, a []Value) (Value, error) {
			d := a[0].(*dictValue)
			return d.copy(), r.allocItems(4 * len(d.keys))
		}),
		"fromkeys": define("fromkeys", "self iterable value? /", func(r *run, a []Value) (Value, error) {
			keys, err := r.items(a[1])
			if err != nil {
				return nil, err
			}
			if err := r.allocItems(4 * len(keys)); err != nil {
				return nil, err
			}
			d := &dictValue{}
			for _, k := range keys {
				var v Value = none{}
				if a[2] != nil {
					v = a[2]
				}
				if err := d.set(k, v); err != nil {
					return nil, err
				}
			}
			return d, nil
		}),
	}
	for _, name := range []string{"clear", "pop", "popitem", "setdefault", "update"} {
		m[name] = &native{name: name}
	}
	return m
}
