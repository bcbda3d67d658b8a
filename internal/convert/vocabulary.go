package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"cria/internal/gguf"
)

// Token types, numbered as llama_token_type.
const (
	TokenNormal      = 1
	TokenControl     = 3 // special
	TokenUserDefined = 4 // added, not special
	TokenUnused      = 5
)

// vocabulary is a GGUF file's byte-level BPE tokenizer.
type vocabulary struct {
	pre          preTokenizer
	tokens       []string // by id
	added        []addedToken
	merges       []string // "left right"
	bos, pad     *int
	unk          *int
	eos          []int // the first is the tokenizer's eos_token
	addBOS       bool
	chatTemplate string
}

// preTokenizer is what tokenizer.ggml.pre stands for in tokenizer.json.
type preTokenizer struct {
	json         string
	ignoreMerges bool // a piece that is a token is not merged together again
	addBOS       bool // where tokenizer.ggml.add_bos_token does not say
}

// preTokenizers has the Hugging Face equals of llama.cpp's pre-tokenizers that
// Llama models use. SmolLM's splits off every digit before GPT-2's pattern does
// the rest; without that, numbers get other tokens than in training.
var preTokenizers = map[string]preTokenizer{
	"smollm": {json: `{"type":"Sequence","pretokenizers":[
		{"type":"Digits","individual_digits":true},
		{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]}`},
	"gpt-2":     {json: `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}`},
	"llama-bpe": llama3,
	"llama3":    llama3,
	"llama-v3":  llama3,
}

var llama3 = preTokenizer{
	json: `{"type":"Sequence","pretokenizers":[
		{"type":"Split","pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},
		{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}`,
	ignoreMerges: true,
	addBOS:       true,
}

// PreTokenizer is the inverse of the table: the tokenizer.ggml.pre that stands for a tokenizer.json's pre_tokenizer and its
// model's ignore_merges. A pre_tokenizer that llama.cpp has no equal of here is an error.
func PreTokenizer(text json.RawMessage, ignoreMerges bool) (string, error) {
	have, err := splits(text)
	if err != nil {
		return "", err
	}
	for _, name := range []string{"smollm", "gpt-2", "llama-bpe"} {
		p := preTokenizers[name]
		want, err := splits(json.RawMessage(p.json))
		if err != nil {
			return "", err
		}
		if p.ignoreMerges == ignoreMerges && slices.Equal(have, want) {
			return name, nil
		}
	}
	return "", errors.New("its pre_tokenizer is not the one of Llama 3, SmolLM or GPT-2, which are those that cria knows llama.cpp's name of")
}

// split is one step of a pre_tokenizer: all that decides where a text is cut.
type split struct {
	Type    string `json:"type"`
	Pattern struct {
		Regex string `json:"Regex"`
	} `json:"pattern"`
	Behavior         string `json:"behavior"`
	Invert           bool   `json:"invert"`
	IndividualDigits bool   `json:"individual_digits"`
	AddPrefixSpace   bool   `json:"add_prefix_space"`
	UseRegex         bool   `json:"use_regex"`
}

func splits(text json.RawMessage) ([]split, error) {
	var top struct {
		Type          string            `json:"type"`
		Pretokenizers []json.RawMessage `json:"pretokenizers"`
	}
	if err := json.Unmarshal(text, &top); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	parts := top.Pretokenizers
	if top.Type != "Sequence" {
		parts = []json.RawMessage{text}
	}
	out := make([]split, len(parts))
	for i, part := range parts {
		out[i] = split{AddPrefixSpace: true, UseRegex: true} // the tokenizers library's defaults
		if err := json.Unmarshal(part, &out[i]); err != nil {
			return nil, fmt.Errorf("pre_tokenizer: %w", err)
		}
	}
	return out, nil
}

// readVocabulary reads the tokenizer, which must have n tokens.
func readVocabulary(f *gguf.File, n int) (*vocabulary, error) {
	kind, err := gguf.Get[string](f, "tokenizer.ggml.model")
	if err != nil {
		return nil, err
	}
	if kind != "gpt2" {
		return nil, fmt.Errorf("tokenizer.ggml.model %q is not supported; byte-level BPE (%q) is, as in Llama 3 and SmolLM", kind, "gpt2")
	}
	pre, err := gguf.Get[string](f, "tokenizer.ggml.pre")
	if err != nil && !errors.Is(err, gguf.ErrMissing) {
		return nil, err
	}
	v := &vocabulary{}
	var ok bool
	if v.pre, ok = preTokenizers[pre]; !ok {
		return nil, fmt.Errorf("tokenizer.ggml.pre %q is not supported (%s are); if the model is a Llama 3 or SmolLM, its file is "+
			"from before this setting: take one made by a newer converter", pre, strings.Join(slices.Sorted(maps.Keys(preTokenizers)), ", "))
	}
	if v.tokens, err = gguf.Get[[]string](f, "tokenizer.ggml.tokens"); err != nil {
		return nil, err
	}
	if len(v.tokens) != n {
		return nil, fmt.Errorf("tokenizer.ggml.tokens has %d tokens, the embedding %d rows", len(v.tokens), n)
	}
	if v.merges, err = gguf.Get[[]string](f, "tokenizer.ggml.merges"); err != nil {
		return nil, err
	}
	if err := errors.Join(v.readAdded(f), v.readSpecial(f)); err != nil {
		return nil, err
	}
	return v, v.check()
}

// readAdded finds the tokens that are recognised in the text before it is split.
func (v *vocabulary) readAdded(f *gguf.File) error {
	types, err := gguf.Get[[]int32](f, "tokenizer.ggml.token_type")
	if err != nil {
		return err
	}
	if len(types) != len(v.tokens) {
		return fmt.Errorf("tokenizer.ggml.token_type has %d values for %d tokens", len(types), len(v.tokens))
	}
	for id, kind := range types {
		switch kind {
		case TokenNormal, TokenUnused:
		case TokenControl, TokenUserDefined:
			v.added = append(v.added, addedToken{ID: id, Content: v.tokens[id], Special: kind == TokenControl})
		default:
			return fmt.Errorf("token %d (%q) has the type %d, which byte-level BPE does not have", id, v.tokens[id], kind)
		}
	}
	return nil
}

func (v *vocabulary) readSpecial(f *gguf.File) error {
	id := func(name string) (*int, error) {
		key := "tokenizer.ggml." + name + "_token_id"
		n, err := f.Int(key)
		switch {
		case errors.Is(err, gguf.ErrMissing):
			return nil, nil
		case err != nil:
			return nil, err
		case n < 0 || n >= len(v.tokens):
			return nil, fmt.Errorf("%s %d is not one of %d tokens", key, n, len(v.tokens))
		}
		return &n, nil
	}
	var errs [6]error
	var ends [3]*int
	v.bos, errs[0] = id("bos")
	v.pad, errs[1] = id("padding")
	v.unk, errs[2] = id("unknown")
	for i, name := range []string{"eos", "eot", "eom"} {
		ends[i], errs[3+i] = id(name)
		if ends[i] != nil && !slices.Contains(v.eos, *ends[i]) {
			v.eos = append(v.eos, *ends[i])
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if ends[0] == nil {
		return errors.New("tokenizer.ggml.eos_token_id is missing: nothing would end a reply")
	}
	addEOS, err := gguf.Get[bool](f, "tokenizer.ggml.add_eos_token")
	switch {
	case err != nil && !errors.Is(err, gguf.ErrMissing):
		return err
	case addEOS:
		return errors.New("tokenizer.ggml.add_eos_token true is not supported; only false is")
	}
	v.addBOS, err = gguf.Get[bool](f, "tokenizer.ggml.add_bos_token")
	if errors.Is(err, gguf.ErrMissing) {
		v.addBOS, err = v.pre.addBOS && v.bos != nil, nil
	}
	if err == nil && v.addBOS && v.bos == nil {
		err = errors.New("tokenizer.ggml.add_bos_token is true, but there is no bos_token_id")
	}
	if err != nil {
		return err
	}
	v.chatTemplate, err = gguf.Get[string](f, "tokenizer.chat_template")
	if errors.Is(err, gguf.ErrMissing) {
		err = nil
	}
	return err
}

// check makes sure that the tokens are different texts and that merges lead
// from tokens to tokens.
func (v *vocabulary) check() error {
	ids := make(map[string]int, len(v.tokens))
	for id, token := range v.tokens {
		if token == "" || !utf8.ValidString(token) {
			return fmt.Errorf("token %d (%q) is not a text", id, token)
		}
		if first, ok := ids[token]; ok {
			return fmt.Errorf("tokens %d and %d are both %q", first, id, token)
		}
		ids[token] = id
	}
	has := func(token string) bool {
		id, ok := ids[token]
		return ok && id < v.modelTokens()
	}
	for i, merge := range v.merges {
		left, right, ok := strings.Cut(merge, " ")
		if !ok || strings.Contains(right, " ") || !has(left) || !has(right) || !has(left+right) {
			return fmt.Errorf("merge %d (%q) does not make a token from two tokens", i, merge)
		}
	}
	if !utf8.ValidString(v.chatTemplate) {
		return errors.New("tokenizer.chat_template is not valid UTF-8")
	}
	return nil
}

// modelTokens is the number of tokens in tokenizer.json's model: all but the
// added tokens at the end, which come after it as in Llama 3's own file.
func (v *vocabulary) modelTokens() int {
	n := len(v.tokens)
	for i := len(v.added) - 1; i >= 0 && v.added[i].ID == n-1; i-- {
		n--
	}
	return n
}

// addedToken is an entry of tokenizer.json's added_tokens.
type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// tokenizer makes tokenizer.json. Its model has no unk_token: a byte without a
// token is dropped, which is what the original files of Llama 3 and SmolLM say.
func (v *vocabulary) tokenizer() any {
	type bpe struct {
		Type                    string       `json:"type"`
		Dropout                 *float64     `json:"dropout"`
		UnkToken                *string      `json:"unk_token"`
		ContinuingSubwordPrefix *string      `json:"continuing_subword_prefix"`
		EndOfWordSuffix         *string      `json:"end_of_word_suffix"`
		FuseUnk                 bool         `json:"fuse_unk"`
		ByteFallback            bool         `json:"byte_fallback"`
		IgnoreMerges            bool         `json:"ignore_merges"`
		Vocab                   orderedVocab `json:"vocab"`
		Merges                  []string     `json:"merges"`
	}
	return struct {
		Version       string          `json:"version"`
		Truncation    *int            `json:"truncation"`
		Padding       *int            `json:"padding"`
		AddedTokens   []addedToken    `json:"added_tokens"`
		Normalizer    *int            `json:"normalizer"`
		PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
		PostProcessor any             `json:"post_processor"`
		Decoder       json.RawMessage `json:"decoder"`
		Model         bpe             `json:"model"`
	}{
		Version: "1.0", AddedTokens: append([]addedToken{}, v.added...),
		PreTokenizer: json.RawMessage(v.pre.json), PostProcessor: v.postProcessor(),
		Decoder: json.RawMessage(`{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`),
		Model:   bpe{Type: "BPE", IgnoreMerges: v.pre.ignoreMerges, Vocab: v.tokens[:v.modelTokens()], Merges: append([]string{}, v.merges...)},
	}
}

// postProcessor puts bos_token in front where the tokenizer does so.
func (v *vocabulary) postProcessor() any {
	if !v.addBOS {
		return nil
	}
	type object = map[string]any
	bos := v.tokens[*v.bos]
	special := func(typeID int) object { return object{"SpecialToken": object{"id": bos, "type_id": typeID}} }
	sequence := func(id string, typeID int) object { return object{"Sequence": object{"id": id, "type_id": typeID}} }
	return object{
		"type":           "TemplateProcessing",
		"single":         []object{special(0), sequence("A", 0)},
		"pair":           []object{special(0), sequence("A", 0), special(1), sequence("B", 1)},
		"special_tokens": object{bos: object{"id": bos, "ids": []int{*v.bos}, "tokens": []string{bos}}},
	}
}

// orderedVocab is a JSON object of token: id, in the order of ids.
type orderedVocab []string

func (v orderedVocab) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for id, token := range v {
		if id > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(token); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, ":%d", id)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// special is the part of tokenizer_config.json that special_tokens_map.json repeats.
type special struct {
	BOSToken string `json:"bos_token,omitempty"`
	EOSToken string `json:"eos_token,omitempty"`
	PadToken string `json:"pad_token,omitempty"`
	UnkToken string `json:"unk_token,omitempty"`
}

func (v *vocabulary) specialTokens() special {
	text := func(id *int) string {
		if id == nil {
			return ""
		}
		return v.tokens[*id]
	}
	return special{text(v.bos), text(&v.eos[0]), text(v.pad), text(v.unk)}
}

// config makes tokenizer_config.json.
func (v *vocabulary) config(maxLength int) any {
	type entry struct {
		Content    string `json:"content"`
		LStrip     bool   `json:"lstrip"`
		Normalized bool   `json:"normalized"`
		RStrip     bool   `json:"rstrip"`
		SingleWord bool   `json:"single_word"`
		Special    bool   `json:"special"`
	}
	added := map[int]entry{}
	for _, t := range v.added {
		added[t.ID] = entry{Content: t.Content, Special: t.Special}
	}
	return struct {
		AddBOSToken        bool          `json:"add_bos_token"`
		AddPrefixSpace     bool          `json:"add_prefix_space"`
		AddedTokensDecoder map[int]entry `json:"added_tokens_decoder"`
		special
		ChatTemplate              string   `json:"chat_template,omitempty"`
		CleanUpTokenizationSpaces bool     `json:"clean_up_tokenization_spaces"`
		ModelInputNames           []string `json:"model_input_names"`
		ModelMaxLength            int      `json:"model_max_length"`
		TokenizerClass            string   `json:"tokenizer_class"`
	}{
		AddBOSToken: v.addBOS, AddedTokensDecoder: added, special: v.specialTokens(), ChatTemplate: v.chatTemplate,
		ModelInputNames: []string{"input_ids", "attention_mask"}, ModelMaxLength: maxLength, TokenizerClass: "PreTrainedTokenizerFast",
	}
}
