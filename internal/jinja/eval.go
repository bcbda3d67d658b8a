package jinja

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// frame holds the variables of a scope while it runs.
type frame struct {
	parent *frame
	slots  []Value // nil: not assigned
}

// newFrame makes a frame of s and pays for it: a template may have very many variables.
func (r *run) newFrame(s *scope, parent *frame) (*frame, error) {
	if err := r.allocItems(len(s.loads)); err != nil {
		return nil, err
	}
	return &frame{parent, make([]Value, len(s.loads))}, nil
}

func (f *frame) at(ref ref) *Value {
	for ; ref.up > 0; ref.up-- {
		f = f.parent
	}
	return &f.slots[ref.slot]
}

// enterFrame fills the slots that are no parameters.
func (r *run) enterFrame(s *scope, f *frame) error {
	if err := r.step(len(s.loads) / slotsPerStep); err != nil {
		return err
	}
	for i, l := range s.loads {
		switch l.from {
		case unset:
			f.slots[i] = nil
		case fromOuter:
			f.slots[i] = *f.at(l.outer)
		case fromContext:
			v, err := r.lookup(l.name)
			if err != nil {
				return err
			}
			f.slots[i] = v
		}
	}
	return nil
}

// lookup finds a variable of the caller or a global; nil if there is none.
func (r *run) lookup(name string) (Value, error) {
	if v, ok := r.exported[name]; ok {
		return v, nil
	}
	if v, ok := r.resolved[name]; ok {
		return v, nil
	}
	if x, ok := r.vars[name]; ok {
		v, err := fromGo(x, 0)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
		r.resolved[name] = v
		return v, nil
	}
	if v, ok := globals[name]; ok {
		return v, nil
	}
	return nil, nil
}

func (x *constExpr) eval(r *run, _ *frame) (Value, error) { return x.value, r.step(1) }

func (x *nameExpr) eval(r *run, f *frame) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, r.at(x.pos, err)
	}
	if v := *f.at(x.ref); v != nil {
		return v, nil
	}
	return &undefined{name: strValue(x.name)}, nil
}

func (x *tupleExpr) eval(r *run, f *frame) (Value, error) {
	items, err := r.evalAll(x.items, f)
	return &tupleValue{items: items}, err
}

func (x *listExpr) eval(r *run, f *frame) (Value, error) {
	items, err := r.evalAll(x.items, f)
	return &listValue{items}, err
}

func (r *run) evalAll(xs []expr, f *frame) ([]Value, error) {
	if err := r.allocItems(len(xs)); err != nil {
		return nil, err
	}
	items := make([]Value, len(xs))
	for i, x := range xs {
		v, err := x.eval(r, f)
		if err != nil {
			return nil, err
		}
		items[i] = v
	}
	return items, nil
}

func (x *dictExpr) eval(r *run, f *frame) (Value, error) {
	if err := r.allocItems(4 * len(x.keys)); err != nil {
		return nil, r.at(x.pos, err)
	}
	d := &dictValue{}
	for i := range x.keys {
		key, err := x.keys[i].eval(r, f)
		if err != nil {
			return nil, err
		}
		value, err := x.values[i].eval(r, f)
		if err != nil {
			return nil, err
		}
		if err := d.set(key, value); err != nil {
			return nil, r.at(x.pos, err)
		}
	}
	return d, nil
}

func (x *unaryExpr) eval(r *run, f *frame) (Value, error) {
	v, err := x.x.eval(r, f)
	if err != nil {
		return nil, err
	}
	v, err = r.unary(x.op, v)
	if err != nil {
		return nil, r.at(x.pos, err)
	}
	return v, nil
}

func (r *run) unary(op string, v Value) (Value, error) {
	if op == "not" {
		t, err := r.truth(v)
		return boolValue(!t), err
	}
	if u, ok := v.(*undefined); ok {
		return nil, undefinedError(u)
	}
	if !isNumber(v) {
		return nil, fmt.Errorf("bad operand type for unary %s: '%s'", op, v.typeName())
	}
	if op == "-" {
		return negate(v)
	}
	if _, ok := v.(floatValue); ok {
		return v, nil
	}
	return intOf(asBig(v)), nil
}

func (x *chainExpr) eval(r *run, f *frame) (Value, error) {
	left, err := x.first.eval(r, f)
	if err != nil {
		return nil, err
	}
	var text []byte // left, while strings are being appended to it
	appending := false
	for _, op := range x.rest {
		right, err := op.x.eval(r, f)
		if err != nil {
			return nil, err
		}
		if op.op == "+" {
			l, leftStr := left.(strValue)
			s, rightStr := right.(strValue)
			if rightStr && (appending || leftStr) {
				if !appending {
					if err := r.alloc(len(l)); err != nil {
						return nil, r.at(op.pos, err)
					}
					text, appending = append(text[:0], l...), true
				}
				err := r.alloc(len(s))
				if len(text)+len(s) > r.largest {
					err = r.alloc(-1)
				}
				if err != nil {
					return nil, r.at(op.pos, err)
				}
				text = append(text, s...)
				continue
			}
		}
		if appending {
			left, appending = strValue(text), false
		}
		if left, err = r.binary(op.op, left, right); err != nil {
			return nil, r.at(op.pos, err)
		}
	}
	if appending {
		return strValue(text), nil
	}
	return left, nil
}

// binary applies an arithmetic operator.
func (r *run) binary(op string, a, b Value) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	if isNumber(a) && isNumber(b) {
		return arithmetic(op, a, b)
	}
	if s, ok := asStr(a); ok && op == "%" {
		return r.printf(a, s, b)
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*undefined); ok {
			return nil, undefinedError(u)
		}
	}
	switch op {
	case "+":
		return r.add(a, b)
	case "*":
		if n := asBig(a); n != nil {
			return r.repeat(b, a, n)
		}
		if n := asBig(b); n != nil {
			return r.repeat(a, b, n)
		}
	}
	return nil, unsupported(op, a, b)
}

func unsupported(op string, a, b Value) error {
	if op == "**" {
		op = "** or pow()"
	}
	return fmt.Errorf("unsupported operand type(s) for %s: '%s' and '%s'", op, a.typeName(), b.typeName())
}

func (r *run) add(a, b Value) (Value, error) {
	switch x := a.(type) {
	case strValue, markupValue:
		s, _ := asStr(a)
		t, ok := asStr(b)
		if !ok {
			return nil, fmt.Errorf(`can only concatenate str (not "%s") to str`, b.typeName())
		}
		return r.addText(a, b, s, t)
	case *listValue:
		if y, ok := b.(*listValue); ok {
			items, err := r.join(x.items, y.items)
			return &listValue{items}, err
		}
		return nil, fmt.Errorf(`can only concatenate list (not "%s") to list`, b.typeName())
	case *tupleValue:
		if y, ok := b.(*tupleValue); ok {
			items, err := r.join(x.items, y.items)
			return &tupleValue{items: items}, err
		}
		return nil, fmt.Errorf(`can only concatenate tuple (not "%s") to tuple`, b.typeName())
	}
	return nil, unsupported("+", a, b)
}

// join returns the items of a and b in one slice.
func (r *run) join(a, b []Value) ([]Value, error) {
	if err := r.allocItems(len(a) + len(b)); err != nil {
		return nil, err
	}
	return append(append(make([]Value, 0, len(a)+len(b)), a...), b...), nil
}

// addText concatenates texts; beside Markup, a plain string is escaped.
func (r *run) addText(a, b Value, s, t string) (Value, error) {
	_, aSafe := a.(markupValue)
	_, bSafe := b.(markupValue)
	var err error
	if aSafe && !bSafe {
		t, err = r.escapeHTML(t)
	}
	if bSafe && !aSafe {
		s, err = r.escapeHTML(s)
	}
	if err != nil {
		return nil, err
	}
	if err := r.alloc(len(s) + len(t)); err != nil {
		return nil, err
	}
	if aSafe || bSafe {
		return markupValue(s + t), nil
	}
	return strValue(s + t), nil
}

// repeat is v * times, times being the value of the integer count.
func (r *run) repeat(v, times Value, count *big.Int) (Value, error) {
	size := 0
	switch x := v.(type) {
	case strValue:
		size = len(x)
	case markupValue:
		size = len(x)
	case *listValue:
		size = len(x.items) * valueBytes
	case *tupleValue:
		size = len(x.items) * valueBytes
	default:
		return nil, unsupported("*", v, times)
	}
	if !count.IsInt64() {
		return nil, errors.New("cannot fit 'int' into an index-sized integer")
	}
	n := max(0, count.Int64())
	if size > 0 && n > int64(r.largest/size) {
		return nil, r.alloc(-1)
	}
	if err := r.alloc(size * int(n)); err != nil {
		return nil, err
	}
	if size == 0 {
		n = 0
	}
	switch x := v.(type) {
	case *listValue:
		return &listValue{repeatItems(x.items, int(n))}, nil
	case *tupleValue:
		return &tupleValue{items: repeatItems(x.items, int(n))}, nil
	}
	s, _ := asStr(v)
	return like(v, strings.Repeat(s, int(n))), nil
}

func repeatItems(items []Value, n int) []Value {
	out := make([]Value, 0, len(items)*n)
	for ; n > 0; n-- {
		out = append(out, items...)
	}
	return out
}

func (x *logicExpr) eval(r *run, f *frame) (Value, error) {
	for i, item := range x.items {
		v, err := item.eval(r, f)
		if err != nil || i == len(x.items)-1 {
			return v, err
		}
		t, err := r.truth(v)
		if err != nil || t == x.or {
			return v, err
		}
	}
	return nil, nil
}

func (x *compareExpr) eval(r *run, f *frame) (Value, error) {
	left, err := x.first.eval(r, f)
	if err != nil {
		return nil, err
	}
	for _, op := range x.rest {
		right, err := op.x.eval(r, f)
		if err != nil {
			return nil, err
		}
		ok, err := r.relation(op.op, left, right)
		if err != nil {
			return nil, r.at(op.pos, err)
		}
		if !ok {
			return boolValue(false), nil
		}
		left = right
	}
	return boolValue(true), nil
}

func (r *run) relation(op string, a, b Value) (bool, error) {
	switch op {
	case "==":
		return r.equal(a, b)
	case "!=":
		eq, err := r.equal(a, b)
		return !eq, err
	case "in":
		return r.contains(b, a)
	case "not in":
		in, err := r.contains(b, a)
		return !in, err
	}
	return r.compare(op, a, b)
}

func (x *concatExpr) eval(r *run, f *frame) (Value, error) {
	b := &textBuilder{r: r}
	for _, item := range x.items {
		v, err := item.eval(r, f)
		if err != nil {
			return nil, err
		}
		s, err := r.str(v)
		if err == nil {
			err = b.put(s)
		}
		if err != nil {
			return nil, r.at(x.pos, err)
		}
	}
	return strValue(b.String()), nil
}

func (x *condExpr) eval(r *run, f *frame) (Value, error) {
	for {
		v, err := x.test.eval(r, f)
		if err != nil {
			return nil, err
		}
		t, err := r.truth(v)
		if err != nil {
			return nil, r.at(x.pos, err)
		}
		if t {
			return x.then.eval(r, f)
		}
		if x.other == nil {
			return &undefined{hint: "the inline if-expression evaluated to false and no else section was defined."}, nil
		}
		next, ok := x.other.(*condExpr)
		if !ok {
			return x.other.eval(r, f)
		}
		x = next
	}
}

func (x *postfixExpr) eval(r *run, f *frame) (Value, error) {
	v, err := x.base.eval(r, f)
	if err != nil {
		return nil, err
	}
	return x.apply(r, f, v)
}

// apply runs the postfixes on v.
func (x *postfixExpr) apply(r *run, f *frame, v Value) (Value, error) {
	for i := range x.ops {
		op := &x.ops[i]
		var err error
		if v, err = op.apply(r, f, v); err != nil {
			return nil, r.at(op.pos, err)
		}
	}
	return v, nil
}

func (op *postfix) apply(r *run, f *frame, v Value) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	switch op.kind {
	case opAttribute:
		return r.attribute(v, op.name)
	case opSubscript:
		key, err := op.index.eval(r, f)
		if err != nil {
			return nil, err
		}
		return r.item(v, key)
	case opSlice:
		var bounds [3]Value
		for i, x := range *op.slice {
			if x == nil {
				continue
			}
			b, err := x.eval(r, f)
			if err != nil {
				return nil, err
			}
			bounds[i] = b
		}
		return r.slice(v, bounds)
	case opCall:
		args, kw, err := op.args.eval(r, f)
		if err != nil {
			return nil, err
		}
		return r.invoke(v, args, kw)
	}
	if op.fn == nil {
		return nil, errUnknown(*op)
	}
	args, kw, err := op.args.eval(r, f, v)
	if err != nil {
		return nil, err
	}
	if s, ok := asStr(v); ok {
		if err := r.scan(len(s)); err != nil {
			return nil, err
		}
	}
	out, err := op.fn.call(r, args, kw)
	if err != nil || op.kind == opFilter {
		return out, err
	}
	if op.negated {
		t, err := r.truth(out)
		return boolValue(!t), err
	}
	return out, nil
}

func (captured) eval(*run, *frame) (Value, error) { return strValue(""), nil }

func (t *attrTarget) eval(r *run, _ *frame) (Value, error) {
	return nil, r.at(t.pos, fmt.Errorf("an attribute of a namespace is no value here"))
}
