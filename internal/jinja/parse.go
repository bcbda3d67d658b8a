package jinja

import (
	"fmt"
	"strings"
)

// parser follows jinja2/parser.py: one method for each of its parse_* methods that are
// needed.
type parser struct {
	lex   *lexer
	tok   token   // the current token
	ahead []token // at most one more
	depth int
	count int        // tokens so far
	tags  []string   // open statements, for messages
	ends  [][]string // what ends them
	loops int        // loops that break and continue may act on

	blocks map[string]*blockStmt
}

func newParser(src string) *parser {
	return &parser{lex: &lexer{src: src, mode: tokData}, blocks: map[string]*blockStmt{}}
}

func (p *parser) template() (*Template, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	body, err := p.statements(nil)
	if err != nil {
		return nil, err
	}
	t := &Template{source: p.lex.src, body: body, blocks: p.blocks}
	if t.scope, err = resolve(t); err != nil {
		return nil, err
	}
	return t, nil
}

// fail is an error at byte pos.
func (p *parser) fail(pos int, format string, args ...any) error {
	return errorAt(p.lex.src, pos, fmt.Errorf(format, args...))
}

func (p *parser) advance() error {
	if len(p.ahead) > 0 {
		p.tok, p.ahead = p.ahead[0], nil
		return nil
	}
	t, err := p.read()
	p.tok = t
	return err
}

// read takes a token from the lexer.
func (p *parser) read() (token, error) {
	t, err := p.lex.next()
	if p.count++; err == nil && p.count > maxTokens {
		err = fmt.Errorf("the template has more than %d tokens", maxTokens)
	}
	if err != nil {
		err = p.fail(t.pos, "%w", err)
	}
	return t, err
}

func (p *parser) look() (token, error) {
	if len(p.ahead) == 0 {
		t, err := p.read()
		if err != nil {
			return t, err
		}
		p.ahead = []token{t}
	}
	return p.ahead[0], nil
}

// nest guards recursion: every nested expression and block passes here.
func (p *parser) nest() error {
	if p.depth >= defaultDepth {
		return p.fail(p.tok.pos, "expressions and blocks nest deeper than %d levels", defaultDepth)
	}
	p.depth++
	return nil
}

func (p *parser) unnest() { p.depth-- }

func (p *parser) skipOp(op string) (bool, error) {
	if p.tok.is(op) {
		return true, p.advance()
	}
	return false, nil
}

func (p *parser) skipName(name string) (bool, error) {
	if p.tok.isName(name) {
		return true, p.advance()
	}
	return false, nil
}

func (p *parser) unexpected(want string) error {
	if p.tok.kind == tokEOF {
		return p.fail(p.tok.pos, "unexpected end of template, expected '%s'", want)
	}
	return p.fail(p.tok.pos, "expected token '%s', got '%s'", want, p.tok.describe())
}

func (p *parser) expectOp(op string) error {
	if !p.tok.is(op) {
		return p.unexpected(op)
	}
	return p.advance()
}

func (p *parser) expectName(name string) error {
	if !p.tok.isName(name) {
		return p.unexpected(name)
	}
	return p.advance()
}

func (p *parser) expect(k kind) (token, error) {
	if p.tok.kind != k {
		return p.tok, p.unexpected(string(k))
	}
	t := p.tok
	return t, p.advance()
}

// statements parses until one of the ends, which becomes the current token, or to the end
// of the template if there are none.
func (p *parser) statements(ends []string) ([]stmt, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer p.unnest()
	if ends != nil {
		p.ends = append(p.ends, ends)
		defer func() { p.ends = p.ends[:len(p.ends)-1] }()
	}
	var body []stmt
	for {
		pos := p.tok.pos
		switch p.tok.kind {
		case tokEOF:
			if ends != nil {
				return nil, p.lost("")
			}
			return body, nil
		case tokData:
			body = append(body, &textStmt{p.tok.text, pos})
			if err := p.advance(); err != nil {
				return nil, err
			}
		case tokVariableBegin:
			if err := p.advance(); err != nil {
				return nil, err
			}
			x, err := p.tuple(tupleOptions{condExpr: true})
			if err != nil {
				return nil, err
			}
			if _, err := p.expect(tokVariableEnd); err != nil {
				return nil, err
			}
			body = append(body, &printStmt{x, pos})
		case tokBlockBegin:
			if err := p.advance(); err != nil {
				return nil, err
			}
			if ends != nil && p.tok.oneOf(ends) {
				return body, nil
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			body = append(body, s...)
			if _, err := p.expect(tokBlockEnd); err != nil {
				return nil, err
			}
		default:
			return nil, p.fail(pos, "unexpected '%s'", p.tok.describe())
		}
	}
}

// lost is the error for a tag that does not fit, or for the end of the template.
func (p *parser) lost(tag string) error {
	msg := []string{"Unexpected end of template."}
	if tag != "" {
		msg[0] = fmt.Sprintf("Encountered unknown tag '%s'.", tag)
	}
	if n := len(p.ends); n > 0 {
		looking := "'" + strings.Join(p.ends[n-1], "' or '") + "'"
		known := false
		for _, e := range p.ends {
			known = known || contains(e, tag)
		}
		if known {
			msg = append(msg, "You probably made a nesting mistake. Jinja is expecting this tag, but currently looking for "+looking+".")
		} else {
			msg = append(msg, "Jinja was looking for the following tags: "+looking+".")
		}
	}
	if n := len(p.tags); n > 0 {
		msg = append(msg, fmt.Sprintf("The innermost block that needs to be closed is '%s'.", p.tags[n-1]))
	}
	return p.fail(p.tok.pos, "%s", strings.Join(msg, " "))
}

// body parses the statements of a block, from its tag's end to one of ends; drop removes
// that.
func (p *parser) body(drop bool, ends ...string) ([]stmt, error) {
	if _, err := p.skipOp(":"); err != nil {
		return nil, err
	}
	if _, err := p.expect(tokBlockEnd); err != nil {
		return nil, err
	}
	body, err := p.statements(ends)
	if err == nil && drop {
		err = p.advance()
	}
	return body, err
}

func (p *parser) statement() ([]stmt, error) {
	tag := p.tok
	if tag.kind != tokName {
		return nil, p.fail(tag.pos, "tag name expected")
	}
	var parse func(pos int) (stmt, error)
	switch tag.text {
	case "for":
		parse = p.forLoop
	case "if":
		parse = p.ifTag
	case "set":
		parse = p.set
	case "with":
		parse = p.with
	case "macro":
		parse = p.macro
	case "call":
		parse = p.callBlock
	case "filter":
		parse = p.filterBlock
	case "block":
		parse = p.block
	case "generation":
		parse = p.generation
	case "break":
		parse = p.breakLoop
	case "continue":
		parse = p.continueLoop
	case "include", "import", "from", "extends":
		return nil, p.fail(tag.pos, "'%s' is refused: a chat template reads nothing", tag.text)
	case "autoescape":
		return nil, p.fail(tag.pos, "'autoescape' is not supported: the output of a chat template is no HTML")
	case "print":
		return p.print()
	default:
		return nil, p.lost(tag.text)
	}
	p.tags = append(p.tags, tag.text)
	defer func() { p.tags = p.tags[:len(p.tags)-1] }()
	if err := p.advance(); err != nil {
		return nil, err
	}
	s, err := parse(tag.pos)
	return []stmt{s}, err
}

func (p *parser) print() ([]stmt, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	var out []stmt
	for p.tok.kind != tokBlockEnd {
		if len(out) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		pos := p.tok.pos
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		out = append(out, &printStmt{x, pos})
	}
	return out, nil
}

func (p *parser) breakLoop(pos int) (stmt, error) { return p.loopControl(pos, "break", breaking) }

func (p *parser) continueLoop(pos int) (stmt, error) {
	return p.loopControl(pos, "continue", continuing)
}

func (p *parser) loopControl(pos int, name string, s signal) (stmt, error) {
	if p.loops == 0 {
		return nil, p.fail(pos, "'%s' outside of a loop", name)
	}
	return &loopControl{s}, nil
}

func (p *parser) ifTag(pos int) (stmt, error) {
	s := &ifStmt{}
	for {
		test, err := p.tuple(tupleOptions{})
		if err != nil {
			return nil, err
		}
		body, err := p.body(false, "elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		s.branches = append(s.branches, branch{test, body})
		end := p.tok.text
		if err := p.advance(); err != nil {
			return nil, err
		}
		if end == "elif" {
			continue
		}
		if end == "else" {
			s.other, err = p.body(true, "endif")
		}
		return s, err
	}
}

func (p *parser) forLoop(pos int) (stmt, error) {
	s := &forStmt{pos: pos}
	var err error
	if s.target, err = p.assignTarget(targetOptions{tuple: true, end: "in"}); err != nil {
		return nil, err
	}
	if err := p.expectName("in"); err != nil {
		return nil, err
	}
	if s.iter, err = p.tuple(tupleOptions{end: "recursive"}); err != nil {
		return nil, err
	}
	if ok, err := p.skipName("if"); err != nil {
		return nil, err
	} else if ok {
		if s.test, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if s.recursive, err = p.skipName("recursive"); err != nil {
		return nil, err
	}
	p.loops++
	s.body, err = p.body(false, "endfor", "else")
	p.loops--
	if err != nil {
		return nil, err
	}
	end := p.tok.text
	if err := p.advance(); err != nil || end == "endfor" {
		return s, err
	}
	outer := p.loops
	if s.recursive { // its body is a function of its own
		p.loops = 0
	}
	s.other, err = p.body(true, "endfor")
	p.loops = outer
	return s, err
}

func (p *parser) set(pos int) (stmt, error) {
	t, err := p.assignTarget(targetOptions{tuple: true, namespace: true})
	if err != nil {
		return nil, err
	}
	if ok, err := p.skipOp("="); err != nil {
		return nil, err
	} else if ok {
		x, err := p.tuple(tupleOptions{condExpr: true})
		return &setStmt{t, x, pos}, err
	}
	s := &setBlockStmt{target: t, pos: pos}
	if p.tok.is("|") {
		s.filter = &postfixExpr{base: captured{}}
		if err := p.filters(s.filter); err != nil {
			return nil, err
		}
	}
	s.body, err = p.body(true, "endset")
	return s, err
}

func (p *parser) with(pos int) (stmt, error) {
	s := &withStmt{pos: pos}
	for p.tok.kind != tokBlockEnd {
		if len(s.targets) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		t, err := p.assignTarget(targetOptions{tuple: true})
		if err != nil {
			return nil, err
		}
		if err := p.expectOp("="); err != nil {
			return nil, err
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		s.targets, s.values = append(s.targets, t), append(s.values, x)
	}
	var err error
	s.body, err = p.body(true, "endwith")
	return s, err
}

func (p *parser) block(pos int) (stmt, error) {
	name, err := p.expect(tokName)
	if err != nil {
		return nil, err
	}
	if p.tok.oneOf([]string{"scoped", "required"}) {
		return nil, p.fail(p.tok.pos, "'%s' blocks are not supported: a chat template is not extended", p.tok.text)
	}
	if p.blocks[name.text] != nil {
		return nil, p.fail(pos, "block '%s' defined twice", name.text)
	}
	s := &blockStmt{name: name.text, pos: pos}
	p.blocks[name.text] = s
	err = p.function(func() (err error) {
		s.body, err = p.body(true, "endblock")
		return err
	})
	if err != nil {
		return nil, err
	}
	_, err = p.skipName(name.text)
	return s, err
}

// function runs parse for a body that break and continue do not leave.
func (p *parser) function(parse func() error) error {
	outer := p.loops
	p.loops = 0
	defer func() { p.loops = outer }()
	return parse()
}

func (p *parser) generation(pos int) (stmt, error) {
	s := &generationStmt{def: &macroDef{name: "generation", pos: pos}, pos: pos}
	return s, p.function(func() (err error) {
		s.def.body, err = p.body(true, "endgeneration")
		return err
	})
}

func (p *parser) macro(pos int) (stmt, error) {
	name, err := p.assignName()
	if err != nil {
		return nil, err
	}
	s := &macroStmt{name: name.name, target: name, def: &macroDef{name: name.name, pos: pos}}
	if err := p.signature(s.def); err != nil {
		return nil, err
	}
	return s, p.function(func() (err error) {
		s.def.body, err = p.body(true, "endmacro")
		return err
	})
}

func (p *parser) callBlock(pos int) (stmt, error) {
	s := &callStmt{def: &macroDef{pos: pos}, pos: pos}
	if p.tok.is("(") {
		if err := p.signature(s.def); err != nil {
			return nil, err
		}
	}
	x, err := p.expression()
	if err != nil {
		return nil, err
	}
	var ok bool
	if s.call, ok = x.(*postfixExpr); !ok || s.call.ops[len(s.call.ops)-1].kind != opCall {
		return nil, p.fail(pos, "expected call")
	}
	if contains(s.call.ops[len(s.call.ops)-1].args.names, "caller") {
		return nil, p.fail(pos, "the call already has an argument named caller")
	}
	return s, p.function(func() (err error) {
		s.def.body, err = p.body(true, "endcall")
		return err
	})
}

// signature parses the parameters of a macro or call block.
func (p *parser) signature(d *macroDef) error {
	if err := p.expectOp("("); err != nil {
		return err
	}
	for !p.tok.is(")") {
		if len(d.params) > 0 {
			if err := p.expectOp(","); err != nil {
				return err
			}
		}
		param, err := p.assignName()
		if err != nil {
			return err
		}
		if len(d.params) >= maxKeywords {
			return p.fail(param.pos, "more than %d parameters", maxKeywords)
		}
		for _, other := range d.params {
			if other.name == param.name {
				return p.fail(param.pos, "duplicate argument '%s'", param.name)
			}
		}
		ok, err := p.skipOp("=")
		if err != nil {
			return err
		}
		if ok {
			x, err := p.expression()
			if err != nil {
				return err
			}
			d.defaults = append(d.defaults, x)
		} else if len(d.defaults) > 0 {
			return p.fail(p.tok.pos, "non-default argument follows default argument")
		}
		d.params = append(d.params, param)
	}
	return p.expectOp(")")
}

func (p *parser) filterBlock(pos int) (stmt, error) {
	s := &filterStmt{filter: &postfixExpr{base: captured{}}, pos: pos}
	if err := p.filter(s.filter); err != nil {
		return nil, err
	}
	if err := p.filters(s.filter); err != nil {
		return nil, err
	}
	var err error
	s.body, err = p.body(true, "endfilter")
	return s, err
}
