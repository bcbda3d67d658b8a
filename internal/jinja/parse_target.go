package jinja

import "errors"

type targetOptions struct {
	tuple, namespace bool
	end              string // a name that ends a tuple
}

func (p *parser) assignName() (*nameTarget, error) {
	t, err := p.expect(tokName)
	if err == nil && isConstant(t.text) {
		err = p.fail(t.pos, "can't assign to '%s'", t.text)
	}
	return &nameTarget{name: t.text, pos: t.pos}, err
}

func (p *parser) assignTarget(o targetOptions) (target, error) {
	pos := p.tok.pos
	x, err := p.tuple(tupleOptions{simplified: true, end: o.end, namespace: o.namespace})
	if err != nil {
		return nil, err
	}
	t, err := asTarget(x, pos)
	if err != nil {
		return nil, p.fail(pos, "%w", err)
	}
	return t, nil
}

// asTarget turns an expression into what it assigns to.
func asTarget(x expr, pos int) (target, error) {
	switch x := x.(type) {
	case *nameExpr:
		return &nameTarget{name: x.name, pos: x.pos}, nil
	case *attrTarget:
		return x, nil
	case *tupleExpr:
		t := &tupleTarget{pos: pos}
		for _, item := range x.items {
			sub, err := asTarget(item, pos)
			if err != nil {
				return nil, err
			}
			t.items = append(t.items, sub)
		}
		return t, nil
	}
	return nil, errors.New("can't assign to an expression that is not a name")
}
