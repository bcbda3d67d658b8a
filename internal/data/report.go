package data

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"cria/internal/pack"
)

// Report is what a user should know about a dataset before it is trained. Everything counts all rows, those that are set
// aside for evaluation (Part) among them.
type Report struct {
	Files    []File `json:"files"`
	Examples int    `json:"examples"`     // examples read
	Rows     int    `json:"rows"`         // rows that they became: Examples less Dropped
	Tokens   int    `json:"tokens"`       // tokens of those rows
	Labelled int    `json:"labelled"`     // tokens that enter the loss (see pack.Row.Labelled)
	Longest  int    `json:"longest"`      // tokens of the longest row before any limit
	Kept     int    `json:"longest_kept"` // tokens of the longest row that is trained

	Lengths Histogram `json:"lengths"` // tokens of all examples before any limit

	Cut          Tally `json:"cut"`           // rows shortened to max_length
	Dropped      Tally `json:"dropped"`       // rows left out because they are longer
	Unlabelled   Tally `json:"unlabelled"`    // rows without a single token in the loss, cut or not
	UntrainedEnd Tally `json:"untrained_end"` // rows that do not train an end token last: it was cut off, or the template has none
	OpenEnd      Tally `json:"open_end"`      // of UntrainedEnd, those that were not cut
	DoubleBOS    Tally `json:"double_bos"`    // rows that begin with two BOS tokens
	Blank        Tally `json:"blank"`         // rows with an empty instruction or reply, or nothing but white space there
	Duplicate    Tally `json:"duplicate"`     // rows whose ids an earlier row has
}

// File is one dataset file as it was read.
type File struct {
	Path    string   `json:"path"`
	SHA256  string   `json:"sha256"`  // of its bytes, in hexadecimal; "" where nobody asked
	Format  string   `json:"format"`  // see Formats
	Columns []string `json:"columns"` // that are used
	Ignored []string `json:"ignored"` // that are not
	Rows    int      `json:"rows"`    // examples read
}

// Thousands is a number with commas between thousands, as people read it.
func Thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Describe says how the files were understood, in a line for each run of files that are alike.
func (r *Report) Describe() (out []string) {
	for i := 0; i < len(r.Files); {
		f, n := &r.Files[i], 1
		for i+n < len(r.Files) && r.Files[i+n].like(f) {
			n++
		}
		s := f.Path
		if n > 1 {
			s += fmt.Sprintf(" and %d more", n-1)
		}
		s += fmt.Sprintf(": %s (%s)", f.Format, join(f.Columns))
		if len(f.Ignored) > 0 {
			s += "; not used: " + join(f.Ignored)
		}
		if f.Format != "" {
			out = append(out, s)
		}
		i += n
	}
	return out
}

func (f *File) like(g *File) bool {
	return f.Format == g.Format && slices.Equal(f.Columns, g.Columns) && slices.Equal(f.Ignored, g.Ignored)
}

// Place is where an example stands.
type Place struct {
	File int `json:"file"` // number in Report.Files
	Line int `json:"line"` // from 1; 0 in files without lines
	Row  int `json:"row"`  // within the file, from 1
}

// places is how many places a Tally remembers.
const places = 8

// Tally counts rows and remembers the first ones.
type Tally struct {
	Rows   int     `json:"rows"`
	Places []Place `json:"places"`
}

func (t *Tally) add(p Place) {
	if len(t.Places) < places {
		t.Places = append(t.Places, p)
	}
	t.Rows++
}

// Where names a place for a message: file:line (row n).
func (r *Report) Where(p Place) string { return where(r.Files[p.File].Path, p.Line, p.Row) }

// First names the first place of a tally; "" where it counts nothing.
func (r *Report) First(t Tally) string {
	if len(t.Places) == 0 {
		return ""
	}
	return r.Where(t.Places[0])
}

func where(file string, line, row int) string {
	if line == 0 {
		return fmt.Sprintf("%s (row %d)", file, row)
	}
	return fmt.Sprintf("%s:%d (row %d)", file, line, row)
}

// Histogram counts numbers in bins: every number below 16 has its own, above that an octave has eight.
type Histogram []int

// Add counts n >= 0.
func (h *Histogram) Add(n int) {
	bin := n
	if n >= 16 {
		shift := bits.Len(uint(n)) - 4
		bin = 8*shift + n>>shift
	}
	if bin >= len(*h) {
		*h = append(*h, make([]int, bin+1-len(*h))...)
	}
	(*h)[bin]++
}

// Bounds are the smallest and the largest number of a bin.
func (h Histogram) Bounds(bin int) (from, to int) {
	if bin < 16 {
		return bin, bin
	}
	shift := bin/8 - 1
	from = (8 + bin%8) << shift
	return from, from + 1<<shift - 1
}

// Quantile is a number that the share q of what was counted does not exceed: the upper end of its bin.
func (h Histogram) Quantile(q float64) int {
	total, sum := 0, 0
	for _, n := range h {
		total += n
	}
	for bin, n := range h {
		if sum += n; n > 0 && float64(sum) >= q*float64(total) {
			_, to := h.Bounds(bin)
			return to
		}
	}
	return 0
}

// counter makes a Report of rows as they come, in order.
type counter struct {
	Options
	report  Report
	tooLong Tally
	seen    map[uint64]struct{} // hashes of ids
}

func newCounter(o Options) *counter { return &counter{Options: o, seen: map[uint64]struct{}{}} }

// made is an example's row before limits, with what does not need other rows to be known.
type made struct {
	row   pack.Row
	place Place
	blank bool
	hash  uint64 // of the ids, after the limit
	long  int    // tokens before the limit
	cut   bool
}

// limit cuts a row to max_length where that is asked for.
func (o *Options) limit(row pack.Row) made {
	m := made{row: row, long: len(row.IDs)}
	if n := o.MaxLength; n > 0 && len(row.IDs) > n && o.TooLong != Drop && o.TooLong != Fail {
		m.row.IDs, m.row.Labels, m.cut = row.IDs[:n:n], row.Labels[:n:n], true
	}
	m.hash = hashIDs(m.row.IDs)
	return m
}

// add counts a row and says whether it stays.
func (c *counter) add(m *made) bool {
	r := &c.report
	r.Examples++
	r.Longest = max(r.Longest, m.long)
	r.Lengths.Add(m.long)
	if m.blank {
		r.Blank.add(m.place)
	}
	if c.MaxLength > 0 && m.long > c.MaxLength {
		c.tooLong.add(m.place)
		if !m.cut {
			return false
		}
	}
	labelled := m.row.Labelled()
	if labelled == 0 {
		r.Unlabelled.add(m.place)
	}
	if !trainsEnd(m.row, c.End) {
		r.UntrainedEnd.add(m.place)
		if !m.cut {
			r.OpenEnd.add(m.place)
		}
	}
	if c.HasBOS && len(m.row.IDs) > 1 && m.row.IDs[0] == c.BOS && m.row.IDs[1] == c.BOS {
		r.DoubleBOS.add(m.place)
	}
	if _, ok := c.seen[m.hash]; ok {
		r.Duplicate.add(m.place)
	} else {
		c.seen[m.hash] = struct{}{}
	}
	r.Tokens += len(m.row.IDs)
	r.Kept = max(r.Kept, len(m.row.IDs))
	r.Labelled += labelled
	r.Rows++
	return true
}

// finish ends the count.
func (c *counter) finish() (Report, error) {
	r := &c.report
	switch {
	case c.TooLong == Fail && c.tooLong.Rows > 0:
		return *r, fmt.Errorf("%d of %d rows are longer than max_length %d (the longest has %d tokens), the first at %s: "+
			"raise max_length, or set too_long to cut or drop", c.tooLong.Rows, r.Examples, c.MaxLength, r.Longest, r.First(c.tooLong))
	case c.TooLong == Drop:
		r.Dropped = c.tooLong
	default:
		r.Cut = c.tooLong
	}
	switch {
	case r.Rows > 0:
		return *r, nil
	case r.Dropped.Rows > 0:
		return *r, fmt.Errorf("no rows are left: all %d are longer than max_length %d (the longest has %d tokens)",
			r.Examples, c.MaxLength, r.Longest)
	}
	return *r, fmt.Errorf("the dataset has no rows")
}

// trainsEnd tells whether the last token of the row is labelled and one of the end ids; without end ids nothing is known,
// and every row passes.
func trainsEnd(r pack.Row, end []int32) bool {
	if len(end) == 0 {
		return true
	}
	n := len(r.Labels)
	return n > 1 && slices.Contains(end, r.Labels[n-1])
}

// hashIDs is FNV-1a over whole ids, with a finish that spreads the bits.
func hashIDs(ids []int32) uint64 {
	h := uint64(14695981039346656037)
	for _, id := range ids {
		h = (h ^ uint64(uint32(id))) * 1099511628211
		h ^= h >> 29
	}
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>32
}
