package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cria/internal/bench"
	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
	"cria/internal/data"
	"cria/internal/train"

	"github.com/spf13/cobra"
)

// efficiency is the part of the measured peak that training steps reach, about: what SmolLM2-135M does on two cores.
var efficiency = map[compute.DType]float64{compute.BFloat16: 0.62, compute.Float32: 0.72}

// planReport is what cria plan prints with --json.
type planReport struct {
	*train.Plan
	Rows     int           `json:"rows"` // of the dataset
	Forecast *timeForecast `json:"forecast,omitempty"`
}

// timeForecast is the plan's operations divided by the machine's peak.
type timeForecast struct {
	PeakGFLOPS float64 `json:"peak_gflops"` // measured just now, of all threads
	Efficiency float64 `json:"efficiency"`  // assumed part of the peak
	Mean       float64 `json:"mean_step"`   // seconds
	Largest    float64 `json:"largest_step"`
	Evaluation float64 `json:"evaluation"`        // of all rows, once; 0: there is none
	Job        float64 `json:"job"`               // all steps and evaluations
	Tokens     float64 `json:"tokens_per_second"` // of rows, shared or not
}

// forecastTime measures the peak; nil where there is none.
func forecastTime(p *train.Plan) *timeForecast {
	peak := bench.Peaks(kernels.Best(), p.Threads)[0]
	f := &timeForecast{PeakGFLOPS: peak.Float32, Efficiency: efficiency[p.DType]}
	if p.DType == compute.BFloat16 {
		f.PeakGFLOPS = peak.BFloat16
	}
	if f.PeakGFLOPS <= 0 {
		return nil
	}
	rate := f.PeakGFLOPS * 1e9 * f.Efficiency
	f.Mean, f.Largest, f.Evaluation, f.Job = p.FLOP.Mean/rate, p.FLOP.Largest/rate, p.FLOP.Evaluation/rate, p.FLOP.Job/rate
	f.Tokens = p.Tokens.Mean / f.Mean
	return f
}

func newPlan(ui *ui) *cobra.Command {
	return &cobra.Command{
		Use:   "plan [RECIPE.yaml] [key=value | --key value ...] [--json]",
		Short: "Say what memory and time a recipe's training takes",
		Long: "Check a recipe as cria train does, and print how the run would use memory, what it takes at most, and about how long it\n" +
			"takes. The step that needs most is run without computing, so the weights are not read and nothing is written.\n\n" +
			"Own memory is what the process holds; pages of the model's files come on top and the system can take them back.\n" +
			"With max_memory the plan keeps own memory below it, or is refused with what would fit.",
		Example:            "  cria plan recipe.yaml\n  cria plan recipe.yaml max_memory=16GiB\n  cria plan recipe.yaml gradient_checkpointing=false --json",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			kept := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--json" })
			r, _, err := loadRecipe(cmd, kept)
			if err != nil || r == nil {
				return err
			}
			for _, n := range r.Notes {
				ui.note("note: %s", n)
			}
			ui.show("reading the model and the data ...")
			p, rows, err := train.MakePlan(cmd.Context(), r, train.Options{Find: ui.find(r), Info: func(s string) { ui.note("note: %s", oneScreen(s)) }})
			ui.show("")
			if err != nil {
				return err
			}
			report := planReport{p, rows.Rows, forecastTime(p)}
			if len(kept) < len(args) {
				return ui.json(report)
			}
			_, err = fmt.Fprint(ui.out, report.text())
			return err
		},
	}
}

func (r *planReport) text() string {
	var s sheet
	p, m, a := r.Plan, &r.Memory, &r.Memory.Activations
	s.line("parameters", "%s trainable of %s", data.Thousands(p.Trainable), data.Thousands(p.Parameters))
	s.line("steps", "%s, %s rows", data.Thousands(p.Steps), data.Thousands(r.Rows))
	s.line("tokens", "%s a step, %s in the largest", data.Thousands(int(p.Tokens.Mean)), data.Thousands(p.Tokens.Largest))
	s.line("", "%s computed, %s in the largest; %s labelled", data.Thousands(int(p.Computed.Mean)), data.Thousands(p.Computed.Largest), data.Thousands(int(p.Labelled.Mean)))
	if p.Surveyed < p.Steps {
		s.line("", "counted in the first %s steps; the largest is a bound for all", data.Thousands(p.Surveyed))
	}
	s.line("arithmetic", "%s, %s, %s", p.DType, p.Kernels, plural(p.Threads, "thread"))
	s.line("passes", "up to %s tokens; %.1f passes a step, forward and backward", data.Thousands(p.PassRows), p.Passes)
	s.line("computed again", "%s", p.Again())
	s.line("weights", "%s", map[bool]string{false: "packed once, for both directions", true: "packed anew in every operation, from the mapped files"}[p.MapWeights])
	s.WriteString("\n")
	for _, l := range []struct {
		name  string
		bytes int64
	}{
		{"weights, packed or converted", m.Weights}, {"activations x, h", a.Residual}, {"activations q, k, v", a.QKV}, {"activations of attention", a.Attention},
		{"activations gate, up", a.GateUp}, {"activations of LoRA", a.LoRA}, {"gradients of activations", a.Gradients}, {"scratch", m.Scratch},
		{"adapter, gradients, optimizer", m.Adapter}, {"program, data, garbage", m.Runtime}, {"own memory at most", m.Own},
	} {
		fmt.Fprintf(&s, "%-30s %10s\n", l.name, byteSize(l.bytes))
	}
	if m.Limit > 0 {
		fmt.Fprintf(&s, "%-30s %10s\n", "limit", byteSize(m.Limit))
	}
	fmt.Fprintf(&s, "%-30s %10s  %s\n", "mapped files beside it", byteSize(m.Mapped), map[bool]string{false: "read once", true: "read in every pass"}[p.MapWeights])
	s.WriteString("\n")
	s.line("operations", "%s a step, %s in the largest, %s in all", flops(p.FLOP.Mean), flops(p.FLOP.Largest), flops(p.FLOP.Job))
	if p.Evaluations > 0 {
		s.line("evaluations", "%s of %s, %s each", data.Thousands(p.Evaluations), plural(p.EvalRows, "row"), flops(p.FLOP.Evaluation))
	}
	if f := r.Forecast; f != nil {
		s.line("time, about", "%s a step, %s for the largest, %s in all; %.0f tokens/s", duration(f.Mean), duration(f.Largest), duration(f.Job), f.Tokens)
		if f.Evaluation > 0 {
			s.line("", "%s an evaluation, %.0f%% of the whole for all", duration(f.Evaluation), 100*f.Evaluation*float64(p.Evaluations)/f.Job)
		}
		s.line("", "at %.0f%% of this machine's peak, %.0f GFLOP/s, with nothing else running", 100*f.Efficiency, f.PeakGFLOPS)
	}
	return s.String()
}

// flops is a number of operations with three digits.
func flops(x float64) string {
	for _, u := range []struct {
		unit string
		of   float64
	}{{"PFLOP", 1e15}, {"TFLOP", 1e12}, {"GFLOP", 1e9}} {
		if x >= u.of {
			return fmt.Sprintf("%.3g %s", x/u.of, u.unit)
		}
	}
	return fmt.Sprintf("%.3g MFLOP", x/1e6)
}

// duration is a time in words as exact as a forecast is.
func duration(seconds float64) string {
	switch d := time.Duration(seconds * float64(time.Second)); {
	case seconds > 100*365*24*3600:
		return "centuries"
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1f days", d.Hours()/24)
	case d >= time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	default:
		return d.Round(time.Millisecond).String()
	}
}

// memoryLine is the plan in a line, for cria train.
func memoryLine(p *train.Plan) string {
	s := fmt.Sprintf("memory: at most %s, and %s of mapped files; passes of up to %s tokens", byteSize(p.Memory.Own), byteSize(p.Memory.Mapped), data.Thousands(p.PassRows))
	if p.DropGateUp+p.DropAll > 0 {
		s += "; computed again: " + p.Again()
	}
	if p.MapWeights {
		s += "; weights packed anew in every operation"
	}
	return s
}
