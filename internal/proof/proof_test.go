package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"cria/internal/data"
	"cria/internal/pack"
	"cria/internal/tokenizer"
)

//go:generate go test -update

var update = flag.Bool("update", false, "write testdata anew")

func tiny(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Load("../../testdata/golden/tiny-llama")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// placed are rows that come from a file.
type placed struct {
	data.InMemory
	where []string
}

func (p placed) Where(i int) string { return p.where[i] }

// dialogue is the row of a prompt and a reply, at most max tokens long.
func dialogue(tok *tokenizer.Tokenizer, prompt, reply string, max int) pack.Row {
	plain := func(s string) []int32 { return tok.Encode(s, tokenizer.Range{End: len(s)}) }
	ids := slices.Concat(tok.Encode("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"), plain(prompt),
		tok.Encode("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"))
	n := len(ids)
	ids = slices.Concat(ids, plain(reply), tok.Encode("<|eot_id|>"))
	labels := slices.Concat(slices.Repeat([]int32{pack.Ignore}, n), ids[n:])
	return pack.Row{IDs: ids[:min(max, len(ids))], Labels: labels[:min(max, len(ids))]}
}

// Words of hostile and difficult rows.
const (
	markup = `</pre></article><script>alert(1)</script><img src=x onerror="alert(2)">{{.}}` + "`'\"&amp;"
	escape = "\x1b]0;title\x07\x1b[2J\x1b[31mred\u009b32m\r\x00\x7f"
	bidi   = "user\u202etxt.exe\u2066\u2069\u200b\u00ad\ufeff\u2028\U000e0041"
	spaces = "  two  and\ttab \n line\u00a0x"
)

// example is a proof of four rows, some of them hostile, with every state of a check.
func example(t testing.TB) *Proof {
	t.Helper()
	tok := tiny(t)
	file := "da\x1bta\u202e<b>.jsonl"
	rows := placed{}
	report := &data.Report{Files: []data.File{{Path: file, Format: "alpaca", Columns: []string{"instruction", "output<i>"}, Ignored: []string{"\x1bid"}, Rows: 5}}, Examples: 5}
	for i, d := range [][2]string{{"娘娘。🙂", "起来吧。"}, {markup, escape}, {bidi, "<|eot_id|>" + spaces}, {"long", strings.Repeat("字", 122)}} {
		row := dialogue(tok, d[0], d[1], 120)
		rows.InMemory = append(rows.InMemory, row)
		rows.where = append(rows.where, report.Where(data.Place{Line: 10 * (i + 1), Row: i + 1}))
		report.Rows++
		report.Tokens += len(row.IDs)
		report.Labelled += row.Labelled()
		report.Lengths.Add(len(row.IDs))
	}
	report.Longest = 150
	report.Lengths.Add(150)
	report.Cut = data.Tally{Rows: 1, Places: []data.Place{{Line: 40, Row: 4}}}
	p := &Proof{Recipe: "dir/re<cipe>.yaml", Model: "./model", Report: report, Rows: rows, Tokenizer: tok, MaxLength: 120, Refused: true}
	p.Checks = []data.Check{{Name: "double_bos", State: data.Passed, Finding: "no row begins with two BOS tokens"},
		{Name: "cut_rows", State: data.Refused, Rows: 1, Finding: "1 of 5 rows are cut", Advice: "raise max_length \x1b[31m", Places: rows.where[3:]},
		{Name: "untrained_end", State: data.Allowed, Rows: 9, Finding: "9 of 5 rows <do> not end", Places: append(slices.Clone(rows.where), "elsewhere:1 (row 1)")},
		{Name: "duplicate", State: data.Counted, Rows: 1, Finding: "1 of 5 rows are the same", Places: []string{"elsewhere:2 (row 2)"}, Eval: true}}
	return p
}

// The text is what testdata has, without a byte that a terminal would obey.
func TestText(t *testing.T) {
	p := example(t)
	for name, style := range map[string]Style{"text": {}, "colour": {Colour: true, Width: 60}, "ids": {IDs: true, Width: 70}} {
		var b bytes.Buffer
		if err := p.WriteText(&b, []int{0, 1, 2, 3}, style); err != nil {
			t.Fatal(err)
		}
		got := b.String()
		plain := got
		if style.Colour {
			plain = regexp.MustCompile("\x1b\\[[0-9;]+m").ReplaceAllString(got, "")
		}
		if bad := strings.IndexFunc(plain, func(r rune) bool { return r != '\n' && hidden(r) }); bad >= 0 {
			t.Errorf("%s: %q", name, plain[bad:min(len(plain), bad+20)])
		}
		if !utf8.ValidString(got) {
			t.Errorf("%s: not UTF-8", name)
		}
		path := "testdata/" + name + ".txt"
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s has changed; look at it, then go generate ./internal/proof:\n%s", path, got)
		}
	}
}

// The page is well formed, made of nothing but harmless elements, and its policy forbids all but its own style.
func TestHTML(t *testing.T) {
	p := example(t)
	var b bytes.Buffer
	if err := p.WriteHTML(&b, []int{0, 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	elements := map[string]string{ // by name, their attributes
		"html": "lang", "head": "", "meta": "charset http-equiv content name", "title": "", "style": "", "body": "", "main": "", "header": "", "section": "class", "footer": "",
		"input": "type id name checked aria-label", "h1": "", "h2": "", "h3": "", "small": "", "p": "class", "div": "class", "span": "class", "b": "class data-i data-p", "i": "", "dl": "class",
		"dt": "", "dd": "", "svg": "viewBox role aria-label", "line": "class x1 x2 y1 y2", "g": "", "rect": "class x y width height rx", "text": "class x y text-anchor", "code": "",
		"details": "", "summary": "", "ul": "", "li": "class", "label": "for class", "article": "class", "pre": "",
	}
	var rows []string // the text of each pre
	var style, policy string
	var open []string
	d := xml.NewDecoder(strings.NewReader(strings.Replace(text, "<!DOCTYPE html>", "", 1)))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("line %d: %v", lineOf(d), err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			allowed, ok := elements[e.Name.Local]
			if !ok {
				t.Errorf("element %s", e.Name.Local)
			}
			for _, a := range e.Attr {
				if !slices.Contains(strings.Fields(allowed), a.Name.Local) {
					t.Errorf("attribute %s of %s", a.Name.Local, e.Name.Local)
				}
				if e.Name.Local == "meta" && strings.HasPrefix(a.Value, "default-src") {
					policy = a.Value
				}
				if strings.ContainsFunc(a.Value, hidden) {
					t.Errorf("attribute %s holds %q", a.Name.Local, a.Value)
				}
			}
			if open = append(open, e.Name.Local); e.Name.Local == "pre" {
				rows = append(rows, "")
			}
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != e.Name.Local {
				t.Fatalf("</%s> within %v", e.Name.Local, open)
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if slices.Contains(open, "pre") {
				rows[len(rows)-1] += string(e)
			}
			if slices.Contains(open, "style") {
				style += string(e)
			}
			if strings.ContainsFunc(string(e), func(r rune) bool { return r != '\n' && r != '\u00a0' && hidden(r) }) {
				t.Errorf("text %q", e)
			}
		}
	}
	hash := sha256.Sum256([]byte(style))
	if want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'"; policy != want {
		t.Errorf("policy %q, not %q", policy, want)
	}
	if strings.Contains(strings.ToLower(style), "url(") || strings.Contains(text, "<script") || strings.Contains(text, "ZgotmplZ") {
		t.Error("the page fetches or runs something, or the template found a hole")
	}
	for i := range 4 {
		var want strings.Builder
		for _, parts := range Parts(Spans(p.Tokenizer, p.Rows.Row(i)), false) {
			for _, part := range parts {
				want.WriteString(part.Text)
			}
		}
		if rows[i] != want.String() {
			t.Errorf("row %d: %q, not %q", i, rows[i], want.String())
		}
	}
	for _, want := range []string{`class="box row c1 c2"`, "max_length 120: 1 row is longer", "the rest is cut off", "training is refused", "What re&lt;cipe&gt;.yaml trains",
		"not the special tokens, but text that spells them: <code>&lt;|eot_id|&gt;</code>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func lineOf(d *xml.Decoder) int { line, _ := d.InputPos(); return line }

func TestDocument(t *testing.T) {
	p := example(t)
	text, err := json.Marshal(p.Document([]int{3}))
	if err != nil {
		t.Fatal(err)
	}
	var got Document
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	r := got.Rows[0]
	if row := p.Rows.Row(3); r.Number != 4 || r.Where != p.Rows.Where(3) || !slices.Equal(r.IDs, row.IDs) || !slices.Equal(r.Labels, row.Labels) || len(r.Pieces) != r.Tokens || r.Cut == nil || !*r.Cut ||
		r.Pieces[0] != "<|begin_of_text|>" || !slices.Equal(r.Checks, []string{"cut_rows", "untrained_end"}) {
		t.Errorf("%+v", r)
	}
	if e := got.Ends; e.Once != 4 || e.Looked != 4 || got.Quantiles[3].Tokens != 150 || !got.Refused || got.Checks[1].State != data.Refused {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(string(text), `"rows":[{"row":4`) {
		t.Errorf("%s", text)
	}
}

// Whatever the ids and labels, spans are the row again: its ids, its loss, its text.
func FuzzSpans(f *testing.F) {
	tok := tiny(f)
	f.Add([]byte("ab"), uint64(1))
	f.Add([]byte("娘娘。\n\xe5\xa8 \xff🙂"), uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		row := pack.Row{IDs: tok.Encode("<|begin_of_text|>" + string(text))} // a first token is never in the loss
		for i := range row.IDs {
			switch r.IntN(12) {
			case 0:
				if i == 0 {
					break
				}
				row.IDs[i] = int32(r.IntN(tok.VocabSize() + 3))
			case 1:
				row.IDs[i], _ = tok.ID("<|eot_id|>")
			}
			row.Labels = append(row.Labels, row.IDs[i])
			if seed%3 == 0 && r.IntN(3) > 0 || seed%3 == 1 && i < len(row.IDs)/2 {
				row.Labels[i] = pack.Ignore
			}
		}
		var ids []int32
		trained := 0
		var shown strings.Builder
		spans := Spans(tok, row)
		for _, s := range spans {
			ids = append(ids, s.IDs...)
			if s.Trained {
				trained += len(s.IDs)
			}
			shown.WriteString(s.Text)
			if !utf8.ValidString(s.Text) || len(s.IDs) == 0 || s.Special && len(s.IDs) > 1 {
				t.Errorf("%+v", s)
			}
		}
		if !slices.Equal(ids, row.IDs) || trained != row.Labelled() {
			t.Errorf("ids %v, %d in the loss; the row has %v, %d", ids, trained, row.IDs, row.Labelled())
		}
		if want := tok.Decode(row.IDs, false); seed%3 == 2 && !strings.Contains(want, "\ufffd") && !strings.Contains(shown.String(), "<no token") && shown.String() != want {
			t.Errorf("%q, not %q", shown.String(), want)
		}
		for _, all := range []bool{false, true} {
			for i, parts := range Parts(spans, all) {
				for _, p := range parts {
					if strings.ContainsFunc(p.Text, func(r rune) bool { return r == '\n' && all || r != '\n' && hidden(r) }) {
						t.Errorf("span %d: %q", i, p.Text)
					}
				}
			}
		}
	})
}

func TestParts(t *testing.T) {
	span := func(s string) Span { return Span{IDs: []int32{1}, Text: s} }
	special := Span{IDs: []int32{2}, Text: "<|x|>", Special: true}
	for _, c := range []struct {
		spans []Span
		all   bool
		want  string // spans apart by |, signs in braces
	}{
		{[]Span{span("a b")}, false, "a b"},
		{[]Span{span("a b")}, true, "a{·}b"},
		{[]Span{span("a"), span(" b"), span(" ")}, false, "a| b|{·}"},
		{[]Span{span(" a"), special, span(" b")}, false, "{·}a|<|x|>|{·}b"},
		{[]Span{span("a  b")}, false, "a{··}b"},
		{[]Span{span("a \n"), span("\n b\t")}, false, "a{·⏎}\n|{⏎}\n{·}b{⇥}"},
		{[]Span{span("a\n")}, true, "a{⏎}"},
		{[]Span{span("a\u3000b\u3000")}, false, "a\u3000b{\\u3000}"},
		{[]Span{span("\x1b[31m\u202e\u200b\u00a0")}, false, "{\\u001b}[31m{\\u202e\\u200b\\u00a0}"},
		{[]Span{span("👩\u200d👧")}, true, "👩\u200d👧"},
		{[]Span{span("⏎·")}, false, "⏎·"}, // of the data itself: no signs
	} {
		var got []string
		for _, parts := range Parts(c.spans, c.all) {
			s := ""
			for _, p := range parts {
				if p.Sign {
					p.Text = "{" + p.Text + "}"
				}
				s += p.Text
			}
			got = append(got, s)
		}
		if s := strings.Join(got, "|"); s != c.want {
			t.Errorf("%v: %q, not %q", c.spans, s, c.want)
		}
	}
}

// Bins follow one another without holes, hold every row once, and are few.
func TestBins(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		report := &data.Report{}
		lengths := make([]int, 1+r.IntN(200))
		top := 1 + r.IntN(1<<r.IntN(20))
		for i := range lengths {
			lengths[i] = r.IntN(top)
			if r.IntN(100) == 0 {
				lengths[i] *= 50
			}
			report.Lengths.Add(lengths[i])
			report.Longest = max(report.Longest, lengths[i])
		}
		p := &Proof{Report: report}
		bins := p.bins()
		if len(bins) > 17 {
			t.Errorf("%d bins", len(bins))
		}
		for i, b := range bins {
			n := 0
			for _, l := range lengths {
				if l >= b.From && l <= b.To {
					n++
				}
			}
			if n != b.Rows || b.To < b.From || i > 0 && b.From != bins[i-1].To+1 {
				t.Errorf("bin %d of %v: %d rows", i, bins, n)
			}
		}
		total := 0
		for _, b := range bins {
			total += b.Rows
		}
		if total != len(lengths) {
			t.Errorf("%d rows of %d", total, len(lengths))
		}
	}
}

func TestFindAndNamed(t *testing.T) {
	p := example(t)
	rows := p.Rows.(placed)
	rows.where = []string{"a/x.json:2 (row 1)", "a/x.json:22 (row 2)", "b/x.json:2 (row 1)", "p.parquet (row 7)"}
	p.Rows = rows
	for place, want := range map[string]int{"a/x.json:22": 1, "x.json:22": 1, "b/x.json:2": 2, "x.json:2": 0, "p.parquet (row 7)": 3, "json:2": -1, "x.json": -1, "": -1} {
		got, err := p.Find(place)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%s: %d, %v", place, got, err)
		}
	}
	p.Checks = []data.Check{{Places: []string{"b/x.json:2 (row 1)", "gone:1 (row 1)"}}, {Places: []string{"a/x.json:2 (row 1)", "b/x.json:2 (row 1)"}}, {Places: []string{"p.parquet (row 7)"}, Eval: true}}
	if got := p.Named(); fmt.Sprint(got) != "[0 2]" {
		t.Errorf("%v", got)
	}
	for _, c := range []struct {
		n, k int
		want string
	}{{0, 5, "[]"}, {1, 5, "[0]"}, {3, 5, "[0 1 2]"}, {10, 4, "[0 3 6 9]"}, {10, 1, "[0]"}, {10, 0, "[]"}} {
		if got := fmt.Sprint(Spread(c.n, c.k)); got != c.want {
			t.Errorf("Spread(%d, %d) is %s, not %s", c.n, c.k, got, c.want)
		}
	}
}

// A long row is shown by its ends, unless all of it is asked for.
func TestLongRow(t *testing.T) {
	tok := tiny(t)
	p := &Proof{Report: &data.Report{}, Rows: data.InMemory{dialogue(tok, strings.Repeat("a b\n", 5000), "end", 1<<20)}, Tokenizer: tok}
	for _, all := range []bool{false, true} {
		var b bytes.Buffer
		if err := p.WriteText(&b, []int{0}, Style{All: all}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "--row 1 shows all") == all || strings.Contains(b.String(), "⟦end<|eot_id|>⟧") == false || all != (strings.Count(b.String(), "\n") > 5000) {
			t.Errorf("all %v: %d lines", all, strings.Count(b.String(), "\n"))
		}
	}
}
