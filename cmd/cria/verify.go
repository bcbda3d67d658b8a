package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cria/internal/train"

	"github.com/spf13/cobra"
)

func newVerify(ui *ui) *cobra.Command {
	var inputs, asJSON bool
	c := &cobra.Command{
		Use:   "verify DIR [key=value ...]",
		Short: "Make a trained adapter again, and compare every byte",
		Long: "Make a trained adapter again, and compare every byte. DIR is the output_dir of a run, or one of its checkpoints, which takes\n" +
			"less time: the run is made up to its step. " + train.RunFile + " in DIR says what the run was made of: the hashes of the weights, the\n" +
			"tokenizer, the template, the rows and their order, and the keys of the recipe that change what is trained. Where one of\n" +
			"these is not the same any more that is said, and nothing is trained.\n\n" +
			"On the same kind of CPU a run gives the same bits with any number of threads, in any memory, whether it was interrupted or\n" +
			"not. Another kind has other kernels, whose sums may be rounded otherwise; what differs is then shown in numbers.\n\n" +
			"Keys of the recipe are for what lies elsewhere now: model=..., dataset=.... DIR is only read. The exit code is 0 if all is\n" +
			"the same and 1 if anything differs.",
		Example: "  cria verify output\n  cria verify output/checkpoint-100\n  cria verify output --inputs        # compares hashes and trains nothing\n" +
			"  cria verify output model=/models/smollm2 dataset=rows.json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the directory of a run: cria verify DIR")
			}
			for _, a := range args[1:] {
				if !strings.Contains(a, "=") {
					return usagef("%q is neither a flag nor key=value; one directory is verified at a time", a)
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := verify(cmd.Context(), ui, args[0], args[1:], inputs)
			if err != nil {
				return err
			}
			if asJSON {
				if err := ui.json(v); err != nil {
					return err
				}
			} else {
				showVerification(ui, v)
			}
			return differs(v)
		},
	}
	c.Flags().BoolVar(&inputs, "inputs", false, "compare what the run was made of, and train nothing")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func verify(ctx context.Context, ui *ui, dir string, overrides []string, inputs bool) (*train.Verification, error) {
	was, r, err := train.OpenRun(dir, overrides)
	if err != nil {
		return nil, err
	}
	ui.answerStop("stopping after this step; nothing is kept of it")
	ui.show("reading the model and the data ...")
	start := time.Now()
	v, err := train.Verify(ctx, dir, was, r, inputs, train.Options{CPU: cpuName(), Find: ui.find(r), OnProgress: func(p train.Progress) {
		ui.show(fmt.Sprintf("%s step %d/%d  loss %.4f  %.0f tokens/s  %s left", bar(p.Step, was.Step, 20), p.Step, was.Step, p.Loss, p.TokensPerSecond,
			(time.Since(start) / time.Duration(p.Step) * time.Duration(was.Step-p.Step)).Round(time.Second)))
	}})
	ui.show("")
	if errors.Is(err, train.ErrInterrupted) || errors.Is(err, context.Canceled) {
		ui.note("stopped; %s was only read", dir)
	}
	return v, err
}

// showVerification prints what is the same and what is not.
func showVerification(ui *ui, v *train.Verification) {
	list := func(head string, ds []train.Difference) {
		if len(ds) == 0 {
			return
		}
		fmt.Fprintln(ui.out, head)
		for _, d := range ds {
			fmt.Fprintf(ui.out, "  %s: was %s, is %s\n", printable(d.Name), known(d.Was), known(d.Is))
		}
	}
	if len(v.Inputs) == 0 {
		fmt.Fprintf(ui.out, "inputs   the same: %d hashes and settings\n", len(v.Was.Inputs))
	}
	list("inputs   differ, so that nothing was trained:", v.Inputs)
	list("besides:", v.Notes)
	switch d := v.Adapter; {
	case !v.Trained:
	case v.Same:
		fmt.Fprintf(ui.out, "adapter  the same, every byte: %d tensors after step %d of %d\n", d.Tensors, v.Step, v.Steps)
	default:
		fmt.Fprintf(ui.out, "adapter  %d of %d tensors differ after step %d of %d, by at most %.3g (in %s)\n", d.Differing, d.Tensors, v.Step, v.Steps, d.Largest, printable(d.Name))
	}
}

func known(s string) string {
	if s == "" {
		return "not known"
	}
	return printable(s)
}

// differs is the error of a verification that found something.
func differs(v *train.Verification) error {
	switch {
	case len(v.Inputs) > 0:
		return fmt.Errorf("%s was made of something else than what is here now; name what it was made of by key=value (model=..., dataset=...)", v.Dir)
	case v.Trained && !v.Same && v.Was.Machine.Kernels != v.Is.Machine.Kernels:
		return fmt.Errorf("the adapter in %s is not the same; it was computed with %s kernels, here with %s, which round sums otherwise", v.Dir, v.Was.Machine.Kernels, v.Is.Machine.Kernels)
	case v.Trained && !v.Same:
		return fmt.Errorf("the adapter in %s is not what its run makes on this machine: the file was altered afterwards, or one of the two runs was computed wrongly", v.Dir)
	}
	return nil
}
