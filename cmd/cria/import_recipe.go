package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"cria/internal/disk"
	"cria/internal/foreign"
	"cria/internal/llama"
	"cria/internal/recipe"

	"github.com/spf13/cobra"
)

func newImportRecipe(ui *ui) *cobra.Command {
	var from, output string
	var force bool
	c := &cobra.Command{
		Use:   "import-recipe FILE",
		Short: "Make a recipe of one of LLaMA-Factory, axolotl, mlx-lm or TRL",
		Long: "Make a recipe of another tool's:\n\n" +
			"  llamafactory  the YAML or JSON file of llamafactory-cli train\n" +
			"  axolotl       the YAML file of axolotl train\n" +
			"  mlx           the YAML file of mlx_lm.lora --config\n" +
			"  trl           the YAML file of trl sft --config, or TrainingArguments or SFTConfig as JSON\n\n" +
			"The tool is recognised by its keys. Where a default of the tool is not cria's, it is written into the recipe. What means\n" +
			"something else here, what has no counterpart and what is unknown is listed on standard error: no key is left out in\n" +
			"silence. What cria does not train (all weights, preferences) is refused.\n\n" +
			"Paths stay as they are, relative to the working directory. Names of LLaMA-Factory's datasets become paths where\n" +
			"dataset_info.json is found in dataset_dir. Names of models stay too; where they are ModelScope's, add source: ms.",
		Example: "  cria import-recipe llama3_lora_sft.yaml -o recipe.yaml\n" +
			"  cria import-recipe lora_config.yaml --from mlx > recipe.yaml\n" +
			"  cria data recipe.yaml && cria train recipe.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("name the recipe: cria import-recipe FILE")
			}
			opt := foreign.Options{Layers: ui.layers}
			if from != "auto" {
				if opt.From = foreign.Tool(from); !slices.Contains(foreign.Tools, opt.From) {
					return usagef("--from %s: one of auto, llamafactory, axolotl, mlx, trl", from)
				}
			}
			return runImportRecipe(ui, args[0], output, force, opt)
		},
	}
	c.Flags().StringVar(&from, "from", "auto", "whose recipe it is: auto, llamafactory, axolotl, mlx or trl")
	c.Flags().StringVarP(&output, "output", "o", "", "the new recipe (default: standard output)")
	c.Flags().BoolVar(&force, "force", false, "with --output: replace a file that exists")
	return c
}

func runImportRecipe(ui *ui, file, output string, force bool, opt foreign.Options) error {
	if output == "" && force {
		return usagef("--force is for --output")
	}
	if err := vacantFile(output, force); err != nil {
		return err
	}
	content, err := readRecipe(file)
	if err != nil {
		return err
	}
	r, err := foreign.Translate(file, content, opt)
	if err != nil {
		return err
	}
	if output == "" {
		if _, err := ui.out.Write(r.Recipe); err != nil {
			return err
		}
	} else if err := writeRecipe(output, r); err != nil {
		return err
	}
	ui.note("%s", printable(strings.TrimSuffix(r.Text(), "\n")))
	if output != "" {
		ui.note("\nwritten to %s. See what it trains:  cria data %s%s", output, output, given(r.Missing))
	}
	return nil
}

// vacantFile refuses an output that would replace something.
func vacantFile(path string, force bool) error {
	if path == "" {
		return nil
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return usageError{err}
	case info.IsDir():
		return usagef("%s is a directory; name a file", path)
	case !force:
		return usagef("%s exists already; delete it, name another file, or replace it with --force", path)
	}
	return nil
}

// readRecipe reads a file as far as a recipe can be long; foreign refuses what is longer.
func readRecipe(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usageError{err}
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, usagef("%s is a directory; name the recipe in it", path)
	}
	return io.ReadAll(io.LimitReader(f, 1<<20+1))
}

// writeRecipe writes the recipe if cria train reads it.
func writeRecipe(path string, r *foreign.Result) error {
	var overrides []string
	for _, key := range r.Missing {
		overrides = append(overrides, key+"=x")
	}
	fill := func(w io.Writer) error { _, err := w.Write(r.Recipe); return err }
	return disk.PublishChecked(disk.OS{}, path, fill, func(temp string) error {
		if _, err := recipe.Load(temp, overrides); err != nil {
			return fmt.Errorf("the translated recipe is wrong, which is a fault in cria: %w", err)
		}
		return nil
	})
}

// given is how keys that a recipe lacks are named on the command line.
func given(missing []string) (s string) {
	for _, key := range missing {
		s += " " + key + "=..."
	}
	return s
}

// layers is the number of layers of a model that is on this machine, else 0.
func (ui *ui) layers(model string) int {
	dir, err := ui.cached(model)
	if err != nil {
		return 0
	}
	c, err := llama.ReadConfig(dir)
	if err != nil {
		return 0
	}
	return c.NumHiddenLayers
}
