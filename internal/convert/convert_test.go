package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cria/internal/disk"
	"cria/internal/gguf"
	"cria/internal/llama"
	"cria/internal/safetensors"
)

// The golden model, written as GGUF and imported, must come back: weights to
// the bit, and a tokenizer.json that says the same.
func TestImportTiny(t *testing.T) {
	path := tinyGGUF(t).write(t)
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	var last, total int64
	err := ImportGGUF(context.Background(), path, dir, func(d, all int64) {
		if d < last {
			t.Errorf("progress went back from %d to %d", last, d)
		}
		last, total = d, all
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != total || total == 0 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	if _, err := disk.Verify(disk.OS{}, dir); err != nil {
		t.Error(err)
	}
	compareWeights(t, dir, tinyDir)

	got, err := llama.ReadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := llama.ReadConfig(tinyDir)
	if err != nil {
		t.Fatal(err)
	}
	want.RopeScaling = llama.RopeScaling{Type: "default"}
	want.EOSTokenID = []int{2047, 2043}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("config %+v, want %+v", got, want)
	}
	generation, err := llama.ReadGenerationConfig(dir)
	if err != nil || *generation.BOSTokenID != 2042 || !slices.Equal(generation.EOSTokenID, []int{2047, 2043}) {
		t.Errorf("generation config %+v, %v", generation, err)
	}

	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} {
		var got, want map[string]any
		readJSON(t, filepath.Join(dir, name), &got)
		readJSON(t, filepath.Join(tinyDir, name), &want)
		for key := range want {
			if key == "post_processor" { // checked below: the golden one has a second step that changes no ids
				continue
			}
			if !reflect.DeepEqual(got[key], want[key]) {
				t.Errorf("%s: %s is\n%.300v, want\n%.300v", name, key, got[key], want[key])
			}
		}
	}
	var tok struct {
		PostProcessor struct {
			Type          string `json:"type"`
			SpecialTokens map[string]struct {
				IDs []int `json:"ids"`
			} `json:"special_tokens"`
		} `json:"post_processor"`
	}
	readJSON(t, filepath.Join(dir, "tokenizer.json"), &tok)
	if p := tok.PostProcessor; p.Type != "TemplateProcessing" || !slices.Equal(p.SpecialTokens["<|begin_of_text|>"].IDs, []int{2042}) {
		t.Errorf("post processor %+v", p)
	}
}

func compareWeights(t *testing.T, got, want string) {
	t.Helper()
	a, err := safetensors.OpenDir(got)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := safetensors.OpenDir(want)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !slices.Equal(a.Names(), b.Names()) {
		t.Errorf("tensors %v, want %v", a.Names(), b.Names())
	}
	for _, name := range a.Names() {
		x, _ := a.Tensor(name)
		y, _ := b.Tensor(name)
		if x.DType != y.DType || !slices.Equal(x.Shape, y.Shape) || !bytes.Equal(x.Data, y.Data) {
			t.Errorf("%s differs", name)
		}
	}
}

// The small model must pass, or the fuzz target would only see errors.
func TestImportSmall(t *testing.T) {
	if err := ImportGGUF(context.Background(), smallGGUF().write(t), filepath.Join(t.TempDir(), "out"), nil); err != nil {
		t.Error(err)
	}
}

func TestImportTied(t *testing.T) {
	g := tinyGGUF(t)
	g.tensors = slices.DeleteFunc(g.tensors, func(t gguf.Tensor) bool { return t.Name == "output.weight" })
	dir := filepath.Join(t.TempDir(), "out")
	if err := ImportGGUF(context.Background(), g.write(t), dir, nil); err != nil {
		t.Fatal(err)
	}
	c, err := llama.ReadConfig(dir)
	if err != nil || !c.TieWordEmbeddings {
		t.Errorf("config %+v, %v", c, err)
	}
	f, err := safetensors.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := f.Tensor("lm_head.weight"); ok {
		t.Error("a tied model has a head")
	}
}

// Llama 3.1's scaling comes as divisors of the frequencies, here made from
// package llama's.
func TestRopeScaling(t *testing.T) {
	llama3 := llama.RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}
	divisors := func(s llama.RopeScaling) []byte {
		c := llama.Config{HeadDim: 16, RopeTheta: 500000, RopeScaling: s}
		scaled := c.InvFreq()
		c.RopeScaling.Type = "default"
		var b []byte
		for i, f := range c.InvFreq() {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f/scaled[i]))
		}
		return b
	}
	for what, c := range map[string]struct {
		values   map[string]any
		divisors []byte
		want     llama.RopeScaling
		refused  string
	}{
		"none":                     {nil, nil, llama.RopeScaling{Type: "default"}, ""},
		"none, by name":            {map[string]any{"llama.rope.scaling.type": "none"}, nil, llama.RopeScaling{Type: "default"}, ""},
		"linear":                   {map[string]any{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float32(2.5)}, nil, llama.RopeScaling{Type: "linear", Factor: 2.5}, ""},
		"linear, the old way":      {map[string]any{"llama.rope.scale_linear": float32(4)}, nil, llama.RopeScaling{Type: "linear", Factor: 4}, ""},
		"linear by 1":              {map[string]any{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float32(1)}, nil, llama.RopeScaling{Type: "default"}, ""},
		"Llama 3.1":                {nil, divisors(llama3), llama3, ""},
		"Llama 3.2":                {nil, divisors(with(llama3, func(s *llama.RopeScaling) { s.Factor = 32 })), with(llama3, func(s *llama.RopeScaling) { s.Factor = 32 }), ""},
		"other context":            {nil, divisors(with(llama3, func(s *llama.RopeScaling) { s.OriginalMaxPositionEmbeddings = 64 })), llama.RopeScaling{}, "is not Llama 3.1's scaling"},
		"other high_freq_factor":   {nil, divisors(with(llama3, func(s *llama.RopeScaling) { s.HighFreqFactor = 5 })), llama.RopeScaling{}, "is not Llama 3.1's scaling"},
		"NaN":                      {nil, bytes.Repeat([]byte{0xff}, 32), llama.RopeScaling{}, "is not Llama 3.1's scaling"},
		"too few":                  {nil, divisors(llama3)[:28], llama.RopeScaling{}, "has 7 values"},
		"yarn":                     {map[string]any{"llama.rope.scaling.type": "yarn"}, nil, llama.RopeScaling{}, `"yarn" is not supported`},
		"linear and divisors":      {map[string]any{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float32(2)}, divisors(llama3), llama.RopeScaling{}, `"linear" is not supported`},
		"linear, factor is zero":   {map[string]any{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float32(0)}, nil, llama.RopeScaling{}, "not a positive number"},
		"linear, factor is a text": {map[string]any{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": "2"}, nil, llama.RopeScaling{}, "where a float belongs"},
	} {
		g := tinyGGUF(t)
		for key, v := range c.values {
			g.values[key] = v
		}
		if c.divisors != nil {
			g.tensors = append(g.tensors, gguf.Tensor{Name: "rope_freqs.weight", Type: gguf.F32, Shape: []int{len(c.divisors) / 4}, Data: c.divisors})
		}
		dir := filepath.Join(t.TempDir(), "out")
		err := ImportGGUF(context.Background(), g.write(t), dir, nil)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: error %v does not say %q", what, err, c.refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		config, err := llama.ReadConfig(dir)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if config.RopeScaling != c.want {
			t.Errorf("%s: %+v, want %+v", what, config.RopeScaling, c.want)
		}
	}
}

func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

func TestImportRefuses(t *testing.T) {
	set := func(key string, v any) func(*ggufFile) { return func(g *ggufFile) { g.values[key] = v } }
	remove := func(key string) func(*ggufFile) { return func(g *ggufFile) { delete(g.values, key) } }
	token := func(id int, text string) func(*ggufFile) {
		return func(g *ggufFile) { g.values["tokenizer.ggml.tokens"].([]string)[id] = text }
	}
	merge := func(text string) func(*ggufFile) {
		return func(g *ggufFile) { g.values["tokenizer.ggml.merges"].([]string)[5] = text }
	}
	extra := func(name string) func(*ggufFile) {
		return func(g *ggufFile) {
			g.tensors = append(g.tensors, gguf.Tensor{Name: name, Type: gguf.F32, Shape: []int{1}, Data: make([]byte, 4)})
		}
	}
	tensor := func(name string, change func(*gguf.Tensor)) func(*ggufFile) {
		return func(g *ggufFile) { change(g.tensor(t, name)) }
	}
	for what, c := range map[string]struct {
		change func(*ggufFile)
		want   string
	}{
		"architecture":          {set("general.architecture", "qwen2"), `general.architecture "qwen2" is not supported`},
		"no architecture":       {remove("general.architecture"), "general.architecture: not in the file"},
		"experts":               {set("llama.expert_count", uint32(8)), "mixtures of experts"},
		"split":                 {set("split.count", uint32(3)), "join them first"},
		"unknown setting":       {set("llama.attention.scale", float32(2)), "llama.attention.scale = 2 is not supported"},
		"rotary part of a head": {set("llama.rope.dimension_count", uint32(8)), "llama.rope.dimension_count 8 is not supported"},
		"value size":            {set("llama.attention.value_length", uint32(8)), "llama.attention.value_length 8 is not supported"},
		"head size":             {set("llama.attention.key_length", uint32(15)), "is not supported"},
		"heads":                 {set("llama.attention.head_count_kv", uint32(3)), "do not fit together"},
		"no heads":              {set("llama.attention.head_count", uint32(0)), "is not a size"},
		"heads per layer":       {set("llama.attention.head_count", []int32{8, 8, 8, 8}), "where an integer belongs"},
		"layers":                {set("llama.block_count", uint32(5)), "tensor blk.4.attn_norm.weight is missing"},
		"2^31 layers":           {set("llama.block_count", uint32(1<<31-1)), "larger than the tensors"},
		"fewer layers":          {set("llama.block_count", uint32(3)), "is not part of a plain Llama"},
		"ffn size":              {set("llama.feed_forward_length", uint32(353)), "has the shape"},
		"epsilon":               {set("llama.attention.layer_norm_rms_epsilon", float32(0)), "not a positive number"},
		"no epsilon":            {remove("llama.attention.layer_norm_rms_epsilon"), "not in the file"},
		"vocabulary size":       {set("llama.vocab_size", uint32(2047)), "2048 rows"},
		"bias":                  {extra("blk.0.attn_q.bias"), "tensor blk.0.attn_q.bias is not part of a plain Llama"},
		"shape":                 {tensor("blk.1.ffn_up.weight", func(t *gguf.Tensor) { t.Shape = []int{128, 352} }), "has the shape [128 352]"},
		"type":                  {tensor("blk.1.attn_norm.weight", func(t *gguf.Tensor) { t.Type, t.Data = 28, make([]byte, 1024) }), "stored as F64"},
		"no embedding":          {tensor("token_embd.weight", func(t *gguf.Tensor) { t.Name = "x" }), "token_embd.weight is missing"},
		"NaN":                   {tensor("blk.2.ffn_down.weight", func(t *gguf.Tensor) { t.Data[1001], t.Data[1000] = 0x7f, 0xc0 }), "tensor blk.2.ffn_down.weight holds NaN"},
		"infinity":              {tensor("output.weight", func(t *gguf.Tensor) { t.Data[1], t.Data[0] = 0xff, 0x80 }), "tensor output.weight holds -Inf"},
		"SentencePiece":         {set("tokenizer.ggml.model", "llama"), `tokenizer.ggml.model "llama" is not supported`},
		"other splitting":       {set("tokenizer.ggml.pre", "qwen2"), `tokenizer.ggml.pre "qwen2" is not supported`},
		"default splitting":     {set("tokenizer.ggml.pre", "default"), `tokenizer.ggml.pre "default" is not supported`},
		"no splitting":          {remove("tokenizer.ggml.pre"), `tokenizer.ggml.pre "" is not supported`},
		"no tokens":             {remove("tokenizer.ggml.tokens"), "tokenizer.ggml.tokens: not in the file"},
		"tokens missing":        {set("tokenizer.ggml.tokens", []string{"a"}), "has 1 tokens, the embedding 2048 rows"},
		"types missing":         {set("tokenizer.ggml.token_type", []int32{1}), "has 1 values for 2048 tokens"},
		"token type":            {func(g *ggufFile) { g.values["tokenizer.ggml.token_type"].([]int32)[7] = 6 }, "has the type 6"},
		"token twice":           {token(9, "!"), `are both "!"`},
		"token empty":           {token(9, ""), "token 9"},
		"token not UTF-8":       {token(9, "\xff"), "token 9"},
		"merge of one":          {merge("a"), "merge 5"},
		"merge of three":        {merge("a b c"), "merge 5"},
		"merge makes no token":  {merge("< |"), "merge 5"},
		"merge of special":      {merge("<| begin_of_text|>"), "merge 5"},
		"bos out of range":      {set("tokenizer.ggml.bos_token_id", uint32(2048)), "bos_token_id 2048 is not one of 2048 tokens"},
		"no eos":                {remove("tokenizer.ggml.eos_token_id"), "eos_token_id is missing"},
		"adds eos":              {set("tokenizer.ggml.add_eos_token", true), "add_eos_token true is not supported"},
		"template not UTF-8":    {set("tokenizer.chat_template", "\xff"), "not valid UTF-8"},
	} {
		g := tinyGGUF(t)
		c.change(g)
		parent := t.TempDir()
		err := ImportGGUF(context.Background(), g.write(t), filepath.Join(parent, "out"), nil)
		if err == nil {
			t.Errorf("%s: imported", what)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %q does not say %q", what, err, c.want)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
			t.Errorf("%s: left %v, %v", what, left, err)
		}
	}
}

func TestImportTokens(t *testing.T) {
	g := tinyGGUF(t)
	types := g.values["tokenizer.ggml.token_type"].([]int32)
	types[2044], types[2045], types[2047] = TokenUnused, TokenUserDefined, TokenControl
	g.values["tokenizer.ggml.pre"] = "smollm"
	g.values["tokenizer.ggml.add_bos_token"] = false
	g.values["tokenizer.ggml.unknown_token_id"] = uint32(2043)
	dir := filepath.Join(t.TempDir(), "out")
	if err := ImportGGUF(context.Background(), g.write(t), dir, nil); err != nil {
		t.Fatal(err)
	}
	var tok struct {
		tinyTokenizer
		PreTokenizer  map[string]any `json:"pre_tokenizer"`
		PostProcessor any            `json:"post_processor"`
	}
	readJSON(t, filepath.Join(dir, "tokenizer.json"), &tok)
	if tok.PostProcessor != nil {
		t.Errorf("post processor %v", tok.PostProcessor)
	}
	if n := len(tok.Model.Vocab); n != 2045 { // up to the unused token; the added ones behind it are left out
		t.Errorf("%d tokens in the model", n)
	}
	var added []int
	for _, token := range tok.AddedTokens {
		added = append(added, token.ID)
	}
	if !slices.Equal(added, []int{2042, 2043, 2045, 2046, 2047}) {
		t.Errorf("added tokens %v", added)
	}
	steps, _ := tok.PreTokenizer["pretokenizers"].([]any)
	if len(steps) != 2 || !reflect.DeepEqual(steps[0], map[string]any{"type": "Digits", "individual_digits": true}) {
		t.Errorf("pre-tokenizer %v", tok.PreTokenizer)
	}
	var special map[string]string
	readJSON(t, filepath.Join(dir, "special_tokens_map.json"), &special)
	want := map[string]string{"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "unk_token": "<|end_of_text|>"}
	if !reflect.DeepEqual(special, want) {
		t.Errorf("special tokens %v, want %v", special, want)
	}
}

func TestImportKeepsWhatIsThere(t *testing.T) {
	path := tinyGGUF(t).write(t)
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	if err := os.WriteFile(mine, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := ImportGGUF(context.Background(), path, dir, nil)
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "name another directory") {
		t.Errorf("error %v", err)
	}
	if text, err := os.ReadFile(mine); err != nil || string(text) != "x" {
		t.Errorf("my file: %q, %v", text, err)
	}
}

func TestImportCancelled(t *testing.T) {
	path := tinyGGUF(t).write(t)
	parent := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	err := ImportGGUF(ctx, path, filepath.Join(parent, "out"), func(done, total int64) {
		if done > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
