package train

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"cria/internal/compute/cpu"
	"cria/internal/data"
	"cria/internal/disk"
	"cria/internal/report"
)

// Names of what a finished run leaves in output_dir to be looked at.
const (
	ReportFile  = "report.html"
	PictureFile = "loss.svg"
)

// Run is Loop.Run, and at the end writes report.html and loss.svg into output_dir, with answers of the model where there
// are to be any: then it is over, and what goes wrong with answers is said in the report alone (Unanswered). A run that had
// nothing left to do leaves a report that is there.
func (j *Job) Run(ctx context.Context) error {
	from := j.step
	if err := j.Loop.Run(ctx); err != nil {
		return err
	}
	if _, err := j.FS.Lstat(filepath.Join(j.OutputDir, ReportFile)); err == nil && j.step == from {
		return nil
	}
	if len(j.Config.prompts) > 0 {
		if err := j.writeReport("not made yet"); err != nil { // this process may be killed meanwhile
			return err
		}
		// Where weights are read from a disk for every token, this could take as long as training.
		most := max(10*time.Minute, time.Since(j.started)/10).Round(time.Second)
		limited, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		var err error
		switch j.Samples, err = j.Answer(limited); {
		case err == nil:
			before := "before"
			if j.Recipe.Adapter != "" {
				before = "without any adapter"
			}
			return j.writeReport(fmt.Sprintf("%s and after training, greedy, up to %d tokens; prompts %s", before, j.maxNewTokens, j.promptsOf))
		case ctx.Err() != nil:
			j.Unanswered = "training was over and they were stopped"
		case limited.Err() != nil:
			j.Unanswered = fmt.Sprintf("%v were not enough for them; a smaller sample_max_new_tokens takes less", most)
		default:
			j.Unanswered = err.Error()
		}
	}
	about := ""
	if j.Unanswered != "" {
		about = "none: " + j.Unanswered
	}
	return j.writeReport(about)
}

// writeReport writes report.html and loss.svg, whole or not at all. about is what it says of answers.
func (j *Job) writeReport(about string) error {
	r := j.reportOf()
	r.Samples, r.About = j.Samples, about
	page, err := r.HTML()
	if err != nil {
		return err
	}
	files := map[string][]byte{ReportFile: page, PictureFile: r.SVG()}
	for _, name := range []string{PictureFile, ReportFile} {
		if files[name] == nil {
			continue
		}
		if err := disk.PublishFile(j.FS, filepath.Join(j.OutputDir, name), files[name]); err != nil {
			return fmt.Errorf("the report could not be written: %w; the adapter is whole in %s", err, j.OutputDir)
		}
	}
	return nil
}

func (j *Job) reportOf() *report.Run {
	trainable, all := j.Parameters()
	model := filepath.Clean(j.Recipe.Model)
	name := filepath.Base(model)
	if _, err := strconv.Atoi(name); err == nil { // the number of a version
		name = filepath.Base(filepath.Dir(model))
	}
	run := &report.Run{Title: "Training " + name, Output: j.OutputDir, Problems: j.problems(), Recipe: string(j.Config.Recipe)}
	var last, eval, summary *Record
	for i := range j.history {
		r := &j.history[i]
		switch {
		case r.TrainRuntime != nil:
			summary = r
			continue
		case r.Loss != nil:
			last = r
		case r.EvalLoss != nil:
			eval = r
		}
		run.Points = append(run.Points, report.Point{Step: r.Step, Epoch: r.Epoch, Loss: r.Loss, GradNorm: r.GradNorm, LearningRate: r.LearningRate,
			EvalLoss: r.EvalLoss, EvalPerplexity: r.EvalPerplexity})
	}
	card := func(name, format string, v ...any) {
		run.Cards = append(run.Cards, [2]string{fmt.Sprintf(format, v...), name})
	}
	fact := func(name, format string, v ...any) {
		run.Facts = append(run.Facts, [2]string{name, fmt.Sprintf(format, v...)})
	}
	if last != nil {
		card("last loss", "%.4f", *last.Loss)
	}
	if eval != nil {
		card("last evaluation", "%.4f", *eval.EvalLoss)
	}
	if j.best != nil {
		card("best evaluation, step "+fmt.Sprint(j.best.Step), "%.4f", j.best.Metric)
	}
	card("steps", "%d of %d", j.step, j.Steps.Len())
	if summary != nil {
		card("time", "%v", time.Duration(*summary.TrainRuntime*float64(time.Second)).Round(time.Second))
		if s := *summary.TrainRuntime - j.aside.Seconds(); s > 0 && j.tokens > 0 {
			card("tokens a second", "%.0f", float64(j.tokens)/s)
		}
		fact("mean loss", "%.4f over all steps", *summary.TrainLoss)
	}
	if j.Stopped() {
		fact("ended", "by early stopping, after %d evaluations without a better one", j.patience)
	}
	if j.best != nil {
		final := "the last step's"
		if j.LoadBest {
			final = "the best checkpoint's"
		}
		fact("final adapter", "%s; best is %s", final, j.best.dir)
	}
	fact("model", "%s", j.Recipe.Model)
	p := j.Report
	fact("data", "%s: %s rows, %s tokens, %s of them trained", strings.Join(j.Recipe.Dataset, ", "), data.Thousands(p.Rows), data.Thousands(p.Tokens), data.Thousands(p.Labelled))
	if j.Eval != nil {
		fact("evaluation", "%s rows every %d steps; mean loss of all labelled tokens", data.Thousands(j.Eval.Len()), j.EvalSteps)
	}
	fact("parameters", "%s trained, %s in all", data.Thousands(trainable), data.Thousands(all))
	fact("computed with", "%s, %s, %d threads", j.Model.Backend().Name(), j.DType, j.Threads)
	fact("memory", "at most %s of its own planned", size(j.Plan.Memory.Own))
	machine := fmt.Sprintf("%s/%s, %d processor threads", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if j.cpu != "" {
		machine = j.cpu + ", " + machine
	}
	if total, _, _ := cpu.Memory(); total > 0 {
		machine += ", " + size(total) + " of memory"
	}
	fact("machine", "%s", machine)
	fact("cria", "%s, %s", Version(), runtime.Version())
	fact("base model (SHA-256)", "%s", j.Adapter.BaseSHA256)
	fact("finished", "%s", time.Now().Format("2006-01-02 15:04:05 -07:00"))
	return run
}

// Version is the module's version and the commit it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && !strings.Contains(v, s.Value[:12]) {
			v += " " + s.Value[:12]
		}
	}
	return v
}
