package train

import (
	"fmt"
	"strings"
	"testing"

	"cria/internal/data"
	"cria/internal/llama"
	"cria/internal/recipe"
)

// What is refused, what a recipe allows by name or by share, and what is only counted.
func TestChecks(t *testing.T) {
	tally := func(n int) data.Tally { return data.Tally{Rows: n, Places: []data.Place{{Line: 3, Row: 2}}} }
	for _, c := range []struct {
		overrides string
		change    func(*Data)
		states    string // those other than passed, with names
		errors    []string
	}{
		{"", func(*Data) {}, "", nil},
		{"", func(d *Data) { d.Report.Unlabelled = tally(2) }, "unlabelled_rows refused",
			[]string{"2 of 100 rows have no token that is trained", "the first at rows.json:3 (row 2)", "allow: [unlabelled_rows]"}},
		{"allow=[unlabelled_rows]", func(d *Data) { d.Report.Unlabelled = tally(2) }, "unlabelled_rows allowed", nil},
		{"", func(d *Data) { d.Report.Cut, d.Report.UntrainedEnd = tally(3), tally(4) }, "cut_rows refused, untrained_end refused", []string{"max_cut_share", "4 of 100"}},
		{"max_cut_share=0.03", func(d *Data) { d.Report.Cut, d.Report.UntrainedEnd = tally(3), tally(3) }, "cut_rows allowed", nil},
		{"max_cut_share=0.03", func(d *Data) { d.Report.Cut, d.Report.UntrainedEnd, d.Report.OpenEnd = tally(3), tally(4), tally(1) }, "cut_rows allowed, untrained_end refused",
			[]string{"1 of 100 rows do not train an end of turn"}},
		{"max_cut_share=0.02", func(d *Data) { d.Report.Cut, d.Report.UntrainedEnd = tally(3), tally(3) }, "cut_rows refused, untrained_end refused", []string{"cut_rows"}},
		{"", func(d *Data) {
			d.Report.DoubleBOS, d.Report.Blank, d.Report.Duplicate, d.Report.Dropped = tally(1), tally(2), tally(3), tally(4)
		},
			"double_bos refused, dropped counted, blank counted, duplicate counted", []string{"two BOS tokens", "allow: [double_bos]"}},
		{"", func(d *Data) { d.Foreign = []string{"<|eot_id|>"} }, "template_mismatch refused", []string{"template: <|eot_id|>", "allow: [template_mismatch]"}},
		{"allow=[template_mismatch]", func(d *Data) { d.Foreign = []string{"<|eot_id|>"} }, "template_mismatch allowed", nil},
		{"", func(d *Data) { d.Report.Labelled = 0 }, "nothing_trained refused", []string{"nothing to learn", "max_length"}},
		{"", func(d *Data) { d.Report.Kept = 65 }, "context_window refused", []string{"has 65 tokens", "holds 64"}},
		{"", func(d *Data) { e := d.Report; e.Cut = tally(1); d.EvalReport = &e }, "cut_rows refused", []string{"1 of 100"}},
	} {
		r, err := recipe.Load("", append([]string{"model=m", "dataset=d"}, strings.Fields(strings.ReplaceAll(c.overrides, ", ", ","))...))
		if err != nil {
			t.Fatal(err)
		}
		d := &Data{Recipe: r, Config: &llama.Config{MaxPositionEmbeddings: 64},
			Report: data.Report{Files: []data.File{{Path: "rows.json"}}, Examples: 100, Rows: 100, Tokens: 1000, Labelled: 500, Longest: 80, Kept: 64}}
		c.change(d)
		var states []string
		for _, k := range d.Checks() {
			if k.State != data.Passed {
				states = append(states, fmt.Sprintf("%s %s", k.Name, k.State))
			}
			if (k.State == data.Refused) != (k.Advice != "" && k.State != data.Allowed) || k.Finding == "" {
				t.Errorf("%+v", k)
			}
		}
		if got := strings.Join(states, ", "); got != c.states {
			t.Errorf("%s: %s, want %s", c.overrides, got, c.states)
		}
		err = d.Check()
		if (err == nil) != (c.errors == nil) {
			t.Errorf("%s %s: error %v", c.overrides, c.states, err)
		}
		for _, want := range c.errors {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v lacks %q", err, want)
			}
		}
	}
}
