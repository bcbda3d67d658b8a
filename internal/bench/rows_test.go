package bench

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cria/internal/data"
	"cria/internal/demomodel"
	"cria/internal/pack"
	"cria/internal/recipe"
	"cria/internal/tokenizer"
)

var update = flag.Bool("update", false, "write tutorial_rows.json anew")

// The stored lengths are those of the tutorial's rows.
func TestTutorialRows(t *testing.T) {
	path, err := demomodel.Llama3Tokenizer(context.Background(), func(s string) { t.Log(s) })
	if err != nil {
		if os.Getenv("CRIA_TEST_MODELS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	tok, err := tokenizer.Load(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load("../../examples/huanhuan/llama3_1.yaml", []string{"dataset=../../examples/huanhuan/huanhuan.json"})
	if err != nil {
		t.Fatal(err)
	}
	eot, _ := tok.ID("<|eot_id|>")
	tpl, err := data.ParseTemplate(r.PromptTemplate, r.ResponseTemplate)
	if err != nil {
		t.Fatal(err)
	}
	set, err := data.Read(r.Dataset...)
	if err != nil {
		t.Fatal(err)
	}
	rows, _, err := data.Encode(context.Background(), set.Examples, tpl.RowFunc(tok, eot), data.Options{MaxLength: r.MaxLength, TooLong: r.TooLong, End: []int32{eot}})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	var line []string
	common := rows[0].IDs
	for i, row := range data.Order(len(rows), r.Seed, 0)[:640] {
		x := rows[row].Row
		line = append(line, fmt.Sprintf("[%d, %d]", len(x.IDs)-x.Labelled(), x.Labelled()))
		if i%16 == 15 {
			lines, line = append(lines, strings.Join(line, ", ")), nil
		}
		for k := range common {
			if k >= len(x.IDs) || x.IDs[k] != common[k] {
				common = common[:k]
				break
			}
		}
	}
	want := "[\n " + strings.Join(lines, ",\n ") + "\n]\n"
	if *update {
		if err := os.WriteFile("tutorial_rows.json", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if string(tutorialRows) != want && !*update {
		t.Error("tutorial_rows.json is not what the dataset gives; go test -update")
	}
	if len(common) != tutorialPrefix {
		t.Errorf("the rows begin with %d common tokens, not %d", len(common), tutorialPrefix)
	}
}

// Rows come in the order of the file, share what they shall, and differ after that.
func TestRows(t *testing.T) {
	const n = 48
	inOrder := func(r Rows) []pack.Row {
		rows, err := r.make(n, 1000, 42)
		if err != nil {
			t.Fatal(err)
		}
		var out []pack.Row
		for _, i := range data.Order(n, 42, 0) {
			out = append(out, rows[i])
		}
		return out
	}
	var lengths [][2]int
	if err := json.Unmarshal(tutorialRows, &lengths); err != nil {
		t.Fatal(err)
	}
	for i, r := range inOrder(Rows{}) {
		if got := [2]int{len(r.IDs) - r.Labelled(), r.Labelled()}; got != lengths[i] {
			t.Errorf("row %d has lengths %v, not %v", i, got, lengths[i])
		}
	}
	rows := inOrder(Rows{Number: 3, Length: 40, Prefix: 20})
	step := pack.NewStep([][]pack.Row{rows[:3]}, pack.TokenMean, 1, true)
	if want := 20 + 3*(40-20-1); len(step.IDs) != want { // a row's last token is only predicted
		t.Errorf("%d tokens to compute, want %d", len(step.IDs), want)
	}
	if r := rows[0]; len(r.IDs) != 40 || r.Labelled() != 5 || !slices.Equal(r.IDs[:20], rows[1].IDs[:20]) {
		t.Errorf("row %+v", r)
	}
}
