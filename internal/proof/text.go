package proof

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"cria/internal/data"

	"github.com/mattn/go-runewidth"
)

// Style says what the text may use.
type Style struct {
	Colour bool // ANSI colours; without them trained tokens stand in ⟦ ⟧
	IDs    bool // the ids below the tokens
	Width  int  // columns; 0: 100
	All    bool // rows are shown whole, however long they are
}

// longest is how many tokens of a row are shown where not all are wanted.
const longest = 2000

// columns have one width for every character, whatever the locale says.
var columns = &runewidth.Condition{}

// WriteText writes the proof, with rows numbered from 0.
func (p *Proof) WriteText(w io.Writer, rows []int, style Style) error {
	if style.Width <= 0 {
		style.Width = 100
	}
	t := &text{w: w, Style: style}
	p.summary(t)
	p.histogram(t)
	p.checks(t)
	if len(rows) > 0 {
		t.print("\n%s  %s\n", t.paint("1", "rows"), t.legend())
	}
	for _, i := range rows {
		p.row(t, i)
	}
	return t.err
}

// text writes and keeps the first error.
type text struct {
	w   io.Writer
	err error
	Style
}

func (t *text) print(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

func (t *text) paint(code, s string) string {
	if !t.Colour || s == "" || code == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (t *text) line(name, format string, args ...any) {
	t.print("%s %s\n", t.paint("1", fmt.Sprintf("%-12s", name)), fmt.Sprintf(format, args...))
}

func (t *text) legend() string {
	if t.Colour {
		return t.paint(trained, " in the loss ") + " not in the loss " + t.paint(special, "special token")
	}
	return "⟦in the loss⟧ not in the loss"
}

const (
	trained        = "30;42"
	trainedSpecial = "1;4;30;42"
	special        = "35"
	dim            = "2"
)

func (p *Proof) summary(t *text) {
	if p.Recipe != "" {
		t.line("recipe", "%s", Safe(p.Recipe))
	}
	t.line("model", "%s", Safe(p.Model))
	for i, s := range p.files() {
		t.line([]string{"data", ""}[min(i, 1)], "%s", Safe(s))
	}
	for _, f := range p.facts() {
		t.line(f[0], "%s", Safe(f[1]))
	}
}

// files says how each file was understood.
func (p *Proof) files() (out []string) {
	const most = 12
	for i, f := range p.Report.Files {
		if i == most {
			return append(out, fmt.Sprintf("and %s more files", data.Thousands(len(p.Report.Files)-most)))
		}
		s := fmt.Sprintf("%s: %s", f.Path, plural(f.Rows, "row", "rows"))
		if f.Format != "" {
			s += ", " + f.Format
		}
		if len(f.Columns) > 0 {
			s += " (" + strings.Join(f.Columns, ", ") + ")"
		}
		if len(f.Ignored) > 0 {
			s += "; not used: " + strings.Join(f.Ignored, ", ")
		}
		out = append(out, s)
	}
	return out
}

// facts are lines of a name and what is known.
func (p *Proof) facts() (out [][2]string) {
	r := p.Report
	add := func(name, format string, args ...any) {
		out = append(out, [2]string{name, fmt.Sprintf(format, args...)})
	}
	rows := data.Thousands(p.Rows.Len()) + " to be trained"
	if n := r.Rows - p.Rows.Len(); n > 0 {
		rows += fmt.Sprintf(", %s set aside for evaluation", data.Thousands(n))
	}
	if p.Eval != nil {
		rows += fmt.Sprintf(", %s for evaluation", data.Thousands(p.Eval.Rows))
	}
	add("rows", "%s", rows)
	add("tokens", "%s, of them %s (%.1f%%) in the loss", data.Thousands(r.Tokens), data.Thousands(r.Labelled), 100*p.share())
	q := p.quantiles()
	add("length", "half of the rows have up to %s tokens, 90%% %s, 99%% %s, the longest %s", data.Thousands(q[0].Tokens), data.Thousands(q[1].Tokens), data.Thousands(q[2].Tokens), data.Thousands(q[3].Tokens))
	e := p.ends()
	of := func(n int) string { return plural(n, "row", "rows") }
	if e.Looked < p.Rows.Len() {
		of = func(n int) string {
			return fmt.Sprintf("%s of %s rows looked at", data.Thousands(n), data.Thousands(e.Looked))
		}
	}
	switch {
	case e.BOS == "":
		add("begin with", "%s; the tokenizer has no BOS token", p.tally(e.First, e.Looked, of))
	default:
		var s []string
		for _, n := range []struct {
			n    int
			what string
		}{{e.Once, "once"}, {e.More, "twice"}, {e.None, "not at all"}} {
			if n.n > 0 {
				s = append(s, n.what+" in "+of(n.n))
			}
		}
		add("begin with", "the BOS token %s %s", e.BOS, strings.Join(s, ", "))
	}
	add("trained last", "%s", p.tally(e.Last, e.Looked, of))
	return out
}

// tally names the tokens that a twentieth of the rows have or more, most frequent first; of the others only their number.
func (p *Proof) tally(rows map[int32]int, looked int, of func(int) string) string {
	ids := slices.SortedFunc(maps.Keys(rows), func(a, b int32) int { return cmp.Or(rows[b]-rows[a], int(a-b)) })
	var s []string
	add := func(name string, n int) {
		if n > 0 {
			s = append(s, name+" in "+of(n))
		}
	}
	other := 0
	for _, id := range ids {
		switch n := rows[id]; {
		case id < 0:
		case 20*n < looked:
			other += n
		default:
			add(p.name(id), n)
		}
	}
	add("another token", other)
	add("none", rows[-1])
	return strings.Join(s, ", ")
}

// name is a token for a sentence.
func (p *Proof) name(id int32) string {
	if name, _ := p.Tokenizer.Token(id); p.Tokenizer.IsSpecial(id) {
		return name
	}
	return fmt.Sprintf("%q", p.Tokenizer.Bytes(id))
}

func (p *Proof) histogram(t *text) {
	bins := p.bins()
	if len(bins) == 0 {
		return
	}
	most, label, number := 0, 0, 0
	for _, b := range bins {
		most, label, number = max(most, b.Rows), max(label, utf8.RuneCountInString(b.label())), max(number, len(data.Thousands(b.Rows)))
	}
	t.print("\n%s  tokens a row has%s\n", t.paint("1", "lengths"), map[bool]string{true: " before max_length cuts it"}[p.Report.Cut.Rows > 0])
	shown := p.MaxLength == 0
	limit := func() {
		if shown {
			return
		}
		shown = true
		s := fmt.Sprintf("%*s ┄┄ max_length", label+2, data.Thousands(p.MaxLength))
		if n := p.longer(); n > 0 {
			s += fmt.Sprintf(": %s longer", plural(n, "row is", "rows are"))
		}
		t.print("%s\n", t.paint("33", s))
	}
	width := min(60, max(10, t.Width-label-number-8))
	for _, b := range bins {
		if p.MaxLength <= b.From {
			limit()
		}
		t.print("  %*s  %*s", label, b.label(), number, data.Thousands(b.Rows))
		if b.Rows > 0 {
			t.print(" %s", t.paint("36", bar(b.Rows, most, width)))
		}
		t.print("\n")
	}
	limit()
}

func (b Bin) label() string {
	if b.From == b.To {
		return data.Thousands(b.From)
	}
	return data.Thousands(b.From) + "–" + data.Thousands(b.To)
}

// bar is n of most as blocks, in eighths of a column, rounded up.
func bar(n, most, width int) string {
	eighths := (n*width*8 + most - 1) / max(1, most)
	s := strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		s += string('█' + rune(8-part)) // ▉ to ▏
	}
	return s
}

var stateColour = map[data.State]string{data.Passed: "32", data.Allowed: "33", data.Refused: "31;1", data.Counted: "36"}

func (p *Proof) checks(t *text) {
	verdict := t.paint("32", "fit to be trained")
	if p.Refused {
		verdict = t.paint("31;1", "training is refused")
	}
	t.print("\n%s   %s\n", t.paint("1", "checks"), verdict)
	name := 0
	for _, c := range p.Checks {
		name = max(name, len(c.Name))
	}
	for _, c := range p.Checks {
		t.print("  %s  %-*s  %s\n", t.paint(stateColour[c.State], fmt.Sprintf("%-7s", c.State)), name, c.Name, Safe(c.Finding))
		indent := strings.Repeat(" ", name+13)
		for i, place := range c.Places {
			const most = 3
			if i == most && c.Rows > most {
				t.print("%s%s\n", indent, t.paint(dim, fmt.Sprintf("and %s more", data.Thousands(c.Rows-most))))
				break
			}
			t.print("%s%s\n", indent, t.paint(dim, Safe(place)))
		}
		if c.State == data.Refused {
			t.print("%s%s\n", indent, Safe(c.Advice))
		}
	}
}

func (p *Proof) row(t *text, i int) {
	r := p.Row(i)
	t.print("\n%s  %s  %s, %s in the loss", t.paint("1", fmt.Sprintf("row %s", data.Thousands(r.Number))), Safe(r.Where), plural(r.Tokens, "token", "tokens"), data.Thousands(r.Labelled))
	for _, c := range r.Checks {
		t.print("  %s", t.paint("33", c))
	}
	t.print("\n")
	most := longest
	if t.All {
		most = 0
	}
	head, tail, tokens, labelled := clip(r.spans, most)
	t.spans(head)
	if tokens > 0 {
		t.print("  %s\n", t.paint("33", fmt.Sprintf("… %s tokens, %s of them in the loss; --row %d shows all …", data.Thousands(tokens), data.Thousands(labelled), r.Number)))
		t.spans(tail)
	}
	if r.AtLimit {
		t.print("  %s\n", t.paint("33", p.scissors(&r)))
	}
	if len(r.Words) > 0 {
		t.print("  %s\n", t.paint("33", "not the special tokens, but text that spells them: "+Safe(strings.Join(r.Words, " "))))
	}
}

// scissors says what is known of a row that ends at max_length.
func (p *Proof) scissors(r *Row) string {
	s := fmt.Sprintf("✂ max_length %s: ", data.Thousands(p.MaxLength))
	switch {
	case r.Cut == nil:
		return s + "the rest is cut off, unless the row just fits"
	case *r.Cut:
		return s + "the rest is cut off"
	}
	return s + "the row just fits"
}

// spans writes tokens one after the other, or with the ids below them.
func (t *text) spans(spans []Span) {
	if t.IDs {
		t.cells(spans)
		return
	}
	const indent = "  "
	t.print(indent)
	in := false
	all := Parts(spans, false)
	for i, s := range spans {
		if !t.Colour && s.Trained != in {
			t.print("%s", map[bool]string{true: "⟦", false: "⟧"}[s.Trained])
		}
		in = s.Trained
		for _, part := range all[i] {
			lines := strings.Split(part.Text, "\n")
			for j, line := range lines {
				if j > 0 {
					t.print("\n%s", indent)
				}
				t.print("%s", t.paint(s.code(part.Sign), line))
			}
		}
	}
	if in && !t.Colour {
		t.print("⟧")
	}
	t.print("\n")
}

func (s *Span) code(sign bool) string {
	switch {
	case s.Trained && s.Special:
		return trainedSpecial
	case s.Trained:
		return trained
	case s.Special:
		return special
	case sign:
		return dim
	}
	return ""
}

// cells writes each token with its ids below it, as many in a line as fit.
func (t *text) cells(spans []Span) {
	var above, below strings.Builder
	used := 0
	flush := func() {
		if used > 0 {
			t.print("  %s\n  %s\n", strings.TrimRight(above.String(), " "), t.paint(dim, strings.TrimRight(below.String(), " ")))
		}
		above.Reset()
		below.Reset()
		used = 0
	}
	all := Parts(spans, true)
	for i, s := range spans {
		ids := strings.ReplaceAll(strings.Trim(fmt.Sprint(s.IDs), "[]"), " ", "+")
		var plain, shown string
		for _, part := range all[i] {
			plain += part.Text
			shown += t.paint(s.code(part.Sign), part.Text)
		}
		if s.Trained && !t.Colour {
			plain = "⟦" + plain + "⟧"
			shown = plain
		}
		wide := columns.StringWidth(plain)
		cell := max(wide, len(ids)) + 1
		if used > 0 && used+cell+2 > t.Width {
			flush()
		}
		above.WriteString(shown + strings.Repeat(" ", cell-wide))
		below.WriteString(ids + strings.Repeat(" ", cell-len(ids)))
		used += cell
		if strings.HasSuffix(s.Text, "\n") {
			flush()
		}
	}
	flush()
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return data.Thousands(n) + " " + more
}
