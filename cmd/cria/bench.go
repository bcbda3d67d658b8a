package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"cria/internal/bench"
	"cria/internal/data"
	"cria/internal/train"

	"github.com/spf13/cobra"
)

func newBench(ui *ui) *cobra.Command {
	var (
		o             bench.Options
		asJSON, grow  bool
		rank, threads int
		dtype         string
	)
	c := &cobra.Command{
		Use:   "bench [MODEL | RECIPE.yaml] [key=value ...]",
		Short: "Time the parts of a training step beside the machine's peak",
		Long: "Measure the machine's peak speed, then time optimizer steps and every operation in them: seconds, share of the step,\n" +
			"floating-point operations (counted from the shapes: what the step needs, no padding, nothing twice), GFLOP/s, and the\n" +
			"share of the peak. The first step packs the weights and is not counted; each later step is timed by itself. Nothing is\n" +
			"written, and the machine should be idle.\n\n" +
			"With a recipe its job is measured. Otherwise rows of random tokens are trained, on the model in a directory or on a\n" +
			"built-in shape with random weights, which needs no download: " + bench.ShapeNames() + ".\n" +
			"Rows have the lengths of the tutorial's (examples/huanhuan, 16 a step, 47 tokens shared) unless --length says another.\n" +
			"Keys of a recipe can be given as key=value.\n\n" +
			"--growth measures instead how the cost of a layer grows with the length of a row, with LoRA's rank and with threads.",
		Example: "  cria bench\n  cria bench --shape llama-3.1-8b-slice --steps 2\n  cria bench recipe.yaml --dtype float32 --json\n" +
			"  cria bench ./model --rows 4 --length 1024 --prefix 256 lora.lora_dropout=0\n  cria bench --growth",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Find = ui.find
			for _, a := range args {
				if strings.Contains(a, "=") {
					o.Keys = append(o.Keys, a)
				} else if err := benchTarget(ui, &o, a); err != nil {
					return err
				}
			}
			for flag, key := range map[string]string{"rank": fmt.Sprint("lora.r=", rank), "threads": fmt.Sprint("threads=", threads), "dtype": "compute_dtype=" + dtype} {
				if cmd.Flags().Changed(flag) {
					o.Keys = append(o.Keys, key)
				}
			}
			if err := checkBench(&o, grow, cmd.Flags().Changed); err != nil {
				return err
			}
			o.Progress = func(s string) { ui.show(printable(s)) }
			run := bench.Run
			if grow {
				run = bench.RunGrowth
			}
			r, err := run(cmd.Context(), o)
			ui.show("")
			if err != nil {
				return err
			}
			r.Version, r.CPU = train.Version(), cpuName()
			if asJSON {
				return ui.json(r)
			}
			_, err = fmt.Fprint(ui.out, printable(benchText(r)))
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Shape, "shape", "smollm2-135m", "built-in shape: "+bench.ShapeNames())
	f.IntVar(&o.Layers, "layers", 0, "take only so many layers (default: all; 4 with --growth)")
	f.IntVar(&o.Steps, "steps", 3, "steps that are timed")
	f.IntVar(&o.Rows.Number, "rows", 0, "rows of a step (default: as the recipe says, 16)")
	f.IntVar(&o.Rows.Length, "length", 0, "tokens of every row (default: the tutorial's lengths)")
	f.IntVar(&o.Rows.Prefix, "prefix", 0, "tokens that all rows begin with, with --length")
	f.IntVar(&rank, "rank", 8, "LoRA's rank, as lora.r=N")
	f.IntVar(&threads, "threads", 0, "CPU threads, as threads=N (default: all)")
	f.StringVar(&dtype, "dtype", "auto", "auto, float32 or bfloat16, as compute_dtype=TYPE")
	f.BoolVar(&grow, "growth", false, "measure how cost grows (some minutes)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object instead of the table")
	return c
}

// benchTarget takes the argument that is no key=value.
func benchTarget(ui *ui, o *bench.Options, arg string) error {
	if o.Recipe != "" || o.Model != "" {
		return usagef("%s is one argument too many: name one model directory or one recipe", arg)
	}
	if dir, err := ui.cached(arg); err == nil {
		arg = dir
	}
	info, err := os.Stat(arg)
	switch {
	case err != nil:
		return usagef("%q is neither a model directory nor a recipe; without a name, --shape measures a built-in one (%s)", arg, bench.ShapeNames())
	case info.IsDir():
		o.Model = arg
	default:
		o.Recipe = arg
	}
	return nil
}

// checkBench refuses what cannot be measured before anything is.
func checkBench(o *bench.Options, grow bool, given func(flag string) bool) error {
	refuse := func(what string, flags ...string) error {
		for _, f := range flags {
			if given(f) {
				return usagef("--%s has no meaning %s", f, what)
			}
		}
		return nil
	}
	if o.Recipe != "" {
		if err := refuse("with a recipe, whose model and rows are measured", "shape", "layers", "rows", "length", "prefix", "growth"); err != nil {
			return err
		}
	}
	if o.Model != "" {
		if err := refuse("with a model directory", "shape"); err != nil {
			return err
		}
	}
	if grow {
		if err := refuse("with --growth, which chooses its own rows", "steps", "rows", "length", "prefix"); err != nil {
			return err
		}
	}
	const most = 1 << 20
	for _, n := range []struct {
		flag        string
		value, from int
	}{{"steps", o.Steps, 1}, {"layers", o.Layers, 1}, {"rows", o.Rows.Number, 1}, {"length", o.Rows.Length, 2}, {"prefix", o.Rows.Prefix, 0}} {
		if given(n.flag) && (n.value < n.from || n.value > most) {
			return usagef("--%s %d is not between %d and %d", n.flag, n.value, n.from, most)
		}
	}
	switch {
	case given("prefix") && !given("length"):
		return usagef("--prefix needs --length: the tutorial's rows have a prefix of their own")
	case given("length") && o.Rows.Prefix > o.Rows.Length-2:
		return usagef("--prefix %d leaves nothing of rows of %d tokens that could be trained", o.Rows.Prefix, o.Rows.Length)
	case slices.ContainsFunc(o.Keys, func(k string) bool { return strings.HasPrefix(k, "max_steps=") }):
		return usagef("say --steps N instead of max_steps=N")
	}
	if o.Recipe == "" && o.Model == "" {
		c, ok := bench.Shape(o.Shape)
		switch {
		case !ok:
			return usagef("no built-in shape is called %q; there are %s", o.Shape, bench.ShapeNames())
		case o.Rows.Length > c.MaxPositionEmbeddings:
			return usagef("--length %d is more than the %d tokens that %s can hold", o.Rows.Length, c.MaxPositionEmbeddings, o.Shape)
		}
	}
	_, err := o.LoadRecipe()
	return err
}

// benchText is a report for people.
func benchText(r *bench.Report) string {
	var s sheet
	s.line("machine", "%s, %s, %s kernels, %s", orDash(r.CPU), plural(r.Threads, "thread"), r.Kernels, r.Go)
	for i, p := range r.Peaks {
		if p.Float32 > 0 {
			s.line([]string{"peak", ""}[min(i, 1)], "%-10s  float32 %5.0f GFLOP/s, bfloat16 %5.0f GFLOP/s", plural(p.Threads, "thread"), p.Float32, p.BFloat16)
		}
	}
	if r.Bandwidth > 0 {
		s.line("", "memory read at about %.0f GB/s", r.Bandwidth)
	}
	m := r.Model
	s.line("model", "%s%s, %s of hidden_size %d, intermediate_size %d, %d heads (%d key-value), vocab_size %d: %s parameters", m.Name,
		map[bool]string{true: " with random weights"}[m.Random], plural(m.Layers, "layer"), m.Hidden, m.FFN, m.Heads, m.KVHeads, m.Vocab, data.Thousands(m.Parameters))
	s.line("LoRA", "r %d on %s, dropout %g; computed in %s", r.LoRA.R, plural(r.LoRA.Modules, "module"), r.LoRA.Dropout, r.DType)
	if r.Step != nil {
		stepText(&s, r.Step)
	}
	if r.Growth != nil {
		growthText(&s, r.Growth)
	}
	return s.String()
}

func stepText(s *sheet, t *bench.StepReport) {
	plan := ""
	if t.Passes > 1 {
		plan += fmt.Sprintf("; %.1f passes", t.Passes)
	}
	if t.Recomputed > 0 {
		plan += fmt.Sprintf("; %.3g layers computed again in the backward pass", t.Recomputed)
	}
	s.line("a step", "%.0f rows, %s tokens, %s computed, %.0f trained%s", t.Rows, data.Thousands(int(t.Tokens+0.5)), data.Thousands(int(t.Computed+0.5)), t.Labelled, plan)
	fmt.Fprintf(s, "\n%-11s %-9s %9s %8s %10s %9s %8s\n", "operation", "", "seconds", "share", "GFLOP", "GFLOP/s", "of peak")
	row := func(name, pass string, seconds, share, gflop, rate, ofPeak float64) {
		counted := fmt.Sprintf("%10s %9s %8s", "", "", "")
		if gflop > 0 {
			counted = fmt.Sprintf("%10.1f %9.1f %8s", gflop, rate, percent(ofPeak))
		}
		fmt.Fprintln(s, strings.TrimRight(fmt.Sprintf("%-11s %-9s %9.4f %8s %s", name, pass, seconds, percent(share), counted), " "))
	}
	last := ""
	for _, o := range t.Operations {
		name, pass := o.Name, o.Pass
		if name == last {
			name = ""
		}
		if last = o.Name; pass == "both" {
			pass = ""
		}
		row(name, pass, o.Seconds, o.Share, float64(o.FLOP.Total())/1e9, o.GFLOPS, o.OfPeak)
	}
	row("the rest", "", t.Rest(), t.Rest()/t.Seconds, 0, 0, 0)
	row("step", "", t.Seconds, 1, float64(t.FLOP.Total())/1e9, t.GFLOPS, t.OfPeak)
	each := make([]string, len(t.Each))
	for i, x := range t.Each {
		each[i] = fmt.Sprintf("%.3f", x)
	}
	f := t.FLOP
	all := float64(max(f.Total(), 1))
	fmt.Fprintf(s, "\n%.0f tokens/s. Steps took %s s, the first one, which packs the weights, %.3f s.\n", t.TokensPerSecond, strings.Join(each, ", "), t.First)
	fmt.Fprintf(s, "Operations needed: frozen products %s, LoRA %s, attention %s, head %s. Attention is compared with the float32 peak.\n",
		percent(float64(f.Frozen)/all), percent(float64(f.LoRA)/all), percent(float64(f.Attention)/all), percent(float64(f.Head)/all))
}

func growthText(s *sheet, g *bench.Growth) {
	table := func(title, what string, points []bench.Point, value func(bench.Point) string) {
		fmt.Fprintf(s, "\n%s\n%10s %14s %14s %10s\n", title, what, "us a token", "attention, us", "relative")
		for _, p := range points {
			fmt.Fprintf(s, "%10s %14.2f %14.2f %10.2f\n", value(p), p.Micros, p.Attention, p.Micros/points[0].Micros)
		}
	}
	table(fmt.Sprintf("Length of a row, at rank %d", g.RankOf), "tokens", g.Lengths, func(p bench.Point) string { return data.Thousands(p.Tokens) })
	if g.Skipped != "" {
		fmt.Fprintf(s, "not measured: %s\n", g.Skipped)
	}
	table(fmt.Sprintf("LoRA's rank, rows of %d tokens", g.At), "r", g.Ranks, func(p bench.Point) string {
		if p.R == 0 {
			return "no LoRA"
		}
		return fmt.Sprint(p.R)
	})
	table(fmt.Sprintf("Threads, rows of %d tokens at rank %d", g.At, g.RankOf), "threads", g.Threads, func(p bench.Point) string { return fmt.Sprint(p.Threads) })
	fmt.Fprintf(s, "\nMicroseconds for each token and layer: %s.\n", g.Method)
}

func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }
