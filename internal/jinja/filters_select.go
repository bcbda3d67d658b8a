package jinja

import (
	"errors"
	"fmt"
)

func filterUnique(r *run, a []Value) (Value, error) {
	caseSensitive, err := r.boolArg(a[1])
	if err != nil {
		return nil, err
	}
	key, err := r.keyFunc(a[2], nil, caseSensitive)
	if err != nil {
		return nil, err
	}
	it, err := r.iterate(a[0])
	if err != nil {
		return nil, err
	}
	seen := map[any]bool{}
	return r.generator(it, func() (Value, error) {
		for {
			v, err := it.advance(r)
			if v == nil || err != nil {
				return nil, err
			}
			k, err := key(v)
			if err != nil {
				return nil, err
			}
			h, err := hashKey(k)
			if err != nil {
				return nil, err
			}
			if seen[h] {
				continue
			}
			if err := r.alloc(4 * valueBytes); err != nil {
				return nil, err
			}
			seen[h] = true
			return v, nil
		}
	})
}

// extreme makes the filters min and max.
func extreme(op string) func(r *run, a []Value) (Value, error) {
	return func(r *run, a []Value) (Value, error) {
		caseSensitive, err := r.boolArg(a[1])
		if err != nil {
			return nil, err
		}
		key, err := r.keyFunc(a[2], nil, caseSensitive)
		if err != nil {
			return nil, err
		}
		it, err := r.iterate(a[0])
		if err != nil {
			return nil, err
		}
		var best, bestKey Value
		for {
			v, err := it.advance(r)
			if err != nil {
				return nil, err
			}
			if v == nil {
				break
			}
			k, err := key(v)
			if err != nil {
				return nil, err
			}
			if best != nil {
				better, err := r.compare(op, k, bestKey)
				if err != nil {
					return nil, err
				}
				if !better {
					continue
				}
			}
			best, bestKey = v, k
		}
		if best == nil {
			return &undefined{hint: "No aggregated item, sequence was empty."}, nil
		}
		return best, nil
	}
}

func filterSum(r *run, a []Value) (Value, error) {
	get, err := r.getter(a[1], nil)
	if err != nil {
		return nil, err
	}
	total := a[2]
	if total == nil {
		total = intValue(0)
	}
	if _, ok := asStr(total); ok {
		return nil, errors.New("sum() can't sum strings [use ''.join(seq) instead]")
	}
	it, err := r.iterate(a[0])
	if err != nil {
		return nil, err
	}
	for {
		v, err := it.advance(r)
		if v == nil || err != nil {
			return total, err
		}
		if v, err = get(v); err != nil {
			return nil, err
		}
		if total, err = r.binary("+", total, v); err != nil {
			return nil, err
		}
	}
}

func filterGroupby(r *run, a []Value) (Value, error) {
	caseSensitive, err := r.boolArg(a[3])
	if err != nil {
		return nil, err
	}
	key, err := r.keyFunc(a[1], a[2], caseSensitive)
	if err != nil {
		return nil, err
	}
	shown, err := r.getter(a[1], a[2])
	if err != nil {
		return nil, err
	}
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	if err := r.allocItems(8 * len(items)); err != nil {
		return nil, err
	}
	keys := make([]Value, len(items))
	for i, item := range items {
		if keys[i], err = key(item); err != nil {
			return nil, err
		}
	}
	sorted, err := r.order(items, keys, false)
	if err != nil {
		return nil, err
	}
	out := &listValue{}
	var last Value
	var group *listValue
	for _, item := range sorted {
		k, err := key(item)
		if err != nil {
			return nil, err
		}
		same := false
		if last != nil {
			if same, err = r.equal(last, k); err != nil {
				return nil, err
			}
		}
		if !same {
			name := k
			if !caseSensitive {
				if name, err = shown(item); err != nil {
					return nil, err
				}
			}
			group, last = &listValue{}, k
			out.items = append(out.items, &tupleValue{items: []Value{name, group}, group: true})
		}
		group.items = append(group.items, item)
	}
	return out, nil
}

// lazily makes a generator of f(v) for the values of v; f returns nil to leave one out. As in
// Python, nothing happens before the first value is asked for, and nothing at all if v is
// false.
func (r *run) lazily(v Value, prepare func() (func(Value) (Value, error), error)) (Value, error) {
	source, ok := v.(*iterator)
	if !ok {
		source = nil
	}
	var it *iterator
	var f func(Value) (Value, error)
	done := false
	return r.generator(source, func() (Value, error) {
		if done {
			return nil, nil
		}
		if it == nil {
			t, err := r.truth(v)
			if err != nil || !t {
				done = true
				return nil, err
			}
			if f, err = prepare(); err != nil {
				return nil, err
			}
			if it, err = r.iterate(v); err != nil {
				return nil, err
			}
		}
		for {
			x, err := it.advance(r)
			if x == nil || err != nil {
				return nil, err
			}
			if x, err = f(x); x != nil || err != nil {
				return x, err
			}
		}
	})
}

func filterMap(r *run, args []Value, kw []keyword) (Value, error) {
	if len(args) == 0 {
		return nil, errors.New("map() missing required argument 'value'")
	}
	value, args := args[0], args[1:]
	return r.lazily(value, func() (func(Value) (Value, error), error) {
		if len(args) == 0 {
			var attribute, otherwise Value
			for _, k := range kw {
				switch k.name {
				case "attribute":
					attribute = k.value
				case "default":
					otherwise = k.value
				default:
					return nil, fmt.Errorf("Unexpected keyword argument '%s'", k.name)
				}
			}
			if attribute == nil {
				return nil, errors.New("map requires a filter argument")
			}
			return r.getter(attribute, otherwise)
		}
		fn, err := named(filters, "filter", args[0])
		if err != nil {
			return nil, err
		}
		return func(v Value) (Value, error) {
			return fn.call(r, append([]Value{v}, args[1:]...), kw)
		}, nil
	})
}

// named finds a filter or test by a name of the template.
func named(all map[string]*native, what string, name Value) (*native, error) {
	s, ok := asStr(name)
	if !ok || all[s] == nil {
		return nil, fmt.Errorf("No %s named %s.", what, briefRepr(name))
	}
	return all[s], nil
}

// selector makes the filters select, reject, selectattr and rejectattr.
func selector(keep, byAttribute bool) func(r *run, args []Value, kw []keyword) (Value, error) {
	return func(r *run, args []Value, kw []keyword) (Value, error) {
		if len(args) == 0 {
			return nil, errors.New("missing required argument 'value'")
		}
		value, args := args[0], args[1:]
		return r.lazily(value, func() (func(Value) (Value, error), error) {
			get := func(v Value) (Value, error) { return v, nil }
			rest := args
			if byAttribute {
				if len(args) == 0 {
					return nil, errors.New("Missing parameter for attribute name")
				}
				var err error
				if get, err = r.getter(args[0], nil); err != nil {
					return nil, err
				}
				rest = args[1:]
			}
			holds := func(v Value) (Value, error) { return v, nil }
			if len(rest) > 0 {
				fn, err := named(tests, "test", rest[0])
				if err != nil {
					return nil, err
				}
				holds = func(v Value) (Value, error) {
					return fn.call(r, append([]Value{v}, rest[1:]...), kw)
				}
			}
			return func(v Value) (Value, error) {
				x, err := get(v)
				if err != nil {
					return nil, err
				}
				if x, err = holds(x); err != nil {
					return nil, err
				}
				t, err := r.truth(x)
				if t != keep || err != nil {
					return nil, err
				}
				return v, nil
			}, nil
		})
	}
}
