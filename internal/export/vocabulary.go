package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/convert"
	"cria/internal/disk"
	"cria/internal/gguf"
)

// llama.cpp knows by these names which tokens end a turn and a message; others are told to it.
var (
	turnEnds = []string{"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"}
	eomToken = "<|eom_id|>"
)

// vocabulary is the tokenizer as llama.cpp's converter writes it (_set_vocab_gpt2, SpecialVocab). What GGUF cannot say is an
// error.
func (s *Source) vocabulary() ([]gguf.KeyValue, error) {
	path := filepath.Join(s.Model, "tokenizer.json")
	values, err := s.readVocabulary(path)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be put into a GGUF file: %w", path, err)
	}
	return values, nil
}

func (s *Source) readVocabulary(path string) ([]gguf.KeyValue, error) {
	var file struct {
		PreTokenizer json.RawMessage `json:"pre_tokenizer"`
		AddedTokens  []struct {
			Content    string `json:"content"`
			SingleWord bool   `json:"single_word"`
			LStrip     bool   `json:"lstrip"`
			RStrip     bool   `json:"rstrip"`
		} `json:"added_tokens"`
		Model struct {
			IgnoreMerges bool    `json:"ignore_merges"`
			Merges       []merge `json:"merges"`
		} `json:"model"`
	}
	if err := disk.ReadJSON(path, 256<<20, &file); err != nil {
		return nil, err
	}
	pre, err := convert.PreTokenizer(file.PreTokenizer, file.Model.IgnoreMerges)
	if err != nil {
		return nil, err
	}
	for _, t := range file.AddedTokens {
		if t.SingleWord || t.LStrip || t.RStrip {
			return nil, fmt.Errorf("the token %q strips spaces around it or stands only for whole words, which GGUF cannot say", t.Content)
		}
	}
	tok := s.Chat.Tokenizer
	added := tok.AddedTokens()
	isAdded := make(map[string]bool, len(added))
	for _, a := range added {
		isAdded[a] = true
	}
	tokens, kinds := make([]string, s.Config.VocabSize), make([]int32, s.Config.VocabSize)
	for i := range tokens {
		text, ok := tok.Token(int32(i))
		switch {
		case !ok:
			tokens[i], kinds[i] = fmt.Sprintf("[PAD%d]", i), convert.TokenUnused
			continue
		case !isAdded[text]:
			kinds[i] = convert.TokenNormal
		case tok.IsSpecial(int32(i)):
			kinds[i] = convert.TokenControl
		default:
			kinds[i] = convert.TokenUserDefined
		}
		tokens[i] = text
	}
	merges := make([]string, len(file.Model.Merges))
	for i, m := range file.Model.Merges {
		merges[i] = string(m)
	}
	values := []gguf.KeyValue{
		{Key: "tokenizer.ggml.add_space_prefix", Value: false},
		{Key: "tokenizer.ggml.model", Value: "gpt2"},
		{Key: "tokenizer.ggml.pre", Value: pre},
		{Key: "tokenizer.ggml.tokens", Value: tokens},
		{Key: "tokenizer.ggml.token_type", Value: kinds},
		{Key: "tokenizer.ggml.merges", Value: merges},
	}
	return append(values, s.specialTokens()...), nil
}

// specialTokens says what begins and ends texts.
func (s *Source) specialTokens() (values []gguf.KeyValue) {
	tok := s.Chat.Tokenizer
	id := func(name string, id int32) {
		values = append(values, gguf.KeyValue{Key: "tokenizer.ggml." + name + "_token_id", Value: uint32(id)})
	}
	if bos, ok := tok.BOS(); ok {
		id("bos", bos)
	}
	ends := s.ends()
	if len(ends) > 0 {
		id("eos", ends[0])
	}
	// Llama 3 ends replies with one of three tokens, of which eos_token is only one.
	named := func(names ...string) (int32, bool) {
		for _, name := range names {
			if id, ok := tok.ID(name); ok && slices.Contains(ends, id) {
				return id, true
			}
		}
		return 0, false
	}
	eot, ok := named(turnEnds...)
	if !ok && len(ends) > 1 {
		eot, ok = ends[1], true
	}
	if ok && eot != ends[0] {
		id("eot", eot)
	}
	if eom, ok := named(eomToken); ok {
		id("eom", eom)
	}
	if unk, ok := tok.ID(tok.Config().UnkToken); ok {
		id("unknown", unk)
	}
	if pad, ok := tok.Pad(); ok {
		id("padding", pad)
	}
	values = append(values, gguf.KeyValue{Key: "tokenizer.ggml.add_bos_token", Value: s.addBOS})
	if s.template != "" {
		values = append(values, gguf.KeyValue{Key: "tokenizer.chat_template", Value: s.template})
	}
	return values
}

// ends are the tokens that end a reply, eos_token first: those at which cria generate stops, and the pad token where the
// adapter was trained to end with it.
func (s *Source) ends() (ends []int32) {
	tok := s.Chat.Tokenizer
	if eos, ok := tok.EOS(); ok && slices.Contains(s.Chat.EOS, eos) {
		ends = append(ends, eos)
	}
	for _, id := range s.Chat.EOS {
		if _, ok := tok.Token(id); ok && !slices.Contains(ends, id) {
			ends = append(ends, id)
		}
	}
	if r := s.Chat.Recipe; r != nil && r.AppendPadToken {
		if pad, ok := tok.Pad(); ok && !slices.Contains(ends, pad) {
			ends = append(ends, pad)
		}
	}
	return ends
}

// merge is "left right", in tokenizer.json also ["left", "right"].
type merge string

func (m *merge) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		return json.Unmarshal(text, (*string)(m))
	}
	var pair []string
	if err := json.Unmarshal(text, &pair); err != nil {
		return err
	}
	if len(pair) != 2 || strings.Contains(pair[0]+pair[1], " ") {
		return errors.New("a merge that is not of two tokens")
	}
	*m = merge(pair[0] + " " + pair[1])
	return nil
}
