package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cria/internal/data"
	"cria/internal/inspect"
	"cria/internal/recipe"
	"cria/internal/train"

	"github.com/spf13/cobra"
)

func newTrain(ui *ui) *cobra.Command {
	c := &cobra.Command{
		Use:   "train [RECIPE.yaml] [key=value | --key value ...]",
		Short: "Train a LoRA adapter as a recipe says",
		Long: "Train a LoRA adapter. The recipe is a YAML file with the names of TrainingArguments and LoraConfig; keys on the\n" +
			"command line override it. The adapter and the checkpoints in output_dir load in peft.\n\n" +
			"The first Ctrl-C finishes the step, saves, and says how to go on.\n\nKeys (docs/recipe.md says more):\n" + recipe.Help(),
		Example: "  cria train recipe.yaml\n  cria train recipe.yaml learning_rate=2e-4 lora.r=16\n" +
			"  cria train recipe.yaml --resume_from_checkpoint true\n" +
			"  cria train model=./SmolLM2-135M-Instruct dataset=rows.json template=prompt ...",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, _, err := loadRecipe(cmd, args)
			if err != nil || r == nil {
				return err
			}
			return runTrain(cmd.Context(), ui, r, nil)
		},
	}
	return c
}

// loadRecipe reads the recipe of a command line. Where the line asks for help it prints that and returns nil.
func loadRecipe(cmd *cobra.Command, args []string) (r *recipe.Recipe, path string, err error) {
	path, overrides, err := recipeArgs(args)
	if errors.Is(err, errHelp) {
		return nil, path, cmd.Help()
	}
	if err != nil {
		return nil, path, err
	}
	r, err = recipe.Load(path, overrides)
	return r, path, err
}

var errHelp = errors.New("help")

// recipeArgs splits a command line into the recipe's path and overrides "key=value".
func recipeArgs(args []string) (path string, overrides []string, err error) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "-h" || a == "--help":
			return "", nil, errHelp
		case strings.HasPrefix(a, "--"):
			key, value, ok := strings.Cut(a[2:], "=")
			if !ok {
				if i++; i == len(args) {
					return "", nil, usagef("--%s needs a value: --%s VALUE or %s=VALUE", key, key, key)
				}
				value = args[i]
			}
			overrides = append(overrides, strings.ReplaceAll(key, "-", "_")+"="+value)
		case strings.HasPrefix(a, "-"):
			return "", nil, usagef("unknown flag %s; keys of the recipe are given as key=value or --key value", a)
		case strings.Contains(a, "="):
			overrides = append(overrides, a)
		case path == "":
			path = a
		default:
			return "", nil, usagef("two recipes are named, %s and %s; one is trained at a time", path, a)
		}
	}
	return path, overrides, nil
}

// runTrain trains a recipe with its progress on the terminal. then, if not nil, gets a run that has come to its end.
func runTrain(ctx context.Context, ui *ui, r *recipe.Recipe, then func(*train.Job) error) error {
	// Where the reader of standard error ends first, as of "2>&1 | tee log" at Ctrl-C, the run is saved all the same, and the
	// exit code is its own.
	signal.Ignore(syscall.SIGPIPE)
	for _, n := range r.Notes {
		ui.note("note: %s", n)
	}
	ui.answerStop("stopping after this step; press Ctrl-C again to stop at once and lose the work since the last checkpoint")
	ui.show("reading the model and the data ...")
	j, err := train.Prepare(ctx, r, train.Options{CPU: cpuName(), Find: ui.find(r), Info: func(s string) { ui.note("note: %s", oneScreen(s)) },
		OnProgress: func(p train.Progress) { showProgress(ui, &p) }, OnAnswer: func(done, all int) { showAnswering(ui, r, done, all) }})
	ui.show("")
	if errors.Is(err, context.Canceled) {
		ui.note("stopped before the first step; nothing was written")
	}
	if err != nil {
		return err
	}
	defer j.Close()
	describe(ui, j)
	start := time.Now()
	err = j.Run(ctx)
	ui.show("")
	switch {
	case errors.Is(err, train.ErrInterrupted):
		ui.note("saved at step %d of %d. Go on with: %s", j.Step(), j.Steps.Len(), inspect.ResumeCommand(j.Checkpoint(), r.OutputDir))
		return err
	case err != nil:
		return err
	}
	if j.Stopped() {
		ui.note("early stopping ended the run after step %d of %d", j.Step(), j.Steps.Len())
	}
	if dir, loss := j.Best(); dir != "" && r.LoadBestModelAtEnd {
		ui.note("the final adapter is that of the best checkpoint, %s (eval_loss %.4f)", dir, loss)
	}
	ui.note("done: %d steps in %s; the adapter is in %s", j.Step(), time.Since(start).Round(time.Second), r.OutputDir)
	if j.Unanswered != "" {
		ui.note("no answers of the model in the report: %s", j.Unanswered)
	}
	ui.note("how it went: %s", filepath.Join(r.OutputDir, train.ReportFile))
	if then != nil {
		if err := then(j); err != nil {
			return err
		}
	}
	return j.Verdict()
}

// showAnswering tells that a run is saved and now answers prompts.
func showAnswering(ui *ui, r *recipe.Recipe, done, all int) {
	if done == 0 {
		ui.answerStop("stopping; the adapter is saved")
		ui.note("trained and saved; answering %s before and after training for the report (Ctrl-C leaves that out) ...", plural(all/2, "prompt"))
	}
	ui.show(fmt.Sprintf("answer %d of %d", done+1, all))
}

// describe says what is about to be trained.
func describe(ui *ui, j *train.Job) {
	trainable, all := j.Parameters()
	ui.note("trainable params: %s || all params: %s || trainable%%: %.4f", data.Thousands(trainable), data.Thousands(all), 100*float64(trainable)/float64(all))
	p := j.Report
	ui.note("%s rows, %s tokens, %s of them trained; %d steps; %s, %s on %d threads", data.Thousands(p.Rows), data.Thousands(p.Tokens), data.Thousands(p.Labelled),
		j.Steps.Len(), j.Model.Backend().Name(), j.DType, j.Threads)
	for _, t := range []struct {
		n    int
		what string
	}{{p.Unlabelled.Rows, "without a trained token"}, {p.Cut.Rows, "cut to max_length"}, {p.Dropped.Rows, "dropped"}, {p.UntrainedEnd.Rows, "without a trained end"}} {
		if t.n > 0 {
			ui.note("  %s %s (allowed by the recipe)", plural(t.n, "row"), t.what)
		}
	}
	ui.note("%s", memoryLine(j.Plan))
	if j.Eval != nil {
		ui.note("evaluation of %s every %s and at the end", plural(j.Eval.Len(), "row"), plural(j.EvalSteps, "step"))
	}
	if j.Resumed != "" {
		ui.note("going on from %s", j.Resumed)
	}
}

// showProgress prints a log line every logging_steps, and on a terminal a live line after every step.
func showProgress(ui *ui, p *train.Progress) {
	if r := p.Record; r != nil {
		ui.note("step %d/%d  loss %.4f  grad_norm %.4g  lr %.3g  epoch %.2f  %.0f tokens/s", p.Step, p.Steps, *r.Loss, p.GradNorm, p.LearningRate, p.Epoch, p.TokensPerSecond)
	}
	if r := p.Eval; r != nil {
		line := fmt.Sprintf("step %d/%d  eval_loss %.4f", p.Step, p.Steps, *r.EvalLoss)
		if r.EvalPerplexity != nil {
			line += fmt.Sprintf("  perplexity %.4g", *r.EvalPerplexity)
		}
		ui.note("%s", line)
	}
	if p.Checkpoint != "" {
		ui.note("saved %s", p.Checkpoint)
	}
	ui.show(fmt.Sprintf("%s step %d/%d  loss %.4f  grad_norm %.3g  %.0f tokens/s  %s left", bar(p.Step, p.Steps, 20), p.Step, p.Steps, p.Loss, p.GradNorm,
		p.TokensPerSecond, p.Left.Round(time.Second)))
}

func bar(done, all, width int) string {
	n := width * done / max(1, all)
	return "[" + strings.Repeat("=", n) + strings.Repeat(" ", width-n) + "]"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
