package jinja

import (
	"fmt"
	"slices"
)

// scope is the set of names of one frame, as jinja2/idtracking.py finds them: an inner frame
// reads the variables of the outer ones and assigns only to its own. What a name is bound to
// is decided when the template is parsed, so {{ x }} in a loop is undefined if x is assigned
// later in the template outside of it, whatever x the caller passed.
type scope struct {
	parent *scope
	slots  map[string]int
	loads  []load
	top    bool // assignments are seen by blocks
}

// load says what a slot holds when its frame is entered.
type load struct {
	from  loadKind
	name  string
	outer ref
}

type loadKind uint8

const (
	unset       loadKind = iota
	parameter            // filled by whoever enters the frame
	fromContext          // the caller's variable or a global
	fromOuter            // a copy of an outer frame's variable
)

// ref is a variable: slot of the frame up levels out.
type ref struct{ up, slot int }

func newScope(parent *scope) *scope { return &scope{parent: parent, slots: map[string]int{}} }

func (s *scope) find(name string) (ref, bool) {
	for up := 0; s != nil; s, up = s.parent, up+1 {
		if slot, ok := s.slots[name]; ok {
			return ref{up, slot}, true
		}
	}
	return ref{}, false
}

func (s *scope) define(name string, l load) int {
	if slot, ok := s.slots[name]; ok {
		s.loads[slot] = l
		return slot
	}
	s.slots[name] = len(s.loads)
	s.loads = append(s.loads, l)
	return len(s.loads) - 1
}

func (s *scope) param(name string) ref {
	return ref{0, s.define(name, load{from: parameter, name: name})}
}

func (s *scope) read(name string) {
	if _, ok := s.find(name); !ok {
		s.define(name, load{from: fromContext, name: name})
	}
}

// store declares an assignment; conditional ones leave the caller's variable visible.
func (s *scope) store(name string, conditional bool) {
	if _, ok := s.slots[name]; ok {
		return
	}
	if s.parent != nil {
		if outer, ok := s.parent.find(name); ok {
			outer.up++ // seen from this frame
			s.define(name, load{from: fromOuter, name: name, outer: outer})
			return
		}
	}
	if conditional {
		s.define(name, load{from: fromContext, name: name})
	} else {
		s.define(name, load{name: name})
	}
}

// declare collects the names that statements read and assign in this frame, in order.
func (s *scope) declare(body []stmt, conditional bool) {
	for _, st := range body {
		switch st := st.(type) {
		case *printStmt:
			s.readAll(st.x)
		case *ifStmt:
			for _, b := range st.branches {
				s.readAll(b.test)
				s.declare(b.body, true)
			}
			s.declare(st.other, true)
		case *forStmt:
			s.readAll(st.iter)
		case *setStmt:
			s.readAll(st.x)
			s.declareTarget(st.target, conditional)
		case *setBlockStmt:
			s.declareTarget(st.target, conditional)
		case *withStmt:
			s.readAll(st.values...)
		case *macroStmt:
			s.store(st.name, conditional)
		case *callStmt:
			s.readAll(st.call)
		case *filterStmt:
			s.readAll(st.filter)
		}
	}
}

func (s *scope) declareTarget(t target, conditional bool) {
	switch t := t.(type) {
	case *nameTarget:
		s.store(t.name, conditional)
	case *attrTarget:
		s.read(t.object.name)
	case *tupleTarget:
		for _, item := range t.items {
			s.declareTarget(item, conditional)
		}
	}
}

func (s *scope) params(t target) {
	switch t := t.(type) {
	case *nameTarget:
		s.param(t.name)
	case *tupleTarget:
		for _, item := range t.items {
			s.params(item)
		}
	}
}

func (s *scope) readAll(xs ...expr) {
	for _, x := range xs {
		_ = visit(x, false, func(x expr, _ bool) error {
			if n, ok := x.(*nameExpr); ok {
				s.read(n.name)
			}
			return nil
		})
	}
}

// resolver binds the names of a template to slots, scope by scope.
type resolver struct{ source string }

// resolve gives every name of the template its slot and returns the outermost scope.
func resolve(t *Template) (*scope, error) {
	r := &resolver{t.source}
	s := newScope(nil)
	s.top = true
	s.declare(t.body, false)
	return s, r.bind(s, t.body, false)
}

func (r *resolver) expressions(s *scope, soft bool, xs ...expr) error {
	for _, x := range xs {
		err := visit(x, soft, func(x expr, soft bool) error {
			switch x := x.(type) {
			case *nameExpr:
				x.ref, _ = s.find(x.name)
			case *postfixExpr:
				for _, op := range x.ops {
					if op.fn == nil && !soft && (op.kind == opFilter || op.kind == opTest) {
						return errorAt(r.source, op.pos, errUnknown(op))
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func errUnknown(op postfix) error {
	what := "filter"
	if op.kind == opTest {
		what = "test"
	}
	return fmt.Errorf("No %s named %s.", what, reprString(op.name))
}

func (r *resolver) bindTarget(s *scope, t target) {
	switch t := t.(type) {
	case *nameTarget:
		t.ref, _ = s.find(t.name)
		t.export = s.top
	case *attrTarget:
		t.object.ref, _ = s.find(t.object.name)
	case *tupleTarget:
		for _, item := range t.items {
			r.bindTarget(s, item)
		}
	}
}

// bind resolves the names of body in s and opens the scopes inside of it.
func (r *resolver) bind(s *scope, body []stmt, soft bool) error {
	for _, st := range body {
		if err := r.bindStmt(s, st, soft); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) bindStmt(s *scope, st stmt, soft bool) error {
	switch st := st.(type) {
	case *printStmt:
		return r.expressions(s, soft, st.x)
	case *ifStmt:
		for _, b := range st.branches {
			if err := r.expressions(s, true, b.test); err != nil {
				return err
			}
			if err := r.bind(s, b.body, true); err != nil {
				return err
			}
		}
		return r.bind(s, st.other, true)
	case *forStmt:
		return r.bindFor(s, st, soft)
	case *setStmt:
		r.bindTarget(s, st.target)
		return r.expressions(s, soft, st.x)
	case *setBlockStmt:
		r.bindTarget(s, st.target)
		st.scope = newScope(s)
		if st.filter != nil {
			st.scope.readAll(st.filter)
		}
		st.scope.declare(st.body, false)
		if st.filter != nil {
			if err := r.expressions(st.scope, false, st.filter); err != nil {
				return err
			}
		}
		return r.bind(st.scope, st.body, false)
	case *withStmt:
		if err := r.expressions(s, soft, st.values...); err != nil {
			return err
		}
		st.scope = newScope(s)
		for _, t := range st.targets {
			st.scope.params(t)
		}
		st.scope.declare(st.body, false)
		for _, t := range st.targets {
			r.bindTarget(st.scope, t)
		}
		return r.bind(st.scope, st.body, false)
	case *macroStmt:
		r.bindTarget(s, st.target)
		return r.bindMacro(s, st.def)
	case *callStmt:
		if err := r.expressions(s, soft, st.call); err != nil {
			return err
		}
		return r.bindMacro(s, st.def)
	case *generationStmt:
		return r.bindMacro(s, st.def)
	case *filterStmt:
		st.scope = newScope(s)
		st.scope.readAll(st.filter)
		st.scope.declare(st.body, false)
		if err := r.expressions(st.scope, false, st.filter); err != nil {
			return err
		}
		return r.bind(st.scope, st.body, false)
	case *blockStmt:
		st.scope = newScope(nil)
		st.scope.declare(st.body, false)
		return r.bind(st.scope, st.body, false)
	}
	return nil
}

func (r *resolver) bindFor(s *scope, st *forStmt, soft bool) error {
	if pos, ok := assignsLoop(st); ok {
		return errorAt(r.source, pos, fmt.Errorf("Can't assign to special loop variable in for-loop target"))
	}
	if err := r.expressions(s, soft, st.iter); err != nil {
		return err
	}
	st.bodyScope = newScope(s)
	st.loop = st.bodyScope.param("loop")
	st.bodyScope.params(st.target)
	st.bodyScope.declare(st.body, false)
	if st.test != nil {
		st.testScope = newScope(s)
		st.testScope.params(st.target)
		st.testScope.readAll(st.test)
		st.testTarget = copyTarget(st.target)
		r.bindTarget(st.testScope, st.testTarget)
		if err := r.expressions(st.testScope, false, st.test); err != nil {
			return err
		}
	}
	r.bindTarget(st.bodyScope, st.target)
	if err := r.bind(st.bodyScope, st.body, false); err != nil {
		return err
	}
	st.otherScope = newScope(s)
	st.otherScope.declare(st.other, false)
	return r.bind(st.otherScope, st.other, false)
}

func copyTarget(t target) target {
	switch t := t.(type) {
	case *nameTarget:
		c := *t
		return &c
	case *tupleTarget:
		c := &tupleTarget{pos: t.pos}
		for _, item := range t.items {
			c.items = append(c.items, copyTarget(item))
		}
		return c
	}
	return t
}

func (r *resolver) bindMacro(s *scope, d *macroDef) error {
	d.scope = newScope(s)
	for _, p := range d.params {
		d.scope.param(p.name)
	}
	d.scope.readAll(d.defaults...)
	d.scope.declare(d.body, false)
	used := map[string]bool{}
	findUndeclared(d.body, map[string]bool{"caller": true, "kwargs": true, "varargs": true}, used)
	has := func(name string) bool {
		return slices.ContainsFunc(d.params, func(p *nameTarget) bool { return p.name == name })
	}
	special := func(name string, slot *ref) bool {
		if !used[name] || has(name) {
			return false
		}
		*slot = d.scope.param(name)
		return true
	}
	d.explicitCaller = has("caller")
	if d.explicitCaller && used["caller"] {
		for i, p := range d.params {
			if p.name == "caller" && i < len(d.params)-len(d.defaults) {
				return errorAt(r.source, d.pos, fmt.Errorf(`the special argument "caller" must be omitted or be given a default`))
			}
		}
	}
	d.usesCaller = special("caller", &d.caller)
	d.usesKw = special("kwargs", &d.kwargs)
	d.usesVarargs = special("varargs", &d.varargs)
	for _, p := range d.params {
		r.bindTarget(d.scope, p)
		p.export = false
	}
	if err := r.expressions(d.scope, false, d.defaults...); err != nil {
		return err
	}
	return r.bind(d.scope, d.body, false)
}
