package jinja

// postfixes appends the attributes, subscripts and calls that follow x.
func (p *parser) postfixes(x *postfixExpr) error {
	for {
		var err error
		switch {
		case p.tok.is("."):
			err = p.attribute(x)
		case p.tok.is("["):
			err = p.subscript(x)
		case p.tok.is("("):
			err = p.call(x)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *parser) filtersAndTests(x *postfixExpr) error {
	for {
		var err error
		switch {
		case p.tok.is("|"):
			err = p.filters(x)
		case p.tok.isName("is"):
			err = p.test(x)
		case p.tok.is("("):
			err = p.call(x)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *parser) attribute(x *postfixExpr) error {
	if err := p.advance(); err != nil {
		return err
	}
	t := p.tok
	switch t.kind {
	case tokName:
		x.ops = append(x.ops, postfix{kind: opAttribute, name: t.text, pos: t.pos})
	case tokInteger:
		v, err := p.integer(t)
		if err != nil {
			return err
		}
		x.ops = append(x.ops, postfix{kind: opSubscript, index: &constExpr{v}, pos: t.pos})
	default:
		return p.fail(t.pos, "expected name or number")
	}
	return p.advance()
}

func (p *parser) subscript(x *postfixExpr) error {
	op := postfix{kind: opSubscript, pos: p.tok.pos}
	_, err := p.bracketed(func() (expr, error) {
		items, err := p.subscripts(&op)
		if err != nil {
			return nil, err
		}
		if op.kind == opSlice && len(items) > 1 {
			return nil, p.fail(op.pos, "a slice among several subscripts")
		}
		if len(items) == 1 {
			op.index = items[0]
		} else {
			op.index = &tupleExpr{items}
		}
		return nil, nil
	})
	x.ops = append(x.ops, op)
	return err
}

func (p *parser) subscripts(op *postfix) ([]expr, error) {
	var items []expr
	for !p.tok.is("]") {
		if len(items) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		var parts [3]expr
		colons := 0
		for !p.tok.is("]") && !p.tok.is(",") {
			if colons < 2 && p.tok.is(":") {
				colons++
				if err := p.advance(); err != nil {
					return nil, err
				}
				continue
			}
			if parts[colons] != nil {
				return nil, p.unexpected("]")
			}
			x, err := p.expression()
			if err != nil {
				return nil, err
			}
			parts[colons] = x
		}
		if colons > 0 {
			op.kind, op.slice = opSlice, &parts
		} else if parts[0] == nil {
			return nil, p.fail(p.tok.pos, "unexpected '%s'", p.tok.describe())
		}
		items = append(items, parts[0])
	}
	return items, p.advance()
}

func (p *parser) call(x *postfixExpr) error {
	pos := p.tok.pos
	args, err := p.arguments()
	x.ops = append(x.ops, postfix{kind: opCall, args: args, pos: pos})
	return err
}

// arguments parses a call's arguments with their parentheses.
func (p *parser) arguments() (*arguments, error) {
	a := &arguments{}
	start := p.tok.pos
	_, err := p.bracketed(func() (expr, error) {
		_, err := p.items(")", func() (expr, error) { return p.argument(a, start) })
		return nil, err
	})
	return a, err
}

func (p *parser) argument(a *arguments, start int) (expr, error) {
	invalid := func(bad bool) error {
		if bad {
			return p.fail(start, "invalid syntax for function call expression")
		}
		return nil
	}
	var err error
	switch {
	case p.tok.is("*"):
		if err := invalid(a.star != nil || a.stars != nil); err != nil {
			return nil, err
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		a.star, err = p.expression()
		return a.star, err
	case p.tok.is("**"):
		if err := invalid(a.stars != nil); err != nil {
			return nil, err
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		a.stars, err = p.expression()
		return a.stars, err
	case p.tok.kind == tokName:
		next, err := p.look()
		if err != nil {
			return nil, err
		}
		if next.is("=") {
			name := p.tok
			if err := invalid(a.stars != nil); err != nil {
				return nil, err
			}
			if len(a.names) >= maxKeywords {
				return nil, p.fail(name.pos, "more than %d keyword arguments", maxKeywords)
			}
			if contains(a.names, name.text) {
				return nil, p.fail(name.pos, "keyword argument repeated: %s", name.text)
			}
			if err := p.advance(); err != nil {
				return nil, err
			}
			if err := p.advance(); err != nil {
				return nil, err
			}
			x, err := p.expression()
			a.names, a.values = append(a.names, name.text), append(a.values, x)
			return x, err
		}
	}
	if err := invalid(a.star != nil || a.stars != nil || len(a.names) > 0); err != nil {
		return nil, err
	}
	x, err := p.expression()
	a.args = append(a.args, x)
	return x, err
}

func (p *parser) filters(x *postfixExpr) error {
	for p.tok.is("|") {
		if err := p.advance(); err != nil {
			return err
		}
		if err := p.filter(x); err != nil {
			return err
		}
	}
	return nil
}

// dotted parses the name of a filter or test, which may have dots.
func (p *parser) dotted() (string, error) {
	t, err := p.expect(tokName)
	if err != nil {
		return "", err
	}
	name := t.text
	for p.tok.is(".") {
		if err := p.advance(); err != nil {
			return "", err
		}
		if t, err = p.expect(tokName); err != nil {
			return "", err
		}
		name += "." + t.text
	}
	return name, nil
}

func (p *parser) filter(x *postfixExpr) error {
	op := postfix{kind: opFilter, args: noArguments, pos: p.tok.pos}
	var err error
	if op.name, err = p.dotted(); err != nil {
		return err
	}
	op.fn = filters[op.name]
	if p.tok.is("(") {
		op.args, err = p.arguments()
	}
	x.ops = append(x.ops, op)
	return err
}

func (p *parser) test(x *postfixExpr) error {
	op := postfix{kind: opTest, args: noArguments, pos: p.tok.pos}
	err := p.advance()
	if err != nil {
		return err
	}
	if op.negated, err = p.skipName("not"); err != nil {
		return err
	}
	if op.name, err = p.dotted(); err != nil {
		return err
	}
	op.fn = tests[op.name]
	t := p.tok
	switch {
	case t.is("("):
		op.args, err = p.arguments()
	case t.isName("else"), t.isName("or"), t.isName("and"):
	case t.isName("is"):
		err = p.fail(t.pos, "You cannot chain multiple tests with is")
	case t.kind == tokName, t.kind == tokString, t.kind == tokInteger, t.kind == tokFloat, t.is("["), t.is("{"):
		var base expr
		if base, err = p.primary(false); err != nil {
			return err
		}
		arg := &postfixExpr{base: base}
		err = p.postfixes(arg)
		if len(arg.ops) == 0 {
			op.args = &arguments{args: []expr{base}}
		} else {
			op.args = &arguments{args: []expr{arg}}
		}
	}
	x.ops = append(x.ops, op)
	return err
}
