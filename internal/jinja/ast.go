package jinja

// Expressions. Chains that Jinja2 nests to the left (a + b + c, x.y | f | g) are flat here, so
// that their length costs no depth.
type (
	expr interface {
		eval(r *run, f *frame) (Value, error)
	}

	constExpr struct{ value Value }

	nameExpr struct {
		name string
		pos  int
		ref  ref
	}

	tupleExpr struct{ items []expr }

	listExpr struct{ items []expr }

	dictExpr struct {
		keys, values []expr
		pos          int
	}

	// postfixExpr is base followed by attributes, subscripts, calls, filters and tests.
	postfixExpr struct {
		base expr
		ops  []postfix
	}

	unaryExpr struct {
		op  string // "-", "+" or "not"
		x   expr
		pos int
	}

	// chainExpr is first op x op x ..., evaluated from the left.
	chainExpr struct {
		first expr
		rest  []operand
	}

	// logicExpr is x and x and ..., or x or x or ...
	logicExpr struct {
		or    bool
		items []expr
	}

	// compareExpr is first op x op x ..., each operator comparing its neighbours.
	compareExpr struct {
		first expr
		rest  []operand
	}

	concatExpr struct { // x ~ x ~ ...
		items []expr
		pos   int
	}

	condExpr struct { // then if test else other
		test, then expr
		other      expr // nil without else
		pos        int
	}
)

type operand struct {
	op  string
	x   expr
	pos int // of the operator
}

// postfix is one of attribute, subscript, slice, call, filter and test.
type postfix struct {
	kind    postfixKind
	name    string // of the attribute, filter or test
	negated bool   // is not
	index   expr
	slice   *[3]expr // start, stop, step; each may be nil
	args    *arguments
	fn      *native // the filter or test, nil if it does not exist
	pos     int
}

type postfixKind uint8

const (
	opAttribute postfixKind = iota
	opSubscript
	opSlice
	opCall
	opFilter
	opTest
)

// arguments of a call: f(args, *star, names=values, **stars).
type arguments struct {
	args        []expr
	names       []string
	values      []expr
	star, stars expr
}

// noArguments is what filters and tests without parentheses are called with.
var noArguments = &arguments{}

// Targets of assignments.
type (
	target interface {
		assign(r *run, f *frame, v Value) error
	}
	nameTarget struct {
		name   string
		ref    ref
		pos    int
		export bool // at the top level: blocks see it
	}
	tupleTarget struct {
		items []target
		pos   int
	}
	attrTarget struct { // of a namespace
		object *nameExpr
		name   string
		pos    int
	}
)

// Statements.
type (
	stmt interface {
		exec(r *run, f *frame) (signal, error)
	}

	textStmt struct {
		text string
		pos  int
	}

	printStmt struct {
		x   expr
		pos int
	}

	ifStmt struct {
		branches []branch
		other    []stmt
	}

	forStmt struct {
		target      target
		iter, test  expr
		body, other []stmt
		recursive   bool
		pos         int
		bodyScope   *scope
		testScope   *scope
		otherScope  *scope
		loop        ref // the loop variable in bodyScope
		testTarget  target
	}

	setStmt struct {
		target target
		x      expr
		pos    int
	}

	setBlockStmt struct {
		target target
		filter *postfixExpr // its base is a *captured; nil without filter
		body   []stmt
		scope  *scope
		pos    int
	}

	withStmt struct {
		targets []target
		values  []expr
		body    []stmt
		scope   *scope
		pos     int
	}

	macroStmt struct {
		name   string
		target *nameTarget
		def    *macroDef
	}

	// callStmt runs call with the body as its caller.
	callStmt struct {
		call *postfixExpr
		def  *macroDef
		pos  int
	}

	generationStmt struct {
		def *macroDef
		pos int
	}

	filterStmt struct {
		filter *postfixExpr
		body   []stmt
		scope  *scope
		pos    int
	}

	blockStmt struct {
		name  string
		body  []stmt
		scope *scope
		pos   int
	}

	loopControl struct{ signal signal }
)

type branch struct {
	test expr
	body []stmt
}

// macroDef is what {% macro %}, {% call %} and {% generation %} define.
type macroDef struct {
	name     string
	params   []*nameTarget
	defaults []expr // of the last parameters
	body     []stmt
	scope    *scope
	pos      int
	// where the special variables go, if the body uses them
	caller, kwargs, varargs         ref
	usesCaller, usesKw, usesVarargs bool
	explicitCaller                  bool // a parameter has that name
}

// captured stands for the text of a block in front of its filters.
type captured struct{}
