package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits on what a tokenizer.json may declare: the largest known have 262,144 tokens and
// 514,906 merges.
const (
	maxFileSize    = 256 << 20
	maxTokens      = 1 << idBits // also the bound of an id
	maxMerges      = 1<<rankBits - 1
	maxTokenBytes  = 4096
	maxAdded       = 1 << 16
	maxAddedBytes  = 512
	maxStages      = 8
	patternShown   = 200 // characters of an unsupported pattern that an error quotes
	supportedModel = "supported is byte-level BPE as of Llama 3, SmolLM2 and GPT-2"
)

// Parse reads a tokenizer.json. Everything in it that changes how text is encoded or
// decoded is either honoured or refused by name. The format is that of the tokenizers
// library, version 0.19 (merges "a b") to 0.22 (merges ["a", "b"]).
func Parse(tokenizerJSON []byte) (*Tokenizer, error) {
	t, err := parse(tokenizerJSON)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	t.indexAdded()
	return t, nil
}

func parse(data []byte) (*Tokenizer, error) {
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%d bytes are more than the limit of %d", len(data), maxFileSize)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8; the file is damaged")
	}
	t := &Tokenizer{unk: -1, words: newWordCache(), added: map[string]*addedToken{}, addedByID: map[int32]*addedToken{}}
	r := &jsonReader{data: data}
	top := map[string]json.RawMessage{}
	err := r.object(func(key []byte) (err error) {
		name := string(key)
		if _, twice := top[name]; twice {
			return r.errorf("%q is there twice", name)
		}
		top[name] = nil
		if name == "model" && r.peek() == '{' {
			return within(name, t.parseModel(r))
		}
		top[name], err = r.raw()
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	if t.vocab == nil {
		return nil, errors.New("model: missing; " + supportedModel)
	}
	if err := refuseNormalizer(top["normalizer"]); err != nil {
		return nil, err
	}
	if t.stages, err = parseStages(top["pre_tokenizer"]); err != nil {
		return nil, err
	}
	if err := t.parsePostProcessor(top["post_processor"]); err != nil {
		return nil, err
	}
	if err := checkDecoder(top["decoder"]); err != nil {
		return nil, err
	}
	var added []addedToken
	if err := decode("added_tokens", top["added_tokens"], &added); err != nil {
		return nil, err
	}
	for i := range added {
		if err := t.add(&added[i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// within says in which member of a file an error is.
func within(member string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", member, err)
}

// isNull says whether a member is absent or null.
func isNull(text []byte) bool { return text == nil || string(text) == "null" }
