package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"cria/internal/convert"
	"cria/internal/data"
	"cria/internal/disk"
	"cria/internal/inspect"
	"cria/internal/train"

	"github.com/spf13/cobra"
)

func newImport(ui *ui) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE.gguf DIR",
		Short: "Make a model directory of a GGUF file",
		Long: "Make a model directory in Hugging Face's layout of a GGUF file: bfloat16 weights, configuration and tokenizer. Quantised\n" +
			"weights are taken as the numbers that they stand for.\n\n" +
			"DIR appears whole or not at all; one that exists and is not empty is refused. What has no exact equal is refused by name.",
		Example: "  cria import SmolLM2-135M-Instruct-Q8_0.gguf ./smollm2\n  cria inspect model.gguf",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 || args[1] == "" {
				return usagef("name the file and the new directory: cria import FILE.gguf DIR")
			}
			return runImport(cmd.Context(), ui, args[0], args[1])
		},
	}
}

func runImport(ctx context.Context, ui *ui, file, dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return usagef("%s exists and is not empty; delete it or name another directory", dir)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return usagef("%s cannot become a directory: %w", dir, err)
	}
	r, err := inspect.Path(ctx, file)
	switch {
	case err != nil:
		return err
	case r.GGUF == nil:
		return usagef("%s is not a GGUF file (cria inspect says: %s)", file, r.Kind)
	case !r.GGUF.Importable:
		return errors.New(strings.Join(r.Problems, "\n"))
	}
	need := uint64(r.GGUF.ImportedBytes) + 64<<20 // room for the tokenizer
	if free, err := disk.FreeSpace(dir); err == nil && free < need {
		return fmt.Errorf("%s has %s free, the model takes %s; make room or name another directory", dir, byteSize(int64(free)), byteSize(int64(need)))
	}
	ui.show("reading " + file + " ...")
	err = convert.ImportGGUF(ctx, file, dir, byteProgress(ui, ""))
	ui.show("")
	if errors.Is(err, context.Canceled) {
		ui.note("stopped; nothing was left in %s", dir)
		return train.ErrInterrupted
	}
	if err != nil {
		return err
	}
	return imported(ctx, ui, dir)
}

// byteProgress draws a bar behind what, at most ten times a second.
func byteProgress(ui *ui, what string) func(done, total int64) {
	var start, drawn time.Time
	return func(done, total int64) {
		now := time.Now()
		if start.IsZero() {
			start = now
		}
		if now.Sub(drawn) < 100*time.Millisecond {
			return
		}
		drawn = now
		ui.show(what + importProgress(done, total, now.Sub(start)))
	}
}

func importProgress(done, total int64, spent time.Duration) string {
	s := fmt.Sprintf("%s %s of %s", bar(int(done>>10), int(total>>10), 20), byteSize(done), byteSize(total))
	if done == 0 || spent < 100*time.Millisecond {
		return s
	}
	rate := float64(done) / spent.Seconds()
	left := time.Duration(float64(total-done) / rate * float64(time.Second))
	return fmt.Sprintf("%s  %s/s  %s left", s, byteSize(int64(rate)), left.Round(time.Second))
}

// imported says what was made and what can be done with it.
func imported(ctx context.Context, ui *ui, dir string) error {
	r, err := inspect.Path(ctx, dir)
	if err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("%s was written, but cannot be used: %s", dir, strings.Join(r.Problems, "\n"))
	}
	m := r.Model
	tensors := 0
	for _, n := range m.DTypes {
		tensors += n
	}
	var s sheet
	s.line("model", "%s", dir)
	s.line("architecture", "%s, %s", m.Architecture, plural(m.NumHiddenLayers, "layer"))
	s.line("parameters", "%s in %s, %s", data.Thousands(int(m.Parameters)), plural(tensors, "tensor"), byteSize(m.Bytes))
	s.line("tokenizer", "%s, %s tokens", m.Tokenizer.Type, data.Thousands(m.Tokenizer.Tokens))
	s.line("chat template", "%s", yesNo(m.Tokenizer.ChatTemplate))
	if _, err := fmt.Fprint(ui.out, printable(s.String())); err != nil {
		return err
	}
	ui.note("\ntalk to it:  cria chat %s\ntrain it:    cria train RECIPE.yaml model=%s", dir, dir)
	return nil
}
