package jinja

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// filters are those of jinja2/filters.py that touch nothing outside of their arguments, and
// transformers' tojson.
var filters map[string]*native

func init() {
	filters = map[string]*native{
		"abs":            define("abs", "x /", filterAbs),
		"attr":           define("attr", "obj name", filterAttr),
		"batch":          define("batch", "value linecount fill_with?", filterBatch),
		"capitalize":     define("capitalize", "s", textFilter(capitalize)),
		"center":         define("center", "value width?", filterCenter),
		"count":          define("len", "obj /", filterLength),
		"d":              define("default", "value default_value? boolean?", filterDefault),
		"dictsort":       define("dictsort", "value case_sensitive? by? reverse?", filterDictsort),
		"e":              define("escape", "s /", filterEscape),
		"filesizeformat": define("filesizeformat", "value binary?", filterFileSize),
		"first":          define("first", "seq", filterFirst),
		"float":          define("float", "value default?", filterFloat),
		"forceescape":    define("forceescape", "value", filterForceEscape),
		"format":         defineRaw("format", filterFormat),
		"groupby":        define("groupby", "value attribute default? case_sensitive?", filterGroupby),
		"indent":         define("indent", "s width? first? blank?", filterIndent),
		"int":            define("int", "value default? base?", filterInt),
		"items":          define("items", "value", filterItems),
		"join":           define("join", "value d? attribute?", filterJoin),
		"last":           define("last", "seq", filterLast),
		"list":           define("list", "value", filterList),
		"lower":          define("lower", "s", textFilter(lower)),
		"map":            defineRaw("map", filterMap),
		"max":            define("max", "value case_sensitive? attribute?", extreme(">")),
		"min":            define("min", "value case_sensitive? attribute?", extreme("<")),
		"reject":         defineRaw("reject", selector(false, false)),
		"rejectattr":     defineRaw("rejectattr", selector(false, true)),
		"replace":        define("replace", "s old new count?", filterReplace),
		"reverse":        define("reverse", "value", filterReverse),
		"round":          define("round", "value precision? method?", filterRound),
		"safe":           define("safe", "value", filterSafe),
		"select":         defineRaw("select", selector(true, false)),
		"selectattr":     defineRaw("selectattr", selector(true, true)),
		"slice":          define("slice", "value slices fill_with?", filterSlice),
		"sort":           define("sort", "value reverse? case_sensitive? attribute?", filterSort),
		"string":         define("string", "s", filterString),
		"striptags":      define("striptags", "value", filterStriptags),
		"sum":            define("sum", "iterable attribute? start?", filterSum),
		"title":          define("title", "s", textFilter(titleFilter)),
		"tojson":         define("tojson", "x ensure_ascii? indent? separators? sort_keys?", filterToJSON),
		"trim":           define("trim", "value chars?", filterTrim),
		"truncate":       define("truncate", "s length? killwords? end? leeway?", filterTruncate),
		"unique":         define("unique", "value case_sensitive? attribute?", filterUnique),
		"upper":          define("upper", "s", textFilter(upper)),
		"urlencode":      define("urlencode", "value", filterURLEncode),
		"wordcount":      define("wordcount", "s", filterWordcount),
		"xmlattr":        define("xmlattr", "d autospace?", filterXMLAttr),
	}
	filters["default"] = filters["d"]
	filters["escape"] = filters["e"]
	filters["length"] = filters["count"]
	for _, name := range []string{"pprint", "random", "urlize", "wordwrap"} {
		filters[name] = defineRaw(name, func(*run, []Value, []keyword) (Value, error) {
			return nil, fmt.Errorf("the filter %s is not supported in chat templates", name)
		})
	}
}

// getter returns a function that follows an attribute path such as "function.name" or
// "0.name"; otherwise replaces undefined on the way if it is not nil.
func (r *run) getter(path, otherwise Value) (func(Value) (Value, error), error) {
	var parts []Value
	if s, ok := asStr(path); ok {
		if err := r.alloc(stringBytes * (strings.Count(s, ".") + 1)); err != nil {
			return nil, err
		}
		for _, p := range strings.Split(s, ".") {
			if isDigits(p) {
				if i, err := parseInt(p, 10); err == nil {
					parts = append(parts, i)
					continue
				}
			}
			parts = append(parts, strValue(p))
		}
	} else if !noneArg(path) {
		parts = []Value{path}
	}
	return func(v Value) (Value, error) {
		for _, p := range parts {
			if err := r.step(1); err != nil {
				return nil, err
			}
			var err error
			if v, err = r.item(v, p); err != nil {
				return nil, err
			}
			if _, ok := v.(*undefined); ok && !noneArg(otherwise) {
				v = otherwise
			}
		}
		return v, nil
	}, nil
}

// keyFunc is getter, with strings in lower case unless caseSensitive.
func (r *run) keyFunc(path, otherwise Value, caseSensitive bool) (func(Value) (Value, error), error) {
	get, err := r.getter(path, otherwise)
	return func(v Value) (Value, error) {
		v, err := get(v)
		if err != nil || caseSensitive {
			return v, err
		}
		return r.ignoreCase(v)
	}, err
}

func (r *run) ignoreCase(v Value) (Value, error) {
	s, ok := asStr(v)
	if !ok {
		return v, nil
	}
	return like(v, lower(s)), r.alloc(2 * len(s))
}

func filterLength(r *run, a []Value) (Value, error) {
	n, ok, err := r.length(a[0])
	if !ok && err == nil {
		err = fmt.Errorf("object of type '%s' has no len()", a[0].typeName())
	}
	return intValue(n), err
}

func filterDefault(r *run, a []Value) (Value, error) {
	otherwise := a[1]
	if otherwise == nil {
		otherwise = strValue("")
	}
	if _, ok := a[0].(*undefined); ok {
		return otherwise, nil
	}
	boolean, err := r.boolArg(a[2])
	if err != nil || !boolean {
		return a[0], err
	}
	if t, err := r.truth(a[0]); t || err != nil {
		return a[0], err
	}
	return otherwise, nil
}

func filterAttr(r *run, a []Value) (Value, error) {
	name, err := textArg(a[1])
	if err != nil {
		return nil, err
	}
	if u, ok := a[0].(*undefined); ok {
		return nil, undefinedError(u)
	}
	v, err := r.typeAttribute(a[0], name)
	if v == nil && err == nil {
		v = missing(a[0], a[1])
	}
	return v, err
}

func filterFirst(r *run, a []Value) (Value, error) {
	it, err := r.iterate(a[0])
	if err != nil {
		return nil, err
	}
	v, err := it.advance(r)
	if v == nil && err == nil {
		v = &undefined{hint: "No first item, sequence was empty."}
	}
	return v, err
}

func filterLast(r *run, a []Value) (Value, error) {
	if _, ok := a[0].(*iterator); ok {
		return nil, fmt.Errorf("'%s' object is not reversible", a[0].typeName())
	}
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &undefined{hint: "No last item, sequence was empty."}, nil
	}
	return items[len(items)-1], nil
}

func filterList(r *run, a []Value) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	return r.list(items)
}

func filterItems(r *run, a []Value) (Value, error) {
	var items []Value
	started := false
	return r.generator(nil, func() (Value, error) {
		if !started {
			started = true
			switch v := a[0].(type) {
			case *undefined:
			case *dictValue:
				var err error
				if items, err = (&viewValue{v, "dict_items"}).items(r); err != nil {
					return nil, err
				}
			default:
				return nil, errors.New("Can only get item pairs from a mapping.")
			}
		}
		if len(items) == 0 {
			return nil, nil
		}
		v := items[0]
		items = items[1:]
		return v, nil
	})
}

func filterReverse(r *run, a []Value) (Value, error) {
	if _, ok := asStr(a[0]); ok {
		return r.slice(a[0], [3]Value{nil, nil, intValue(-1)})
	}
	items, err := r.items(a[0])
	if err != nil {
		return nil, errors.New("argument must be iterable")
	}
	if err := r.allocItems(len(items)); err != nil {
		return nil, err
	}
	out := make([]Value, len(items))
	for i, v := range items {
		out[len(items)-1-i] = v
	}
	if _, ok := a[0].(*iterator); ok {
		return &listValue{out}, nil
	}
	return &iterator{kind: a[0].typeName() + "_reverseiterator", items: out}, nil
}

func filterJoin(r *run, a []Value) (Value, error) {
	get, err := r.getter(a[2], nil)
	if err != nil {
		return nil, err
	}
	sep := ""
	if a[1] != nil {
		if sep, err = r.str(a[1]); err != nil {
			return nil, err
		}
	}
	it, err := r.iterate(a[0])
	if err != nil {
		return nil, err
	}
	b := &textBuilder{r: r}
	for i := 0; ; i++ {
		v, err := it.advance(r)
		if err != nil {
			return nil, err
		}
		if v == nil {
			return strValue(b.String()), nil
		}
		if v, err = get(v); err != nil {
			return nil, err
		}
		s, err := r.str(v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			if err := b.put(sep); err != nil {
				return nil, err
			}
		}
		if err := b.put(s); err != nil {
			return nil, err
		}
	}
}

func filterBatch(r *run, a []Value) (Value, error) {
	n, err := intArg(a[1], 0)
	if err != nil {
		return nil, err
	}
	it, err := r.iterate(a[0])
	if err != nil {
		return nil, err
	}
	var tmp []Value
	done := false
	return r.generator(it, func() (Value, error) {
		for !done {
			v, err := it.advance(r)
			if err != nil {
				return nil, err
			}
			if v == nil {
				done = true
				break
			}
			if err := r.alloc(2 * valueBytes); err != nil {
				return nil, err
			}
			if len(tmp) == n {
				batch := &listValue{tmp}
				tmp = []Value{v}
				return batch, nil
			}
			tmp = append(tmp, v)
		}
		if len(tmp) == 0 {
			return nil, nil
		}
		last := tmp
		tmp = nil
		if !noneArg(a[2]) && len(last) < n {
			if err := r.allocItems(n - len(last)); err != nil {
				return nil, err
			}
			for len(last) < n {
				last = append(last, a[2])
			}
		}
		return &listValue{last}, nil
	})
}

func filterSlice(r *run, a []Value) (Value, error) {
	n, err := intArg(a[1], 0)
	if err != nil {
		return nil, err
	}
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("integer division or modulo by zero")
	}
	i, offset := 0, 0
	return r.generator(nil, func() (Value, error) {
		if i >= n {
			return nil, nil
		}
		per, extra := len(items)/n, len(items)%n
		start := offset + i*per
		if i < extra {
			offset++
		}
		end := offset + (i+1)*per
		out := append([]Value(nil), items[start:end]...)
		if !noneArg(a[2]) && i >= extra {
			out = append(out, a[2])
		}
		i++
		return r.list(out)
	})
}

// order sorts items stably by keys, in descending order if reverse.
func (r *run) order(items []Value, keys []Value, reverse bool) ([]Value, error) {
	if err := r.allocItems(4 * len(items)); err != nil {
		return nil, err
	}
	index := make([]int, len(items))
	for i := range index {
		index[i] = i
	}
	var failed error
	sort.SliceStable(index, func(i, j int) bool {
		if failed != nil {
			return false
		}
		x, y := keys[index[i]], keys[index[j]]
		if reverse {
			x, y = y, x
		}
		less, err := r.compare("<", x, y)
		failed = err
		return less
	})
	out := make([]Value, len(items))
	for i, j := range index {
		out[i] = items[j]
	}
	return out, failed
}

func filterSort(r *run, a []Value) (Value, error) {
	caseSensitive, err := r.boolArg(a[2])
	if err != nil {
		return nil, err
	}
	paths := []Value{a[3]}
	if s, ok := asStr(a[3]); ok {
		paths = nil
		if err := r.alloc(8 * stringBytes * (strings.Count(s, ",") + 1)); err != nil {
			return nil, err
		}
		for _, p := range strings.Split(s, ",") {
			paths = append(paths, strValue(p))
		}
	}
	gets := make([]func(Value) (Value, error), len(paths))
	for i, p := range paths {
		if gets[i], err = r.keyFunc(p, nil, caseSensitive); err != nil {
			return nil, err
		}
	}
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	if err := r.allocItems((2 + 2*len(gets)) * len(items)); err != nil {
		return nil, err
	}
	keys := make([]Value, len(items))
	for i, item := range items {
		key := &listValue{make([]Value, len(gets))}
		for j, get := range gets {
			if key.items[j], err = get(item); err != nil {
				return nil, err
			}
		}
		keys[i] = key
	}
	reverse, err := r.boolArg(a[1])
	if err != nil {
		return nil, err
	}
	out, err := r.order(items, keys, reverse)
	return &listValue{out}, err
}

func filterDictsort(r *run, a []Value) (Value, error) {
	d, err := dictArg(a[0])
	if err != nil {
		return nil, err
	}
	caseSensitive, err := r.boolArg(a[1])
	if err != nil {
		return nil, err
	}
	reverse, err := r.boolArg(a[3])
	if err != nil {
		return nil, err
	}
	by := "key"
	if a[2] != nil {
		by, _ = asStr(a[2])
	}
	keys := d.keys
	switch by {
	case "key":
	case "value":
		keys = d.values
	default:
		return nil, errors.New(`You can only sort by either "key" or "value"`)
	}
	if !caseSensitive {
		keys = append([]Value(nil), keys...)
		for i, k := range keys {
			if keys[i], err = r.ignoreCase(k); err != nil {
				return nil, err
			}
		}
	}
	items, err := (&viewValue{d, "dict_items"}).items(r)
	if err != nil {
		return nil, err
	}
	out, err := r.order(items, keys, reverse)
	return &listValue{out}, err
}
