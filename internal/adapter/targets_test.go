package adapter

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"cria/internal/llama"
)

// reference is testdata/targets.json, made by testdata/targets.py.
type reference struct {
	Shape struct {
		Hidden  int `json:"hidden_size"`
		FFN     int `json:"intermediate_size"`
		Layers  int `json:"num_hidden_layers"`
		Heads   int `json:"num_attention_heads"`
		KVHeads int `json:"num_key_value_heads"`
	} `json:"shape"`
	Cases []struct {
		Config  map[string]json.RawMessage `json:"config"`
		Modules [][6]any                   `json:"modules"` // name, in, out, r, lora_alpha, scaling
		Targets json.RawMessage            `json:"target_modules"`
		Error   string                     `json:"error"`
	} `json:"cases"`
	Regexps [][4]any `json:"regexps"` // expression, name, fullmatch, match
}

func readReference(t *testing.T) (reference, *llama.Config) {
	t.Helper()
	text, err := os.ReadFile("testdata/targets.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref reference
	if err := json.Unmarshal(text, &ref); err != nil {
		t.Fatal(err)
	}
	s := ref.Shape
	return ref, &llama.Config{HiddenSize: s.Hidden, IntermediateSize: s.FFN, NumHiddenLayers: s.Layers,
		NumAttentionHeads: s.Heads, NumKeyValueHeads: s.KVHeads, HeadDim: s.Hidden / s.Heads}
}

// config reads the arguments of LoraConfig.
func config(t *testing.T, args map[string]json.RawMessage) (*Config, error) {
	t.Helper()
	all := map[string]json.RawMessage{"peft_type": json.RawMessage(`"LORA"`)}
	for k, v := range args {
		all[k] = v
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return ParseConfig(text)
}

// TestTargetsAsPEFT compares modules, ranks, alphas and scales with PEFT 0.11.1.
func TestTargetsAsPEFT(t *testing.T) {
	ref, shape := readReference(t)
	// What PEFT takes and cria refuses, by a part of the message.
	stricter := map[string]string{
		`["embed_tokens","q_proj"]`: "an embedding",
		`["lm_head","q_proj"]`:      "the output head",
		`".*proj|lm_head"`:          "the output head",
	}
	for _, c := range ref.Cases {
		text, _ := json.Marshal(c.Config)
		t.Run(string(text), func(t *testing.T) {
			cfg, err := config(t, c.Config)
			var got []Module
			if err == nil {
				got, err = cfg.modules(shape)
			}
			if want, ok := stricter[compact(c.Config["target_modules"])]; ok {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("error %v, want %q", err, want)
				}
				return
			}
			if (err != nil) != (c.Error != "") {
				t.Fatalf("error %v, PEFT's %q", err, c.Error)
			}
			if err != nil {
				return
			}
			// PEFT's order within a block is that of named_modules, which is ours.
			if len(got) != len(c.Modules) {
				t.Fatalf("%d modules, PEFT has %d", len(got), len(c.Modules))
			}
			for i, m := range got {
				want := c.Modules[i]
				have := [6]any{m.Name, float64(m.In), float64(m.Out), float64(m.R), m.Alpha, m.Scale}
				if have != want {
					t.Fatalf("module %d is %v, PEFT's %v", i, have, want)
				}
			}
			if err := cfg.settlePatterns(got); err != nil {
				t.Fatal(err)
			}
			for _, later := range []bool{false, true} { // what was settled means the same to all
				again := slices.Clone(got)
				cfg.laterPEFT = later
				if err := cfg.setRanks(again); err != nil {
					t.Fatal(err)
				}
				for i := range again {
					if again[i].R != got[i].R || again[i].Scale != got[i].Scale {
						t.Fatalf("settled patterns %v, %v give %s r %d", cfg.RankPattern, cfg.AlphaPattern, got[i].Name, again[i].R)
					}
				}
			}
			saved := cfg.TargetModules.expand()
			saved.List = slices.Clone(saved.List)
			slices.Sort(saved.List)
			if b, _ := json.Marshal(saved); compact(b) != compact(c.Targets) {
				t.Fatalf("saved target_modules %s, PEFT's %s", b, c.Targets)
			}
		})
	}
}

func compact(raw json.RawMessage) string {
	return strings.NewReplacer(", ", ",", ": ", ":").Replace(string(raw))
}

// TestPythonRegexps compares every expression that is not refused with Python's re.
func TestPythonRegexps(t *testing.T) {
	ref, _ := readReference(t)
	// Valid in Python and refused here, by the construct that the message names.
	refused := map[string]string{
		"(?P<n>a)(?P=n)": "backreference", `(a)\1`: "backreference", "(?=a)a": "lookahead", "(?!b)a": "negative lookahead",
		"(?<=a)b": "lookbehind", "(?<!a)b": "negative lookbehind", "(?>a)": "atomic group", "(?#x)a": "comment", "(?x)a b": "(?x",
		"(?u)a": "(?u", `\u0061`: `\u`, "a*+": "*+", `[\b]`: `\b`, "[[:alpha:]]": "[:", `\0`: `\0`, `[a--b]`: "a--b",
		`\名`: "not ASCII",
	}
	seen := map[string]bool{}
	compared := 0
	for _, r := range ref.Regexps {
		expr, name := r[0].(string), r[1].(string)
		re, err := compilePython(expr)
		want, isRefused := refused[expr]
		switch {
		case r[2] == nil:
			if err == nil {
				t.Errorf("%q is an error in Python and compiles here", expr)
			}
		case isRefused && err != nil:
			if !seen[expr] && !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v; want %q named", expr, err, want)
			}
			seen[expr] = true
		case err != nil:
			t.Errorf("%q: %v", expr, err)
		case re.full(name) != r[2] || re.matches(name) != r[3]:
			t.Errorf("%q on %q: fullmatch %v, match %v; Python's %v, %v", expr, name, re.full(name), re.matches(name), r[2], r[3])
		default:
			compared++
		}
	}
	t.Logf("%d expression and name pairs as in Python, %d expressions refused", compared, len(seen))
}

// TestNewIsStricter: what PEFT passes over in silence is refused when a run starts.
func TestNewIsStricter(t *testing.T) {
	_, shape := readReference(t)
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"target":  {func(c *Config) { c.TargetModules.List = []string{"q_proj", "qproj"} }, `"qproj" matches no module`},
		"layer":   {func(c *Config) { c.LayersToTransform = []int{1, 12} }, "has 12, the model has layers 0 to 11"},
		"minus":   {func(c *Config) { c.LayersToTransform = []int{-1} }, "-1"},
		"pattern": {func(c *Config) { c.RankPattern = Pattern{{"qproj", 4}} }, `rank_pattern: "qproj" matches no module`},
		"alpha":   {func(c *Config) { c.AlphaPattern = Pattern{{"qproj", 4}} }, `alpha_pattern: "qproj" matches no module`},
		"regexp":  {func(c *Config) { c.RankPattern = Pattern{{"(?=q)", 4}} }, "rank_pattern: regular expression"},
		"rank":    {func(c *Config) { c.RankPattern = Pattern{{"q_proj", 4.5}} }, "4.5"},
		"r":       {func(c *Config) { c.R = 0 }, "r is 0"},
		"dropout": {func(c *Config) { c.LoraDropout = 1 }, "lora_dropout is 1"},
		"both":    {func(c *Config) { c.TargetModules = Targets{List: []string{"q_proj"}, Expr: "q"} }, "both"},
	} {
		cfg := Config{R: 8, LoraAlpha: 8}
		c.change(&cfg)
		if _, err := New(cfg, shape, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func FuzzPythonRegexp(f *testing.F) {
	for _, s := range []string{"", "a", `.*self_attn\.(q|v)_proj`, "[]a]", "[^]a]", "(?P<n>a)", "a{,2}", `\`, "[", "(?", "{,}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		if re, err := compilePython(expr); err == nil && re.full("model") && !re.matches("model") {
			t.Fatal("fullmatch without match")
		}
	})
}
