package adapter

import (
	"errors"
	"fmt"
	"slices"

	"cria/internal/llama"
)

// Wanted is what a recipe says under lora about an adapter that it starts from; nil is what it does not say.
type Wanted struct {
	R                 *int
	LoraAlpha         *float64
	UseRSLoRA         *bool
	TargetModules     *Targets
	LayersToTransform *[]int
	RankPattern       *Pattern
	AlphaPattern      *Pattern
}

// CheckRecipe tests that a recipe agrees with the loaded adapter wherever it says something, and names every difference.
// Targets, layers and patterns agree if they give the same modules the same ranks and alphas, however they are written.
// lora_dropout is the recipe's own.
func (a *Adapter) CheckRecipe(w Wanted, m *llama.Config) error {
	var errs []error
	differ := func(key string, recipe, adapter any) {
		errs = append(errs, fmt.Errorf("lora.%s is %v in the recipe and %v in the adapter", key, recipe, adapter))
	}
	c := a.Config
	if w.R != nil && *w.R != c.R {
		differ("r", *w.R, c.R)
	}
	if w.LoraAlpha != nil && *w.LoraAlpha != c.LoraAlpha {
		differ("lora_alpha", *w.LoraAlpha, c.LoraAlpha)
	}
	if w.UseRSLoRA != nil && *w.UseRSLoRA != c.UseRSLoRA {
		differ("use_rslora", *w.UseRSLoRA, c.UseRSLoRA)
	}
	if w.TargetModules != nil {
		c.TargetModules = w.TargetModules.expand()
		if c.TargetModules.Expr != "" { // it chooses the layers itself
			c.LayersToTransform, c.LayersPattern = nil, nil
		}
	}
	if w.LayersToTransform != nil {
		c.LayersToTransform = *w.LayersToTransform
	}
	if w.RankPattern != nil {
		c.RankPattern = *w.RankPattern
	}
	if w.AlphaPattern != nil {
		c.AlphaPattern = *w.AlphaPattern
	}
	if err := c.check(); err != nil {
		errs = append(errs, err)
	} else if wanted, err := c.modules(m); err != nil {
		errs = append(errs, err)
	} else if err := a.checkModules(wanted, &c); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w\nrank, alpha and targets of a run that starts from an adapter are the adapter's; "+
		"remove these keys from the recipe or make them agree", errors.Join(errs...))
}

// checkModules compares the adapter's modules with those that the configuration c of the recipe selects.
func (a *Adapter) checkModules(wanted []Module, c *Config) error {
	if !slices.EqualFunc(wanted, a.Modules, func(x, y Module) bool { return x.Name == y.Name }) {
		return fmt.Errorf("lora.target_modules %v%s: the recipe selects %d modules, other ones than the adapter's %d (%v%s)",
			c.TargetModules, c.inLayers(), len(wanted), len(a.Modules), a.Config.TargetModules, a.Config.inLayers())
	}
	for i, want := range wanted {
		have := a.Modules[i]
		if want.R != have.R || want.Alpha != have.Alpha {
			return fmt.Errorf("lora.rank_pattern %v and alpha_pattern %v give %s r %d and lora_alpha %v, the adapter has %d and %v",
				c.RankPattern, c.AlphaPattern, want.Name, want.R, want.Alpha, have.R, have.Alpha)
		}
	}
	return nil
}

func (p Pattern) String() string {
	s := ""
	for _, e := range p {
		s += fmt.Sprintf(", %s: %v", e.Key, e.Value)
	}
	if s == "" {
		return "{}"
	}
	return "{" + s[2:] + "}"
}
