package adapter

import (
	"reflect"
	"strings"
	"testing"
)

// withKey adds a key to a minimal configuration.
func withKey(key, value string) []byte {
	return []byte(`{"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], "` + key + `": ` + value + `}`)
}

// TestParseConfigNewer reads a file with every key of PEFT 0.20 as save_pretrained writes it for plain LoRA.
func TestParseConfigNewer(t *testing.T) {
	c, err := ParseConfig([]byte(`{
  "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null,
  "auto_mapping": {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama"},
  "base_model_name_or_path": "meta-llama/Llama-3.2-1B", "bias": "none", "corda_config": null, "ensure_weight_tying": false, "eva_config": null,
  "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true, "kasa_config": null, "layer_replication": null,
  "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 16, "lora_bias": false, "lora_dropout": 0.05,
  "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null, "monteclora_config": null,
  "peft_type": "LORA", "peft_version": "0.20.0", "qalora_group_size": 16, "r": 16, "rank_pattern": {}, "revision": null, "runtime_config": {"ephemeral_gpu_offload": false},
  "target_modules": ["v_proj", "q_proj"], "target_parameters": null, "task_type": "CAUSAL_LM", "trainable_token_indices": null,
  "use_bdlora": null, "use_dora": false, "use_qalora": false, "use_rslora": true, "velora_config": null}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{BaseModelNameOrPath: "meta-llama/Llama-3.2-1B", TaskType: "CAUSAL_LM", R: 16, LoraAlpha: 16, LoraDropout: 0.05, UseRSLoRA: true,
		TargetModules: Targets{List: []string{"v_proj", "q_proj"}}, laterPEFT: true}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("%+v\nwant %+v", *c, want)
	}
	if _, err := ParseConfig([]byte(`{"peft_type": "LORA"}`)); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for key, values := range map[string][]string{
		"use_dora": {"true"}, "use_qalora": {"true"}, "use_bdlora": {`{"nblocks": 2}`}, "lora_bias": {"true"}, "fan_in_fan_out": {"true"},
		"bias": {`"all"`, `"lora_only"`, "true"}, "modules_to_save": {`["lm_head"]`}, "layer_replication": {"[[0, 4], [2, 5]]"},
		"trainable_token_indices": {"[1]", `{"embed_tokens": [1]}`}, "target_parameters": {`["mlp.experts"]`}, "exclude_modules": {"7", `".*(?=x)"`},
		"alora_invocation_tokens": {"[128000]"}, "arrow_config": {"{\"top_k\": 3}"}, "kasa_config": {`{"r": 1}`}, "monteclora_config": {`{"a": 1}`},
		"velora_config": {`{"a": 1}`}, "megatron_config": {`{"a": 1}`}, "brand_new_option": {"true", `"x"`, "1"},
		"init_lora_weights": {`"pissa"`, `"pissa_niter_16"`, `"olora"`, `"loftq"`, `"corda"`, `"lora_ga"`, "1", "{}"},
		"peft_type":         {`"ADALORA"`, `"IA3"`, "1", "null"},
		"r":                 {"0", "-1", "8.5", `"8"`, "1e9", "true", "[8]"}, "lora_alpha": {`"32"`, "1e999"}, "lora_dropout": {"1", "-0.1", `"0"`},
		"use_rslora": {"1", `"yes"`}, "target_modules": {"7", `[7]`, "{}", `"(?=x)q"`}, "layers_to_transform": {`"1"`, "[1.5]", "[-1]"},
		"layers_pattern": {"7"}, "rank_pattern": {"[1]", `{"a": "b"}`, `{"a": 1.5}`, `{"a": 0}`, `{"a": 1, "a": 2}`, "8"}, "alpha_pattern": {`{"a": null, "b": []}`},
		"base_model_name_or_path": {"7"},
	} {
		for _, v := range values {
			c, err := ParseConfig(withKey(key, v))
			if err == nil && (key == "target_modules" || key == "exclude_modules") {
				_, err = c.matcher(c.TargetModules)
			}
			if err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s %s: error %v", key, v, err)
			}
		}
	}
	for name, text := range map[string]string{
		"mlx":       `{"adapter_path": "adapters", "fine_tune_type": "lora", "lora_parameters": {"rank": 8, "scale": 20.0}, "num_layers": 16}`,
		"mlx older": `{"lora_layers": 16, "rank": 8}`,
	} {
		if _, err := ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), "MLX") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, text := range []string{"", "null", "[]", "7", "{", `{"r": 8}`, `{"peft_type": "LORA"} x`} {
		if _, err := ParseConfig([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestParseConfigIgnoresWhatIsUnset(t *testing.T) {
	for key := range refused {
		for _, v := range []string{"null", "false", "[]", "{}", `""`, "[ ]"} {
			if _, err := ParseConfig(withKey(key, v)); err != nil {
				t.Errorf("%s %s: %v", key, v, err)
			}
		}
	}
	for _, v := range []string{"true", "false", `"gaussian"`, `"eva"`, "null"} {
		if _, err := ParseConfig(withKey("init_lora_weights", v)); err != nil {
			t.Errorf("init_lora_weights %s: %v", v, err)
		}
	}
}

// TestLaterPatterns: a file of PEFT 0.14 or newer is read by that version's rule, and written so that all agree.
func TestLaterPatterns(t *testing.T) {
	_, shape := readReference(t)
	const body = `"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"],
		"rank_pattern": {"^model.layers.1.self_attn.q_proj": 4}, "alpha_pattern": {"layers.1.self_attn.q_proj": 32, "layers.2.self_attn.q_proj": 64}}`
	for text, want := range map[string]int{`{` + body: 8, `{"exclude_modules": null, ` + body: 4} {
		c, err := ParseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		modules, err := c.modules(shape)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.settlePatterns(modules); err != nil {
			t.Fatal(err)
		}
		if m := modules[1]; m.R != want || m.Alpha != 32 || c.RankPattern.get(m.Name, 8) != float64(want) {
			t.Errorf("%s has r %d, alpha %v, settled %v", m.Name, m.R, m.Alpha, c.RankPattern)
		}
	}
}

func (p Pattern) get(key string, otherwise float64) float64 {
	for _, e := range p {
		if e.Key == key {
			return e.Value
		}
	}
	return otherwise
}

func TestCheckRecipe(t *testing.T) {
	_, shape := readReference(t)
	cfg := Config{R: 8, LoraAlpha: 32, TargetModules: Targets{List: []string{"q_proj", "v_proj"}}, RankPattern: Pattern{{"v_proj", 4}}}
	a, err := New(cfg, shape, 1)
	if err != nil {
		t.Fatal(err)
	}
	list := func(names ...string) *Targets { return &Targets{List: names} }
	for name, c := range map[string]struct {
		w    Wanted
		want string
	}{
		"nothing":        {Wanted{}, ""},
		"all":            {Wanted{R: ptr(8), LoraAlpha: ptr(32.0), UseRSLoRA: ptr(false), TargetModules: list("v_proj", "q_proj"), RankPattern: &Pattern{{"v_proj", 4}}}, ""},
		"same by regexp": {Wanted{TargetModules: &Targets{Expr: `.*\.[qv]_proj`}}, ""},
		"same by layers": {Wanted{LayersToTransform: ptr([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})}, ""},
		"same pattern":   {Wanted{RankPattern: &Pattern{{"self_attn.v_proj", 4}}}, ""},
		"r":              {Wanted{R: ptr(16)}, "lora.r is 16 in the recipe and 8 in the adapter"},
		"alpha":          {Wanted{LoraAlpha: ptr(16.0)}, "lora.lora_alpha is 16 in the recipe and 32 in the adapter"},
		"rslora":         {Wanted{UseRSLoRA: ptr(true)}, "lora.use_rslora is true"},
		"targets":        {Wanted{TargetModules: list("q_proj")}, "selects 12 modules, other ones than the adapter's 24"},
		"all-linear":     {Wanted{TargetModules: &Targets{Expr: "all-linear"}}, "selects 84 modules"},
		"layers":         {Wanted{LayersToTransform: ptr([]int{1})}, "selects 2 modules"},
		"pattern":        {Wanted{RankPattern: &Pattern{}}, "give model.layers.0.self_attn.v_proj r 8 and lora_alpha 32, the adapter has 4 and 32"},
		"alpha pattern":  {Wanted{AlphaPattern: &Pattern{{"q_proj", 1}}}, "r 8 and lora_alpha 1, the adapter has 8 and 32"},
		"bad regexp":     {Wanted{TargetModules: &Targets{Expr: "(?=q)"}}, "lookahead"},
		"bad layers":     {Wanted{LayersToTransform: ptr([]int{-1})}, "-1"},
	} {
		err := a.CheckRecipe(c.w, shape)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	if err := a.CheckRecipe(Wanted{R: ptr(1), LoraAlpha: ptr(1.0)}, shape); !strings.Contains(err.Error(), "lora.r") || !strings.Contains(err.Error(), "lora_alpha") {
		t.Errorf("two differences: %v", err)
	}
}

func ptr[T any](v T) *T { return &v }

func FuzzParseConfig(f *testing.F) {
	f.Add(withKey("lora_alpha", "32"))
	f.Add(withKey("rank_pattern", `{"q_proj": 4, "v_proj": 1}`))
	f.Add(withKey("layers_to_transform", "3"))
	f.Add([]byte(`{"peft_type": "LORA", "target_modules": ".*q_proj"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig(text)
		if err != nil {
			return
		}
		written, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(written)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if b, err := again.encode(); err != nil || string(b) != string(written) {
			t.Fatalf("%s\nbecame %s, %v", written, b, err)
		}
	})
}
