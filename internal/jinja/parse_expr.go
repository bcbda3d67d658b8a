package jinja

import (
	"math/big"
	"strconv"
)

type tupleOptions struct {
	condExpr   bool   // x if y else z may stand without parentheses
	simplified bool   // names and literals only
	namespace  bool   // with simplified: also a.b
	explicit   bool   // in parentheses: may be empty
	end        string // a name that ends the tuple
}

// tuple parses one expression, or several between commas.
func (p *parser) tuple(o tupleOptions) (expr, error) {
	var items []expr
	isTuple := false
	for {
		if len(items) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		if k := p.tok.kind; k == tokVariableEnd || k == tokBlockEnd || p.tok.is(")") || o.end != "" && p.tok.isName(o.end) {
			break
		}
		var x expr
		var err error
		switch {
		case o.simplified:
			x, err = p.primary(o.namespace)
		case o.condExpr:
			x, err = p.expression()
		default:
			x, err = p.or()
		}
		if err != nil {
			return nil, err
		}
		items = append(items, x)
		if !p.tok.is(",") {
			break
		}
		isTuple = true
	}
	if !isTuple {
		if len(items) > 0 {
			return items[0], nil
		}
		if !o.explicit {
			return nil, p.fail(p.tok.pos, "Expected an expression, got '%s'", p.tok.describe())
		}
	}
	return &tupleExpr{items}, nil
}

// expression parses an expression with its conditions: x if y else z.
func (p *parser) expression() (expr, error) {
	pos := p.tok.pos
	x, err := p.or()
	if err != nil {
		return nil, err
	}
	slot := &x // where the innermost else part goes
	for nested := 0; ; nested++ {
		ok, err := p.skipName("if")
		if err != nil {
			return nil, err
		}
		if !ok {
			return x, nil
		}
		if nested >= defaultDepth {
			return nil, p.fail(p.tok.pos, "conditions nest deeper than %d levels", defaultDepth)
		}
		c := &condExpr{then: *slot, pos: pos}
		if c.test, err = p.or(); err != nil {
			return nil, err
		}
		*slot = c
		ok, err = p.skipName("else")
		if err != nil {
			return nil, err
		}
		if ok {
			nested-- // an else part continues a chain
			pos = p.tok.pos
			if c.other, err = p.or(); err != nil {
				return nil, err
			}
			slot = &c.other
		}
	}
}

// logic parses operands that one of "and" and "or" joins.
func (p *parser) logic(op string, operand func() (expr, error)) (expr, error) {
	x, err := operand()
	if err != nil || !p.tok.isName(op) {
		return x, err
	}
	l := &logicExpr{or: op == "or", items: []expr{x}}
	for p.tok.isName(op) {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if x, err = operand(); err != nil {
			return nil, err
		}
		l.items = append(l.items, x)
	}
	return l, nil
}

func (p *parser) or() (expr, error)  { return p.logic("or", p.and) }
func (p *parser) and() (expr, error) { return p.logic("and", p.not) }

func (p *parser) not() (expr, error) {
	if !p.tok.isName("not") {
		return p.compare()
	}
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer p.unnest()
	pos := p.tok.pos
	if err := p.advance(); err != nil {
		return nil, err
	}
	x, err := p.not()
	return &unaryExpr{"not", x, pos}, err
}

func (p *parser) compare() (expr, error) {
	first, err := p.sum()
	if err != nil {
		return nil, err
	}
	c := &compareExpr{first: first}
	for {
		op, pos := "", p.tok.pos
		switch {
		case p.tok.is("=="), p.tok.is("!="), p.tok.is("<"), p.tok.is("<="), p.tok.is(">"), p.tok.is(">="), p.tok.isName("in"):
			op = p.tok.text
		case p.tok.isName("not"):
			next, err := p.look()
			if err != nil {
				return nil, err
			}
			if next.isName("in") {
				op = "not in"
				if err := p.advance(); err != nil {
					return nil, err
				}
			}
		}
		if op == "" {
			if len(c.rest) == 0 {
				return first, nil
			}
			return c, nil
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		x, err := p.sum()
		if err != nil {
			return nil, err
		}
		c.rest = append(c.rest, operand{op, x, pos})
	}
}

// chain parses operands that left-associative operators of one precedence join.
func (p *parser) chain(ops []string, next func() (expr, error)) (expr, error) {
	first, err := next()
	if err != nil {
		return nil, err
	}
	var c *chainExpr
	for p.tok.kind == tokOperator && contains(ops, p.tok.text) {
		if c == nil {
			c = &chainExpr{first: first}
		}
		op := operand{op: p.tok.text, pos: p.tok.pos}
		if err := p.advance(); err != nil {
			return nil, err
		}
		if op.x, err = next(); err != nil {
			return nil, err
		}
		c.rest = append(c.rest, op)
	}
	if c == nil {
		return first, nil
	}
	return c, nil
}

var (
	sumOps     = []string{"+", "-"}
	productOps = []string{"*", "/", "//", "%"}
	powerOps   = []string{"**"}
)

func (p *parser) sum() (expr, error)     { return p.chain(sumOps, p.concat) }
func (p *parser) product() (expr, error) { return p.chain(productOps, p.power) }
func (p *parser) power() (expr, error) {
	return p.chain(powerOps, func() (expr, error) { return p.unary(true) })
}

func (p *parser) concat() (expr, error) {
	pos := p.tok.pos
	x, err := p.product()
	if err != nil || !p.tok.is("~") {
		return x, err
	}
	c := &concatExpr{items: []expr{x}, pos: pos}
	for p.tok.is("~") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if x, err = p.product(); err != nil {
			return nil, err
		}
		c.items = append(c.items, x)
	}
	return c, nil
}

// unary parses a signed operand with what follows it; a sign's own operand takes no filter.
func (p *parser) unary(withFilter bool) (expr, error) {
	var base expr
	var err error
	if p.tok.is("-") || p.tok.is("+") {
		if err := p.nest(); err != nil {
			return nil, err
		}
		defer p.unnest()
		u := &unaryExpr{op: p.tok.text, pos: p.tok.pos}
		if err := p.advance(); err != nil {
			return nil, err
		}
		u.x, err = p.unary(false)
		base = u
	} else {
		base, err = p.primary(false)
	}
	if err != nil {
		return nil, err
	}
	x := &postfixExpr{base: base}
	if err := p.postfixes(x); err != nil {
		return nil, err
	}
	if withFilter {
		if err := p.filtersAndTests(x); err != nil {
			return nil, err
		}
	}
	if len(x.ops) == 0 {
		return base, nil
	}
	return x, nil
}

func isConstant(name string) bool {
	switch name {
	case "true", "True", "false", "False", "none", "None":
		return true
	}
	return false
}

func (p *parser) primary(namespace bool) (expr, error) {
	t := p.tok
	switch {
	case t.kind == tokName:
		if err := p.advance(); err != nil {
			return nil, err
		}
		switch t.text {
		case "true", "True":
			return &constExpr{boolValue(true)}, nil
		case "false", "False":
			return &constExpr{boolValue(false)}, nil
		case "none", "None":
			return &constExpr{none{}}, nil
		}
		name := &nameExpr{name: t.text, pos: t.pos}
		if namespace && p.tok.is(".") {
			if err := p.advance(); err != nil {
				return nil, err
			}
			attr, err := p.expect(tokName)
			return &attrTarget{object: name, name: attr.text, pos: t.pos}, err
		}
		return name, nil
	case t.kind == tokString:
		text := t.text
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind != tokString {
			return &constExpr{strValue(text)}, nil
		}
		buf := []byte(text)
		for p.tok.kind == tokString {
			buf = append(buf, p.tok.text...)
			if err := p.advance(); err != nil {
				return nil, err
			}
		}
		return &constExpr{strValue(buf)}, nil
	case t.kind == tokInteger:
		v, err := p.integer(t)
		if err != nil {
			return nil, err
		}
		return &constExpr{v}, p.advance()
	case t.kind == tokFloat:
		f, _ := strconv.ParseFloat(t.text, 64) // the range error comes with infinity, as in Python
		return &constExpr{floatValue(f)}, p.advance()
	case t.is("("):
		return p.bracketed(func() (expr, error) {
			x, err := p.tuple(tupleOptions{condExpr: true, explicit: true})
			if err != nil {
				return nil, err
			}
			return x, p.expectOp(")")
		})
	case t.is("["):
		return p.bracketed(func() (expr, error) {
			items, err := p.items("]", p.expression)
			return &listExpr{items}, err
		})
	case t.is("{"):
		return p.bracketed(p.dict)
	}
	if t.kind == tokEOF {
		return nil, p.unexpected("an expression")
	}
	return nil, p.fail(t.pos, "unexpected '%s'", t.describe())
}

func (p *parser) integer(t token) (Value, error) {
	if len(t.text) > maxIntDigits {
		return nil, p.fail(t.pos, "an integer of more than %d digits", maxIntDigits)
	}
	text, base := t.text, 10
	if len(text) > 1 && text[0] == '0' && !isDecimal(text[1]) {
		base = 0
	}
	i, ok := new(big.Int).SetString(text, base)
	if !ok {
		return nil, p.fail(t.pos, "invalid integer %s", t.text)
	}
	return intOf(i), nil
}

// bracketed runs parse behind the opening bracket, one level deeper.
func (p *parser) bracketed(parse func() (expr, error)) (expr, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer p.unnest()
	if err := p.advance(); err != nil {
		return nil, err
	}
	return parse()
}

// items parses what stands between commas up to and with the closing bracket.
func (p *parser) items(closing string, item func() (expr, error)) ([]expr, error) {
	var items []expr
	for !p.tok.is(closing) {
		if len(items) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.tok.is(closing) {
				break
			}
		}
		x, err := item()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
	}
	return items, p.expectOp(closing)
}

func (p *parser) dict() (expr, error) {
	d := &dictExpr{pos: p.tok.pos}
	values, err := p.items("}", func() (expr, error) {
		key, err := p.expression()
		if err != nil {
			return nil, err
		}
		d.keys = append(d.keys, key)
		if err := p.expectOp(":"); err != nil {
			return nil, err
		}
		return p.expression()
	})
	d.values = values
	return d, err
}
