package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"cria/internal/compat"
	"cria/internal/hub"

	"github.com/spf13/cobra"
)

func newDoctorAdapter(ui *ui) *cobra.Command {
	var model, fix string
	var asJSON bool
	c := &cobra.Command{
		Use:   "adapter DIR",
		Short: "Say which programs take an adapter, and write one that they take",
		Long: "Say whether peft 0.11.1, vLLM and llama.cpp (convert_lora_to_gguf.py) take the LoRA adapter in DIR, by the rules in their\n" +
			"sources, and if not, why and what to do. A program that opens it and computes something else counts as refusing. DIR is\n" +
			"peft's, of any version, or MLX's. Its tensors are looked at, and its shapes compared with those of its base model where that\n" +
			"is here. Nothing is fetched but DIR, where that is a name on a hub.\n\n" +
			"--fix OUT writes the same adapter as peft 0.11.1 would have, into the new directory OUT, which appears whole or not at all;\n" +
			"DIR is never altered. What it computes stays the same. Adapters that compute more than plain LoRA (DoRA, modules_to_save,\n" +
			"biases and others) are refused.\n\n" +
			"The exit code is 0 if all three programs take the adapter (with --fix: the one in OUT), 1 otherwise.",
		Example: "  cria doctor adapter output\n  cria doctor adapter ./theirs --fix ./ours\n  cria doctor adapter ./mlx-adapters --model ./base --fix ./ours --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("name one adapter: cria doctor adapter DIR [--model BASE] [--fix OUT]")
			}
			dir, err := ui.directory(cmd.Context(), args[0], hub.Model, "")
			if err != nil {
				return err
			}
			base := ""
			if model != "" {
				if base, err = ui.cached(model); err != nil {
					return err
				}
			}
			return examine(ui, dir, base, model, fix, asJSON)
		},
	}
	c.Flags().StringVar(&model, "model", "", "its base model: a directory, or a name on a hub that was pulled (default: the one that the adapter names). OUT names it where the adapter names none or is MLX's")
	c.Flags().StringVar(&fix, "fix", "", "write the adapter into this new directory so that all take it")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object instead of the text")
	return c
}

// examined is what --json prints.
type examined struct {
	*compat.Report
	Taken bool           `json:"taken"` // by peft 0.11.1, vLLM and llama.cpp
	Fixed *compat.Report `json:"fixed,omitempty"`
}

// errNotTaken ends the command with exit code 1.
var errNotTaken = errors.New("not every program takes this adapter")

// examine looks at dir and, where fix names a directory, writes it there. base is the model's directory, or "" for the one that
// the adapter names; baseName is what the user called it.
func examine(ui *ui, dir, base, baseName, fix string, asJSON bool) error {
	ui.show("reading " + dir + " ...")
	defer ui.show("")
	r, err := compat.Check(dir, base)
	if err != nil {
		return err
	}
	if base == "" && r.BaseModel != "" {
		if found, err := ui.cached(r.BaseModel); err == nil {
			if _, err := os.Stat(found); err == nil {
				if r, err = compat.Check(dir, found); err != nil {
					return fmt.Errorf("its base model: %w; name another with --model DIR", err)
				}
				base = found
			}
		}
	}
	result := examined{Report: r, Taken: r.Taken()}
	taken := result.Taken
	if fix != "" {
		if err := compat.Fix(dir, base, baseName, fix); err != nil {
			return err
		}
		if result.Fixed, err = compat.Check(fix, base); err != nil {
			return err
		}
		taken = result.Fixed.Taken()
	}
	ui.show("")
	if asJSON {
		err = ui.json(result)
	} else {
		_, err = fmt.Fprint(ui.out, printable(result.text()))
	}
	switch {
	case err != nil:
		return err
	case taken:
		return nil
	case fix == "" && r.Fixable && len(r.Faults) == 0:
		return fmt.Errorf("%w; to write one that they take:  cria doctor adapter %s --fix OUT", errNotTaken, dir)
	}
	return errNotTaken
}

func (e *examined) text() string {
	var s sheet
	s.compat(e.Report)
	if e.Fixed != nil {
		fmt.Fprintln(&s)
		s.line("written", "%s", e.Fixed.Path)
		s.compat(e.Fixed)
	}
	return s.String()
}

func (s *sheet) compat(r *compat.Report) {
	about := r.Layout + "'s layout"
	if r.Modules > 0 {
		about = fmt.Sprintf("%s, r %d, lora_alpha %v, %s", about, r.R, r.LoraAlpha, plural(r.Modules, "module"))
	}
	s.line("adapter", "%s: %s, %s", r.Path, about, dtypes(r.DTypes))
	base := orDash(r.BaseModel)
	if r.BaseDir != "" {
		base += ", compared with " + r.BaseDir
	}
	s.line("base", "%s", base)
	s.line("prompts", "tokenizer: %s, chat template: %s", place(r, r.Tokenizer), place(r, r.Template))
	for _, v := range r.Verdicts {
		s.line(v.Program, "%s", v.Answer)
		s.remarks("", v.Remarks)
	}
	s.remarks("damaged", r.Faults)
	s.remarks("note", r.Notes)
}

// place says where a reader finds something.
func place(r *compat.Report, where string) string {
	switch {
	case where == "adapter":
		return "beside the adapter"
	case where == "base":
		return "the base's"
	case r.BaseDir == "":
		return "not beside the adapter"
	}
	return "none"
}

// remarks writes each remark on a line, and what to do about it on the next.
func (s *sheet) remarks(name string, remarks []compat.Remark) {
	for _, r := range remarks {
		s.line(name, "%s", strings.ReplaceAll(r.What, "\n", " "))
		if r.Do != "" {
			s.line("", "-> %s", r.Do)
		}
	}
}
