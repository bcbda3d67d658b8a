package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cria/internal/data"
	"cria/internal/demomodel"
	"cria/internal/hub"
	"cria/internal/starter"
	"cria/internal/train"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// initFlags are the answers that a command line gives; nil where it gives none.
type initFlags struct {
	model, system *string
	datasets      []string
	outputDir     string
	yes, force    bool
}

func newInit(ui *ui) *cobra.Command {
	var f initFlags
	var model, system string
	c := &cobra.Command{
		Use:   "init [RECIPE.yaml]",
		Short: "Ask three questions and write a first recipe",
		Long: "Write a recipe for cria train, recipe.yaml if no other name is given, after three questions: which model, which data, and\n" +
			"what the model is to become. The answers are looked at at once: what the model is, what format the rows have, how many\n" +
			"there are and how many tokens they take. From that come the template, max_length, the size and number of steps, and what\n" +
			"is set aside for evaluation; a comment above every key says what it means and why it has its value.\n\n" +
			"No connection is made: models and datasets on a hub are looked at where they are in the cache. Flags answer questions;\n" +
			"without a terminal they must answer all. A file that exists is not overwritten without --force.",
		Example: "  cria init\n  cria init voice.yaml --model ./SmolLM2-135M-Instruct --dataset rows.jsonl\n" +
			"  cria init --model org/name --dataset hf:org/rows --system 'You are Ada, a patient teacher.' --output-dir ada --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "recipe.yaml"
			switch {
			case len(args) > 1 || len(args) == 1 && args[0] == "":
				return usagef("one recipe is written at a time: cria init [RECIPE.yaml]")
			case len(args) == 1:
				path = args[0]
			}
			if cmd.Flags().Changed("model") {
				f.model = &model
			}
			if cmd.Flags().Changed("system") {
				f.system = &system
			}
			in, ok := ui.in.(*os.File)
			return runInit(cmd.Context(), ui, path, f, ok && term.IsTerminal(int(in.Fd())))
		},
	}
	c.Flags().StringVar(&model, "model", "", "the model: a directory, a GGUF file, or organisation/name on a hub")
	c.Flags().StringArrayVar(&f.datasets, "dataset", nil, "the data: a file, a directory, or hf:organisation/name; may be repeated")
	c.Flags().StringVar(&system, "system", "", "what the model is to become, as a system prompt; empty: nothing")
	c.Flags().StringVar(&f.outputDir, "output-dir", "output", "where the run puts checkpoints and the adapter")
	c.Flags().BoolVar(&f.yes, "yes", false, "ask nothing: what no flag says has its default")
	c.Flags().BoolVar(&f.force, "force", false, "replace a file that exists")
	_ = c.RegisterFlagCompletionFunc("model", func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return offer(append(files(".gguf")(typed), modelsHere()...), typed)
	})
	return c
}

// questions asks what flags do not say.
type questions struct {
	ui    *ui
	lines *lineReader // nil: nobody can be asked
}

// ask asks until look takes the answer. given is the answer of a flag, nil for none.
func (q *questions) ask(ctx context.Context, given *string, flag, question string, look func(answer string) error) error {
	if given != nil {
		if err := look(homePath(*given)); err != nil {
			return wrongAnswer(ctx, flag, err)
		}
		return nil
	}
	if q.lines == nil {
		return usagef("%s is missing, and without a terminal nobody can be asked; give %s", flag, flag)
	}
	q.ui.note("\n%s", q.ui.paint("1", question))
	for {
		fmt.Fprint(q.ui.err, q.ui.paint("1", "> "))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case line, ok := <-q.lines.lines:
			if !ok {
				return errors.Join(usagef("there was no answer; %s gives it", flag), q.lines.err)
			}
			err := look(homePath(strings.TrimSpace(line)))
			if err == nil || ctx.Err() != nil {
				return err
			}
			q.ui.note("  %s", oneScreen(err.Error()))
		}
	}
}

// wrongAnswer is the error for an answer on the command line.
func wrongAnswer(ctx context.Context, flag string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return usageError{fmt.Errorf("%s: %w", flag, err)}
}

// homePath replaces a ~ that no shell has replaced.
func homePath(s string) string {
	if home, err := os.UserHomeDir(); err == nil && (s == "~" || strings.HasPrefix(s, "~/")) {
		return filepath.Join(home, s[1:])
	}
	return s
}

// runInit writes a recipe. interactive says that somebody can be asked.
func runInit(ctx context.Context, ui *ui, path string, f initFlags, interactive bool) error {
	if err := vacantFile(path, f.force); err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return usagef("%s: there is no directory %s", path, filepath.Dir(path))
	}
	q := &questions{ui: ui}
	if interactive && !f.yes {
		q.lines = readLines(ui.in)
	}
	ui.answerStop("")
	draft, a, err := answers(ctx, q, f)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = draft.Publish(path, f.force)
	}
	ui.show("")
	switch {
	case errors.Is(err, context.Canceled):
		ui.note("\nstopped; nothing was written")
		return train.ErrInterrupted
	case errors.Is(err, fs.ErrExist):
		return usagef("%s exists by now; name another file, or replace it with --force", path)
	case err != nil:
		return err
	}
	describeDraft(ui, path, draft, a)
	return nil
}

// answers are the user's, and the recipe that follows from them.
func answers(ctx context.Context, q *questions, f initFlags) (*starter.Draft, starter.Answers, error) {
	ui := q.ui
	a := starter.Answers{OutputDir: homePath(f.outputDir)}
	found := func(s string) { ui.note("  %s", strings.ReplaceAll(printable(s), "\n", "\n  ")) }
	question := "Which model? A directory, a GGUF file, or organisation/name on a hub."
	if here := modelsHere(); len(here) > 0 && q.lines != nil && f.model == nil {
		question += "\nHere already: " + strings.Join(here, ", ")
	}
	err := q.ask(ctx, f.model, "--model", question, func(answer string) (err error) {
		if a.Model, err = starter.LookAtModel(ctx, answer); err == nil {
			found(a.Model.Describe())
		}
		return err
	})
	if err != nil {
		return nil, a, err
	}
	look := func(names ...string) (err error) {
		ui.show("reading the data ...")
		a.Rows, err = starter.LookAtRows(ctx, names...)
		ui.show("")
		if err == nil {
			found(a.Rows.Describe())
		}
		return err
	}
	if len(f.datasets) > 0 {
		for i := range f.datasets {
			f.datasets[i] = homePath(f.datasets[i])
		}
		if err := look(f.datasets...); err != nil {
			return nil, a, wrongAnswer(ctx, "--dataset", err)
		}
	} else {
		err := q.ask(ctx, nil, "--dataset", "Which data? A file, a directory, or a dataset on a hub (hf:organisation/name, ms:organisation/name).", func(answer string) error { return look(answer) })
		if err != nil {
			return nil, a, err
		}
	}
	if f.system == nil && f.yes {
		f.system = new(string)
	}
	err = q.ask(ctx, f.system, "--system", "What is the model to become? A system prompt, such as: You are Ada, a patient teacher. Enter alone for nothing.", func(answer string) error {
		a.System = answer
		return nil
	})
	if err != nil {
		return nil, a, err
	}
	ui.show("counting tokens ...")
	d, err := starter.New(ctx, a, func(rows int) {
		ui.show(fmt.Sprintf("counting tokens: %s of %s rows ...", data.Thousands(rows), data.Thousands(a.Rows.Count)))
	})
	return d, a, err
}

// modelsHere lists the models that are in a cache, as recipes name them.
func modelsHere() []string {
	names := repositories(hub.Model)
	if _, dir := demomodel.Cached(); dir != "" {
		names = append(names, dir)
	}
	return names
}

// describeDraft says what was written and what can be done with it.
func describeDraft(ui *ui, path string, d *starter.Draft, a starter.Answers) {
	ui.note("\nwrote %s", path)
	if d.Steps > 0 {
		ui.note("  %s optimizer steps over %s rows", data.Thousands(d.Steps), data.Thousands(a.Rows.Count))
	}
	if d.Prompt != "" {
		ui.note("  the model has no chat template; this prompt goes before every response, change prompt_template if you like:\n    %s", strings.ReplaceAll(printable(d.Prompt), "\n", "\n    "))
	}
	for _, n := range d.Notes {
		ui.note("note: %s", oneScreen(n))
	}
	for _, c := range d.Refused {
		at := ""
		if len(c.Places) > 0 {
			at = ", the first at " + c.Places[0]
		}
		ui.note("%s %s: %s%s; %s", ui.paint("33;1", "cria train would refuse this:"), c.Name, oneScreen(c.Finding), oneScreen(at), c.Advice)
	}
	if entries, err := os.ReadDir(a.OutputDir); err == nil && len(entries) > 0 {
		ui.note("note: %s is not empty; if it holds a run, set another output_dir", a.OutputDir)
	}
	ui.note("\nNext:")
	if m := a.Model; m.GGUF != "" {
		ui.note("  cria import %s %s   make the model's directory", shellWord(m.GGUF), shellWord(m.Name))
	} else if m.Pull {
		ui.note("  cria pull %s   fetch the model", m.Name)
	}
	word := shellWord(path)
	ui.note("  cria data %s    see what would be trained, token by token\n  cria plan %s    see what memory and time it takes\n  cria train %s   train", word, word, word)
}

// shellWord is s as a shell takes it for one word.
func shellWord(s string) string {
	if strings.ContainsAny(s, " \t\n'\"\\$&|;<>()*?[]#~`!{}") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
