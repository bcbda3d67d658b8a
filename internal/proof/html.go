package proof

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/data"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string

	page = template.Must(template.New("page").Funcs(template.FuncMap{"safe": Safe, "count": data.Thousands}).Parse(pageHTML))
)

// slots is how many checks the page can filter by.
const slots = 24

// style is the page's style sheet: a chosen filter hides rows without its class. It is the same on every page, so that the
// page can name its hash and forbid anything else.
var style = func() string {
	var b strings.Builder
	b.WriteString(pageCSS)
	for i := range slots + 1 {
		if i > 0 {
			fmt.Fprintf(&b, "#f%d:checked ~ main .row:not(.c%[1]d) { display: none; }\n", i)
		}
		fmt.Fprintf(&b, "#f%d:checked ~ main label[for=f%[1]d] { background: var(--ink); color: var(--bg); }\n", i)
		fmt.Fprintf(&b, "#f%d:focus-visible ~ main label[for=f%[1]d] { outline: 2px solid var(--bar); }\n", i)
	}
	return b.String()
}()

type (
	pageView struct {
		Proof       *Proof
		Title, Hash string
		CSS         template.CSS
		Cards       []card
		Files       []string
		Facts       [][2]string
		Plot        *plot
		Checks      []checkView
		Filters     []*filter
		Rows        []rowView
	}
	card      struct{ Value, Name string }
	checkView struct {
		data.Check
		Refused bool
	}
	filter struct {
		Slot  int
		Name  string
		State data.State
		Shown int
	}
	rowView struct {
		Row
		Badges        []*filter
		Head, Tail    []tokenView
		Gap, Scissors string
	}
	tokenView struct {
		Class, IDs, Piece string
		Parts             []Part
	}
)

// WriteHTML writes the proof as one page, with rows numbered from 0. The page needs nothing else, runs no script, and forbids
// both by its Content-Security-Policy: what it shows comes from strangers' files.
func (p *Proof) WriteHTML(w io.Writer, rows []int) error {
	hash := sha256.Sum256([]byte(style))
	v := pageView{Proof: p, Title: "What this recipe trains", CSS: template.CSS(style), Hash: "sha256-" + base64.StdEncoding.EncodeToString(hash[:]),
		Files: p.files(), Facts: p.facts(), Plot: p.plot()}
	if p.Recipe != "" {
		v.Title = "What " + Safe(filepath.Base(p.Recipe)) + " trains"
	}
	q := p.quantiles()
	v.Cards = []card{{data.Thousands(p.Rows.Len()), "rows"}, {data.Thousands(p.Report.Tokens), "tokens"}, {fmt.Sprintf("%.1f%%", 100*p.share()), "of them in the loss"},
		{data.Thousands(q[0].Tokens), "tokens in half of the rows, at most"}, {data.Thousands(p.Report.Longest), "tokens in the longest"}}
	for _, c := range p.Checks {
		v.Checks = append(v.Checks, checkView{c, c.State == data.Refused})
		if len(c.Places) > 0 && !c.Eval && len(v.Filters) < slots {
			v.Filters = append(v.Filters, &filter{Slot: len(v.Filters) + 1, Name: c.Name, State: c.State})
		}
	}
	for _, i := range rows {
		v.Rows = append(v.Rows, p.rowView(i, v.Filters))
	}
	return page.Execute(w, &v)
}

func (p *Proof) rowView(i int, filters []*filter) rowView {
	v := rowView{Row: p.Row(i)}
	for _, f := range filters {
		if slices.Contains(v.Checks, f.Name) {
			f.Shown++
			v.Badges = append(v.Badges, f)
		}
	}
	head, tail, tokens, labelled := clip(v.spans, longest)
	v.Head, v.Tail = p.tokenViews(head), p.tokenViews(tail)
	if tokens > 0 {
		v.Gap = fmt.Sprintf("… %s tokens, %s of them in the loss, are not shown …", data.Thousands(tokens), data.Thousands(labelled))
	}
	if v.AtLimit {
		v.Scissors = p.scissors(&v.Row)
	}
	return v
}

func (p *Proof) tokenViews(spans []Span) []tokenView {
	out := make([]tokenView, len(spans))
	for i, parts := range Parts(spans, false) {
		s := &spans[i]
		t := tokenView{"t", strings.Trim(fmt.Sprint(s.IDs), "[]"), "", parts}
		if s.Trained {
			t.Class += " y"
		}
		if s.Special {
			t.Class += " s"
		}
		var pieces []string
		for _, id := range s.IDs {
			piece, _ := p.Tokenizer.Token(id)
			pieces = append(pieces, Safe(piece))
		}
		t.Piece = strings.Join(pieces, " ")
		out[i] = t
	}
	return out
}

// plot is the histogram in the SVG's units.
type plot struct {
	Width, Height, Left, Right, Base int
	Bars                             []plotBar
	Limit, TextX                     string // "": no line
	Anchor, LimitText                string
}

type plotBar struct {
	Class, Label, From, Rows string
	X, Y, W, H, Mid          string
	Above, Below             string
}

func (p *Proof) plot() *plot {
	bins := p.bins()
	if len(bins) == 0 {
		return nil
	}
	const top, base, left, right = 44.0, 236.0, 10.0, 950.0
	v := &plot{Width: 960, Height: 262, Left: left, Right: right, Base: base}
	num := func(x float64) string { return fmt.Sprintf("%.1f", x) }
	most := 0
	for _, b := range bins {
		most = max(most, b.Rows)
	}
	step := (right - left) / float64(max(len(bins), 8))
	wide := bins[0].To - bins[0].From + 1
	for i, b := range bins {
		x, h := left+float64(i)*step, (base-top)*float64(b.Rows)/float64(max(1, most))
		if b.Rows > 0 {
			h = max(h, 2)
		}
		bar := plotBar{Class: "bar", Label: b.label(), From: data.Thousands(b.From), Rows: data.Thousands(b.Rows), X: num(x + 1), W: num(step - 2), Mid: num(x + step/2),
			Y: num(base - h), H: num(h), Above: num(base - h - 6), Below: num(base + 18)}
		if b.From >= 16*wide {
			bar.Class, bar.From = "tail", bar.From+"+"
		}
		if v.Bars = append(v.Bars, bar); p.MaxLength >= b.From && (p.MaxLength <= b.To) {
			at := x + step*float64(p.MaxLength-b.From)/float64(b.To-b.From+1)
			v.Limit, v.TextX, v.Anchor = num(at), num(at+8), "start"
			if at > right-260 {
				v.TextX, v.Anchor = num(at-8), "end"
			}
			v.LimitText = "max_length " + data.Thousands(p.MaxLength)
			if n := p.longer(); n > 0 {
				v.LimitText += ": " + plural(n, "row is longer", "rows are longer")
			}
		}
	}
	return v
}
