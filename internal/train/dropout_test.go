package train

import (
	"context"
	"math"
	"testing"

	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/compute/cpu/kernels"
)

// cria's bfloat16 run is no farther from the reference's float32 run than the reference's own bfloat16 run is.
func TestBFloat16IsCloserThanTheReference(t *testing.T) {
	var fp32, bf16 []Record
	loadJSON(t, golden+"train-fp32/log_history.json", &fp32)
	loadJSON(t, golden+"train-bf16/log_history.json", &bf16)
	worst := func(h []Record) (d float64) {
		for i, r := range fp32 {
			if r.Loss != nil {
				d = max(d, math.Abs(*h[i].Loss-*r.Loss) / *r.Loss)
			}
		}
		return d
	}
	var j job
	loadJSON(t, golden+"train-fp32/job.json", &j)
	for _, level := range kernels.Levels() {
		if level == kernels.Generic && testing.Short() && level != kernels.Best() {
			continue
		}
		t.Run(level.String(), func(t *testing.T) {
			be := cpu.New(cpu.Options{Level: &level, DType: compute.BFloat16})
			defer be.Close()
			l, err := New(j.config(t, be, golden+"tiny-llama", "train-fp32", golden+"train-fp32/init_adapter"))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			truth, reference := mustLoad(t, golden+"train-fp32/final_adapter", l), mustLoad(t, golden+"train-bf16/final_adapter", l)
			got, allowed := distance(t, l.Adapter, truth), distance(t, reference, truth)
			if got > allowed {
				t.Errorf("adapter %.3g from the float32 truth, the reference's bfloat16 run %.3g", got, allowed)
			}
			loss, lossAllowed := worst(l.history), worst(bf16)
			if loss > lossAllowed {
				t.Errorf("losses %.3g from the float32 truth, the reference's bfloat16 run %.3g", loss, lossAllowed)
			}
			t.Logf("adapter %.3g (reference %.3g), losses %.3g (reference %.3g)", got, allowed, loss, lossAllowed)
		})
	}
}

// Dropout trains what the reference's dropout trains: over 16 seeds, the mean difference of the losses of each step is
// within three standard errors of zero, one step by chance excepted. Without dropout the same comparison fails.
func TestDropoutStatistics(t *testing.T) {
	var g struct {
		Job  job `json:"job"`
		Runs []struct {
			Seed uint64    `json:"seed"`
			Loss []float64 `json:"loss"`
		} `json:"runs"`
	}
	loadJSON(t, golden+"dropout.json", &g)
	be := cpu.New(cpu.Options{})
	defer be.Close()
	outside := func(dropout float64) (n int) {
		var diff [][]float64 // [run][step]
		for _, run := range g.Runs {
			j := g.Job
			j.Args.Seed, j.LoRA.LoraDropout = &run.Seed, dropout
			l, err := New(j.config(t, be, golden+"tiny-llama", "train-fp32", golden+"train-fp32/init_adapter"))
			if err != nil {
				t.Fatal(err)
			}
			var d []float64
			l.OnProgress = func(p Progress) { d = append(d, p.Loss-run.Loss[p.Step-1]) }
			if err := l.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			if len(d) != len(run.Loss) {
				t.Fatalf("%d steps, reference %d", len(d), len(run.Loss))
			}
			diff = append(diff, d)
		}
		for s := range diff[0] {
			var sum, sq float64
			for _, d := range diff {
				sum += d[s]
				sq += d[s] * d[s]
			}
			k := float64(len(diff))
			mean := sum / k
			se := math.Sqrt((sq/k - mean*mean) / (k - 1))
			t.Logf("dropout %.1f step %2d: mean difference %+.4f, %.1f standard errors", dropout, s+1, mean, mean/se)
			if math.Abs(mean) > 3*se {
				n++
			}
		}
		return n
	}
	if n := outside(g.Job.LoRA.LoraDropout); n > 1 {
		t.Errorf("%d steps differ by more than three standard errors", n)
	}
	if n := outside(0); n < 8 {
		t.Errorf("without dropout only %d steps differ: the comparison has no power", n)
	}
}
