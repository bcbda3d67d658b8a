package train

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"cria/internal/adapter"
	"cria/internal/data"
	"cria/internal/demomodel"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/recipe"
	"cria/internal/tokenizer"
)

// llama8B is Llama-3.1-8B-Instruct's shape.
var llama8B = llama.Config{VocabSize: 128256, HiddenSize: 4096, IntermediateSize: 14336, NumHiddenLayers: 32, NumAttentionHeads: 32,
	NumKeyValueHeads: 8, HeadDim: 128, RMSNormEps: 1e-5, MaxPositionEmbeddings: 131072}

// The tutorial's job, all but its weights: the recipe, Llama 3.1's tokenizer, 3,729 rows, 699 steps, 20,971,520 trainable
// parameters of 8,051,232,768, and the tokens that are left to compute.
func TestTutorialJob(t *testing.T) {
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
	a, err := adapter.New(adapter.Config{R: r.LoRA.R, LoraAlpha: float64(r.LoRA.LoraAlpha), TargetModules: targets(r)}, &llama8B, r.Seed)
	if err != nil {
		t.Fatal(err)
	}
	if trainable, all := a.NumParameters(), int(llama8B.Parameters())+a.NumParameters(); trainable != 20971520 || all != 8051232768 {
		t.Errorf("%d trainable parameters of %d", trainable, all)
	}

	eot, ok := tok.ID("<|eot_id|>")
	if !ok {
		t.Fatal("no <|eot_id|>")
	}
	encode, foreign, err := rowFunc(r, tok, []int32{eot})
	if err != nil {
		t.Fatal(err)
	}
	if len(foreign) > 0 {
		t.Errorf("markers %v are no tokens", foreign)
	}
	set, err := data.Read(r.Dataset...)
	if err != nil {
		t.Fatal(err)
	}
	rows, report, err := data.Encode(context.Background(), set.Examples, encode, data.Options{MaxLength: r.MaxLength, TooLong: r.TooLong, End: []int32{eot}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Rows != 3729 || report.Cut.Rows+report.Unlabelled.Rows+report.UntrainedEnd.Rows != 0 {
		t.Errorf("report %+v", report)
	}
	if mean := float64(report.Tokens) / 3729; mean < 106 || mean > 108 {
		t.Errorf("%.1f tokens a row, 107 were counted for the reference", mean)
	}

	steps, err := data.NewSteps(data.Plan{Rows: len(rows), Batch: r.PerDeviceTrainBatchSize, Accumulation: r.GradientAccumulationSteps, Epochs: r.NumTrainEpochs, Seed: r.Seed})
	if err != nil {
		t.Fatal(err)
	}
	var order [][]int
	loadJSON(t, golden+"order-3729-seed42.json", &order)
	if steps.Len() != 699 || len(order) != 4*699+1 {
		t.Fatalf("%d steps, %d micro-batches listed", steps.Len(), len(order))
	}
	packed, largest, short, n, several := 0, 0, 0, 0, 0
	for i := range steps.Len() {
		s := steps.At(i)
		mbs := make([][]pack.Row, len(s.MicroBatches))
		count := 0
		for k, mb := range s.MicroBatches {
			for x, row := range mb {
				if order[n][x] != row {
					t.Fatalf("micro-batch %d: rows %v, reference %v", n, mb, order[n])
				}
				mbs[k] = append(mbs[k], rows[row].Row)
				count++
			}
			n++
		}
		if count == 13 {
			short++
		}
		st := pack.NewStep(mbs, pack.MicrobatchMean, r.GradientAccumulationSteps, true)
		packed += len(st.IDs)
		largest = max(largest, len(st.IDs))
		for k := 1; k < len(st.Targets); k++ {
			if st.Targets[k].Row == st.Targets[k-1].Row {
				several++
				break
			}
		}
	}
	if short != 2 {
		t.Errorf("%d steps with 13 rows, want 2", short)
	}
	t.Logf("%.0f tokens a step to compute, largest %d; %d steps have a position with several targets", float64(packed)/699, largest, several)
	// 1,008 and 1,512 tokens are counted by hand with the last token of every row, which influences no loss. 32 steps hold
	// rows with equal prompts; four of these prompts are too short beyond the common part for a node (pack.MinShared).
	if mean := packed / 699; mean != 990 || largest != 1496 || several != 28 {
		t.Errorf("mean %d, largest %d, %d steps; want 990, 1496, 28", mean, largest, several)
	}
}
