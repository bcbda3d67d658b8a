package train

import (
	"math"
	"testing"
)

// A run that only warms up has a learning rate after its last step too, and one of many turns has cosines.
func TestScheduleEdges(t *testing.T) {
	for _, s := range []Schedule{
		{Type: "polynomial", LR: 1e-4, Warmup: 3, Total: 3, LREnd: 1e-7, Power: 1},
		{Type: "linear", LR: 1e-4, Warmup: 3, Total: 3},
		{Type: "cosine", LR: 1e-4, Warmup: 3, Total: 3, NumCycles: 0.5},
		{Type: "cosine", LR: 1e-4, Total: 7, NumCycles: 1000},
		{Type: "cosine", LR: 1e-4, Total: 7, NumCycles: -1e9},
	} {
		for step := range s.Total + 1 {
			if r := s.At(step); !(r >= 0 && r <= s.LR) {
				t.Errorf("%+v: rate %v after %d steps", s, r, step)
			}
		}
	}
	for x := -70.0; x < 70; x += 0.37 {
		if d := math.Abs(cos(x) - math.Cos(x)); d > 1e-14 {
			t.Errorf("cos(%v) is off by %g", x, d)
		}
	}
}
