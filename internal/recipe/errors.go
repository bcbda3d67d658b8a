package recipe

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// place is where a value was written: a line and column of the file, or an override of the command line.
type place struct {
	Line, Column int // from 1; 0: not in the file
	Override     int // number of the override, from 1; 0: none
}

// Error is one fault of a recipe.
type Error struct {
	File string // "" where there is no file
	place
	Key    string // dotted name; "" for the recipe as a whole
	Reason string
}

// Error gives file:line:column: key: reason.
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.Override > 0 || e.File == "":
		b.WriteString("command line: ")
	case e.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	default:
		b.WriteString(e.File + ": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// Errors are all faults of a recipe: those of the file in its order, those of the command line, and what is missing.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes every fault visible to errors.As.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

func (e Errors) sort() {
	source := func(p place) int {
		if p == (place{}) {
			return math.MaxInt
		}
		return p.Override
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(source(a.place), source(b.place)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
