package kernels

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

// TestAdamW compares with torch.optim.AdamW (testdata/adamw.py): moments bit by bit, parameters up to a rounding in each of
// the five updates, as torch's vectorised square root is not always correctly rounded.
func TestAdamW(t *testing.T) {
	data, err := os.ReadFile("testdata/adamw.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		LR, Beta1, Beta2, Eps, Scale float64
		WeightDecay                  float64 `json:"weight_decay"`
		P0                           []uint32
		Grads                        [][]uint32
		P, M, V                      []uint32
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	floats := func(bits []uint32) []float32 {
		x := make([]float32, len(bits))
		for i, b := range bits {
			x[i] = math.Float32frombits(b)
		}
		return x
	}
	for i, c := range cases {
		for _, l := range Levels() {
			p := floats(c.P0)
			m, v := make([]float32, len(p)), make([]float32, len(p))
			for step, g := range c.Grads {
				k := NewAdamW(c.LR, c.Beta1, c.Beta2, c.Eps, c.WeightDecay, step+1, float32(c.Scale))
				l.AdamW(p, floats(g), m, v, &k)
			}
			t.Logf("case %d, %v", i, l)
			equalBits(t, "m", m, floats(c.M))
			equalBits(t, "v", v, floats(c.V))
			for j, want := range floats(c.P) {
				if d := math.Abs(float64(p[j] - want)); d > 5*eps*math.Abs(float64(want)) {
					t.Errorf("p[%d] = %v, want %v", j, p[j], want)
				}
			}
		}
	}
}
