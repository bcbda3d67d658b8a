package train

import (
	"context"
	"fmt"
	"math"
	"sort"

	"cria/internal/compute/cpu"
	"cria/internal/llama"
	"cria/internal/pack"
)

// What time depends on beside the operations of a step, as measured on SmolLM2-135M with AVX-512 kernels, and with those of
// AVX2 for strips (docs/log.md).
const (
	passFLOP    = 8     // for every weight of the layers that a pass goes through, forward or backward
	mappedShare = 0.065 // of the operations, for packing mapped weights in every operation,
	stripsShare = 0.03  // or making strips of them (assumed: 0 to 5%, not told apart from noise)
	diskFLOP    = 600   // for every weight that a pass reads from a disk, at 0.5 GB/s
)

// costless is the part of a run's time that is given for less memory, unless that takes passes of fewer than enoughRows.
const (
	costless   = 0.015
	enoughRows = 512
)

// mostRows is where passes stop to become faster.
const mostRows = 4096

// trial is a setting that may be chosen.
type trial struct {
	setting
	passes   float64 // of the sampled steps
	limit    int64   // for own memory
	use      *dryRun // of the largest step, where every layer keeps everything
	own      int64   // estimated
	tooLarge int64   // that the estimate was wrong by
	again    float64 // FLOP of the sampled steps that are spent on computing again
	cost     float64 // of the sampled steps, FLOP
	fits     bool
}

// passRows lists sizes of passes, largest first: the whole step, then powers of two and the middles between them.
func passRows(whole, least int) []int {
	out := []int{max(least, min(whole, mostRows))}
	for n := mostRows; n > least; n /= 2 {
		for _, rows := range []int{n, n * 3 / 4} {
			if rows < out[len(out)-1] && rows > least {
				out = append(out, rows)
			}
		}
	}
	if last := out[len(out)-1]; last > least {
		out = append(out, least)
	}
	return out
}

// trials are all settings, each with as little computed again as fits.
func (p *planner) trials(ctx context.Context) ([]*trial, error) {
	largest := []*pack.Step{p.c.pack(p.c.Steps.At(p.survey.largest))}
	if !p.whole {
		largest = append(largest, p.c.longest())
	}
	if err := p.costAgain(largest); err != nil {
		return nil, err
	}
	sum, err := p.dry(setting{}, pack.Stack{}, p.sampled)
	if err != nil {
		return nil, err
	}
	layers := float64(p.cfg.ProductElements() - int64(p.cfg.VocabSize)*int64(p.cfg.HiddenSize))
	share := mappedShare
	if cpu.MakesStrips() {
		share = stripsShare
	}
	var out []*trial
	for _, mapped := range []bool{false, true} {
		for _, rows := range passRows(p.computed.Largest, max(p.minRows, 1)) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			t := trial{setting: setting{rows: rows, mapped: mapped}, limit: p.limit}
			var need pack.Stack
			for _, s := range largest {
				_, n, err := s.Plan(rows)
				if err != nil {
					return nil, err
				}
				need = need.Max(n)
			}
			if t.use, err = p.dry(t.setting, need, largest); err != nil {
				return nil, err
			}
			for _, s := range p.sampled {
				runs, _, err := s.Plan(rows)
				if err != nil {
					return nil, err
				}
				for _, r := range runs {
					t.passes++
					if r.Phase == pack.Forward|pack.Backward {
						t.passes++
					}
				}
			}
			t.cost = sum.use.FLOP + t.passes*layers*passFLOP
			if mapped {
				t.cost += share * sum.use.FLOP
			}
			// Beside the pages of mapped weights there is less room; with more they do not stay in memory.
			if beside := p.base + p.available - p.mapped; mapped && beside < p.limit {
				u := t
				u.limit = beside
				p.fit(&u)
				out = append(out, &u)
				t.cost += t.passes * layers * diskFLOP
			}
			p.fit(&t)
			out = append(out, &t)
		}
	}
	return out, nil
}

// costAgain measures what computing again costs, as the difference of two layers that drop something to none: of those
// layers the last one finds its own values.
func (p *planner) costAgain(steps []*pack.Step) error {
	if p.cfg.NumHiddenLayers < 2 {
		return nil
	}
	var flop [llama.DropAll + 1]float64
	for level := range flop {
		levels := make([]llama.Level, p.cfg.NumHiddenLayers)
		levels[0], levels[1] = llama.Level(level), llama.Level(level)
		d, err := p.dry(setting{levels: levels}, pack.Stack{}, steps)
		if err != nil {
			return err
		}
		flop[level] = d.use.FLOP
	}
	tokens := 0.0
	for _, s := range steps {
		tokens += float64(max(len(s.IDs), 1))
	}
	p.gateUp = (flop[llama.DropGateUp] - flop[llama.KeepAll]) / tokens
	p.rest = (flop[llama.DropAll]-flop[llama.KeepAll])/tokens - p.gateUp
	return nil
}

// fit sets what a trial computes again: what gradient_checkpointing says, or the cheapest that fits.
func (p *planner) fit(t *trial) {
	n := p.cfg.NumHiddenLayers
	activations := func(all, gateUp int) int64 {
		return p.shape.Activations(llama.Shape{Stack: t.use.need, Levels: levels(n, all, gateUp)}).Sum()
	}
	own := func(all, gateUp int) int64 {
		d := *t.use
		d.use.Buffers += activations(all, gateUp) - t.use.activations.Sum()
		bytes, _ := p.own(&d)
		return bytes + t.tooLarge
	}
	fits := func(all, gateUp int) bool { return own(all, gateUp) <= t.limit }
	set := func(all, gateUp int, again float64) {
		t.cost += again - t.again
		t.levels, t.again, t.own, t.fits = levels(n, all, gateUp), again, own(all, gateUp), fits(all, gateUp)
	}
	cost := func(all, gateUp int) float64 {
		return float64(p.sampledTokens) * (float64(max(0, all-1))*p.rest + float64(max(0, all+gateUp-1))*p.gateUp)
	}
	switch p.r.GradientCheckpointing {
	case "true":
		set(n, 0, cost(n, 0))
	case "false":
		set(0, 0, 0)
	default:
		best, at := math.Inf(1), [2]int{n, 0}
		for all := range n + 1 {
			gateUp := sort.Search(n-all+1, func(k int) bool { return fits(all, k) })
			if gateUp <= n-all && cost(all, gateUp) < best {
				best, at = cost(all, gateUp), [2]int{all, gateUp}
			}
		}
		set(at[0], at[1], cost(at[0], at[1]))
	}
}

// levels drops all in the first layers, and gate and up in the next ones; nil if nothing is dropped.
func levels(n, all, gateUp int) []llama.Level {
	if all+gateUp == 0 {
		return nil
	}
	out := make([]llama.Level, n)
	for i := range all + gateUp {
		out[i] = llama.DropGateUp
		if i < all {
			out[i] = llama.DropAll
		}
	}
	return out
}

// choose returns the fastest trial that fits, or one that takes less memory for hardly more time; nil if none fits.
func choose(trials []*trial) *trial {
	var best *trial
	for _, t := range trials {
		if t.fits && (best == nil || t.cost < best.cost) {
			best = t
		}
	}
	if best == nil {
		return nil
	}
	fastest := *best
	for _, t := range trials {
		if t.fits && t.rows >= min(enoughRows, fastest.rows) && t.cost <= (1+costless)*fastest.cost && t.again <= fastest.again && t.own < best.own {
			best = t
		}
	}
	return best
}

// refuse says why nothing fits, and what would.
func (p *planner) refuse(trials []*trial) error {
	t := trials[0]
	for _, u := range trials {
		if u.own < t.own {
			t = u
		}
	}
	a := p.shape.Activations(llama.Shape{Stack: t.use.need, Levels: t.levels}).Sum()
	what := fmt.Sprintf("%s does not hold this job", size(p.limit))
	if p.r.MaxMemory == 0 {
		what = fmt.Sprintf("this job does not fit in the %s that this machine has free", size(p.limit))
	}
	hints := []string{}
	least := max(t.own, p.peak)
	if p.r.MaxMemory > 0 {
		hints = append(hints, fmt.Sprintf("set max_memory to %s or more", upMiB(least)))
	} else {
		hints = append(hints, "take a smaller model")
	}
	if p.r.GradientCheckpointing == "false" {
		hints = append(hints, "set gradient_checkpointing: auto")
	}
	if over := least - p.limit; over < a { // activations grow with the rows at least
		if rows := int(float64(p.minRows) * float64(a-over) / float64(a)); rows >= 16 {
			hints = append(hints, fmt.Sprintf("set max_length to %d or less", rows))
		}
	}
	return p.r.Errorf("max_memory", "%s: at least %s are needed (copies of the weights %s, adapter and optimizer %s, activations of the longest row, which has %d tokens, %s, scratch %s, program and data %s); %s",
		what, size(least), size(t.use.use.Packed+t.use.use.Weights), size(t.use.use.Buffers-t.use.activations.Sum()), p.minRows, size(a), size(t.use.use.Scratch), size(p.base), orList(hints))
}

func upMiB(bytes int64) string { return fmt.Sprintf("%dMiB", (bytes+1<<20-1)>>20) }

func orList(s []string) string {
	out := ""
	for i, x := range s {
		switch {
		case i == 0:
		case i == len(s)-1:
			out += ", or "
		default:
			out += ", "
		}
		out += x
	}
	return out
}
