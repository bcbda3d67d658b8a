package train

import (
	"math"
	"slices"
	"testing"

	"cria/internal/compute/cpu"
	"cria/internal/data"
	"cria/internal/pack"
)

// Rows without a labelled token, and rows of no or one token, change nothing but the counts: a micro-batch of them has no
// loss, a step of them leaves the gradient at zero.
func TestRowsWithoutLabels(t *testing.T) {
	be := cpu.New(cpu.Options{Threads: 2})
	defer be.Close()
	var j job
	loadJSON(t, golden+"train-fp32/job.json", &j)
	labelled := loadRows(t, golden+"train-fp32/rows.json")[0]
	silent := pack.Row{IDs: labelled.IDs, Labels: slices.Repeat([]int32{pack.Ignore}, len(labelled.IDs))}
	empty := pack.Row{}
	single := pack.Row{IDs: labelled.IDs[:1], Labels: labelled.IDs[:1]} // its label is predicted by nothing
	pair := pack.Row{IDs: labelled.IDs[:2], Labels: labelled.IDs[:2]}   // one input token, one target

	for _, share := range []bool{false, true} {
		for _, red := range []pack.Reduction{pack.MicrobatchMean, pack.TokenMean} {
			// run makes one step of micro-batches of two rows.
			run := func(rows ...pack.Row) (loss, norm float64) {
				c := j.config(t, be, golden+"tiny-llama", "train-fp32", golden+"train-fp32/init_adapter")
				c.Rows, c.Share, c.Reduction, c.Dropout, c.Accumulation = data.InMemory(rows), share, red, 0, 2
				var err error
				if c.Steps, err = data.NewSteps(data.Plan{Rows: len(rows), Batch: 2, Accumulation: 2, MaxSteps: 2, Seed: 1}); err != nil {
					t.Fatal(err)
				}
				l, err := New(c)
				if err != nil {
					t.Fatal(err)
				}
				p, err := l.trainStep()
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range []float64{p.Loss, p.GradNorm} {
					if math.IsNaN(x) || math.IsInf(x, 0) {
						t.Fatalf("loss %v, norm %v", p.Loss, p.GradNorm)
					}
				}
				if _, err := l.trainStep(); err != nil { // what is left of the epoch, and the next one's begin
					t.Fatal(err)
				}
				return p.Loss, p.GradNorm
			}
			if loss, norm := run(silent, empty, single, silent); loss != 0 || norm != 0 {
				t.Errorf("share %v %s: a step without labels has loss %v and norm %v", share, red, loss, norm)
			}
			all, _ := run(labelled, labelled, labelled, labelled)
			if loss, _ := run(labelled, silent, empty, single); red == pack.TokenMean && math.Abs(loss-all) > 1e-6*all ||
				red == pack.MicrobatchMean && math.Abs(loss-all/2) > 1e-6*all { // the other micro-batch counts as zero
				t.Errorf("share %v %s: loss %v with one labelled row of four, %v with four", share, red, loss, all)
			}
			if loss, norm := run(pair, pair, empty, pair); loss <= 0 || norm <= 0 {
				t.Errorf("share %v %s: one target of one input: loss %v, norm %v", share, red, loss, norm)
			}
		}
	}
}
