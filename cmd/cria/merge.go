package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"cria/internal/adapter"
	"cria/internal/export"
	"cria/internal/hub"

	"github.com/spf13/cobra"
)

// exportFlags are the flags that merge and export share.
type exportFlags struct {
	adapter, model, output string
	asJSON                 bool
}

func (e *exportFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&e.adapter, "adapter", "", "LoRA adapter: its directory, or its name on a hub")
	f.StringVar(&e.model, "model", "", "model: its directory, or its name on a hub (default: the base that the adapter names)")
	f.StringVarP(&e.output, "output", "o", "", "the new file or directory")
	f.BoolVar(&e.asJSON, "json", false, "print one JSON object instead of the summary")
}

func newMerge(ui *ui) *cobra.Command {
	var e exportFlags
	c := &cobra.Command{
		Use:   "merge --adapter DIR --output DIR",
		Short: "Merge an adapter into the model that it was trained on",
		Long: "Merge an adapter into the model that it was trained on: a model directory in Hugging Face's layout, in the number format\n" +
			"of the base's weights, with the chat template that makes the prompts of training.\n\n" +
			"The base is compared with the hash of its weights that the adapter records, and refused if it is another one. DIR appears\n" +
			"whole or not at all; one that exists and is not empty is refused.",
		Example: "  cria merge --adapter output --output merged\n  cria merge --adapter output --model ./smollm2 --output merged && cria chat merged",
		Args:    noArgs("merge"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if e.adapter == "" {
				return usagef("name the adapter: cria merge --adapter DIR --output DIR")
			}
			return e.run(cmd.Context(), ui, "hf", "", "")
		},
	}
	e.add(c)
	return c
}

// noArgs refuses what is not a flag, and says how it is meant.
func noArgs(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("%q is not a flag; cria %s --adapter DIR --model DIR --output PATH names everything by flags", args[0], command)
		}
		return nil
	}
}

// find makes directories of the adapter's name and of the model's, which is the one that was given or the adapter's base.
func (e *exportFlags) find(ctx context.Context, ui *ui) (model string, err error) {
	if e.adapter == "" {
		return ui.directory(ctx, e.model, hub.Model, "")
	}
	if e.adapter, err = ui.directory(ctx, e.adapter, hub.Model, ""); err != nil {
		return "", err
	}
	if e.model != "" {
		return ui.directory(ctx, e.model, hub.Model, "")
	}
	c, err := adapter.ReadConfig(e.adapter)
	if err != nil {
		return "", err
	}
	base := c.BaseModelNameOrPath
	if model, err = ui.directory(ctx, base, hub.Model, ""); err != nil {
		return "", usagef("the adapter names %q as its base model: %v; name it with --model DIR", base, err)
	}
	return model, nil
}

// exported is what --json prints.
type exported struct {
	Output      string `json:"output"`
	Format      string `json:"format"`
	Type        string `json:"type,omitempty"`
	Bytes       int64  `json:"bytes"`
	Model       string `json:"model"`
	Adapter     string `json:"adapter,omitempty"`
	BaseChecked bool   `json:"base_checked"` // the model's weights have the hash that the adapter records
}

// run exports as flags say. kind is the type of a GGUF file, name goes into it.
func (e *exportFlags) run(ctx context.Context, ui *ui, format string, kind export.Type, name string) error {
	if e.output == "" {
		return usagef("name what is to be written: --output PATH")
	}
	if err := export.Vacant(e.output, format == "hf" || format == "ollama"); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return usageError{err}
		}
		return err
	}
	model, err := e.find(ctx, ui)
	if err != nil {
		return err
	}
	s, err := export.Open(ctx, model, e.adapter, byteProgress(ui, "comparing the base  "))
	if err != nil {
		return err
	}
	defer s.Close()
	if s.BaseUnknown {
		ui.note("note: the adapter does not record on which weights it was trained, so %s was not compared with them", model)
	}
	progress := byteProgress(ui, "")
	switch format {
	case "hf":
		err = s.Merge(ctx, e.output, progress)
	case "gguf":
		err = s.GGUF(ctx, e.output, name, kind, progress)
	case "gguf-adapter":
		err = s.AdapterGGUF(e.output, name)
	default:
		err = s.Ollama(ctx, e.output, name, kind, progress)
	}
	ui.show("")
	if errors.Is(err, context.Canceled) {
		ui.note("stopped; nothing was left in %s", e.output)
	}
	if err != nil {
		return err
	}
	r := exported{Output: e.output, Format: format, Type: string(kind), Model: model, Adapter: e.adapter, BaseChecked: s.Adapter != nil && !s.BaseUnknown}
	if r.Bytes, err = size(e.output); err != nil {
		return err
	}
	if e.asJSON {
		return ui.json(r)
	}
	if _, err := fmt.Fprint(ui.out, printable(r.sheet())); err != nil {
		return err
	}
	if next := r.next(); next != "" {
		ui.note("\n%s", next)
	}
	return nil
}

func (r *exported) sheet() string {
	var s sheet
	s.line("written", "%s, %s", r.Output, byteSize(r.Bytes))
	format := r.Format
	if r.Type != "" {
		format += ", " + r.Type
	}
	s.line("format", "%s", format)
	s.line("model", "%s", r.Model)
	if r.Adapter != "" {
		s.line("adapter", "%s", r.Adapter)
		s.line("base", "%s", map[bool]string{true: "the one that the adapter was trained on", false: "not compared: the adapter records no hash"}[r.BaseChecked])
	}
	if r.Format != "gguf-adapter" {
		s.line("prompts", "compared with those of training: equal")
	}
	return s.String()
}

// next says how the result is used.
func (r *exported) next() string {
	switch r.Format {
	case "hf":
		return "talk to it:  cria chat " + r.Output
	case "gguf":
		return "talk to it:  llama-cli -m " + r.Output
	case "gguf-adapter":
		return "use it with a GGUF file of its base:  llama-cli -m BASE.gguf --lora " + r.Output
	default:
		return "talk to it:  ollama create NAME -f " + filepath.Join(r.Output, export.ModelfileName)
	}
}

// size is that of a file, or of all files in a directory.
func size(path string) (total int64, err error) {
	err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
