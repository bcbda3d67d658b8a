package jinja

// visit calls f for x and every expression in it. soft tells whether x runs only if some
// condition holds: there, filters and tests may be unknown until they run.
func visit(x expr, soft bool, f func(x expr, soft bool) error) error {
	if x == nil {
		return nil
	}
	if err := f(x, soft); err != nil {
		return err
	}
	all := func(xs ...expr) error {
		for _, x := range xs {
			if err := visit(x, soft, f); err != nil {
				return err
			}
		}
		return nil
	}
	operands := func(first expr, rest []operand) error {
		err := all(first)
		for i := 0; err == nil && i < len(rest); i++ {
			err = all(rest[i].x)
		}
		return err
	}
	switch x := x.(type) {
	case *tupleExpr:
		return all(x.items...)
	case *listExpr:
		return all(x.items...)
	case *logicExpr:
		return all(x.items...)
	case *concatExpr:
		return all(x.items...)
	case *unaryExpr:
		return all(x.x)
	case *chainExpr:
		return operands(x.first, x.rest)
	case *compareExpr:
		return operands(x.first, x.rest)
	case *dictExpr:
		for i := range x.keys {
			if err := all(x.keys[i], x.values[i]); err != nil {
				return err
			}
		}
	case *condExpr:
		for x := expr(x); ; {
			c, ok := x.(*condExpr)
			if !ok {
				return visit(x, true, f)
			}
			if err := visit(c.then, true, f); err != nil {
				return err
			}
			if err := visit(c.test, true, f); err != nil {
				return err
			}
			if c.other == nil {
				return nil
			}
			x = c.other
		}
	case *postfixExpr:
		if err := all(x.base); err != nil {
			return err
		}
		for _, op := range x.ops {
			if err := all(op.index); err != nil {
				return err
			}
			if op.slice != nil {
				if err := all(op.slice[:]...); err != nil {
					return err
				}
			}
			if op.args != nil {
				if err := all(op.args.args...); err != nil {
					return err
				}
				if err := all(op.args.values...); err != nil {
					return err
				}
				if err := all(op.args.star, op.args.stars); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// nameVisitor meets the names that statements read and assign, in jinja2's order of fields.
type nameVisitor struct {
	read, store func(name string, pos int)
	intoBlocks  bool
}

func (v *nameVisitor) exprs(xs ...expr) {
	for _, x := range xs {
		_ = visit(x, false, func(x expr, _ bool) error {
			if n, ok := x.(*nameExpr); ok {
				v.read(n.name, n.pos)
			}
			return nil
		})
	}
}

func (v *nameVisitor) target(t target) {
	switch t := t.(type) {
	case *nameTarget:
		v.store(t.name, t.pos)
	case *tupleTarget:
		for _, item := range t.items {
			v.target(item)
		}
	}
}

func (v *nameVisitor) macro(d *macroDef) {
	for _, p := range d.params {
		v.store(p.name, -1)
	}
	v.exprs(d.defaults...)
	v.body(d.body)
}

func (v *nameVisitor) body(body []stmt) {
	for _, st := range body {
		switch st := st.(type) {
		case *printStmt:
			v.exprs(st.x)
		case *ifStmt:
			for _, b := range st.branches {
				v.exprs(b.test)
				v.body(b.body)
			}
			v.body(st.other)
		case *forStmt:
			v.target(st.target)
			v.exprs(st.iter)
			v.body(st.body)
			v.body(st.other)
			if st.test != nil {
				v.exprs(st.test)
			}
		case *setStmt:
			v.target(st.target)
			v.exprs(st.x)
		case *setBlockStmt:
			v.target(st.target)
			if st.filter != nil {
				v.exprs(st.filter)
			}
			v.body(st.body)
		case *withStmt:
			for _, t := range st.targets {
				v.target(t)
			}
			v.exprs(st.values...)
			v.body(st.body)
		case *macroStmt:
			v.macro(st.def)
		case *callStmt:
			v.exprs(st.call)
			v.macro(st.def)
		case *generationStmt:
			v.macro(st.def)
		case *filterStmt:
			v.body(st.body)
			v.exprs(st.filter)
		case *blockStmt:
			if v.intoBlocks {
				v.body(st.body)
			}
		}
	}
}

// findUndeclared adds to used the names that body reads before it assigns to them.
func findUndeclared(body []stmt, names, used map[string]bool) {
	v := &nameVisitor{
		read: func(name string, _ int) {
			if names[name] {
				used[name] = true
			}
		},
		store: func(name string, _ int) { delete(names, name) },
	}
	v.body(body)
}

// assignsLoop reports where a loop's target or body assigns to the name loop.
func assignsLoop(st *forStmt) (pos int, found bool) {
	v := &nameVisitor{
		read: func(string, int) {},
		store: func(name string, at int) {
			if name == "loop" && at >= 0 && !found {
				pos, found = at, true
			}
		},
		intoBlocks: true,
	}
	v.body([]stmt{st})
	return pos, found
}
