package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cria/internal/data"
	"cria/internal/inspect"

	"github.com/spf13/cobra"
)

func newInspect(ui *ui) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect PATH",
		Short: "Say what a file or directory is, and whether it is whole",
		Long: "Say what PATH is and what cria can do with it: a model directory, a GGUF file, an adapter, a checkpoint, the output_dir\n" +
			"of a run, a safetensors file, a dataset or a recipe. Checkpoints are compared with the hashes in their manifest.\n\n" +
			"What is damaged or missing is listed under \"problems\" and does not change the exit code; nothing is written.",
		Example: "  cria inspect ./model\n  cria inspect model.gguf\n  cria inspect output\n  cria inspect output/checkpoint-100 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("name one file or directory: cria inspect PATH")
			}
			path, err := ui.cached(args[0])
			if err != nil {
				return err
			}
			ui.show("reading " + path + " ...")
			r, err := inspect.Path(cmd.Context(), path)
			ui.show("")
			if err != nil {
				return err
			}
			if asJSON {
				return ui.json(r)
			}
			_, err = fmt.Fprint(ui.out, printable(reportText(r)))
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object instead of the text")
	return c
}

// sheet collects lines of a name and a value.
type sheet struct{ strings.Builder }

func (s *sheet) line(name, format string, args ...any) {
	fmt.Fprintf(s, "%-14s %s\n", name, fmt.Sprintf(format, args...))
}

// reportText is a report for people.
func reportText(r *inspect.Report) string {
	var s sheet
	s.line(kindNames[r.Kind], "%s", r.Path)
	switch {
	case r.Model != nil:
		s.model(r.Model)
	case r.GGUF != nil:
		s.gguf(r.GGUF)
	case r.Safetensors != nil:
		s.safetensors(r.Safetensors)
	case r.Dataset != nil:
		s.dataset(r.Dataset)
	case r.Run != nil:
		s.run(r.Run)
	case r.Checkpoint != nil:
		s.checkpoint(r.Checkpoint)
	}
	if r.Log != nil {
		s.log(r.Log)
	}
	if r.Adapter != nil {
		s.adapter(r.Adapter)
	}
	if r.Recipe != nil {
		s.recipe(r.Recipe, r.Kind == inspect.KindRecipe)
	}
	for i, p := range r.Problems {
		s.line([]string{"problems", ""}[min(i, 1)], "%s", strings.ReplaceAll(p, "\n", "\n"+strings.Repeat(" ", 15)))
	}
	return s.String()
}

var kindNames = map[inspect.Kind]string{inspect.KindModel: "model", inspect.KindGGUF: "GGUF file", inspect.KindAdapter: "adapter",
	inspect.KindCheckpoint: "checkpoint", inspect.KindRun: "output_dir", inspect.KindSafetensors: "tensor file", inspect.KindDataset: "dataset",
	inspect.KindRecipe: "recipe", inspect.KindUnknown: "unknown"}

func (s *sheet) model(m *inspect.Model) {
	s.line("architecture", "%s", orDash(m.Architecture))
	if m.HiddenSize > 0 {
		s.line("sizes", "%s, hidden_size %d, intermediate_size %d, %d heads (%d key-value) of %d, vocab_size %d", plural(m.NumHiddenLayers, "layer"), m.HiddenSize,
			m.IntermediateSize, m.NumAttentionHeads, m.NumKeyValueHeads, m.HeadDim, m.VocabSize)
		s.line("context", "%s tokens, RoPE %s", data.Thousands(m.MaxPositionEmbeddings), m.RopeScaling)
	}
	s.line("parameters", "%s%s", data.Thousands(int(m.Parameters)), map[bool]string{true: ", head tied to the embedding"}[m.TieWordEmbeddings])
	s.line("weights", "%s, %s in %s", dtypes(m.DTypes), byteSize(m.Bytes), plural(len(m.Files), "file"))
	if t := m.Tokenizer; t != nil {
		s.line("tokenizer", "%s, %s tokens, bos %s, eos %s, pad %s", t.Type, data.Thousands(t.Tokens), orDash(t.BOSToken), orDash(t.EOSToken), orDash(t.PadToken))
		s.line("chat template", "%s", yesNo(t.ChatTemplate))
	}
	s.line("ends a reply", "%s", orDash(strings.Trim(fmt.Sprint(m.EOSTokenID), "[]")))
	if m.Source != nil {
		s.line("imported from", "%s (%s), SHA-256 %s", m.Source.Name, m.Source.Format, m.Source.SHA256)
	}
	s.line("usable", "%s", map[bool]string{true: "yes: cria can train it and generate with it", false: "no"}[m.Usable])
}

func (s *sheet) gguf(g *inspect.GGUF) {
	s.line("format", "GGUF %d, %s", g.Version, byteSize(g.Bytes))
	s.line("architecture", "%s", orDash(g.Architecture))
	s.line("name", "%s", orDash(g.Name))
	s.line("parameters", "%s in %s", data.Thousands(int(g.Parameters)), plural(g.Tensors, "tensor"))
	for i, t := range g.Types {
		s.line([]string{"types", ""}[min(i, 1)], "%-8s %s, %s", t.Type, plural(t.Tensors, "tensor"), byteSize(t.Bytes))
	}
	s.line("tokenizer", "%s, %s tokens", orDash(g.Tokenizer), data.Thousands(g.Tokens))
	s.line("chat template", "%s", yesNo(g.Template))
	for i, v := range g.Metadata {
		s.line([]string{"metadata", ""}[min(i, 1)], "%s: %s", v.Key, strings.ReplaceAll(v.Value, "\n", "⏎"))
	}
	if g.Importable {
		s.line("importable", "yes, it takes %s in bfloat16: cria import FILE.gguf DIR", byteSize(g.ImportedBytes))
	} else {
		s.line("importable", "no")
	}
}

func (s *sheet) safetensors(f *inspect.Safetensors) {
	name, dtype, shape := len("total"), 0, 0
	for _, t := range f.Tensors {
		name, dtype, shape = max(name, len(t.Name)), max(dtype, len(t.DType)), max(shape, len(fmt.Sprint(t.Shape)))
	}
	for _, t := range f.Tensors {
		fmt.Fprintf(s, "  %-*s  %-*s  %-*s  %15s\n", name, t.Name, dtype, t.DType, shape, fmt.Sprint(t.Shape), data.Thousands(int(t.Bytes)))
	}
	fmt.Fprintf(s, "  %-*s  %*s  %15s\n", name, "total", dtype+2+shape, "", data.Thousands(int(f.Bytes)))
	keys := make([]string, 0, len(f.Metadata))
	for k := range f.Metadata {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		s.line("metadata", "%s: %s", k, f.Metadata[k])
	}
	s.line("tensors", "%d with %s elements, file of %s", len(f.Tensors), data.Thousands(int(f.Parameters)), byteSize(f.FileBytes))
}

func (s *sheet) dataset(d *inspect.Dataset) {
	s.line("columns", "%s", orDash(strings.Join(d.Columns, ", ")))
	s.line("size", "%s", byteSize(d.Bytes))
	if d.Rows == 0 {
		return
	}
	s.line("rows", "%s, %s of them with an input", data.Thousands(d.Rows), data.Thousands(d.WithInput))
	s.line("characters", "%s, %.1f a row", data.Thousands(d.Characters), float64(d.Characters)/float64(d.Rows))
	s.line("longest", "row %d at line %d, %s characters", d.Longest.Row, d.Longest.Line, data.Thousands(d.Longest.Characters))
	for _, r := range d.First {
		s.line(fmt.Sprintf("row %d", r.Row), "instruction  %s", excerpt(r.Instruction))
		if r.Input != "" {
			s.line("", "input        %s", excerpt(r.Input))
		}
		s.line("", "output       %s", excerpt(r.Output))
	}
}

func (s *sheet) run(u *inspect.Run) {
	switch {
	case u.InUse != nil:
		s.line("state", "process %d on %s trains in it since %s", u.InUse.PID, u.InUse.Host, u.InUse.Started.Format(time.DateTime))
	case u.Finished:
		s.line("state", "finished: the final adapter is in it")
	case len(u.Checkpoints) == 0:
		s.line("state", "no step was saved")
	default:
		s.line("state", "not finished")
	}
	for i, c := range u.Checkpoints {
		note := ""
		if c.Reason != "" {
			note = ": " + c.Reason
		}
		s.line([]string{"checkpoints", ""}[min(i, 1)], "%s  %s, %s%s", c.Name, byteSize(c.Bytes), c.State, note)
	}
	s.line("newest whole", "%s", orDash(u.Newest))
	if len(u.Leftovers) > 0 {
		s.line("left over", "%s of a run that was killed; the next run removes them", strings.Join(u.Leftovers, ", "))
	}
	if u.Resume != "" {
		s.line("go on with", "%s", u.Resume)
	}
}

func (s *sheet) checkpoint(c *inspect.Checkpoint) {
	s.line("step", "%d of %d, epoch %.2f of %d", c.Step, c.MaxSteps, c.Epoch, c.Epochs)
	s.line("state", "%s, %s", map[inspect.State]string{inspect.Whole: "whole: every file is what the manifest says", inspect.Damaged: "damaged",
		inspect.Unsealed: "written by another program, without a manifest to compare with"}[c.State], byteSize(c.Bytes))
	if c.ComputeDType != "" {
		s.line("computed in", "%s", c.ComputeDType)
	}
	switch {
	case c.Resumable:
		s.line("go on with", "%s", c.Resume)
	case c.Resume != "":
		s.line("resumable", "no, the optimizer's state is not in a form that cria reads; start from its weights with %s", c.Resume)
	default:
		s.line("resumable", "no")
	}
}

func (s *sheet) log(l *inspect.Log) {
	if len(l.Losses) == 0 {
		s.line("loss", "nothing logged")
		return
	}
	s.line("loss", "%.4f at step %d, lowest %.4f at step %d, last %.4f at step %d (%s)", l.First.Loss, l.First.Step, l.Lowest.Loss, l.Lowest.Step,
		l.Last.Loss, l.Last.Step, entries(len(l.Losses)))
	if len(l.Losses) > 1 {
		s.line("", "%s", sparkline(l.Losses, 60))
	}
	if l.Seconds > 0 {
		s.line("trained", "%s, mean loss %.4f", time.Duration(l.Seconds*float64(time.Second)).Round(time.Second), l.Mean)
	}
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// sparkline draws a loss curve in up to width characters, each the mean of the entries that fall into it.
func sparkline(losses []inspect.Loss, width int) string {
	width = min(width, len(losses))
	means := make([]float64, width)
	for i := range means {
		part := losses[i*len(losses)/width : (i+1)*len(losses)/width]
		for _, p := range part {
			means[i] += p.Loss / float64(len(part))
		}
	}
	low, high := slices.Min(means), slices.Max(means)
	var b strings.Builder
	for _, m := range means {
		level := 0.0
		if high > low {
			level = (m - low) / (high - low)
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[int(level*7+0.5)])
	}
	return b.String()
}

func (s *sheet) adapter(a *inspect.Adapter) {
	if a.R > 0 {
		kind := ""
		if a.UseRSLoRA {
			kind = "rsLoRA, "
		}
		s.line("LoRA", "%sr %d, lora_alpha %g, scale %g, lora_dropout %g", kind, a.R, a.LoraAlpha, a.Scale, a.LoraDropout)
		s.line("targets", "%s", a.TargetModules)
		if len(a.LayersToTransform) > 0 {
			s.line("layers", "%v", a.LayersToTransform)
		}
		if len(a.RankPattern)+len(a.AlphaPattern) > 0 {
			s.line("patterns", "rank %v, alpha %v", a.RankPattern, a.AlphaPattern)
		}
		base := ""
		if a.BaseChecked {
			base = " (its shapes fit)"
		}
		s.line("base model", "%s%s", orDash(a.BaseModel), base)
		if a.BaseSHA256 != "" {
			s.line("", "SHA-256 %s", a.BaseSHA256)
		}
	}
	s.line("trainable", "%s parameters in %s, %s, %s", data.Thousands(int(a.Parameters)), plural(a.Modules, "module"), dtypes(a.DTypes), byteSize(a.Bytes))
	if a.PEFT != "" {
		s.line("read by", "cria, peft %s", a.PEFT)
	}
}

func (s *sheet) recipe(r *inspect.Recipe, whole bool) {
	if !whole {
		s.line("recipe", "%s", r.Path)
	}
	found := map[bool]string{false: " (not found here)"}
	s.line("trains", "%s%s on %s%s", r.Model, found[r.ModelFound], strings.Join(r.Dataset, ", "), found[r.DatasetFound])
	steps := fmt.Sprintf("%g epochs", r.Epochs)
	if r.MaxSteps > 0 {
		steps = plural(r.MaxSteps, "step")
	}
	s.line("", "%s of %s, learning_rate %g (%s), seed %d, template %s", steps, plural(r.RowsPerStep, "row"), r.LearningRate, r.Schedule, r.Seed, r.Template)
	if !whole {
		return
	}
	if r.Adapter != "" {
		s.line("starts from", "%s", r.Adapter)
	} else {
		s.line("LoRA", "r %d, lora_alpha %d, lora_dropout %g, target_modules %s", r.R, r.LoraAlpha, r.LoraDropout, r.TargetModules)
	}
	s.line("output_dir", "%s", r.OutputDir)
	for _, n := range r.Notes {
		s.line("note", "%s", n)
	}
	s.line("sets", "%s", strings.Join(r.Set, ", "))
	fmt.Fprintf(s, "\n%s", r.Resolved)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

// dtypes lists element types with the number of their tensors.
func dtypes(m map[string]int) string {
	var out []string
	for t, n := range m {
		out = append(out, fmt.Sprintf("%s (%s)", t, plural(n, "tensor")))
	}
	slices.Sort(out)
	return orDash(strings.Join(out, ", "))
}

// excerpt is the beginning of a text, on one line.
func excerpt(s string) string {
	r := []rune(strings.NewReplacer("\n", "⏎", "\t", " ").Replace(s))
	if len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return string(r)
}

// byteSize is a number of bytes in binary units.
func byteSize(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return plural(int(n), "byte")
}
