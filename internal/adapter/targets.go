package adapter

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cria/internal/llama"
)

// embedding is the module that PEFT could adapt and cria does not; head is the same for the output head.
const (
	embedding = "model.embed_tokens"
	head      = "lm_head"
)

// linears lists the linear layers of the model's blocks in module order, without rank and weights.
func linears(m *llama.Config) []Module {
	c, f := m.HiddenSize, m.IntermediateSize
	q, kv := m.NumAttentionHeads*m.HeadDim, m.NumKeyValueHeads*m.HeadDim
	block := []struct {
		path    string
		in, out int
	}{
		{"self_attn.q_proj", c, q}, {"self_attn.k_proj", c, kv}, {"self_attn.v_proj", c, kv}, {"self_attn.o_proj", q, c},
		{"mlp.gate_proj", c, f}, {"mlp.up_proj", c, f}, {"mlp.down_proj", f, c},
	}
	var all []Module
	for layer := range m.NumHiddenLayers {
		for _, b := range block {
			_, kind, _ := strings.Cut(b.path, ".")
			name := "model.layers." + strconv.Itoa(layer) + "." + b.path
			all = append(all, Module{Name: name, Layer: layer, Kind: kind, In: b.in, Out: b.out})
		}
	}
	return all
}

// others lists the names of the model's modules that are not linear layers of a block, as named_modules of transformers
// 4.43's LlamaForCausalLM has them.
func others(m *llama.Config) []string {
	names := []string{"", "model", embedding, "model.layers"}
	for layer := range m.NumHiddenLayers {
		block := "model.layers." + strconv.Itoa(layer)
		names = append(names, block)
		for _, sub := range []string{"self_attn", "self_attn.rotary_emb", "mlp", "mlp.act_fn", "input_layernorm", "post_attention_layernorm"} {
			names = append(names, block+"."+sub)
		}
	}
	return append(names, "model.norm", "model.rotary_emb", head)
}

// expand replaces the default and "all-linear" by the list that PEFT saves for a Llama.
func (t Targets) expand() Targets {
	switch {
	case t.allLinear():
		return Targets{List: slices.Clone(llama.LinearNames[:])}
	case t.Expr == "" && len(t.List) == 0:
		return Targets{List: []string{"q_proj", "v_proj"}}
	}
	return t
}

// modules returns the target modules in module order with their rank, alpha and scale.
func (c *Config) modules(m *llama.Config) ([]Module, error) {
	targets := c.TargetModules.expand()
	match, err := c.matcher(targets)
	if err != nil {
		return nil, err
	}
	for _, name := range others(m) {
		if !match(name) {
			continue
		}
		switch name {
		case embedding:
			return nil, fmt.Errorf("target_modules %v takes in %s, an embedding: cria adapts linear layers only", targets, name)
		case head:
			return nil, fmt.Errorf("target_modules %v takes in %s, the output head: cria adapts the layers below it only", targets, name)
		}
		return nil, fmt.Errorf("target_modules %v takes in the module %q, which is no linear layer", targets, name)
	}
	var found []Module
	for _, mod := range linears(m) {
		if match(mod.Name) {
			found = append(found, mod)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("target_modules %v%s matches no module of the model; its linear layers are called %s",
			targets, c.inLayers(), strings.Join(llama.LinearNames[:], ", "))
	}
	return found, c.setRanks(found)
}

func (c *Config) inLayers() string {
	if len(c.LayersToTransform) == 0 {
		return ""
	}
	return fmt.Sprintf(" in layers_to_transform %v", c.LayersToTransform)
}

// anyLayer finds the layer's number where no layers_pattern is given.
var anyLayer = regexp.MustCompile(`\A.*\.[^.]*\.(\d+)\.`)

// matcher is peft.tuners.tuners_utils.check_target_module_exists of PEFT 0.11.1, with the exclude_modules of PEFT 0.14.
func (c *Config) matcher(t Targets) (func(name string) bool, error) {
	target, err := c.targeted(t)
	if err != nil {
		return nil, err
	}
	excluded := func(name string) bool {
		return slices.ContainsFunc(c.ExcludeModules.List, func(end string) bool { return name == end || strings.HasSuffix(name, "."+end) })
	}
	if expr := c.ExcludeModules.Expr; expr != "" {
		re, err := compilePython(expr)
		if err != nil {
			return nil, fmt.Errorf("exclude_modules: %w", err)
		}
		excluded = re.full
	}
	return func(name string) bool { return target(name) && !excluded(name) }, nil
}

// targeted is matcher without exclude_modules.
func (c *Config) targeted(t Targets) (func(name string) bool, error) {
	if t.Expr != "" {
		re, err := compilePython(t.Expr)
		if err != nil {
			return nil, fmt.Errorf("target_modules: %w", err)
		}
		return re.full, nil
	}
	var layers []*regexp.Regexp
	for _, p := range c.LayersPattern {
		re, err := compilePython(`.*\.` + p + `\.(\d+)\.`)
		if err != nil {
			return nil, fmt.Errorf("layers_pattern %q: %w", p, err)
		}
		layers = append(layers, re.prefix)
	}
	if len(layers) == 0 {
		layers = []*regexp.Regexp{anyLayer}
	}
	return func(name string) bool {
		if slices.Contains(t.List, name) { // a whole name is not asked for its layer
			return true
		}
		if !slices.ContainsFunc(t.List, func(end string) bool { return strings.HasSuffix(name, "."+end) }) {
			return false
		}
		if len(c.LayersToTransform) == 0 {
			return true
		}
		for _, re := range layers {
			if found := re.FindStringSubmatch(name); found != nil {
				layer, err := strconv.Atoi(found[len(found)-1])
				return err == nil && slices.Contains(c.LayersToTransform, layer)
			}
		}
		return false
	}, nil
}

// checkUnused refuses what PEFT passes over in silence: an entry of target_modules, layers_to_transform or a pattern that
// selects nothing is a slip, and what it was meant for would not be trained.
func (c *Config) checkUnused(m *llama.Config) error {
	var errs []error
	for _, l := range c.LayersToTransform {
		if l >= m.NumHiddenLayers {
			errs = append(errs, fmt.Errorf("layers_to_transform has %d, the model has layers 0 to %d", l, m.NumHiddenLayers-1))
		}
	}
	all := linears(m)
	for _, end := range c.TargetModules.List {
		used := func(mod Module) bool { return mod.Name == end || strings.HasSuffix(mod.Name, "."+end) }
		if !slices.ContainsFunc(all, used) {
			errs = append(errs, fmt.Errorf("target_modules: %q matches no module of the model; its linear layers are called %s",
				end, strings.Join(llama.LinearNames[:], ", ")))
		}
	}
	for _, p := range []struct {
		what    string
		pattern Pattern
	}{{"rank_pattern", c.RankPattern}, {"alpha_pattern", c.AlphaPattern}} {
		keys, err := compilePattern(p.what, p.pattern)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if !slices.ContainsFunc(all, func(mod Module) bool { return k.Key == mod.Name || k.old.matches(mod.Name) }) {
				errs = append(errs, fmt.Errorf("%s: %q matches no module of the model", p.what, k.Key))
			}
		}
	}
	return errors.Join(errs...)
}

// patternKey is a pattern's entry with its key as PEFT 0.11.1 and as PEFT from 0.15 on matches it.
type patternKey struct {
	PatternEntry
	old, later *pythonRegexp
}

func compilePattern(what string, p Pattern) ([]patternKey, error) {
	var keys []patternKey
	for _, e := range p {
		old, err := compilePython(`.*\.` + e.Key + `$`)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		later, err := compilePython(`(.*\.)?(` + e.Key + `)$`)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		keys = append(keys, patternKey{e, old, later})
	}
	return keys, nil
}

// patterns looks up ranks and alphas.
type patterns struct {
	r, loraAlpha float64
	rank, alpha  []patternKey
}

func (c *Config) patterns() (*patterns, error) {
	p := &patterns{r: float64(c.R), loraAlpha: c.LoraAlpha}
	var err error
	if p.rank, err = compilePattern("rank_pattern", c.RankPattern); err != nil {
		return nil, err
	}
	p.alpha, err = compilePattern("alpha_pattern", c.AlphaPattern)
	return p, err
}

// old is the rule of LoraModel._create_and_replace in PEFT 0.11.1: the first key of both patterns together that matches the
// name, or else the name itself, is looked up in each.
func (p *patterns) old(name string) (r, alpha float64) {
	key := name
	both := slices.Concat(p.rank, p.alpha)
	if i := slices.IndexFunc(both, func(k patternKey) bool { return k.old.matches(name) }); i >= 0 {
		key = both[i].Key
	}
	get := func(keys []patternKey, otherwise float64) float64 {
		if i := slices.IndexFunc(keys, func(k patternKey) bool { return k.Key == key }); i >= 0 {
			return keys[i].Value
		}
		return otherwise
	}
	return get(p.rank, p.r), get(p.alpha, p.loraAlpha)
}

// later is the rule of peft.utils.other.get_pattern_key from PEFT 0.15 on: each pattern is searched by itself. (0.14 did so
// too, and matched a key as 0.11.1.)
func (p *patterns) later(name string) (r, alpha float64) {
	first := func(keys []patternKey, otherwise float64) float64 {
		if i := slices.IndexFunc(keys, func(k patternKey) bool { return k.later.matches(name) }); i >= 0 {
			return keys[i].Value
		}
		return otherwise
	}
	return first(p.rank, p.r), first(p.alpha, p.loraAlpha)
}

// setRanks sets rank, alpha and scale of the modules.
func (c *Config) setRanks(modules []Module) error {
	p, err := c.patterns()
	if err != nil {
		return err
	}
	rule := p.old
	if c.laterPEFT {
		rule = p.later
	}
	for i := range modules {
		m := &modules[i]
		r, alpha := rule(m.Name)
		m.R, m.Alpha, m.Scale = int(r), alpha, c.scaling(alpha, int(r))
	}
	return nil
}

// settle makes the configuration mean the same to every reader. modules are those that it selects in the model m.
func (c *Config) settle(modules []Module, m *llama.Config) error {
	if len(c.ExcludeModules.List) > 0 || c.ExcludeModules.Expr != "" {
		without := *c
		without.ExcludeModules = Targets{}
		if all, err := without.modules(m); err != nil || len(all) != len(modules) {
			without.TargetModules, without.LayersToTransform, without.LayersPattern = Targets{}, nil, nil
			for _, mod := range modules {
				without.TargetModules.List = append(without.TargetModules.List, mod.Name)
			}
		}
		*c = without
	}
	if c.mlx && len(c.LayersToTransform) == m.NumHiddenLayers {
		c.LayersToTransform = nil
	}
	return c.settlePatterns(modules)
}

// settlePatterns makes the patterns mean the same to every reader. A saved file has its keys sorted, and the rules of PEFT
// 0.11.1 and of later versions differ; where that would change a rank or an alpha, the patterns are replaced by the whole
// names of the modules, which all versions read alike. modules have their ranks.
func (c *Config) settlePatterns(modules []Module) error {
	c.RankPattern, c.AlphaPattern = c.RankPattern.sorted(), c.AlphaPattern.sorted()
	p, err := c.patterns()
	if err != nil {
		return err
	}
	ambiguous := func(m Module) bool {
		r1, alpha1 := p.old(m.Name)
		r2, alpha2 := p.later(m.Name)
		r := float64(m.R)
		return r1 != r || r2 != r || alpha1 != m.Alpha || alpha2 != m.Alpha
	}
	if slices.ContainsFunc(modules, ambiguous) {
		c.RankPattern, c.AlphaPattern = nil, nil
		for _, m := range modules {
			if m.R != c.R {
				c.RankPattern = append(c.RankPattern, PatternEntry{m.Name, float64(m.R)})
			}
			if m.Alpha != c.LoraAlpha {
				c.AlphaPattern = append(c.AlphaPattern, PatternEntry{m.Name, m.Alpha})
			}
		}
	}
	c.laterPEFT = false
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
