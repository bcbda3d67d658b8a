package jinja

import (
	"fmt"
	"math/big"
	"strings"
)

// attribute is v.name of a template: an attribute of the Python type, else the item of that
// name, else undefined. It follows jinja2/sandbox.py's getattr.
func (r *run) attribute(v Value, name string) (Value, error) {
	attr, err := r.typeAttribute(v, name)
	if attr != nil || err != nil {
		return attr, err
	}
	if d, ok := v.(*dictValue); ok {
		if item, err := r.find(d, strValue(name)); item != nil || err != nil {
			return item, err
		}
	}
	if u, ok := v.(*undefined); ok {
		return nil, undefinedError(u)
	}
	return missing(v, strValue(name)), nil
}

// item is v[key] of a template: the item, else for a string the attribute of that name, else
// undefined.
func (r *run) item(v, key Value) (Value, error) {
	switch v := v.(type) {
	case *undefined:
		return nil, undefinedError(v)
	case *dictValue:
		if s, ok := asStr(key); ok {
			if err := r.scan(len(s)); err != nil {
				return nil, err
			}
		}
		if item, _ := v.get(key); item != nil {
			return item, nil
		}
	default:
		if i, ok := asIndex(key); ok {
			item, err := r.indexed(v, i)
			if item != nil || err != nil {
				return item, err
			}
		}
	}
	if name, ok := asStr(key); ok {
		attr, err := r.typeAttribute(v, name)
		if attr != nil || err != nil {
			return attr, err
		}
	}
	return missing(v, key), nil
}

func asIndex(v Value) (int64, bool) {
	if b, ok := v.(bigValue); ok {
		return int64(b.i.Sign()) << 62, true // out of every range
	}
	return asInt(v)
}

// indexed returns item i of a sequence, or nil.
func (r *run) indexed(v Value, i int64) (Value, error) {
	switch v.(type) {
	case strValue, markupValue, *listValue, *tupleValue, *rangeValue:
	default:
		return nil, nil
	}
	n, _, err := r.length(v)
	if err != nil {
		return nil, err
	}
	if i < 0 {
		i += int64(n)
	}
	if i < 0 || i >= int64(n) {
		return nil, nil
	}
	switch v := v.(type) {
	case *listValue:
		return v.items[i], nil
	case *tupleValue:
		return v.items[i], nil
	case *rangeValue:
		return intValue(v.start + i*v.step), nil
	}
	s, _ := asStr(v)
	if len(s) == n {
		return like(v, s[i:i+1]), nil
	}
	at := byteOffset(s, int(i))
	return like(v, s[at:at+byteOffset(s[at:], 1)]), r.scan(len(s))
}

// typeAttribute returns the attribute that the Python type of v has, nil if it has none.
// What the sandbox forbids is undefined and says so when it is used.
func (r *run) typeAttribute(v Value, name string) (Value, error) {
	if ns, ok := v.(*namespaceValue); ok {
		return ns.attrs[name], nil
	}
	if strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__") && len(name) > 4 {
		if _, ok := v.(*undefined); ok && name != "__class__" {
			return nil, nil
		}
		return unsafeAttribute(v, name), nil
	}
	switch v := v.(type) {
	case *loopValue:
		return v.attribute(r, name)
	case *macroValue:
		return v.attribute(name), nil
	case *rangeValue:
		switch name {
		case "start":
			return intValue(v.start), nil
		case "stop":
			return intValue(v.stop), nil
		case "step":
			return intValue(v.step), nil
		}
	case *cyclerValue:
		switch name {
		case "current":
			return v.items[v.pos], nil
		case "items":
			return &tupleValue{items: v.items}, nil
		case "pos":
			return intValue(v.pos), nil
		}
	case *joinerValue:
		switch name {
		case "sep":
			return v.sep, nil
		case "used":
			return boolValue(v.used), nil
		}
	case *native:
		if Value(v) == globals["dict"] && name == "fromkeys" {
			return &boundValue{v, methods["dict"]["fromkeys"]}, nil
		}
	case *tupleValue:
		if v.group && name == "grouper" {
			return v.items[0], nil
		}
		if v.group && name == "list" {
			return v.items[1], nil
		}
	case intValue, bigValue, boolValue:
		switch name {
		case "real", "numerator":
			return intOf(asBig(v)), nil
		case "imag":
			return intValue(0), nil
		case "denominator":
			return intValue(1), nil
		}
	case floatValue:
		switch name {
		case "real":
			return v, nil
		case "imag":
			return floatValue(0), nil
		}
	}
	if m := methods[v.typeName()][name]; m != nil {
		if m.fn == nil && m.raw == nil {
			return unsafeAttribute(v, name), nil
		}
		return &boundValue{v, m}, nil
	}
	return nil, nil
}

// slice is v[start:stop:step]; each bound may be nil or none.
func (r *run) slice(v Value, bounds [3]Value) (Value, error) {
	if u, ok := v.(*undefined); ok {
		return nil, undefinedError(u)
	}
	for i, b := range bounds {
		switch x := b.(type) {
		case nil:
		case none:
			bounds[i] = nil
		default:
			if asBig(x) == nil {
				return nil, fmt.Errorf("slice indices must be integers or None or have an __index__ method")
			}
		}
	}
	switch v.(type) {
	case strValue, markupValue, *listValue, *tupleValue, *rangeValue:
	default:
		return nil, fmt.Errorf("'%s' object is not subscriptable", v.typeName())
	}
	n, _, err := r.length(v)
	if err != nil {
		return nil, err
	}
	start, step, count, err := sliceIndices(n, bounds)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *listValue:
		if err := r.allocItems(count); err != nil {
			return nil, err
		}
		return &listValue{pick(v.items, start, step, count)}, nil
	case *tupleValue:
		if err := r.allocItems(count); err != nil {
			return nil, err
		}
		return &tupleValue{items: pick(v.items, start, step, count)}, nil
	case *rangeValue:
		out := &rangeValue{start: v.start + int64(start)*v.step, step: v.step * int64(step), n: int64(count)}
		out.stop = out.start + out.step*out.n
		return out, nil
	}
	s, _ := asStr(v)
	if step == 1 {
		from := byteOffset(s, start)
		return like(v, s[from:from+byteOffset(s[from:], count)]), r.scan(len(s))
	}
	if err := r.alloc(4*n + count); err != nil {
		return nil, err
	}
	return like(v, string(pick([]rune(s), start, step, count))), nil
}

func pick[T any](items []T, start, step, count int) []T {
	if step == 1 {
		return items[start : start+count : start+count]
	}
	out := make([]T, count)
	for i := range out {
		out[i] = items[start+i*step]
	}
	return out
}

// sliceIndices is Python's slice.indices(n), as first index, step and number of items.
func sliceIndices(n int, bounds [3]Value) (start, step, count int, err error) {
	clamp := func(v Value, low, high, otherwise int) int {
		if v == nil {
			return otherwise
		}
		b := asBig(v)
		if b.Sign() < 0 {
			b = new(big.Int).Add(b, big.NewInt(int64(n)))
		}
		if b.Cmp(big.NewInt(int64(low))) < 0 {
			return low
		}
		if b.Cmp(big.NewInt(int64(high))) > 0 {
			return high
		}
		return int(b.Int64())
	}
	step = 1
	if bounds[2] != nil {
		b := asBig(bounds[2])
		switch {
		case b.Sign() == 0:
			return 0, 0, 0, fmt.Errorf("slice step cannot be zero")
		case !b.IsInt64() || b.Int64() > int64(n)+1 || b.Int64() < -int64(n)-1:
			step = b.Sign() * (n + 1)
		default:
			step = int(b.Int64())
		}
	}
	if step > 0 {
		start = clamp(bounds[0], 0, n, 0)
		if stop := clamp(bounds[1], 0, n, n); stop > start {
			count = (stop-start-1)/step + 1
		}
	} else {
		start = clamp(bounds[0], -1, n-1, n-1)
		if stop := clamp(bounds[1], -1, n-1, -1); start > stop {
			count = (start-stop-1)/-step + 1
		}
	}
	if count == 0 {
		start = 0
	}
	return start, step, count, nil
}
