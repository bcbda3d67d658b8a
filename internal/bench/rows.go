package bench

import (
	_ "embed"
	"encoding/json"
	"math/rand/v2"

	"cria/internal/data"
	"cria/internal/pack"
)

// tutorialRows are the first 640 rows of the tutorial's job (examples/huanhuan/llama3_1.yaml) in training order: tokens of
// the prompt, and tokens that are trained, in Llama 3.1's vocabulary. TestTutorialRows makes them from the dataset.
//
//go:embed tutorial_rows.json
var tutorialRows []byte

// tutorialPrefix is how many tokens all prompts of the tutorial begin with.
const tutorialPrefix = 47

// Rows says what rows a synthetic job has; Length 0 stands for the tutorial's lengths and prefix.
type Rows struct {
	Number int // of a step; 0: as the recipe says
	Length int // tokens of each; a quarter of what follows the prefix is trained
	Prefix int // tokens that all rows begin with
}

// tutorial reports whether the rows are the tutorial's.
func (r Rows) tutorial() bool { return r.Length == 0 }

// make returns n rows of random tokens, so placed that the training order of a data set of n rows gives them one after the
// other.
func (r Rows) make(n, vocab int, seed uint64) ([]pack.Row, error) {
	var lengths [][2]int
	prefix := r.Prefix
	if r.tutorial() {
		if err := json.Unmarshal(tutorialRows, &lengths); err != nil {
			return nil, err
		}
		prefix = tutorialPrefix
	} else {
		trained := max(1, (r.Length-prefix)/4)
		lengths = [][2]int{{r.Length - trained, trained}}
	}
	random := rand.New(rand.NewPCG(seed, 3))
	draw := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = random.Int32N(int32(vocab))
		}
		return ids
	}
	shared := draw(prefix)
	rows := make([]pack.Row, n)
	for i, place := range data.Order(n, seed, 0) {
		prompt, trained := lengths[i%len(lengths)][0], lengths[i%len(lengths)][1]
		ids := append(append(make([]int32, 0, prompt+trained), shared[:min(prefix, prompt)]...), draw(prompt+trained-min(prefix, prompt))...)
		labels := make([]int32, len(ids))
		for k := range labels {
			if labels[k] = ids[k]; k < prompt {
				labels[k] = pack.Ignore
			}
		}
		rows[place] = pack.Row{IDs: ids, Labels: labels}
	}
	return rows, nil
}
