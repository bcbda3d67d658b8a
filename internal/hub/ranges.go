package hub

import "slices"

// span is the bytes from start up to, but not including, end.
type span struct{ start, end int64 }

// spans is a set of bytes: sorted, disjoint, not touching, none empty.
type spans []span

// add returns s with x.
func (s spans) add(x span) spans {
	if x.start >= x.end {
		return s
	}
	i, _ := slices.BinarySearchFunc(s, x.start, func(a span, start int64) int {
		if a.end < start {
			return -1
		}
		return 1
	})
	j := i
	for j < len(s) && s[j].start <= x.end {
		x.start, x.end = min(x.start, s[j].start), max(x.end, s[j].end)
		j++
	}
	return slices.Replace(s, i, j, x)
}

// without returns s less the bytes of t.
func (s spans) without(t spans) spans {
	var out spans
	for _, a := range s {
		for _, b := range t {
			if b.end <= a.start || b.start >= a.end {
				continue
			}
			if b.start > a.start {
				out = append(out, span{a.start, b.start})
			}
			a.start = b.end
		}
		if a.start < a.end {
			out = append(out, a)
		}
	}
	return out
}

// gaps returns what s lacks of the first size bytes.
func (s spans) gaps(size int64) spans {
	if size == 0 {
		return nil
	}
	return spans{{0, size}}.without(s)
}

// total is the number of bytes in s.
func (s spans) total() (n int64) {
	for _, a := range s {
		n += a.end - a.start
	}
	return n
}
