package data

import (
	"context"
	"fmt"

	"cria/internal/pack"
)

// RowFunc makes the row of one example, as long as it comes. It may be called by several goroutines.
type RowFunc func(Example) (pack.Row, error)

// What happens to a row that is longer than max_length: the values of the recipe key too_long.
const (
	Cut  = "cut"   // keep the first max_length tokens, as the reference's tutorial does
	Drop = "drop"  // leave the row out
	Fail = "error" // refuse the dataset
)

// Options says how rows are limited and judged.
type Options struct {
	MaxLength int     // tokens; 0 means no limit
	TooLong   string  // Cut, Drop or Fail; "" means Cut
	End       []int32 // ids that end a turn or a text; a row should train one of them last
	BOS       int32   // the token that begins a text, if HasBOS
	HasBOS    bool

	Threads  int                // of Build; 0: all
	Progress func(examples int) `json:"-"` // of Build: called now and then with how many examples were read; nil: not
}

// Encode makes the rows of all examples in memory, in order. It stops at the first example that encode refuses, when ctx
// ends, and with TooLong Fail after counting the rows that are too long. No rows at all is an error.
func Encode(ctx context.Context, examples []Example, encode RowFunc, opt Options) ([]Row, Report, error) {
	c := newCounter(opt)
	rows := make([]Row, 0, len(examples))
	for i := range examples {
		if err := ctx.Err(); err != nil {
			return nil, c.report, err
		}
		e := &examples[i]
		m, err := opt.row(e, encode)
		if err != nil {
			return nil, c.report, err
		}
		if n := len(c.report.Files); n == 0 || c.report.Files[n-1].Path != e.File {
			c.report.Files = append(c.report.Files, File{Path: e.File})
		}
		m.place = Place{len(c.report.Files) - 1, e.Line, e.Row}
		if c.add(&m) {
			rows = append(rows, Row{m.row, i})
		}
	}
	report, err := c.finish()
	if err != nil {
		return nil, report, err
	}
	return rows, report, nil
}

// row makes one example's row.
func (o *Options) row(e *Example, encode RowFunc) (made, error) {
	row, err := encode(*e)
	if err != nil {
		return made{}, err
	}
	if len(row.IDs) != len(row.Labels) {
		return made{}, fmt.Errorf("%s: %d ids but %d labels", e.Where(), len(row.IDs), len(row.Labels))
	}
	m := o.limit(row)
	m.blank = e.blank()
	return m, nil
}
