package tokenizer

import (
	"math/rand/v2"
	"testing"
)

// The merge table is a map of pairs; of two merges of one pair the later counts. Ids lie on both sides of firstIDs.
func TestMergeTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	merges, want := make([]merge, 5000), map[[2]int32]int32{}
	for rank := range merges {
		m := merge{rng.Int32N(2 * firstIDs), rng.Int32N(2 * firstIDs), int32(rank)}
		merges[rank], want[[2]int32{m.left, m.right}] = m, int32(rank)
	}
	table := newMergeTable(merges)
	for left := range int32(2 * firstIDs) {
		for right := range int32(2 * firstIDs) {
			rank, ok := want[[2]int32{left, right}]
			if !ok {
				rank = noMerge
			}
			if got := table.rank(left, right); got != rank {
				t.Fatalf("(%d, %d): rank %d, want %d", left, right, got, rank)
			}
		}
	}
}
