// Package proof shows what a recipe would train before it is trained: the rows as tokens, coloured by whether they are in
// the loss, how long they are, and what the checks say. It renders a Proof as text for a terminal, as one HTML page and as
// JSON.
package proof

import (
	"fmt"
	"strings"

	"cria/internal/data"
	"cria/internal/pack"
	"cria/internal/tokenizer"
)

// Proof is what is known of a run's rows.
type Proof struct {
	Recipe    string // name of its file; "" where there is none
	Model     string
	Report    *data.Report // of the dataset
	Eval      *data.Report // of eval_dataset; nil where there is none
	Rows      data.Rows    // those that are trained
	Tokenizer *tokenizer.Tokenizer
	MaxLength int // tokens; 0: no limit
	Checks    []data.Check
	Refused   bool // training would not start

	atLimit int // rows with max_length tokens, once counted
}

// Quantile is a share of rows and a length that it does not exceed.
type Quantile struct {
	Share  float64 `json:"share"`
	Tokens int     `json:"tokens"`
}

// quantiles of the rows' lengths before any limit. They come of the histogram, so all but the longest may be an eighth of an
// octave too large.
func (p *Proof) quantiles() (out []Quantile) {
	for _, q := range []float64{0.5, 0.9, 0.99, 1} {
		out = append(out, Quantile{q, min(p.Report.Lengths.Quantile(q), p.Report.Longest)})
	}
	return out
}

// share is the part of tokens that are in the loss.
func (p *Proof) share() float64 { return float64(p.Report.Labelled) / float64(max(1, p.Report.Tokens)) }

// Ends says how rows begin and what is trained last.
type Ends struct {
	Looked int           `json:"rows_looked_at"`
	BOS    string        `json:"bos_token"` // "" where the tokenizer has none
	None   int           `json:"without_bos"`
	Once   int           `json:"bos_once"`
	More   int           `json:"bos_more_than_once"`
	First  map[int32]int `json:"first"`        // rows by first token
	Last   map[int32]int `json:"last_trained"` // rows by the last token, if it is trained; -1: it is not
}

// enough is how many rows Ends looks at: all of many datasets, and of larger ones rows spread over them.
const enough = 20_000

func (p *Proof) ends() Ends {
	e := Ends{First: map[int32]int{}, Last: map[int32]int{}}
	bos, has := p.Tokenizer.BOS()
	if has {
		e.BOS, _ = p.Tokenizer.Token(bos)
	}
	for _, i := range Spread(p.Rows.Len(), enough) {
		row := p.Rows.Row(i)
		n := len(row.IDs)
		if n == 0 {
			continue
		}
		e.Looked++
		e.First[row.IDs[0]]++
		switch {
		case !has:
		case row.IDs[0] != bos:
			e.None++
		case n > 1 && row.IDs[1] == bos:
			e.More++
		default:
			e.Once++
		}
		if last := row.Labels[n-1]; n > 1 && last != pack.Ignore {
			e.Last[last]++
		} else {
			e.Last[-1]++
		}
	}
	return e
}

// Spread are up to k of n numbers from 0, evenly spread and in order, the first and the last among them.
func Spread(n, k int) (out []int) {
	k = min(n, k)
	for i := range k {
		out = append(out, i*(n-1)/max(1, k-1))
	}
	return out
}

// Row is a row that is shown.
type Row struct {
	Number   int      `json:"row"`   // among those that are trained, from 1
	Where    string   `json:"where"` // file:line (row n)
	Tokens   int      `json:"tokens"`
	Labelled int      `json:"labelled"`
	AtLimit  bool     `json:"at_max_length"`        // it has max_length tokens
	Cut      *bool    `json:"cut,omitempty"`        // of such a row: whether its end was cut off; nil where that is not known
	Checks   []string `json:"checks,omitempty"`     // those that name it among their first rows
	Words    []string `json:"lookalikes,omitempty"` // see Lookalikes

	IDs    []int32  `json:"ids"`
	Labels []int32  `json:"labels"` // as PyTorch's cross-entropy takes them: -100 where nothing is trained
	Pieces []string `json:"pieces"` // the tokens in the vocabulary's spelling, as convert_ids_to_tokens
	Text   string   `json:"text"`

	spans []Span
}

// Row makes row i, from 0, ready to be shown.
func (p *Proof) Row(i int) Row {
	row := p.Rows.Row(i)
	r := Row{Number: i + 1, Where: p.Rows.Where(i), Tokens: len(row.IDs), Labelled: row.Labelled(), IDs: row.IDs, Labels: row.Labels,
		AtLimit: p.MaxLength > 0 && len(row.IDs) == p.MaxLength, Text: p.Tokenizer.Decode(row.IDs, false), spans: Spans(p.Tokenizer, row)}
	if r.AtLimit {
		r.Cut = p.cut(r.Where)
	}
	r.Words = Lookalikes(p.Tokenizer, r.spans)
	for _, id := range row.IDs {
		piece, _ := p.Tokenizer.Token(id)
		r.Pieces = append(r.Pieces, piece)
	}
	for _, c := range p.Checks {
		for _, place := range c.Places {
			if place == r.Where && !c.Eval {
				r.Checks = append(r.Checks, c.Name)
			}
		}
	}
	return r
}

// cut tells whether the row at a place, which has max_length tokens, was cut; nil: it is not known.
func (p *Proof) cut(where string) *bool {
	if p.atLimit == 0 {
		for i := range p.Rows.Len() {
			if p.Rows.Tokens(i) == p.MaxLength {
				p.atLimit++
			}
		}
	}
	c := &p.Report.Cut
	known := c.Rows == 0 || c.Rows == p.atLimit && p.Rows.Len() == p.Report.Rows
	yes := c.Rows > 0 && known
	for _, place := range c.Places {
		if p.Report.Where(place) == where {
			yes, known = true, true
		}
	}
	if !known && len(c.Places) < c.Rows {
		return nil
	}
	return &yes
}

// Named are the rows, from 0, that the checks name, in order.
func (p *Proof) Named() (out []int) {
	want := map[string]bool{}
	for _, c := range p.Checks {
		for _, place := range c.Places {
			want[place] = !c.Eval || want[place]
		}
	}
	for i := 0; i < p.Rows.Len() && len(want) > 0; i++ {
		if w := p.Rows.Where(i); want[w] {
			out = append(out, i)
			delete(want, w)
		}
	}
	return out
}

// Find returns the row, from 0, that a user means by FILE:LINE, or FILE:LINE (row N) as messages have it. A file may go
// without its directories.
func (p *Proof) Find(place string) (int, error) {
	for i := range p.Rows.Len() {
		where := p.Rows.Where(i)
		short, _, _ := strings.Cut(where, " (row ")
		if where == place || short == place || strings.HasSuffix(short, "/"+place) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no row that is trained begins at %s: give FILE:LINE as the checks do, or a number from 1 to %d", place, p.Rows.Len())
}

// Document is a Proof as JSON.
type Document struct {
	Recipe    string       `json:"recipe,omitempty"`
	Model     string       `json:"model"`
	Refused   bool         `json:"refused"`
	MaxLength int          `json:"max_length"`
	Checks    []data.Check `json:"checks"`
	Quantiles []Quantile   `json:"quantiles"` // of the lengths before any limit
	Lengths   []Bin        `json:"lengths"`
	Share     float64      `json:"labelled_share"`
	Ends      Ends         `json:"ends"`
	Report    *data.Report `json:"report"`
	Eval      *data.Report `json:"eval_report,omitempty"`
	Rows      []Row        `json:"rows"`
}

// Document shows rows numbered from 0.
func (p *Proof) Document(rows []int) *Document {
	d := &Document{Recipe: p.Recipe, Model: p.Model, Refused: p.Refused, MaxLength: p.MaxLength, Checks: p.Checks, Quantiles: p.quantiles(), Lengths: p.lengths(),
		Share: p.share(), Ends: p.ends(), Report: p.Report, Eval: p.Eval, Rows: []Row{}}
	for _, i := range rows {
		d.Rows = append(d.Rows, p.Row(i))
	}
	return d
}

// Bin counts rows by their length before any limit.
type Bin struct {
	From int `json:"from"`
	To   int `json:"to"` // inclusive
	Rows int `json:"rows"`
}

// lengths are the report's own bins, without those at the ends that are empty.
func (p *Proof) lengths() (out []Bin) {
	for bin, n := range p.Report.Lengths {
		if from, to := p.Report.Lengths.Bounds(bin); n > 0 || out != nil {
			out = append(out, Bin{from, to, n})
		}
	}
	return out
}

// bins are the lengths in at most 17 bins: as many tokens wide as lets 99% of the rows into the first 16 or fewer, and one bin
// for what is longer. The report's bins fit into these exactly: below 16 times a power of two they are no wider than it, and
// begin at multiples of their width.
func (p *Proof) bins() (out []Bin) {
	h := p.Report.Lengths
	width := 1
	for 16*width <= p.quantiles()[2].Tokens {
		width *= 2
	}
	for bin, n := range h {
		if n == 0 {
			continue
		}
		from, _ := h.Bounds(bin)
		b := Bin{From: from / width * width}
		b.To = b.From + width - 1
		if from >= 16*width {
			b = Bin{16 * width, p.Report.Longest, 0}
		}
		for k := len(out) - 1; k >= 0 && out[k].To+1 < b.From; k++ { // empty bins between
			out = append(out, Bin{out[k].To + 1, out[k].To + width, 0})
		}
		if k := len(out) - 1; k < 0 || out[k].From != b.From {
			out = append(out, b)
		}
		out[len(out)-1].Rows += n
	}
	return out
}

// longer is how many rows exceed max_length.
func (p *Proof) longer() int { return p.Report.Cut.Rows + p.Report.Dropped.Rows }
