package torchrng

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

type golden struct {
	Randperm []struct {
		Seed uint64
		N    int
		Perm []int
	}
	Random []struct {
		Seed  uint64
		Int64 []int64
	} `json:"random_"`
	Kaiming []struct {
		Seed        uint64
		Shape       [2]int
		First, Last []float64
	} `json:"kaiming_uniform_a_sqrt5"`
	Uniform []struct {
		Seed    uint64
		Float32 []float64
	}
}

func loadGolden(t *testing.T) (g golden) {
	t.Helper()
	b, err := os.ReadFile("../../testdata/golden/rng.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Randperm) == 0 || len(g.Random) == 0 || len(g.Kaiming) == 0 || len(g.Uniform) == 0 {
		t.Fatal("rng.json lacks a section")
	}
	return g
}

func TestPerm(t *testing.T) {
	for _, c := range loadGolden(t).Randperm {
		got := New(c.Seed).Perm(c.N)
		if len(got) != c.N || !slices.Equal(got[:len(c.Perm)], c.Perm) {
			t.Errorf("seed %d n %d: begins %v, want %v", c.Seed, c.N, got[:min(8, c.N)], c.Perm[:min(8, c.N)])
		}
		slices.Sort(got)
		for i, v := range got {
			if v != i {
				t.Fatalf("seed %d n %d: not a permutation", c.Seed, c.N)
			}
		}
	}
	if len(New(1).Perm(0)) != 0 || len(New(1).Perm(-3)) != 0 || !slices.Equal(New(1).Perm(1), []int{0}) {
		t.Error("permutations of nothing and of one element")
	}
}

func TestInt63(t *testing.T) {
	for _, c := range loadGolden(t).Random {
		g := New(c.Seed)
		for i, want := range c.Int64 {
			if got := g.Int63(); got != want {
				t.Errorf("seed %d [%d]: %d, want %d", c.Seed, i, got, want)
			}
		}
	}
}

func TestUniform(t *testing.T) {
	for _, c := range loadGolden(t).Uniform {
		got := make([]float32, len(c.Float32))
		New(c.Seed).Uniform(got, 0, 1)
		checkFloats(t, got, c.Float32)
	}
}

func TestKaimingUniform(t *testing.T) {
	for _, c := range loadGolden(t).Kaiming {
		got := make([]float32, c.Shape[0]*c.Shape[1])
		New(c.Seed).KaimingUniform(got, c.Shape[1])
		checkFloats(t, got[:len(c.First)], c.First)
		checkFloats(t, got[len(got)-len(c.Last):], c.Last)
	}
}

func checkFloats(t *testing.T, got []float32, want []float64) {
	t.Helper()
	for i := range want {
		if got[i] != float32(want[i]) {
			t.Errorf("[%d]: %v, want %v", i, got[i], float32(want[i]))
		}
	}
}

// The textbook vector: MT19937 seeded with 5489 gives 4123659995 as its 10,000th output (ISO C++ [rand.predef]).
func TestKnownAnswer(t *testing.T) {
	g := New(5489)
	g.Discard(9999)
	if got := g.Uint32(); got != 4123659995 {
		t.Errorf("10,000th output %d", got)
	}
}

func TestDiscard(t *testing.T) {
	for _, n := range []int{-1, 0, 1, 3, 623, 624, 625, 1247, 1248, 5000} {
		a, b := New(9), New(9)
		a.Discard(n)
		for range n {
			b.Uint32()
		}
		for i := range 3 {
			if x, y := a.Uint32(), b.Uint32(); x != y {
				t.Fatalf("Discard(%d): output %d differs: %d, %d", n, i, x, y)
			}
		}
	}
}

func TestSeedAgainAndHighBits(t *testing.T) {
	g := New(3)
	first := g.Uint64()
	g.Discard(1000)
	g.Seed(3)
	if g.Uint64() != first {
		t.Error("Seed does not restart the sequence")
	}
	if New(3|1<<40).Uint64() != first {
		t.Error("bits above the 32nd must not matter")
	}
}

func BenchmarkUniform(b *testing.B) {
	dst := make([]float32, 1<<16)
	g := New(1)
	b.SetBytes(int64(len(dst) * 4))
	for b.Loop() {
		g.Uniform(dst, -1, 1)
	}
}
