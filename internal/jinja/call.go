package jinja

import (
	"fmt"
	"strings"
)

// native is a function, filter, test or method of the language.
type native struct {
	name     string
	params   []string
	required int // so many of params have no default
	posOnly  bool
	// fn gets one value for each of params, nil where the call gives none.
	fn func(r *run, a []Value) (Value, error)
	// raw replaces fn where any arguments go.
	raw func(r *run, args []Value, kw []keyword) (Value, error)
}

type keyword struct {
	name  string
	value Value
}

// define makes a native of a Python-like signature: "s old new count?" has one optional
// parameter, and a "/" at the end says that none goes by name.
func define(name, signature string, fn func(r *run, a []Value) (Value, error)) *native {
	n := &native{name: name, fn: fn}
	for _, p := range strings.Fields(signature) {
		if p == "/" {
			n.posOnly = true
			continue
		}
		p, optional := strings.CutSuffix(p, "?")
		if !optional {
			n.required++
		}
		n.params = append(n.params, p)
	}
	return n
}

func defineRaw(name string, raw func(r *run, args []Value, kw []keyword) (Value, error)) *native {
	return &native{name: name, raw: raw}
}

// call runs n.
func (n *native) call(r *run, args []Value, kw []keyword) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	if n.raw != nil {
		return n.raw(r, args, kw)
	}
	if len(args) > len(n.params) {
		return nil, fmt.Errorf("%s() takes at most %d arguments (%d given)", n.name, len(n.params), len(args))
	}
	a := make([]Value, len(n.params))
	copy(a, args)
	for _, k := range kw {
		i := -1
		for j, p := range n.params {
			if p == k.name && !n.posOnly {
				i = j
			}
		}
		if i < 0 {
			return nil, fmt.Errorf("%s() got an unexpected keyword argument '%s'", n.name, k.name)
		}
		if a[i] != nil {
			return nil, fmt.Errorf("%s() got multiple values for argument '%s'", n.name, k.name)
		}
		a[i] = k.value
	}
	for i, v := range a[:n.required] {
		if v == nil {
			return nil, fmt.Errorf("%s() missing required argument '%s'", n.name, n.params[i])
		}
	}
	return n.fn(r, a)
}

// invoke is Python's v(*args, **kw).
func (r *run) invoke(v Value, args []Value, kw []keyword) (Value, error) {
	switch v := v.(type) {
	case *native:
		return v.call(r, args, kw)
	case *boundValue:
		return v.fn.call(r, append([]Value{v.self}, args...), kw)
	case *macroValue:
		s, err := v.call(r, args, kw)
		return strValue(s), err
	case *loopValue:
		if len(args) != 1 || len(kw) > 0 {
			return nil, fmt.Errorf("a recursive loop is called with one argument")
		}
		s, err := v.recurse(r, args[0])
		return strValue(s), err
	case *joinerValue:
		if len(args)+len(kw) > 0 {
			return nil, fmt.Errorf("a joiner takes no arguments")
		}
		if !v.used {
			v.used = true
			return strValue(""), nil
		}
		return v.sep, nil
	case *undefined:
		return nil, undefinedError(v)
	}
	return nil, fmt.Errorf("'%s' object is not callable", v.typeName())
}

func isCallable(v Value) bool {
	switch v.(type) {
	case *native, *boundValue, *macroValue, *loopValue, *joinerValue, *undefined:
		return true
	}
	return false
}

// eval evaluates the arguments of a call; first go in front of them.
func (a *arguments) eval(r *run, f *frame, first ...Value) ([]Value, []keyword, error) {
	args := append(make([]Value, 0, len(first)+len(a.args)), first...)
	for _, x := range a.args {
		v, err := x.eval(r, f)
		if err != nil {
			return nil, nil, err
		}
		args = append(args, v)
	}
	var kw []keyword
	for i, x := range a.values {
		v, err := x.eval(r, f)
		if err != nil {
			return nil, nil, err
		}
		kw = append(kw, keyword{a.names[i], v})
	}
	if a.star != nil {
		v, err := a.star.eval(r, f)
		if err != nil {
			return nil, nil, err
		}
		items, err := r.items(v)
		if err != nil {
			return nil, nil, err
		}
		if err := r.allocItems(len(items)); err != nil {
			return nil, nil, err
		}
		args = append(args, items...)
	}
	if a.stars != nil {
		v, err := a.stars.eval(r, f)
		if err != nil {
			return nil, nil, err
		}
		d, ok := v.(*dictValue)
		if !ok {
			return nil, nil, fmt.Errorf("argument after ** must be a mapping, not %s", v.typeName())
		}
		if len(d.keys) > maxKeywords {
			return nil, nil, fmt.Errorf("more than %d keyword arguments", maxKeywords)
		}
		if err := r.allocItems(2 * len(d.keys)); err != nil {
			return nil, nil, err
		}
		for i, k := range d.keys {
			name, ok := asStr(k)
			if !ok {
				return nil, nil, fmt.Errorf("keywords must be strings")
			}
			for _, other := range a.names {
				if other == name {
					return nil, nil, fmt.Errorf("got multiple values for keyword argument '%s'", name)
				}
			}
			kw = append(kw, keyword{name, d.values[i]})
		}
	}
	return args, kw, nil
}
