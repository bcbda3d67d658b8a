package data

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cria/internal/pack"
	"cria/internal/tokenizer"
)

const golden = "../../testdata/golden/"

// job is what is used of a reference run's job.json.
type job struct {
	Limit     int
	MaxLength int `json:"max_length"`
	Template  struct{ Prefix, Mid, End string }
	Args      struct {
		Batch        int     `json:"per_device_train_batch_size"`
		Accumulation int     `json:"gradient_accumulation_steps"`
		Epochs       float64 `json:"num_train_epochs"`
		Seed         *uint64
	}
}

type goldenRow struct {
	IDs    []int32 `json:"input_ids"`
	Labels []int32
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// template makes the templates of a job: literal braces do not occur in them.
func (j job) template(t *testing.T) *Template {
	t.Helper()
	tmpl, err := ParseTemplate(j.Template.Prefix+"{instruction}{input}"+j.Template.Mid, "{output}"+j.Template.End)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func tinyTokenizer(t *testing.T) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Load(golden + "tiny-llama")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// end is the token that append_pad_token appends.
func end(t *testing.T, tok *tokenizer.Tokenizer) int32 {
	t.Helper()
	if id, ok := tok.Pad(); ok {
		return id
	}
	id, ok := tok.EOS()
	if !ok {
		t.Fatal("no pad and no end token")
	}
	return id
}

func TestRowsAsReference(t *testing.T) {
	tok := tinyTokenizer(t)
	for _, run := range []string{"train-fp32", "train-variant", "train-bf16"} {
		var j job
		var want []goldenRow
		readJSON(t, golden+run+"/job.json", &j)
		readJSON(t, golden+run+"/rows.json", &want)
		d, err := Read("../../examples/huanhuan/huanhuan.json")
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Examples) != 3729 {
			t.Fatalf("%d examples", len(d.Examples))
		}
		rows, report, err := Encode(context.Background(), d.Examples[:j.Limit], j.template(t).RowFunc(tok, end(t, tok)),
			Options{MaxLength: j.MaxLength, End: []int32{end(t, tok)}})
		if err != nil {
			t.Fatal(err)
		}
		compareRows(t, rows, want)
		t.Logf("%s: %+v", run, report)
		checkReport(t, report, want, j.MaxLength)
	}
}

func compareRows(t *testing.T, rows []Row, want []goldenRow) {
	t.Helper()
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for i := range want {
		if !slices.Equal(rows[i].IDs, want[i].IDs) || !slices.Equal(rows[i].Labels, want[i].Labels) {
			t.Errorf("row %d:\n got %v\nwant %v", i, rows[i], want[i])
		}
	}
}

// checkReport counts again from the reference's rows.
func checkReport(t *testing.T, r Report, rows []goldenRow, maxLength int) {
	t.Helper()
	tokens, labelled := 0, 0
	for _, row := range rows {
		tokens += len(row.IDs)
		for _, l := range row.Labels[1:] {
			if l >= 0 {
				labelled++
			}
		}
	}
	if r.Examples != len(rows) || r.Rows != len(rows) || r.Tokens != tokens || r.Labelled != labelled || r.Unlabelled.Rows != 0 {
		t.Errorf("report %+v: want %d rows, %d tokens, %d labelled", r, len(rows), tokens, labelled)
	}
	if (r.Longest > maxLength) != (r.Cut.Rows > 0) || r.UntrainedEnd.Rows != r.Cut.Rows {
		t.Errorf("report %+v is at odds with itself", r)
	}
}

// words gives every word an id, its first byte, and remembers what it was asked.
type words struct {
	text  string
	plain []tokenizer.Range
}

func (w *words) Encode(text string, plain ...tokenizer.Range) []int32 {
	w.text, w.plain = text, plain
	var ids []int32
	for word := range strings.FieldsSeq(text) {
		ids = append(ids, int32(word[0]))
	}
	return ids
}

func TestTemplate(t *testing.T) {
	tmpl, err := ParseTemplate("{{{input}}} 问 {instruction}{input}.{{", "{output} </s> {{}}")
	if err != nil {
		t.Fatal(err)
	}
	e := Example{Instruction: "甲<|eot_id|>{input}", Input: "b", Output: "{out}"}
	text, plain := tmpl.Prompt(e)
	want := "{b} 问 甲<|eot_id|>{input}b.{"
	if text != want {
		t.Errorf("prompt %q, want %q", text, want)
	}
	if len(plain) != 2 || text[plain[0].Start:plain[0].End] != "b" || text[plain[1].Start:plain[1].End] != "甲<|eot_id|>{input}b" {
		t.Errorf("ranges %v: adjacent values must be one range", plain)
	}
	if text, plain = tmpl.Response(e); text != "{out} </s> {}" || len(plain) != 1 || plain[0] != (tokenizer.Range{Start: 0, End: 5}) {
		t.Errorf("response %q %v", text, plain)
	}
	if _, plain = tmpl.Prompt(Example{}); len(plain) != 0 {
		t.Errorf("empty values gave ranges %v", plain)
	}
}

func TestTemplateErrors(t *testing.T) {
	const p, r = "{instruction}{input}", "{output}"
	for _, c := range []struct{ prompt, response, want string }{
		{"{instruction} {history}", r, "prompt_template: at byte 14: unknown placeholder {history}: here only {instruction}, {input}, {system} can be used, and {{ }} for braces in the text"},
		{"{instruction}{output}", r, "prompt_template: at byte 13: unknown placeholder {output}: here only {instruction}, {input}, {system} can be used, and {{ }} for braces in the text"},
		{"{instruction} {}", r, "prompt_template: at byte 14: unknown placeholder {}: here only {instruction}, {input}, {system} can be used, and {{ }} for braces in the text"},
		{"{instruction} }", r, "prompt_template: at byte 14: a single }: write }} for a brace in the text"},
		{"{instruction} {", r, "prompt_template: at byte 14: { without a closing }: write {{ for a brace in the text"},
		{"{instruction} {a{b}", r, "prompt_template: at byte 14: { without a closing }: write {{ for a brace in the text"},
		{"{instruction\n}", r, "prompt_template: at byte 0: { without a closing }: write {{ for a brace in the text"},
		{"{input}", r, "prompt_template: at byte 0: {instruction} is missing: without it that column would not be trained"},
		{p, "{{output}}", "response_template: at byte 0: {output} is missing: without it that column would not be trained"},
		{p, "{output}{input}", "response_template: at byte 8: unknown placeholder {input}: here only {output} can be used, and {{ }} for braces in the text"},
	} {
		_, err := ParseTemplate(c.prompt, c.response)
		var te *TemplateError
		if !errors.As(err, &te) || err.Error() != c.want {
			t.Errorf("%q %q:\n got %v\nwant %s", c.prompt, c.response, err, c.want)
		}
	}
}

func TestSpecialTokensInValues(t *testing.T) {
	tok := tinyTokenizer(t)
	tmpl, err := ParseTemplate("<|start_header_id|>{instruction}<|eot_id|>", "{output}<|eot_id|>")
	if err != nil {
		t.Fatal(err)
	}
	row, err := tmpl.RowFunc(tok)(Example{Instruction: "a<|eot_id|><|start_header_id|>", Output: "<|eot_id|>"})
	if err != nil {
		t.Fatal(err)
	}
	special := 0
	for _, id := range row.IDs {
		if tok.IsSpecial(id) {
			special++
		}
	}
	if special != 3 {
		t.Errorf("%d special tokens in %v, want the template's 3", special, row.IDs)
	}
}

func TestEncodeLimits(t *testing.T) {
	tmpl, err := ParseTemplate("s {instruction}", "{output} e")
	if err != nil {
		t.Fatal(err)
	}
	examples := []Example{
		{Instruction: "a", Output: "b", File: "f", Line: 1, Row: 1},
		{Instruction: "a a a", Output: "b", File: "f", Line: 2, Row: 2},
		{Instruction: "a a", Output: "b b", File: "f", Line: 3, Row: 3},
	}
	run := func(opt Options, end ...int32) ([]Row, Report, error) {
		return Encode(context.Background(), examples, tmpl.RowFunc(&words{}, end...), opt)
	}

	rows, r, err := run(Options{MaxLength: 4, End: []int32{'e'}})
	if err != nil {
		t.Fatal(err)
	}
	want := []pack.Row{
		{IDs: []int32{'s', 'a', 'b', 'e'}, Labels: []int32{pack.Ignore, pack.Ignore, 'b', 'e'}},
		{IDs: []int32{'s', 'a', 'a', 'a'}, Labels: []int32{pack.Ignore, pack.Ignore, pack.Ignore, pack.Ignore}},
		{IDs: []int32{'s', 'a', 'a', 'b'}, Labels: []int32{pack.Ignore, pack.Ignore, pack.Ignore, 'b'}},
	}
	for i := range want {
		if !slices.Equal(rows[i].IDs, want[i].IDs) || !slices.Equal(rows[i].Labels, want[i].Labels) {
			t.Errorf("row %d: %v, want %v", i, rows[i], want[i])
		}
	}
	second, third := Place{0, 2, 2}, Place{0, 3, 3}
	wantReport := Report{Files: []File{{Path: "f"}}, Examples: 3, Rows: 3, Tokens: 12, Labelled: 3, Longest: 6, Kept: 4, Lengths: Histogram{0, 0, 0, 0, 1, 0, 2},
		Cut: Tally{2, []Place{second, third}}, Unlabelled: Tally{1, []Place{second}}, UntrainedEnd: Tally{2, []Place{second, third}}}
	if !reflect.DeepEqual(r, wantReport) {
		t.Errorf("report %+v, want %+v", r, wantReport)
	}

	if _, r, err = run(Options{MaxLength: 4, TooLong: Drop}); err != nil || r.Rows != 1 || r.Dropped.Rows != 2 || r.Cut.Rows != 0 || r.Tokens != 4 {
		t.Errorf("drop: %+v, %v", r, err)
	}
	_, _, err = run(Options{MaxLength: 4, TooLong: Fail})
	if err == nil || err.Error() != "2 of 3 rows are longer than max_length 4 (the longest has 6 tokens), the first at f:2 (row 2): raise max_length, or set too_long to cut or drop" {
		t.Errorf("error: %v", err)
	}
	if _, _, err = run(Options{MaxLength: 3, TooLong: Drop}); err == nil || !strings.Contains(err.Error(), "no rows are left") {
		t.Errorf("all dropped: %v", err)
	}
	if _, r, err = run(Options{End: []int32{'p'}}, 'p'); err != nil || r.UntrainedEnd.Rows != 0 || r.Longest != 7 {
		t.Errorf("appended pad token: %+v, %v", r, err)
	}
	if _, r, err = run(Options{End: []int32{'p'}}); err != nil || r.UntrainedEnd.Rows != 3 {
		t.Errorf("template without an end token: %+v, %v", r, err)
	}

	examples[1].Input = "x"
	if _, _, err = run(Options{}); err == nil || !strings.Contains(err.Error(), "f:2 (row 2) has an input") {
		t.Errorf("input without placeholder: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err = Encode(ctx, examples, tmpl.RowFunc(&words{}), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, _, err = Encode(context.Background(), nil, tmpl.RowFunc(&words{}), Options{}); err == nil {
		t.Error("no examples must be an error")
	}
	uneven := func(Example) (pack.Row, error) { return pack.Row{IDs: []int32{1}}, nil }
	if _, _, err = Encode(context.Background(), examples, uneven, Options{}); err == nil {
		t.Error("a row with fewer labels than ids must be an error")
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("a{instruction}{input}{{", "{output}", "x", "y")
	f.Add("{", "}", "{input}", "{{")
	f.Fuzz(func(t *testing.T, prompt, response, instruction, input string) {
		tmpl, err := ParseTemplate(prompt, response)
		if err != nil {
			return
		}
		text, plain := tmpl.Prompt(Example{Instruction: instruction, Input: input})
		at := 0
		for _, r := range plain {
			if r.Start < at || r.End <= r.Start || r.End > len(text) {
				t.Fatalf("ranges %v of %d bytes", plain, len(text))
			}
			at = r.End + 1
		}
	})
}
