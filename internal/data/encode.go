package data

import (
	"context"
	"fmt"
	"slices"

	"cria/internal/pack"
)

// RowFunc makes the row of one example, as long as it comes.
type RowFunc func(Example) (pack.Row, error)

// What happens to a row that is longer than max_length: the values of the recipe key too_long.
const (
	Cut  = "cut"   // keep the first max_length tokens, as the reference's tutorial does
	Drop = "drop"  // leave the row out
	Fail = "error" // refuse the dataset
)

// Options says how rows are limited.
type Options struct {
	MaxLength int     // tokens; 0 means no limit
	TooLong   string  // Cut, Drop or Fail; "" means Cut
	End       []int32 // ids that end a turn or a text; a row should train one of them last
}

// Report is what a user should know about a dataset before it is trained.
type Report struct {
	Examples int // examples read
	Rows     int // rows that will be trained: Examples less Dropped
	Tokens   int // tokens of those rows
	Labelled int // tokens that enter the loss (see pack.Row.Labelled)
	Longest  int // tokens of the longest row before any limit

	Cut          Tally // rows shortened to max_length
	Dropped      Tally // rows left out because they are longer
	Unlabelled   Tally // rows without a single token in the loss, cut or not
	UntrainedEnd Tally // rows that do not train an end token last: their end was cut off, or the template has none
}

// Tally counts rows and remembers the first one.
type Tally struct {
	Rows  int
	First string // Example.Where of the first one; "" if there is none
}

func (t *Tally) add(e Example) {
	if t.Rows == 0 {
		t.First = e.Where()
	}
	t.Rows++
}

// Encode makes the rows of all examples, in order. It stops at the first example that encode refuses, when ctx ends, and
// with TooLong Fail after counting the rows that are too long. No rows at all is an error.
func Encode(ctx context.Context, examples []Example, encode RowFunc, opt Options) ([]Row, Report, error) {
	report := Report{Examples: len(examples)}
	var tooLong Tally
	rows := make([]Row, 0, len(examples))
	for i, e := range examples {
		if err := ctx.Err(); err != nil {
			return nil, report, err
		}
		row, err := encode(e)
		if err != nil {
			return nil, report, err
		}
		if len(row.IDs) != len(row.Labels) {
			return nil, report, fmt.Errorf("%s: %d ids but %d labels", e.Where(), len(row.IDs), len(row.Labels))
		}
		report.Longest = max(report.Longest, len(row.IDs))
		cut := false
		if opt.MaxLength > 0 && len(row.IDs) > opt.MaxLength {
			tooLong.add(e)
			if opt.TooLong == Drop || opt.TooLong == Fail {
				continue
			}
			row.IDs, row.Labels = row.IDs[:opt.MaxLength:opt.MaxLength], row.Labels[:opt.MaxLength:opt.MaxLength]
			cut = true
		}
		labelled := row.Labelled()
		if labelled == 0 {
			report.Unlabelled.add(e)
		}
		if cut || !trainsEnd(row, opt.End) {
			report.UntrainedEnd.add(e)
		}
		report.Tokens += len(row.IDs)
		report.Labelled += labelled
		rows = append(rows, Row{row, i})
	}
	report.Rows = len(rows)
	switch {
	case opt.TooLong == Fail && tooLong.Rows > 0:
		return nil, report, fmt.Errorf("%d of %d rows are longer than max_length %d (the longest has %d tokens), the first at %s: "+
			"raise max_length, or set too_long to cut or drop", tooLong.Rows, len(examples), opt.MaxLength, report.Longest, tooLong.First)
	case opt.TooLong == Drop:
		report.Dropped = tooLong
	default:
		report.Cut = tooLong
	}
	if len(rows) == 0 {
		if report.Dropped.Rows > 0 {
			return nil, report, fmt.Errorf("no rows are left: all %d are longer than max_length %d (the longest has %d tokens)",
				len(examples), opt.MaxLength, report.Longest)
		}
		return nil, report, fmt.Errorf("the dataset has no rows")
	}
	return rows, report, nil
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
