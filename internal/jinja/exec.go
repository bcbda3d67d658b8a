package jinja

import (
	"fmt"
)

// signal says how a statement ended.
type signal uint8

const (
	proceeding signal = iota
	breaking
	continuing
)

func (r *run) exec(body []stmt, f *frame) (signal, error) {
	for _, s := range body {
		if sig, err := s.exec(r, f); sig != proceeding || err != nil {
			return sig, err
		}
	}
	return proceeding, nil
}

func (s *textStmt) exec(r *run, _ *frame) (signal, error) {
	err := r.step(1)
	if err == nil {
		err = r.write(s.text)
	}
	if err != nil {
		err = r.at(s.pos, err)
	}
	return proceeding, err
}

func (s *printStmt) exec(r *run, f *frame) (signal, error) {
	r.last = capture{}
	v, err := s.x.eval(r, f)
	if err == nil {
		err = r.print(v)
	}
	if err != nil {
		err = r.at(s.pos, err)
	}
	return proceeding, err
}

// print writes str(v). If v is what a macro has just returned, its generation spans go with
// it.
func (r *run) print(v Value) error {
	text, err := r.str(v)
	if err != nil {
		return err
	}
	start := len(r.out.text)
	if err := r.write(text); err != nil {
		return err
	}
	if len(r.last.spans) > 0 && r.last.text == text {
		for _, s := range r.last.spans {
			r.out.spans = append(r.out.spans, Span{start + s.Start, start + s.End})
		}
	}
	r.last = capture{}
	return nil
}

// printText is print of what has to be a string already: the results of filter and call
// blocks.
func (r *run) printText(v Value) error {
	if _, err := textArg(v); err != nil {
		return err
	}
	return r.print(v)
}

// capture runs body with its output going to the returned text.
func (r *run) capture(body func() error) (string, error) {
	outer := r.out
	r.out = &buffer{}
	defer func() { r.out = outer }()
	if err := body(); err != nil {
		return "", err
	}
	if err := r.alloc(len(r.out.text)); err != nil {
		return "", err
	}
	r.last = capture{string(r.out.text), r.out.spans}
	return r.last.text, nil
}

func (s *ifStmt) exec(r *run, f *frame) (signal, error) {
	for _, b := range s.branches {
		v, err := b.test.eval(r, f)
		if err != nil {
			return proceeding, err
		}
		t, err := r.truth(v)
		if err != nil {
			return proceeding, err
		}
		if t {
			return r.exec(b.body, f)
		}
	}
	return r.exec(s.other, f)
}

func (s *setStmt) exec(r *run, f *frame) (signal, error) {
	if err := checkNamespaces(r, f, s.target); err != nil {
		return proceeding, err
	}
	v, err := s.x.eval(r, f)
	if err == nil {
		err = s.target.assign(r, f, v)
	}
	if err != nil {
		err = r.at(s.pos, err)
	}
	return proceeding, err
}

func (s *setBlockStmt) exec(r *run, f *frame) (signal, error) {
	v, sig, err := r.captureBlock(s.body, s.scope, f, s.filter)
	if err == nil && sig == proceeding {
		err = s.target.assign(r, f, v)
	}
	if err != nil {
		err = r.at(s.pos, err)
	}
	return sig, err
}

// captureBlock runs the body of a block in its own scope and the filter, if any, on its text.
func (r *run) captureBlock(body []stmt, s *scope, f *frame, filter *postfixExpr) (Value, signal, error) {
	inner, err := r.newFrame(s, f)
	if err != nil {
		return nil, proceeding, err
	}
	if err := r.enterFrame(s, inner); err != nil {
		return nil, proceeding, err
	}
	sig := proceeding
	text, err := r.capture(func() (err error) {
		sig, err = r.exec(body, inner)
		return err
	})
	if err != nil || sig != proceeding {
		return nil, sig, err
	}
	if filter == nil {
		return strValue(text), sig, nil
	}
	v, err := filter.apply(r, inner, strValue(text))
	return v, sig, err
}

func (s *filterStmt) exec(r *run, f *frame) (signal, error) {
	v, sig, err := r.captureBlock(s.body, s.scope, f, s.filter)
	if err == nil && sig == proceeding {
		r.last = capture{}
		err = r.printText(v)
	}
	if err != nil {
		err = r.at(s.pos, err)
	}
	return sig, err
}

func (s *withStmt) exec(r *run, f *frame) (signal, error) {
	inner, err := r.newFrame(s.scope, f)
	if err == nil {
		err = r.enterFrame(s.scope, inner)
	}
	for i := 0; err == nil && i < len(s.values); i++ {
		var v Value
		if v, err = s.values[i].eval(r, f); err == nil {
			err = s.targets[i].assign(r, inner, v)
		}
	}
	if err != nil {
		return proceeding, r.at(s.pos, err)
	}
	return r.exec(s.body, inner)
}

func (s *macroStmt) exec(r *run, f *frame) (signal, error) {
	if err := r.alloc(64); err != nil {
		return proceeding, r.at(s.def.pos, err)
	}
	return proceeding, s.target.assign(r, f, &macroValue{def: s.def, outer: f})
}

func (s *callStmt) exec(r *run, f *frame) (signal, error) {
	caller := &macroValue{def: s.def, outer: f}
	ops := s.call.ops
	v, err := (&postfixExpr{s.call.base, ops[:len(ops)-1]}).eval(r, f)
	if err != nil {
		return proceeding, err
	}
	call := ops[len(ops)-1]
	args, kw, err := call.args.eval(r, f)
	if err == nil {
		r.last = capture{}
		v, err = r.invoke(v, args, append(kw, keyword{"caller", caller}))
	}
	if err == nil {
		err = r.printText(v)
	}
	if err != nil {
		err = r.at(call.pos, err)
	}
	return proceeding, err
}

func (s *generationStmt) exec(r *run, f *frame) (signal, error) {
	m := &macroValue{def: s.def, outer: f}
	text, err := m.call(r, nil, nil)
	start := len(r.out.text)
	if err == nil {
		err = r.write(text)
	}
	if err != nil {
		return proceeding, r.at(s.pos, err)
	}
	r.last = capture{}
	r.out.spans = append(r.out.spans, Span{start, len(r.out.text)})
	return proceeding, nil
}

func (s *blockStmt) exec(r *run, _ *frame) (signal, error) {
	err := r.call()
	if err == nil {
		defer r.leave()
		var f *frame
		if f, err = r.newFrame(s.scope, nil); err == nil {
			err = r.enterFrame(s.scope, f)
		}
		if err == nil {
			_, err = r.exec(s.body, f)
		}
	}
	if err != nil {
		err = r.at(s.pos, err)
	}
	return proceeding, err
}

func (s *loopControl) exec(*run, *frame) (signal, error) { return s.signal, nil }

func (t *nameTarget) assign(r *run, f *frame, v Value) error {
	*f.at(t.ref) = v
	if t.export && len(r.tmpl.blocks) > 0 {
		r.exported[t.name] = v
	}
	return nil
}

func (t *tupleTarget) assign(r *run, f *frame, v Value) error {
	it, err := r.iterate(v)
	if err != nil {
		return fmt.Errorf("cannot unpack non-iterable %s object", v.typeName())
	}
	values := make([]Value, 0, len(t.items))
	for {
		x, err := it.advance(r)
		if err != nil {
			return err
		}
		if x == nil {
			break
		}
		if len(values) == len(t.items) {
			return fmt.Errorf("too many values to unpack (expected %d)", len(t.items))
		}
		values = append(values, x)
	}
	if len(values) < len(t.items) {
		return fmt.Errorf("not enough values to unpack (expected %d, got %d)", len(t.items), len(values))
	}
	for i, item := range t.items {
		if err := item.assign(r, f, values[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *attrTarget) assign(r *run, f *frame, v Value) error {
	ns, ok := (*f.at(t.object.ref)).(*namespaceValue)
	if !ok {
		return r.at(t.pos, fmt.Errorf("cannot assign attribute on non-namespace object"))
	}
	if err := ns.set(r, t.name, v); err != nil {
		return r.at(t.pos, err)
	}
	return nil
}

// checkNamespaces refuses attributes of what is no namespace before the value is evaluated.
func checkNamespaces(r *run, f *frame, t target) error {
	switch t := t.(type) {
	case *attrTarget:
		if _, ok := (*f.at(t.object.ref)).(*namespaceValue); !ok {
			return r.at(t.pos, fmt.Errorf("cannot assign attribute on non-namespace object"))
		}
	case *tupleTarget:
		for _, item := range t.items {
			if err := checkNamespaces(r, f, item); err != nil {
				return err
			}
		}
	}
	return nil
}
