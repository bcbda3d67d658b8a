// Package jinja renders the chat templates that come with language models: Jinja2 as
// transformers runs it, over plain values, within a budget.
//
// The dialect is that of Jinja2 3.1's ImmutableSandboxedEnvironment with trim_blocks,
// lstrip_blocks, the loop controls and transformers' own {% generation %} blocks, tojson,
// raise_exception and strftime_now. Values behave as Python's do. A template reads nothing:
// include, import and extends are refused, attributes are keys of mappings and the methods
// of Python's built-in types, and nothing of Go is reachable.
//
// Refused by name, where Jinja2 has them: autoescape, scoped and required blocks, the filters
// pprint, random, urlize and wordwrap, lipsum, str.encode, str.expandtabs, str.maketrans and
// str.translate, and complex numbers. There is no variable self. An operation on constants
// that Jinja2 folds to undefined ({{ 1[2:] }}) is an error, and fractional powers may differ
// in their last digit.
package jinja

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Template is a parsed template. It does not change: one Template may render in many
// goroutines at once.
type Template struct {
	source string
	body   []stmt
	scope  *scope
	blocks map[string]*blockStmt
}

// Limits bound what one rendering may use. A zero field means its default.
type Limits struct {
	// Steps bounds the work: evaluated nodes and items handled by built-in functions.
	// Default 1,000,000.
	Steps int
	// Output bounds the bytes of the rendered text, and three times as much is what a
	// rendering may allocate for its own strings and lists. Default 8 MiB.
	Output int
	// Depth bounds how deep calls of macros, callers and recursive loops nest. Default 64,
	// which is also how deep expressions and blocks may nest when a template is parsed.
	Depth int
	// Time bounds the wall clock. Default one second.
	Time time.Duration
}

// Options say how to render.
type Options struct {
	Limits Limits
	// Now is the clock of strftime_now; nil means time.Now.
	Now func() time.Time
}

// Span is a half-open range [Start, End) of bytes.
type Span struct{ Start, End int }

// Result is a rendered template.
type Result struct {
	Text string
	// Generation lists, in the order of the text, the ranges of Text that {% generation %}
	// blocks wrote, directly or through macros whose result is printed as it is. A block
	// whose text was assigned or filtered before it was printed is not listed.
	Generation []Span
}

// Error is what Parse and Render return: where in the template, and what is wrong there.
// The message of a template's own raise_exception call is Message, unchanged.
type Error struct {
	Line, Column int // both from 1; columns count characters
	Message      string
}

func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// errorAt gives err the position of byte pos in source, unless it has one already.
func errorAt(source string, pos int, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	line, start := 1, 0
	for i := 0; i < pos && i < len(source); i++ {
		if source[i] == '\n' {
			line++
			start = i + 1
		}
	}
	return &Error{Line: line, Column: utf8.RuneCountInString(source[start:max(start, pos)]) + 1, Message: err.Error()}
}

// Parse reads a template. It refuses what it would not render as Jinja2 does; every error is
// an *Error.
func Parse(src string) (*Template, error) {
	if len(src) > maxSource {
		return nil, &Error{1, 1, fmt.Sprintf("the template has %d bytes; the limit is %d", len(src), maxSource)}
	}
	for i, c := range src {
		if c == utf8.RuneError && !strings.HasPrefix(src[i:], "\uFFFD") {
			return nil, errorAt(src, i, errors.New("the template is not valid UTF-8"))
		}
	}
	p := newParser(normalizeNewlines(src))
	t, err := p.template()
	if err != nil {
		return nil, errorAt(p.lex.src, p.tok.pos, err)
	}
	return t, nil
}

// Render runs the template. vars are its variables: a Value, nil, a bool, an integer, a
// float, a string, a slice or a map of such. The keys of a Go map are taken in sorted
// order; use FromJSON or Object where order matters. Every error is an *Error.
func (t *Template) Render(vars map[string]any, opts Options) (Result, error) {
	r := newRun(t, vars, opts)
	f, err := r.newFrame(t.scope, nil)
	if err == nil {
		err = r.enterFrame(t.scope, f)
	}
	if err == nil {
		_, err = r.exec(t.body, f)
	}
	if err != nil {
		return Result{}, errorAt(t.source, 0, err)
	}
	return Result{Text: string(r.out.text), Generation: r.out.spans}, nil
}
