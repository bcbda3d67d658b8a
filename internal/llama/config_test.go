package llama

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestReadConfigTiny(t *testing.T) {
	dir := "../../testdata/golden/tiny-llama"
	c, err := ReadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	bos := 2042
	want := &Config{
		ModelType: "llama", Architectures: []string{"LlamaForCausalLM"},
		VocabSize: 2048, HiddenSize: 128, IntermediateSize: 352, NumHiddenLayers: 4,
		NumAttentionHeads: 8, NumKeyValueHeads: 2, HeadDim: 16, HiddenAct: "silu",
		RMSNormEps: 1e-5, RopeTheta: 500000, MaxPositionEmbeddings: 2048,
		RopeScaling: RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 64},
		BOSTokenID:  &bos, EOSTokenID: []int{2043, 2046, 2047}, TorchDType: "bfloat16",
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("read %+v, want %+v", c, want)
	}
	g, err := ReadGenerationConfig(dir)
	if err != nil || !reflect.DeepEqual(g, &GenerationConfig{BOSTokenID: &bos, EOSTokenID: []int{2043, 2046, 2047}}) {
		t.Errorf("generation config %+v, %v", g, err)
	}
}

func TestReadConfigMissing(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadConfig(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "not a Hugging Face model directory") {
		t.Errorf("error %v", err)
	}
	g, err := ReadGenerationConfig(dir)
	if err != nil || !reflect.DeepEqual(g, &GenerationConfig{}) {
		t.Errorf("generation config %+v, %v", g, err)
	}
}

// parse reads a small valid config.json changed by edits: JSON that is laid over it, null deleting a key.
func parse(t *testing.T, edits string) (*Config, error) {
	t.Helper()
	values := map[string]json.RawMessage{}
	for _, text := range []string{`{"model_type":"llama","vocab_size":100,"hidden_size":48,"intermediate_size":99,
		"num_hidden_layers":3,"num_attention_heads":6,"eos_token_id":2}`, edits} {
		if err := json.Unmarshal([]byte(text), &values); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	o, err := parseObject(text)
	if err != nil {
		t.Fatal(err)
	}
	return parseConfig(o)
}

func TestConfigDefaults(t *testing.T) {
	c, err := parse(t, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		ModelType: "llama", VocabSize: 100, HiddenSize: 48, IntermediateSize: 99, NumHiddenLayers: 3,
		NumAttentionHeads: 6, NumKeyValueHeads: 6, HeadDim: 8, HiddenAct: "silu", RMSNormEps: 1e-6,
		RopeTheta: 10000, RopeScaling: RopeScaling{Type: "default"}, MaxPositionEmbeddings: 2048, EOSTokenID: []int{2},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("read %+v, want %+v", c, want)
	}
}

func TestConfigAccepts(t *testing.T) {
	llama3 := RopeScaling{Type: "llama3", Factor: 32, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}
	for edits, ok := range map[string]func(c *Config) bool{
		`{"rope_scaling":null,"rope_theta":100000}`:                                          func(c *Config) bool { return c.RopeScaling.Type == "default" && c.RopeTheta == 100000 },
		`{"rope_scaling":{"type":"linear","factor":2.5}}`:                                    func(c *Config) bool { return c.RopeScaling == RopeScaling{Type: "linear", Factor: 2.5} },
		`{"rope_scaling":{"rope_type":"linear","type":"linear","factor":2}}`:                 func(c *Config) bool { return c.RopeScaling.Factor == 2 },
		`{"rope_parameters":{"rope_type":"default","rope_theta":5e5}}`:                       func(c *Config) bool { return c.RopeTheta == 500000 && c.RopeScaling.Type == "default" },
		`{"rope_parameters":{"rope_theta":5e5}}`:                                             func(c *Config) bool { return c.RopeTheta == 500000 && c.RopeScaling.Type == "default" },
		`{"rope_theta":5e5,"rope_parameters":{"rope_type":"default","rope_theta":500000.0}}`: func(c *Config) bool { return c.RopeTheta == 500000 },
		`{"rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,"factor":32.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}}`: func(c *Config) bool { return c.RopeScaling == llama3 },
		`{"dtype":"float32"}`:                         func(c *Config) bool { return c.TorchDType == "float32" },
		`{"torch_dtype":"float16","dtype":"float16"}`: func(c *Config) bool { return c.TorchDType == "float16" },
		`{"eos_token_id":[3,4],"bos_token_id":1}`:     func(c *Config) bool { return reflect.DeepEqual(c.EOSTokenID, []int{3, 4}) && *c.BOSTokenID == 1 },
		`{"eos_token_id":null,"bos_token_id":null}`:   func(c *Config) bool { return c.EOSTokenID == nil && c.BOSTokenID == nil },
		`{"num_key_value_heads":2,"head_dim":10}`:     func(c *Config) bool { return c.NumKeyValueHeads == 2 && c.HeadDim == 10 },
		`{"attention_bias":false,"mlp_bias":false,"pretraining_tp":1,"sliding_window":null,"attention_dropout":0.0,"quantization_config":null}`: func(c *Config) bool { return true },
		`{"architectures":["LlamaForCausalLM"],"use_cache":true,"_name_or_path":"x","auto_map":{}}`:                                             func(c *Config) bool { return true },
	} {
		c, err := parse(t, edits)
		if err != nil {
			t.Errorf("%s: %v", edits, err)
		} else if !ok(c) {
			t.Errorf("%s: read %+v", edits, c)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for edits, want := range map[string]string{
		`{"model_type":"qwen2"}`:                                  `model_type "qwen2" is not supported; use a Llama model`,
		`{"model_type":null}`:                                     `model_type is missing`,
		`{"model_type":"mistral","sliding_window":4096}`:          `model_type "mistral" with a sliding_window`,
		`{"model_type":"mistral","sliding_window":null}`:          `"model_type": "llama"`,
		`{"model_type":7}`:                                        `model_type 7: a JSON number where a string belongs`,
		`{"architectures":["LlamaForSequenceClassification"]}`:    `architectures ["LlamaForSequenceClassification"]`,
		`{"attention_bias":true}`:                                 `attention_bias true is not supported`,
		`{"mlp_bias":true}`:                                       `mlp_bias true is not supported`,
		`{"hidden_act":"gelu"}`:                                   `hidden_act "gelu" is not supported; only "silu"`,
		`{"pretraining_tp":2}`:                                    `pretraining_tp 2 is not supported; set it to 1`,
		`{"sliding_window":4096}`:                                 `sliding_window 4096 is not supported`,
		`{"quantization_config":{"quant_method":"gptq"}}`:         `quantization_config {"quant_method":"gptq"} is not supported; use the model's original`,
		`{"num_local_experts":8}`:                                 `num_local_experts 8 is not supported`,
		`{"attention_dropout":0.1}`:                               `attention_dropout 0.1 is not supported; set it to 0.0`,
		`{"partial_rotary_factor":0.5}`:                           `partial_rotary_factor 0.5 is not supported`,
		`{"rope_scaling":{"type":"yarn","factor":2.0}}`:           `rope_type "yarn" is not supported`,
		`{"rope_scaling":{"rope_type":"dynamic","factor":2.0}}`:   `rope_type "dynamic" is not supported`,
		`{"rope_parameters":{"rope_type":"longrope"}}`:            `rope_parameters: rope_type "longrope" is not supported`,
		`{"rope_scaling":{"rope_type":"llama3","type":"linear"}}`: `rope_type "llama3" and type "linear" disagree`,
		`{"rope_scaling":{"rope_type":"llama3","factor":8.0}}`:    `low_freq_factor is missing`,
		`{"rope_scaling":{"rope_type":"linear"}}`:                 `factor is missing`,
		`{"rope_scaling":{"rope_type":"linear","factor":0}}`:      `factor 0 is not between`,
		`{"rope_scaling":{"rope_type":"linear","factor":"2"}}`:    `factor "2": a JSON string where a number belongs`,
		`{"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":4.0,"high_freq_factor":4.0,"original_max_position_embeddings":64}}`: `high_freq_factor 4 is not above`,
		`{"rope_scaling":"linear"}`:                               `rope_scaling "linear": a JSON string where an object belongs`,
		`{"rope_theta":1e4,"rope_parameters":{"rope_theta":5e5}}`: `rope_parameters disagrees`,
		`{"rope_theta":0}`:                                        `rope_theta 0 is not between`,
		`{"dtype":"float32","torch_dtype":"float16"}`:             `disagree`,
		`{"vocab_size":null}`:                                     `vocab_size is missing`,
		`{"vocab_size":0}`:                                        `vocab_size 0 is not between`,
		`{"vocab_size":1e9}`:                                      `vocab_size 1e9: a JSON number 1e9 where a whole number belongs`,
		`{"hidden_size":1000000000}`:                              `hidden_size 1000000000 is not between`,
		`{"hidden_size":48.5}`:                                    `hidden_size 48.5: a JSON number 48.5 where a whole number belongs`,
		`{"hidden_size":49}`:                                      `hidden_size 49 is not a multiple of num_attention_heads 6`,
		`{"num_hidden_layers":-1}`:                                `num_hidden_layers -1 is not between`,
		`{"num_key_value_heads":4}`:                               `num_attention_heads 6 is not a multiple of num_key_value_heads 4`,
		`{"num_key_value_heads":0}`:                               `num_key_value_heads 0 is not between`,
		`{"head_dim":7}`:                                          `head_dim 7 is odd`,
		`{"rms_norm_eps":0}`:                                      `rms_norm_eps 0 is not between`,
		`{"rms_norm_eps":"1e-5"}`:                                 `rms_norm_eps "1e-5": a JSON string where a number belongs`,
		`{"eos_token_id":100}`:                                    `eos_token_id 100 is not in the vocabulary of 100`,
		`{"eos_token_id":[1,-1]}`:                                 `eos_token_id -1 is not in the vocabulary`,
		`{"eos_token_id":"eos"}`:                                  `eos_token_id "eos": a JSON string where a list belongs`,
		`{"bos_token_id":[1]}`:                                    `bos_token_id [1]: a JSON array where a whole number belongs`,
	} {
		c, err := parse(t, edits)
		if err == nil {
			t.Errorf("%s: accepted as %+v", edits, c)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %q does not say %q", edits, err, want)
		}
	}
}

func TestConfigNotJSON(t *testing.T) {
	for _, text := range []string{"", "null", "[]", "1", "{", `{"a":NaN}`, strings.Repeat("[", 100_000)} {
		if _, err := parseObject([]byte(text)); err == nil {
			t.Errorf("%.20q accepted", text)
		}
	}
}

func TestGenerationConfig(t *testing.T) {
	read := func(text string) (*GenerationConfig, error) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return ReadGenerationConfig(dir)
	}
	g, err := read(`{"bos_token_id":1,"do_sample":true,"eos_token_id":7,"pad_token_id":null,"temperature":0.6,"top_k":40,
		"top_p":0.9,"min_p":0.05,"repetition_penalty":1.1,"max_length":4096,"transformers_version":"4.43.2"}`)
	if err != nil {
		t.Fatal(err)
	}
	if *g.BOSTokenID != 1 || !*g.DoSample || !reflect.DeepEqual(g.EOSTokenID, []int{7}) || g.PadTokenID != nil || *g.Temperature != 0.6 ||
		*g.TopK != 40 || *g.TopP != 0.9 || *g.MinP != 0.05 || *g.RepetitionPenalty != 1.1 {
		t.Errorf("read %+v", g)
	}
	for _, text := range []string{
		`{"temperature":-1}`, `{"temperature":"hot"}`, `{"top_k":-1}`, `{"top_p":1.5}`, `{"min_p":-0.1}`,
		`{"repetition_penalty":0}`, `{"eos_token_id":[-1]}`, `{"do_sample":1}`, `{`,
	} {
		if g, err := read(text); err == nil {
			t.Errorf("%s: accepted as %+v", text, g)
		}
	}
}

// The frequencies must be PyTorch's to the bit: testdata/inv_freq.py made them.
func TestInvFreq(t *testing.T) {
	text, err := os.ReadFile("testdata/inv_freq.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		HeadDim     int             `json:"head_dim"`
		RopeTheta   float64         `json:"rope_theta"`
		RopeScaling json.RawMessage `json:"rope_scaling"`
		Bits        []uint32        `json:"bits"`
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		config := &Config{HeadDim: c.HeadDim, RopeTheta: c.RopeTheta, RopeScaling: RopeScaling{Type: "default"}}
		if string(c.RopeScaling) != "null" {
			r, err := parseObject(c.RopeScaling)
			if err != nil {
				t.Fatal(err)
			}
			if config.RopeScaling, err = parseRopeScaling(r); err != nil {
				t.Fatal(err)
			}
		}
		got := config.InvFreq()
		if len(got) != len(c.Bits) {
			t.Fatalf("%d frequencies, want %d", len(got), len(c.Bits))
		}
		for i, f := range got {
			if math.Float32bits(f) != c.Bits[i] {
				t.Errorf("head_dim %d, theta %v, %s: frequency %d is %v, want %v", c.HeadDim, c.RopeTheta, c.RopeScaling, i, f, math.Float32frombits(c.Bits[i]))
			}
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"model_type":"llama","vocab_size":100,"hidden_size":48,"intermediate_size":99,"num_hidden_layers":3,"num_attention_heads":6,"eos_token_id":[2],
		"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := parseObject(text)
		if err != nil {
			return
		}
		c, err := parseConfig(o)
		if err != nil {
			return
		}
		for i, freq := range c.InvFreq() {
			if !(freq >= 0 && freq <= math.MaxFloat32) {
				t.Errorf("%s: frequency %d is %v", text, i, freq)
			}
		}
	})
}
