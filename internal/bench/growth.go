package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/safetensors"
)

// Growth says how the cost of a layer, forward and backward, grows: with the length of a row, with LoRA's rank, with the
// number of threads. Every point is one row, all labelled, so that no layer is spared anything; the head is not counted.
type Growth struct {
	Method  string  `json:"method"`
	Lengths []Point `json:"lengths"` // at rank RankOf
	Ranks   []Point `json:"ranks"`   // at length At
	Threads []Point `json:"threads"` // at length At and rank RankOf
	At      int     `json:"at_length"`
	RankOf  int     `json:"at_rank"`
	Skipped string  `json:"skipped,omitempty"` // what was not measured, and why
}

// Point is one measurement; times are microseconds for each token and layer.
type Point struct {
	Tokens    int     `json:"tokens"`
	R         int     `json:"r"` // 0: no LoRA
	Threads   int     `json:"threads"`
	Micros    float64 `json:"us_per_token_and_layer"`
	Attention float64 `json:"us_of_attention"` // of Micros
	Runs      int     `json:"runs"`
}

const (
	growthMethod  = "best of several runs after one that packs the weights; one row, forward and backward, average of the layers, head and optimizer left out"
	growthLayers  = 4                // where Layers does not say
	growthBudget  = 90 * time.Second // for the lengths
	growthVocab   = 1024             // of random weights
	growthAt      = 512
	growthLongest = 8192
)

// RunGrowth measures how cost grows, on a model directory or a shape.
func RunGrowth(ctx context.Context, o Options) (*Report, error) {
	r, err := o.LoadRecipe()
	if err != nil {
		return nil, err
	}
	layers := o.Layers
	if layers == 0 {
		layers = growthLayers
		if c, ok := Shape(o.Shape); ok {
			layers = min(layers, c.NumHiddenLayers)
		}
	}
	cfg, weights, err := o.model(ctx, layers, growthVocab)
	if err != nil {
		return nil, err
	}
	defer weights.Close()
	g := &grower{ctx: ctx, o: o, cfg: cfg, weights: weights, dtype: compute.DType(r.ComputeDtype), dropout: r.LoRA.LoraDropout}
	if r.ComputeDtype == "auto" {
		g.dtype = cpu.FasterDType()
	}
	rep := newReport()
	o.Progress("measuring the machine ...")
	g.open(r.Threads)
	defer func() { g.be.Close() }()
	rep.machine(g.be.Threads())
	rep.describe(cfg, r.Model, o.Model == "", int(cfg.Parameters()))
	rep.DType, rep.LoRA = g.dtype, LoRAInfo{R: r.LoRA.R, Dropout: r.LoRA.LoraDropout, Modules: 7 * cfg.NumHiddenLayers}
	rep.Growth = &Growth{Method: growthMethod, At: growthAt, RankOf: r.LoRA.R}
	if err := guard(func() error { return g.run(rep.Growth, rep.Threads) }); err != nil {
		return nil, err
	}
	return rep, nil
}

// grower holds the model while it is measured with different rows, ranks and threads.
type grower struct {
	ctx     context.Context
	o       Options
	cfg     *llama.Config
	weights *safetensors.File
	dtype   compute.DType
	dropout float64
	spent   time.Duration // of the last run, with all that is not counted

	be    *cpu.Backend
	timed *Timed
	model *llama.Model
}

// open takes a backend with so many threads.
func (g *grower) open(threads int) {
	converted, packed := cpu.WeightBytes(llama.StoredDType(g.weights), g.dtype)
	_, available, _ := cpu.Memory()
	tooLarge := available > 0 && g.cfg.ProductElements()*(converted+2*packed) > available/3
	g.be = cpu.New(cpu.Options{Threads: threads, DType: g.dtype, MapWeights: tooLarge})
	g.timed, g.model = NewTimed(g.ctx, g.be), nil
}

func (g *grower) run(out *Growth, threads int) error {
	if err := g.attach(out.RankOf); err != nil {
		return err
	}
	deadline := time.Now().Add(growthBudget)
	for n := 64; n <= min(growthLongest, g.cfg.MaxPositionEmbeddings); n *= 2 {
		if why := g.refuse(n, time.Until(deadline)); why != "" {
			out.Skipped = why
			break
		}
		out.Lengths = append(out.Lengths, g.point(n, out.RankOf))
	}
	for _, r := range []int{0, 4, 8, 16, 32, 64} {
		if err := g.attach(r); err != nil {
			return err
		}
		out.Ranks = append(out.Ranks, g.point(growthAt, r))
	}
	for _, n := range ThreadCounts(threads) {
		g.be.Close()
		g.model, g.timed = nil, nil
		debug.FreeOSMemory() // the packed weights of the backend before
		g.open(n)
		if err := g.attach(out.RankOf); err != nil {
			return err
		}
		out.Threads = append(out.Threads, g.point(growthAt, out.RankOf))
	}
	return nil
}

// attach gives every projection a LoRA of rank r with random values, or none.
func (g *grower) attach(r int) error {
	if g.model == nil {
		var err error
		if g.model, err = llama.Load(g.timed, g.cfg, g.weights); err != nil {
			return err
		}
	}
	g.model.Detach()
	if r == 0 {
		return nil
	}
	random := rand.New(rand.NewPCG(4, 5))
	draw := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = (random.Float32() - 0.5) / 16
		}
		return x
	}
	for i := range g.model.Layers {
		for k, l := range g.model.Layers[i].Linears() {
			if _, err := g.model.Attach(i, llama.LinearNames[k], r, draw(r*l.W.In()), draw(r*l.W.Out()), 4, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse says why a row of n tokens is not measured, "" if it is: twice as long a row takes at most four times as long.
func (g *grower) refuse(n int, left time.Duration) string {
	_, available, _ := cpu.Memory()
	if need := g.model.Activations(llama.Shape{Stack: pack.Stack{Rows: n}}).Sum(); available > 0 && need > available*7/10 { // beside it operations need scratch
		return fmt.Sprintf("%d tokens and more: the activations need %.1f GiB", n, float64(need)/(1<<30))
	}
	if 2*4*g.spent > left { // two runs
		return fmt.Sprintf("%d tokens and more: they would take longer than the time set aside", n)
	}
	return ""
}

// point times one row of n tokens.
func (g *grower) point(n, r int) Point {
	ids, labels := make([]int32, n+1), make([]int32, n+1)
	random := rand.New(rand.NewPCG(6, 7))
	for i := range ids {
		ids[i] = random.Int32N(int32(g.cfg.VocabSize))
		labels[i] = ids[i]
	}
	step := pack.NewStep([][]pack.Row{{{IDs: ids, Labels: labels}}}, pack.TokenMean, 1, true)
	runs, need, err := step.Plan(0)
	if err != nil {
		panic(err) // a plan without bound cannot fail
	}
	state, loss, drop := g.model.NewState(llama.Shape{Stack: need}), g.timed.Alloc(1, n), compute.NewDropout(g.dropout, 1, 1)
	p := Point{Tokens: n, R: r, Threads: g.be.Threads()}
	const enough = 300 * time.Millisecond
	for start := time.Now(); p.Runs < 3 || time.Since(start) < enough; p.Runs++ {
		g.o.Progress(fmt.Sprintf("a row of %d tokens, rank %d, %d threads, run %d ...", n, r, p.Threads, p.Runs+1))
		g.timed.reset()
		began := time.Now()
		g.model.RunStep(state, runs, drop, loss)
		g.spent = time.Since(began)
		var all, attention time.Duration
		for i, t := range g.timed.tally {
			if op(i) != headLoss && op(i) != optimizer {
				all += t.time
			}
			if op(i) == attnForward || op(i) == attnBackward {
				attention += t.time
			}
		}
		each := 1e6 / float64(n*g.cfg.NumHiddenLayers)
		if m := all.Seconds() * each; p.Runs > 0 && (p.Micros == 0 || m < p.Micros) { // the first run packs the weights
			p.Micros, p.Attention = m, attention.Seconds()*each
		}
		if g.spent > 5*time.Second && p.Runs > 0 {
			p.Runs++
			break
		}
	}
	p.Runs-- // the first
	return p
}
