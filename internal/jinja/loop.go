package jinja

import (
	"errors"
	"fmt"
)

// loopValue is the variable loop, and the iteration behind it. Values are read from the
// iterable one ahead only if the template asks what comes next.
type loopValue struct {
	stmt     *forStmt
	outer    *frame // where the loop statement runs
	iterable Value
	it       *iterator
	index0   int // -1 before the first iteration
	depth0   int
	size     int // -1: not known yet

	before, current Value
	after           Value // read ahead; nil: not
	ended           bool  // reading ahead met the end
	lastChanged     []Value
	everChanged     bool
}

func (*loopValue) typeName() string { return "LoopContext" }

func (s *forStmt) exec(r *run, f *frame) (signal, error) {
	v, err := s.iter.eval(r, f)
	if err != nil {
		return proceeding, err
	}
	if s.recursive {
		var text string
		if text, err = s.recurse(r, f, v, 0); err == nil {
			err = r.print(strValue(text))
		}
		if err != nil {
			err = r.at(s.pos, err)
		}
		return proceeding, err
	}
	return s.run(r, f, v, 0)
}

// recurse runs a recursive loop over v and returns its text.
func (s *forStmt) recurse(r *run, f *frame, v Value, depth int) (string, error) {
	if err := r.call(); err != nil {
		return "", err
	}
	defer r.leave()
	return r.capture(func() error {
		_, err := s.run(r, f, v, depth)
		return err
	})
}

func (l *loopValue) recurse(r *run, v Value) (string, error) {
	if !l.stmt.recursive {
		return "", errors.New("The loop must have the 'recursive' marker to be called recursively.")
	}
	return l.stmt.recurse(r, l.outer, v, l.depth0+1)
}

// run iterates over v in frame f. The signal is that of the else part.
func (s *forStmt) run(r *run, f *frame, v Value, depth int) (signal, error) {
	loop := &loopValue{stmt: s, outer: f, iterable: v, index0: -1, depth0: depth, size: -1}
	var err error
	if loop.it, err = r.iterate(v); err != nil {
		return proceeding, r.at(s.pos, err)
	}
	if s.test != nil {
		if loop.it, err = s.filtered(r, f, loop.it); err != nil {
			return proceeding, r.at(s.pos, err)
		}
		loop.iterable = loop.it
	}
	inner, err := r.newFrame(s.bodyScope, f)
	if err != nil {
		return proceeding, r.at(s.pos, err)
	}
	*inner.at(s.loop) = loop
	completed := false // an iteration reached the end of the body: Jinja2's condition for else
	for {
		item, err := loop.next(r)
		if err == nil && item != nil {
			if err = s.target.assign(r, inner, item); err == nil {
				err = r.enterFrame(s.bodyScope, inner)
			}
		}
		if err != nil {
			return proceeding, r.at(s.pos, err)
		}
		if item == nil {
			break
		}
		sig, err := r.exec(s.body, inner)
		if err != nil {
			return proceeding, err
		}
		if sig == breaking {
			break
		}
		completed = completed || sig == proceeding
	}
	if completed || len(s.other) == 0 {
		return proceeding, nil
	}
	other, err := r.newFrame(s.otherScope, f)
	if err == nil {
		err = r.enterFrame(s.otherScope, other)
	}
	if err != nil {
		return proceeding, r.at(s.pos, err)
	}
	return r.exec(s.other, other)
}

// filtered yields the values of it for which the loop's test holds.
func (s *forStmt) filtered(r *run, f *frame, it *iterator) (*iterator, error) {
	inner, err := r.newFrame(s.testScope, f)
	if err != nil {
		return nil, err
	}
	if err := r.enterFrame(s.testScope, inner); err != nil {
		return nil, err
	}
	return r.generator(it, func() (Value, error) {
		for {
			v, err := it.advance(r)
			if v == nil || err != nil {
				return nil, err
			}
			if err := s.testTarget.assign(r, inner, v); err != nil {
				return nil, err
			}
			x, err := s.test.eval(r, inner)
			if err != nil {
				return nil, err
			}
			if t, err := r.truth(x); t || err != nil {
				return v, err
			}
		}
	})
}

// next moves on and returns the item, nil at the end.
func (l *loopValue) next(r *run) (Value, error) {
	v, err := l.peek(r)
	if v == nil || err != nil {
		return nil, err
	}
	l.after = nil
	l.index0++
	l.before, l.current = l.current, v
	return v, nil
}

func (l *loopValue) peek(r *run) (Value, error) {
	if l.after != nil || l.ended {
		return l.after, nil
	}
	v, err := l.it.advance(r)
	l.after, l.ended = v, v == nil && err == nil
	return v, err
}

func (l *loopValue) length(r *run) (int, error) {
	if l.size >= 0 {
		return l.size, nil
	}
	if n, ok, err := r.length(l.iterable); ok || err != nil {
		l.size = n
		return n, err
	}
	rest, err := r.collect(l.it)
	if err != nil {
		return 0, err
	}
	l.it = &iterator{kind: "list_iterator", items: rest}
	l.size = len(rest) + l.index0 + 1
	if l.after != nil {
		l.size++
	}
	return l.size, nil
}

func (l *loopValue) attribute(r *run, name string) (Value, error) {
	switch name {
	case "index":
		return intValue(l.index0 + 1), nil
	case "index0":
		return intValue(l.index0), nil
	case "first":
		return boolValue(l.index0 == 0), nil
	case "depth":
		return intValue(l.depth0 + 1), nil
	case "depth0":
		return intValue(l.depth0), nil
	case "length", "revindex", "revindex0":
		n, err := l.length(r)
		switch name {
		case "revindex":
			n -= l.index0
		case "revindex0":
			n -= l.index0 + 1
		}
		return intValue(n), err
	case "last":
		v, err := l.peek(r)
		return boolValue(v == nil), err
	case "previtem":
		if l.index0 == 0 {
			return &undefined{hint: "there is no previous item"}, nil
		}
		return l.before, nil
	case "nextitem":
		v, err := l.peek(r)
		if v == nil {
			return &undefined{hint: "there is no next item"}, err
		}
		return v, err
	case "cycle":
		return defineRaw("cycle", l.cycle), nil
	case "changed":
		return defineRaw("changed", l.changed), nil
	}
	return nil, nil
}

func (l *loopValue) cycle(_ *run, args []Value, kw []keyword) (Value, error) {
	if len(args) == 0 || len(kw) > 0 {
		return nil, fmt.Errorf("no items for cycling given")
	}
	return args[l.index0%len(args)], nil
}

func (l *loopValue) changed(r *run, args []Value, kw []keyword) (Value, error) {
	if len(kw) > 0 {
		return nil, fmt.Errorf("changed() takes no keyword arguments")
	}
	if l.everChanged {
		same, err := r.equalItems(l.lastChanged, args, 0)
		if same || err != nil {
			return boolValue(false), err
		}
	}
	l.lastChanged, l.everChanged = args, true
	return boolValue(true), nil
}
