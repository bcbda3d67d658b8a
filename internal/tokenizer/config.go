package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"cria/internal/disk"
)

// Config is what tokenizer_config.json says about special tokens and the chat template.
type Config struct {
	BOSToken, EOSToken, PadToken, UnkToken string // "": not declared

	// AddBOS says that encoding a text puts bos_token in front of it, unless special
	// tokens are declined (add_special_tokens=False).
	AddBOS bool

	ChatTemplate   string // Jinja; of several named ones the one called default
	ModelMaxLength int    // in tokens; 0: not declared
}

// Load reads the tokenizer of a model directory: tokenizer.json and, where they exist,
// tokenizer_config.json, special_tokens_map.json and chat_template.jinja, which
// take precedence over each other as in transformers' PreTrainedTokenizerFast. As there, a
// special token that tokenizer.json lacks is added behind the last id, so VocabSize may
// come out larger than the model's vocab_size: callers compare them.
func Load(dir string) (*Tokenizer, error) {
	path := filepath.Join(dir, "tokenizer.json")
	data, err := disk.ReadFile(path, maxFileSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: a model directory needs this file; download it again, or convert an older model's tokenizer files", err)
	}
	if err != nil {
		return nil, err
	}
	t, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := t.loadConfig(dir); err != nil {
		return nil, err
	}
	t.indexAdded()
	return t, nil
}

// ParseFiles is Load for the contents of tokenizer.json and tokenizer_config.json alone.
func ParseFiles(tokenizerJSON, configJSON []byte) (*Tokenizer, error) {
	t, err := parse(tokenizerJSON)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	var m map[string]json.RawMessage
	if err = disk.Unmarshal(configJSON, &m); err == nil {
		err = t.applyConfig(m)
	}
	if err != nil {
		return nil, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	t.indexAdded()
	return t, nil
}

// readMembers reads a JSON object, or none if the file does not exist.
func readMembers(path string) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	err := disk.ReadJSON(path, maxFileSize, &m)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return m, err
}

// A configToken is the value of bos_token and the like: "text" or {"content": "text", ...}.
type configToken struct{ addedToken }

func (c *configToken) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		c.Special = true
		return json.Unmarshal(text, &c.Content)
	}
	return json.Unmarshal(text, &c.addedToken)
}

func (t *Tokenizer) loadConfig(dir string) error {
	path := filepath.Join(dir, "tokenizer_config.json")
	m, err := readMembers(path)
	if err != nil {
		return err
	}
	if m["added_tokens_decoder"] == nil { // written by transformers before 4.34
		mapPath := filepath.Join(dir, "special_tokens_map.json")
		special, err := readMembers(mapPath)
		if err != nil {
			return err
		}
		if m == nil {
			m = special
			path = mapPath
		} else {
			for name, text := range special {
				m[name] = text
			}
		}
	}
	if err := t.applyConfig(m); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	template, err := disk.ReadFile(filepath.Join(dir, "chat_template.jinja"), maxFileSize)
	if err == nil {
		t.config.ChatTemplate = string(template)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (t *Tokenizer) applyConfig(m map[string]json.RawMessage) error {
	c := &t.config
	var bos, eos, unk, sep, pad, cls, mask configToken
	var additional []configToken
	var decoder map[string]*addedToken
	var maxLength float64
	for name, v := range map[string]any{
		"bos_token": &bos, "eos_token": &eos, "unk_token": &unk, "sep_token": &sep, "pad_token": &pad, "cls_token": &cls, "mask_token": &mask,
		"additional_special_tokens": &additional, "added_tokens_decoder": &decoder, "model_max_length": &maxLength,
	} {
		if err := decode(name, m[name], v); err != nil {
			return err
		}
	}
	c.BOSToken, c.EOSToken, c.PadToken, c.UnkToken = bos.Content, eos.Content, pad.Content, unk.Content
	c.AddBOS = bos.Content != "" && bos.Content == t.templateStart
	if maxLength >= 1 && maxLength <= math.MaxInt32 {
		c.ModelMaxLength = int(maxLength)
	}
	if err := c.readChatTemplate(m["chat_template"]); err != nil {
		return err
	}
	return t.addConfigTokens(decoder, append([]configToken{bos, eos, unk, sep, pad, cls, mask}, additional...))
}

// addConfigTokens adds the tokens of added_tokens_decoder by id, then those special ones
// that are still missing in the order of named, which is that of transformers'
// SPECIAL_TOKENS_ATTRIBUTES.
func (t *Tokenizer) addConfigTokens(decoder map[string]*addedToken, named []configToken) error {
	special := map[string]bool{}
	for _, tok := range named {
		special[tok.Content] = true
	}
	var ids []int
	for key, tok := range decoder {
		id, err := strconv.ParseUint(key, 10, 31)
		if err != nil || tok == nil || key != strconv.FormatUint(id, 10) {
			return fmt.Errorf("added_tokens_decoder: %q is not the id of a token", key)
		}
		tok.ID = int32(id)
		tok.Special = tok.Special || special[tok.Content]
		ids = append(ids, int(id))
	}
	slices.Sort(ids)
	for _, id := range ids {
		if err := t.add(decoder[strconv.Itoa(id)]); err != nil {
			return fmt.Errorf("added_tokens_decoder: %w", err)
		}
	}
	for _, tok := range named {
		if t.added[tok.Content] != nil {
			continue
		}
		id, known := t.ID(tok.Content)
		if !known {
			id = t.nextID()
		}
		tok.ID, tok.Special = id, true
		if err := t.add(&tok.addedToken); err != nil {
			return err
		}
	}
	return nil
}

// readChatTemplate reads a template, or the default one of [{"name":..., "template":...}].
func (c *Config) readChatTemplate(text []byte) error {
	if isNull(text) {
		return nil
	}
	if text[0] == '"' {
		return decode("chat_template", text, &c.ChatTemplate)
	}
	var templates []struct{ Name, Template string }
	if err := decode("chat_template", text, &templates); err != nil {
		return err
	}
	for _, template := range templates {
		if template.Name == "default" {
			c.ChatTemplate = template.Template
		}
	}
	return nil
}
