package llama_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/compute/cpu/kernels"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/safetensors"
)

const golden = "../../testdata/golden/"

func open(t testing.TB, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func tensor(t testing.TB, f *safetensors.File, name string) []float32 {
	t.Helper()
	x, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	v, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// tiny loads the tiny model, with its adapter where adapted is set.
func tiny(t testing.TB, be compute.Backend, adapted bool) *llama.Model {
	t.Helper()
	cfg, err := llama.ReadConfig(golden + "tiny-llama")
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.OpenDir(golden + "tiny-llama")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := llama.Load(be, cfg, f)
	if err != nil {
		t.Fatal(err)
	}
	if adapted {
		a := open(t, golden+"tiny/adapter/adapter_model.safetensors")
		for i := range m.Layers {
			for _, kind := range llama.LinearNames {
				name := moduleKey(i, kind)
				x, _ := a.Tensor(name + ".lora_A.weight")
				if _, err := m.Attach(i, kind, x.Shape[0], tensor(t, a, name+".lora_A.weight"), tensor(t, a, name+".lora_B.weight"), 32.0/8, true); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return m
}

func moduleKey(layer int, kind string) string {
	part := "self_attn"
	if strings.Contains("gate_proj up_proj down_proj", kind) {
		part = "mlp"
	}
	return fmt.Sprintf("base_model.model.model.layers.%d.%s.%s", layer, part, kind)
}

func rows(t testing.TB) (out []pack.Row) {
	t.Helper()
	var raw []struct {
		IDs    []int32 `json:"input_ids"`
		Labels []int32 `json:"labels"`
	}
	b, err := os.ReadFile(filepath.Join(golden, "tiny/rows.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	for _, r := range raw {
		out = append(out, pack.Row{IDs: r.IDs, Labels: r.Labels})
	}
	return out
}

// relative is |a-b| / |b|.
func relative(a, b []float32) float64 {
	var d, n float64
	for i := range b {
		d += float64(a[i]-b[i]) * float64(a[i]-b[i])
		n += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(d / n)
}

func read(m *llama.Model, b compute.Buffer) []float32 {
	v := make([]float32, b.Rows()*b.Cols())
	m.Backend().Read(v, b, 0)
	return v
}

// backends are the implementations that must give the reference's numbers.
func backends() map[string]compute.Backend {
	out := map[string]compute.Backend{"plain": &compute.Plain[float32]{}}
	for _, level := range kernels.Levels() {
		out["cpu "+level.String()] = cpu.New(cpu.Options{Threads: 3, Level: &level})
	}
	return out
}

func forEachBackend(t *testing.T, f func(t *testing.T, be compute.Backend)) {
	for name, be := range backends() {
		t.Run(name, func(t *testing.T) { defer be.Close(); f(t, be) })
	}
}

// causal is a pass over one row of n tokens.
func causal(n int) *compute.Pass {
	p := &compute.Pass{Rows: compute.Span{To: n}, Segments: []compute.Segment{{Span: compute.Span{To: n}}}}
	for i := range n {
		p.Pos = append(p.Pos, int32(i))
	}
	return p
}

func TestForwardGolden(t *testing.T) {
	forEachBackend(t, func(t *testing.T, be compute.Backend) {
		for _, adapted := range []bool{false, true} {
			m := tiny(t, be, adapted)
			for i, r := range rows(t) {
				if i > 3 {
					break // the reference's logits are of four rows
				}
				want := open(t, fmt.Sprintf("%stiny/forward.%d.safetensors", golden, i))
				key := map[bool]string{false: "logits", true: "adapted"}[adapted]
				n := len(r.IDs)
				s, p, all := m.NewState(llama.Shape{Stack: pack.Stack{Rows: n}}), causal(n), make([]int32, n)
				for k := range all {
					all[k] = int32(k)
				}
				m.Forward(s, p, r.IDs)
				logits := be.Alloc(n, m.VocabSize)
				be.Logits(p, logits, s.X, m.Norm, m.Head, all)
				if e := relative(read(m, logits), tensor(t, want, key)); e > 1e-5 {
					t.Errorf("%s of row %d: relative error %g", key, i, e)
				}
			}
		}
	})
}

func TestGradientsGolden(t *testing.T) {
	forEachBackend(t, func(t *testing.T, be compute.Backend) {
		want := open(t, golden+"tiny/grads.safetensors")
		for _, share := range []bool{true, false} {
			m := tiny(t, be, true)
			step := pack.NewStep([][]pack.Row{rows(t)[:4]}, pack.MicrobatchMean, 1, share)
			runs, need, err := step.Plan(0)
			if err != nil {
				t.Fatal(err)
			}
			loss := be.Alloc(1, len(step.Targets))
			m.RunStep(m.NewState(llama.Shape{Stack: need}), runs, nil, loss)
			var sum float64
			for i, l := range read(m, loss) {
				sum += float64(l) * float64(step.Targets[i].Weight)
			}
			if w := tensor(t, want, "loss")[0]; math.Abs(sum-float64(w)) > 1e-5*float64(w) {
				t.Errorf("loss %.7f, reference %.7f", sum, w)
			}
			for i := range m.Layers {
				for k, l := range m.Layers[i].Linears() {
					name := moduleKey(i, llama.LinearNames[k])
					if e := relative(read(m, l.LoRA.DA), tensor(t, want, name+".lora_A.weight")); e > 1e-5 {
						t.Errorf("share=%v d %s.lora_A: relative error %g", share, name, e)
					}
					if e := relative(llama.Transpose(read(m, l.LoRA.DB), l.LoRA.DB.Rows(), l.LoRA.DB.Cols()), tensor(t, want, name+".lora_B.weight")); e > 1e-5 {
						t.Errorf("share=%v d %s.lora_B: relative error %g", share, name, e)
					}
				}
			}
		}
	})
}
