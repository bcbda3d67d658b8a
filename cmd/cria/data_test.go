package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cria/internal/data"
	"cria/internal/proof"
)

// The proof says what would be trained, and its exit code whether it would be; it leaves nothing behind.
func TestData(t *testing.T) {
	t.Setenv("CRIA_CACHE", t.TempDir()) // tokenised rows
	dir := t.TempDir()
	recipe := job(t, dir, "")
	before := tree(t, dir)
	out := cria(t, "data", recipe, "--rows=2").ok(t).out
	for _, want := range []string{"rows.json: 5 rows, alpaca (instruction, output, input)\n", "rows         5 to be trained\n", "the BOS token <|begin_of_text|> once in 5 rows\n",
		"trained last <|eot_id|> in 5 rows\n", "checks   fit to be trained\n", "  passed   untrained_end ", "\nrow 1  ", "rows.json:2 (row 1)  ", "  ⟦起来吧。<|eot_id|>⟧\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("standard output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\nrow 3") {
		t.Errorf("more rows than asked for:\n%s", out)
	}

	// A refusal comes after the whole proof, with the exit code of cria train.
	refused := cria(t, "data", recipe, "max_length=29", "--row", "rows.json:3", "--row=1")
	for _, want := range []string{"training is refused", "  refused  cut_rows ", "\nrow 2  ", "✂ max_length 29: the rest is cut off\n", "\nrow 1  "} {
		if refused.code == exitUsage && !strings.Contains(refused.out, want) {
			t.Errorf("standard output lacks %q:\n%s", want, refused.out)
		}
	}
	trained := cria(t, "train", recipe, "max_length=29")
	if refused.code != exitUsage || trained.code != exitUsage || !strings.HasSuffix(trained.err, refused.err) || !strings.Contains(refused.err, "allow: [cut_rows]") {
		t.Errorf("cria data says %q (%d), cria train %q (%d)", refused.err, refused.code, trained.err, trained.code)
	}
	cria(t, "data", recipe, "max_length=29", "allow=[cut_rows, unlabelled_rows, untrained_end]").ok(t)

	var d proof.Document
	cria(t, "data", recipe, "--json", "--row", "5").parse(t, &d)
	if r := d.Rows[0]; len(d.Rows) != 1 || r.Number != 5 || !strings.HasSuffix(r.Where, "rows.json:6 (row 5)") || len(r.IDs) != r.Tokens || len(r.Labels) != r.Tokens || len(r.Pieces) != r.Tokens ||
		r.Pieces[0] != "<|begin_of_text|>" || d.Refused || d.Report.Rows != 5 || !slices.ContainsFunc(d.Checks, func(c data.Check) bool { return c.Name == "double_bos" && c.State == data.Passed }) {
		t.Errorf("%+v", d)
	}
	if text := cria(t, "data", recipe, "--ids", "--rows", "1").ok(t).out; !strings.Contains(text, "<|begin_of_text|> <|start_header_id|>") || !strings.Contains(text, "\n  2042 ") {
		t.Errorf("no ids:\n%s", text)
	}
	sameTree(t, dir, before)

	html := filepath.Join(dir, "proof.html")
	if r := cria(t, "data", recipe, "--html", html).ok(t); r.err != "the page is in "+html+"\n" {
		t.Errorf("standard error: %q", r.err)
	}
	page, err := os.ReadFile(html)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(page), "<article"); n != 5 {
		t.Errorf("%d rows on the page", n)
	}
}

func TestDataRefuses(t *testing.T) {
	t.Setenv("CRIA_CACHE", t.TempDir())
	dir := t.TempDir()
	recipe := job(t, dir, "")
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{recipe, "--row", "6"}, exitUsage, []string{"--row 6", "from 1 to 5"}},
		{[]string{recipe, "--row", "0"}, exitUsage, []string{"from 1 to 5"}},
		{[]string{recipe, "--row", "rows.json:8"}, exitUsage, []string{"rows.json:8", "FILE:LINE"}},
		{[]string{recipe, "--row"}, exitUsage, []string{"--row needs a value"}},
		{[]string{recipe, "--rows", "-1"}, exitUsage, []string{"--rows", "-1"}},
		{[]string{recipe, "--html", ""}, exitUsage, []string{"--html needs"}},
		{[]string{recipe, "--html", recipe}, exitUsage, []string{"not a page"}},
		{[]string{recipe, "--ids=yes"}, exitUsage, []string{"--ids takes no value"}},
		{[]string{recipe, "--html", filepath.Join(dir, "none", "page.html")}, exitError, []string{"none"}},
		{[]string{recipe, "learning_rte=1"}, exitUsage, []string{"learning_rate"}},
		{[]string{recipe, "dataset=" + filepath.Join(dir, "none.json")}, exitError, []string{"none.json"}},
	} {
		cria(t, append([]string{"data"}, c.args...)...).fails(t, c.code, c.want...)
	}
	if r := cria(t, "data", "--help").ok(t); !strings.Contains(r.out, "--html-rows N") {
		t.Errorf("%s", r.out)
	}
}
