package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"cria/internal/chat"
	"cria/internal/generate"
	"cria/internal/hub"
	"cria/internal/recipe"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// answerFlags are the flags that generate and chat share.
type answerFlags struct {
	load      generate.LoadOptions
	recipe    string
	greedy    bool
	maxTokens int
	seed      uint64
	temp      float64
	topK      int
	topP      float64
	minP      float64
	penalty   float64
}

func (a *answerFlags) add(f *pflag.FlagSet) {
	f.StringVar(&a.load.Adapter, "adapter", "", "directory of a LoRA adapter, or its name on a hub")
	f.StringVar(&a.recipe, "recipe", "", "recipe whose prompt template is used (default: the adapter's own)")
	f.BoolVar(&a.greedy, "greedy", false, "always take the likeliest token")
	f.IntVar(&a.maxTokens, "max-new-tokens", 512, "most tokens of a reply")
	f.Uint64Var(&a.seed, "seed", 0, "seed of the sampling (default: a random one)")
	f.Float64Var(&a.temp, "temperature", 1, "divides the logits (default: generation_config's)")
	f.IntVar(&a.topK, "top-k", 50, "sample among the k likeliest tokens, 0: all (default: generation_config's)")
	f.Float64Var(&a.topP, "top-p", 1, "sample among the likeliest tokens of this total probability (default: generation_config's)")
	f.Float64Var(&a.minP, "min-p", 0, "drop tokens less likely than this share of the likeliest")
	f.Float64Var(&a.penalty, "repetition-penalty", 1, "divide the logits of tokens that have occurred (default: generation_config's)")
	f.StringVar(&a.load.DType, "compute-dtype", "auto", "auto, float32 (exact) or bfloat16")
	f.IntVar(&a.load.Threads, "threads", 0, "CPU threads (default: all)")
}

// answerArgs splits off the model and takes compute_dtype=... and the like as flags.
func answerArgs(cmd *cobra.Command, args []string) (model string, err error) {
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		switch {
		case ok && cmd.Flags().Lookup(strings.ReplaceAll(key, "_", "-")) != nil:
			if err := cmd.Flags().Set(strings.ReplaceAll(key, "_", "-"), value); err != nil {
				return "", usageError{err}
			}
		case model == "":
			model = a
		case ok:
			return "", usagef("there is no option %s; cria %s --help lists them", key, cmd.Name())
		default:
			return "", usagef("two models are named, %s and %s", model, a)
		}
	}
	if model == "" {
		return "", usagef("name the model, its directory or its name on a hub: cria %s MODEL", cmd.Name())
	}
	return model, nil
}

// start loads the model and resolves the sampling: flags, then generation_config.json, then transformers' defaults.
func (a *answerFlags) start(ui *ui, cmd *cobra.Command, args []string) (*generate.Chat, generate.Options, error) {
	var o generate.Options
	model, err := answerArgs(cmd, args)
	if err != nil {
		return nil, o, err
	}
	switch {
	case a.maxTokens < 1:
		return nil, o, usagef("--max-new-tokens %d: a reply has at least one token", a.maxTokens)
	case !(a.temp > 0 && a.temp <= math.MaxFloat32):
		return nil, o, usagef("--temperature %v: must be above 0; for the likeliest token use --greedy", a.temp)
	case a.topK < 0 || !(a.topP > 0 && a.topP <= 1) || !(a.minP >= 0 && a.minP <= 1) || !(a.penalty >= 1e-3 && a.penalty <= 1e3):
		return nil, o, usagef("--top-k must not be negative, --top-p in (0, 1], --min-p in [0, 1], --repetition-penalty in [0.001, 1000]")
	case a.load.Threads < 0 || a.load.Threads > 4096:
		return nil, o, usagef("--threads %d: from 1 to 4096, or 0 for all", a.load.Threads)
	}
	switch a.load.DType {
	case "auto", "float32", "bfloat16":
	default:
		return nil, o, usagef("--compute-dtype %s: one of auto, float32, bfloat16", a.load.DType)
	}
	if a.load.Model, err = ui.directory(cmd.Context(), model, hub.Model, ""); err != nil {
		return nil, o, err
	}
	if a.load.Adapter != "" {
		if a.load.Adapter, err = ui.directory(cmd.Context(), a.load.Adapter, hub.Model, ""); err != nil {
			return nil, o, err
		}
	}
	c, err := generate.Load(a.load)
	if err != nil {
		return nil, o, err
	}
	if a.recipe != "" {
		r, err := recipe.Load(a.recipe, nil)
		if err == nil {
			err = c.UsePrompt(r)
		}
		if err != nil {
			c.Close()
			return nil, o, err
		}
	}
	f, d := cmd.Flags(), c.Defaults
	set(f, "temperature", &a.temp, d.Temperature)
	set(f, "top-k", &a.topK, d.TopK)
	set(f, "top-p", &a.topP, d.TopP)
	set(f, "min-p", &a.minP, d.MinP)
	set(f, "repetition-penalty", &a.penalty, d.RepetitionPenalty)
	if d.DoSample != nil && !*d.DoSample && !slices.ContainsFunc([]string{"temperature", "top-k", "top-p", "min-p", "seed"}, f.Changed) {
		a.greedy = true
	}
	if !f.Changed("seed") {
		a.seed = rand.Uint64()
	}
	o = generate.Options{MaxNewTokens: a.maxTokens, EOS: c.EOS, Sampling: generate.Sampling{Greedy: a.greedy, Temperature: a.temp, TopK: a.topK, TopP: a.topP,
		MinP: a.minP, RepetitionPenalty: a.penalty, Seed: a.seed}}
	return c, o, nil
}

// set replaces a flag's default by the model's.
func set[T any](f *pflag.FlagSet, name string, v *T, model *T) {
	if model != nil && !f.Changed(name) {
		*v = *model
	}
}

func newGenerate(ui *ui) *cobra.Command {
	var a answerFlags
	var prompt, system, ids string
	var asJSON bool
	c := &cobra.Command{
		Use:   "generate MODEL (--prompt TEXT | --input-ids 1,2,3)",
		Short: "Answer one prompt",
		Long: "Answer one prompt. It is rendered as the adapter was trained to read it, else by the model's own chat template;\n" +
			"with --system by the chat template, unless the recipe's has a place for it ({system}).",
		Example: "  cria generate ./model --adapter output --prompt '你是谁?'\n" +
			"  cria generate ./model --input-ids 1,9690,198 --greedy --max-new-tokens 20 compute_dtype=float32 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (prompt == "") == (ids == "") {
				return usagef("give either --prompt TEXT or --input-ids 1,2,3")
			}
			model, o, err := a.start(ui, cmd, args)
			if err != nil {
				return err
			}
			defer model.Close()
			ui.answerStop("")
			var in []int32
			if ids != "" {
				in, err = parseIDs(ids)
			} else {
				in, err = model.Prompt(dialogue(system, prompt)...)
			}
			if err != nil {
				return err
			}
			stream := model.Tokenizer.NewStream(true)
			show := func(id int32) {
				if !asJSON {
					fmt.Fprint(ui.out, printable(stream.Push(id)))
				}
			}
			res, err := generate.NewSession(model.Model).Generate(cmd.Context(), in, o, show)
			if err != nil {
				return err
			}
			if !asJSON {
				fmt.Fprintln(ui.out, printable(stream.Flush()))
				ui.note("%d tokens, %s, %.1f tokens/s (prompt of %d tokens in %.2f s)", len(res.IDs), res.FinishReason, res.TokensPerSecond, res.PromptTokens, res.PromptSeconds)
			} else if err := ui.json(map[string]any{"text": model.Tokenizer.Decode(res.IDs, true), "ids": res.IDs, "finish_reason": res.FinishReason, "tokens_per_second": res.TokensPerSecond}); err != nil {
				return err
			}
			if res.FinishReason == "cancelled" {
				return context.Canceled
			}
			return nil
		},
	}
	a.add(c.Flags())
	c.Flags().StringVar(&prompt, "prompt", "", "what the user says")
	c.Flags().StringVar(&system, "system", "", "system prompt")
	c.Flags().StringVar(&ids, "input-ids", "", "the exact token ids of the whole prompt, separated by commas")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object instead of the text")
	return c
}

// dialogue is a first turn.
func dialogue(system, user string) (out []chat.Message) {
	if system != "" {
		out = append(out, chat.Message{Role: "system", Content: system})
	}
	return append(out, chat.Message{Role: "user", Content: user})
}

func parseIDs(s string) (ids []int32, err error) {
	for _, f := range strings.Split(s, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(f), 10, 32)
		if err != nil {
			return nil, usagef("--input-ids: %q is not a token id", f)
		}
		ids = append(ids, int32(n))
	}
	return ids, nil
}
