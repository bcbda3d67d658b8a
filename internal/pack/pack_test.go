package pack

import (
	"slices"
	"testing"

	"cria/internal/compute"

	"pgregory.net/rapid"
)

// rowsGen draws rows that share prefixes of any length, equal rows and rows that are prefixes of others included.
func rowsGen(t *rapid.T) [][]Row {
	var pool [][]int32
	n := rapid.IntRange(1, 12).Draw(t, "rows")
	var flat []Row
	for range n {
		var ids []int32
		if len(pool) > 0 && rapid.Bool().Draw(t, "share") {
			p := rapid.SampledFrom(pool).Draw(t, "from")
			ids = append(ids, p[:rapid.IntRange(0, len(p)).Draw(t, "prefix")]...)
		}
		ids = append(ids, rapid.SliceOfN(rapid.Int32Range(0, 3), 0, 30).Draw(t, "tail")...)
		pool = append(pool, ids)
		labels := make([]int32, len(ids))
		first := rapid.IntRange(0, len(ids)).Draw(t, "first label")
		for i := range labels {
			labels[i] = -100
			if i >= first {
				labels[i] = ids[i]
			}
		}
		flat = append(flat, Row{ids, labels})
	}
	return slices.Collect(slices.Chunk(flat, rapid.IntRange(1, 4).Draw(t, "batch")))
}

// Every labelled token of every row is predicted once, from exactly the tokens before it, whatever the passes are.
func TestPlanComputesEveryRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mbs := rowsGen(t)
		share := rapid.Bool().Draw(t, "share prefixes")
		s := NewStep(mbs, MicrobatchMean, 2, share)
		for i, n := range s.Nodes {
			last := func(tg compute.Target) bool { return int(tg.Row) == n.To-1 }
			if n.End == i+1 && !slices.ContainsFunc(s.Targets, last) {
				t.Fatalf("node %d is computed for nothing", i)
			}
		}
		limit := rapid.IntRange(s.MinRows(), s.MinRows()+40).Draw(t, "limit")
		runs, need, err := s.Plan(limit)
		if err != nil || need.Rows > limit && limit > 0 {
			t.Fatalf("plan: need %d of %d, %v", need, limit, err)
		}
		split := 0
		for _, r := range runs {
			if r.Phase != Forward|Backward {
				split = max(split, r.Pass.Rows.To)
			}
		}
		if split != need.Split {
			t.Fatalf("split nodes stand in %d rows, the plan says %d", split, need.Split)
		}

		type goal struct {
			prefix string
			token  int32
			weight float32
		}
		want := map[goal]int{}
		for _, mb := range mbs {
			n := 0
			for _, r := range mb {
				n += r.Labelled()
			}
			for _, r := range mb {
				for i := 1; i < len(r.IDs); i++ {
					if r.Labels[i] >= 0 {
						want[goal{spell(r.IDs[:i]), r.Labels[i], float32(1 / (2 * float64(n)))}]++
					}
				}
			}
		}
		stack := make([]int32, need.Rows) // token id in each row
		state := make([]int, need.Rows)   // 1: forward done, 2: backward done
		seen := map[int32]bool{}
		for _, r := range runs {
			if r.Phase&Forward != 0 {
				for i, id := range r.IDs {
					stack[r.Pass.Rows.From+i], state[r.Pass.Rows.From+i] = id, 1
				}
			}
			if r.Phase&Backward == 0 {
				continue
			}
			for i := range r.IDs {
				if state[r.Pass.Rows.From+i] != 1 {
					t.Fatalf("backward of row %d without its forward", r.Pass.Rows.From+i)
				}
				state[r.Pass.Rows.From+i] = 2
			}
			for _, tg := range r.Targets {
				if seen[tg.Index] {
					t.Fatalf("target %d twice", tg.Index)
				}
				seen[tg.Index] = true
				var prefix []int32
				for _, seg := range r.Pass.Segments {
					if int(tg.Row) < seg.From || int(tg.Row) >= seg.To {
						continue
					}
					for _, c := range seg.Context {
						prefix = append(prefix, stack[c.From:c.To]...)
					}
					prefix = append(prefix, r.IDs[seg.From:tg.Row+1]...)
				}
				if int(r.Pass.Pos[tg.Row]) != len(prefix)-1 {
					t.Fatalf("position %d of a token with %d before it", r.Pass.Pos[tg.Row], len(prefix)-1)
				}
				want[goal{spell(prefix), tg.Token, tg.Weight}]--
			}
		}
		for g, n := range want {
			if n != 0 {
				t.Fatalf("%+v: %d times too few", g, n)
			}
		}
	})
}

func spell(ids []int32) string {
	var b []byte
	for _, id := range ids {
		b = append(b, byte('a'+id))
	}
	return string(b)
}

// The order in which tokens go backward must not depend on the plan.
func TestOrderIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewStep(rowsGen(t), TokenMean, 1, true)
		order := func(limit int) (out []int32) {
			runs, _, err := s.Plan(limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range runs {
				if r.Phase&Backward != 0 {
					r.Pass.Blocks(func(_ int, b compute.Span) {
						for i := b.From; i < b.To; i++ {
							out = append(out, r.IDs[i], r.Pass.Pos[i], r.Pass.Node[i])
						}
					})
				}
			}
			return out
		}
		if a, b := order(0), order(rapid.IntRange(s.MinRows(), s.MinRows()+20).Draw(t, "limit")); !slices.Equal(a, b) {
			t.Fatal("the order of blocks depends on the plan")
		}
	})
}

func TestSharing(t *testing.T) {
	system := []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	row := func(tail ...int32) Row {
		ids := append(slices.Clone(system), tail...)
		labels := slices.Repeat([]int32{-100}, len(ids))
		labels[len(ids)-1] = ids[len(ids)-1]
		return Row{ids, labels}
	}
	mb := [][]Row{{row(20, 21), row(30, 31), row(20, 21)}}
	shared, whole := NewStep(mb, TokenMean, 1, true), NewStep(mb, TokenMean, 1, false)
	if len(shared.IDs) != 12 || len(whole.IDs) != 33 {
		t.Errorf("%d shared and %d unshared tokens, want 12 and 33", len(shared.IDs), len(whole.IDs))
	}
	if len(shared.Targets) != 3 || shared.Labels != 3 || shared.Tokens != 36 {
		t.Errorf("targets %d labels %d tokens %d", len(shared.Targets), shared.Labels, shared.Tokens)
	}
	// dropout keys are those of the fully shared trie in both
	if !slices.Equal(whole.Key[:11], slices.Concat(slices.Repeat([]int32{shared.Key[0]}, 10), []int32{shared.Key[10]})) {
		t.Errorf("keys %v against %v", whole.Key[:11], shared.Key)
	}
	if _, _, err := shared.Plan(5); err == nil {
		t.Error("a pass smaller than a row was accepted")
	}
}

// Groups of siblings are as few as the limit allows, and as equal as they can be.
func TestGroupsAreEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lens := rapid.SliceOfN(rapid.IntRange(1, 50), 1, 30).Draw(t, "rows")
		var mb []Row
		for i, n := range lens {
			ids := slices.Repeat([]int32{int32(i)}, n+1)
			labels := slices.Repeat([]int32{Ignore}, n+1)
			labels[n] = ids[n]
			mb = append(mb, Row{ids, labels})
		}
		s := NewStep([][]Row{mb}, TokenMean, 1, true)
		limit := rapid.IntRange(slices.Max(lens), 200).Draw(t, "limit")
		runs, need, err := s.Plan(limit)
		if err != nil {
			t.Fatal(err)
		}
		count := func(limit int) (groups int) {
			room := 0
			for _, n := range slices.Backward(lens) {
				if room -= n; room < 0 {
					groups, room = groups+1, limit-n
				}
			}
			return groups
		}
		if len(runs) != count(limit) {
			t.Fatalf("%d groups, %d suffice", len(runs), count(limit))
		}
		if need.Rows > slices.Max(lens) && count(need.Rows-1) <= len(runs) {
			t.Fatalf("groups of up to %d rows, smaller ones suffice", need.Rows)
		}
	})
}

func TestTinyRemainderIsShared(t *testing.T) {
	var mb []Row
	for i := range 9 {
		ids := slices.Repeat([]int32{int32(i)}, 61)
		mb = append(mb, Row{ids, ids})
	}
	s := NewStep([][]Row{mb}, TokenMean, 1, true)
	runs, need, err := s.Plan(512)
	if err != nil || len(runs) != 2 || need != (Stack{Rows: 300}) {
		t.Errorf("540 tokens in passes of 512: %d runs, %+v, %v", len(runs), need, err)
	}
}
