package jinja

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	defaultSteps  = 1_000_000
	defaultOutput = 8 << 20
	defaultDepth  = 64
	defaultTime   = time.Second

	maxSource    = 1 << 20 // bytes of a template; the largest of 789 published ones has 46 KB
	maxTokens    = 1 << 17 // of a template; the largest of those has 5,200
	maxDataDepth = 512     // nesting of values; CPython gives up near 1,000
	maxIntBits   = 1 << 16 // of an integer
	maxIntDigits = 4300    // of an integer as text, as CPython
	maxKeywords  = 256     // keyword arguments of a call, parameters of a macro
	maxRange     = 100_000 // items of a range, as Jinja2's sandbox

	leastHeap     = 1 << 16 // what templates may build even where the output is tiny
	heapFactor    = 3       // heap budget, in sizes of the largest string
	bytesPerStep  = 256     // a step pays for scanning this many bytes
	stepsPerClock = 2048    // how often the clock is read
	slotsPerStep  = 8       // variables that a step sets
	valueBytes    = 16      // one Value in a list
	stringBytes   = 48      // one string in a list, without its text
)

// run is the state of one rendering.
type run struct {
	tmpl     *Template
	vars     map[string]any
	resolved map[string]Value // vars converted so far
	exported map[string]Value // assigned at the top level, for blocks
	now      func() time.Time

	out  *buffer // where output goes at present
	last capture // the last captured text with generation spans

	limits    Limits
	largest   int // bytes of one string or list
	steps     int // left
	heap      int // bytes left
	sinceRead int // steps since the clock was read
	depth     int // of calls
	deadline  time.Time
}

// buffer collects output: the text of the template, or what a macro or a block captures.
type buffer struct {
	text  []byte
	spans []Span
	root  bool
}

// capture remembers the generation spans of a captured text until it is printed.
type capture struct {
	text  string
	spans []Span
}

func newRun(t *Template, vars map[string]any, opts Options) *run {
	l := opts.Limits
	if l.Steps <= 0 {
		l.Steps = defaultSteps
	}
	if l.Output <= 0 {
		l.Output = defaultOutput
	}
	if l.Depth <= 0 {
		l.Depth = defaultDepth
	}
	if l.Time <= 0 {
		l.Time = defaultTime
	}
	now := opts.Now
	if now == nil {
		now = time.Now
	}
	return &run{
		tmpl: t, vars: vars, resolved: map[string]Value{}, exported: map[string]Value{}, now: now,
		out: &buffer{root: true}, limits: l, steps: l.Steps,
		largest: max(l.Output, leastHeap), heap: heapFactor * max(l.Output, leastHeap),
		deadline: time.Now().Add(l.Time),
	}
}

// step pays for n units of work.
func (r *run) step(n int) error {
	r.steps -= n
	if r.steps < 0 {
		return fmt.Errorf("the template takes more than %d steps", r.limits.Steps)
	}
	if r.sinceRead += n; r.sinceRead >= stepsPerClock {
		r.sinceRead = 0
		if time.Now().After(r.deadline) {
			return fmt.Errorf("the template takes longer than %v", r.limits.Time)
		}
	}
	return nil
}

// scan pays for reading n bytes.
func (r *run) scan(n int) error { return r.step(n / bytesPerStep) }

// alloc pays for n bytes about to be allocated. No single string or list may be larger than
// the output.
func (r *run) alloc(n int) error {
	if n < 0 || n > r.largest {
		return fmt.Errorf("the template builds a string or list of more than %d bytes", r.largest)
	}
	if n > r.heap {
		return fmt.Errorf("the template builds strings and lists of more than %d bytes", heapFactor*r.largest)
	}
	r.heap -= n
	return r.scan(n)
}

// textBuilder is a string being built, and paid for.
type textBuilder struct {
	r *run
	b strings.Builder
}

func (t *textBuilder) put(s string) error {
	if t.b.Len()+len(s) > t.r.largest {
		return t.r.alloc(-1)
	}
	t.b.WriteString(s)
	return t.r.alloc(len(s))
}

func (t *textBuilder) String() string { return t.b.String() }

// allocItems pays for a list of n values.
func (r *run) allocItems(n int) error {
	if n > r.largest/valueBytes {
		return r.alloc(-1)
	}
	return r.alloc((n + 2) * valueBytes)
}

// call pays for one more level of nested calls; leave gives it back.
func (r *run) call() error {
	if r.depth >= r.limits.Depth {
		return fmt.Errorf("macros and recursive loops nest deeper than %d calls", r.limits.Depth)
	}
	r.depth++
	return r.step(1)
}

func (r *run) leave() { r.depth-- }

// write appends to the current output.
func (r *run) write(s string) error {
	b := r.out
	if !b.root {
		if err := r.alloc(len(s)); err != nil {
			return err
		}
	} else {
		if len(b.text)+len(s) > r.limits.Output {
			return fmt.Errorf("the text is longer than %d bytes", r.limits.Output)
		}
		if err := r.scan(len(s)); err != nil {
			return err
		}
	}
	b.text = append(b.text, s...)
	return nil
}

// at gives err the position pos of the template.
func (r *run) at(pos int, err error) error { return errorAt(r.tmpl.source, pos, err) }

var errTooDeep = errors.New("a value nests deeper than " + fmt.Sprint(maxDataDepth) + " levels")
