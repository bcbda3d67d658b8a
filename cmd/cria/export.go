package main

import (
	"fmt"
	"slices"
	"strings"

	"cria/internal/export"

	"github.com/spf13/cobra"
)

var exportFormats = []string{"hf", "gguf", "gguf-adapter", "ollama"}

func newExport(ui *ui) *cobra.Command {
	var e exportFlags
	var format, kind, name string
	c := &cobra.Command{
		Use:   "export --adapter DIR --format gguf --type Q4_K_M --output FILE.gguf",
		Short: "Write a model or an adapter for llama.cpp, Ollama or transformers",
		Long: "Write a model, with or without an adapter, for other programs:\n\n" +
			"  hf            a directory in Hugging Face's layout with the adapter merged in, as cria merge makes it\n" +
			"  gguf          one file for llama.cpp, LM Studio and their like\n" +
			"  gguf-adapter  the adapter alone, for use with a GGUF file of its base\n" +
			"  ollama        a directory with a GGUF file and a Modelfile\n\n" +
			"The prompts of a set of dialogues are made from the exported files and compared with those of training; with a difference\n" +
			"nothing is written. The output appears whole or not at all; one that exists is refused.",
		Example: "  cria export --adapter output --format gguf --type Q8_0 --output model.gguf\n" +
			"  cria export --adapter output --format ollama --type Q4_K_M --output ollama-model\n" +
			"  cria export --model ./merged --format gguf --type F16 --output merged.gguf",
		Args: noArgs("export"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			hasType := format == "gguf" || format == "ollama"
			switch {
			case e.adapter == "" && e.model == "":
				return usagef("name what is to be exported: --adapter DIR or --model DIR")
			case !slices.Contains(exportFormats, format):
				return usagef("--format %s: one of %s", format, strings.Join(exportFormats, ", "))
			case e.adapter == "" && !hasType:
				return usagef("--format %s needs an adapter: --adapter DIR", format)
			case !hasType && cmd.Flags().Changed("type"):
				return usagef("--type is for the formats gguf and ollama; --format %s has none", format)
			}
			var t export.Type
			if hasType {
				var err error
				if t, err = export.ParseType(kind); err != nil {
					return usageError{fmt.Errorf("--%w", err)}
				}
			}
			if name == "" {
				name = export.FileName(e.output)
			}
			return e.run(cmd.Context(), ui, format, t, name)
		},
	}
	e.add(c)
	c.Flags().StringVar(&format, "format", "gguf", "hf, gguf, gguf-adapter or ollama")
	c.Flags().StringVar(&kind, "type", "F16", "how a GGUF file stores weights: F32, F16, BF16, Q8_0, Q4_K_M or Q4_0")
	c.Flags().StringVar(&name, "name", "", "the model's name in a GGUF file (default: that of the output)")
	return c
}
