package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// A component is a normalizer, pre_tokenizer, post_processor or decoder.
type component struct {
	Type string `json:"type"`

	Normalizers   []json.RawMessage `json:"normalizers"`
	Pretokenizers []json.RawMessage `json:"pretokenizers"`
	Processors    []json.RawMessage `json:"processors"`
	Decoders      []json.RawMessage `json:"decoders"`

	AddPrefixSpace   *bool `json:"add_prefix_space"` // default true
	UseRegex         *bool `json:"use_regex"`        // default true
	IndividualDigits bool  `json:"individual_digits"`

	Pattern struct {
		Regex *string `json:"Regex"`
	} `json:"pattern"`
	Behavior string `json:"behavior"`
	Invert   bool   `json:"invert"`

	Single []struct {
		SpecialToken struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
	} `json:"single"`
}

func parseComponent(text []byte, what string) (c component, err error) {
	return c, decode(what, text, &c)
}

func parseComponents(texts []json.RawMessage, what string) ([]component, error) {
	var parts []component
	for _, text := range texts {
		part, err := parseComponent(text, what)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func refuseNormalizer(text []byte) error {
	if isNull(text) {
		return nil
	}
	c, err := parseComponent(text, "normalizer")
	if err != nil {
		return err
	}
	if c.Type == "Sequence" && len(c.Normalizers) == 0 {
		return nil
	}
	return fmt.Errorf("normalizer %s is not supported; supported is null", shorten(string(text)))
}

// parseStages reads the pre_tokenizer. ByteLevel must be its last part, because it turns
// the text into the byte alphabet.
func parseStages(text []byte) ([]stage, error) {
	if isNull(text) {
		return nil, errors.New("pre_tokenizer: missing; supported is one that ends in ByteLevel")
	}
	c, err := parseComponent(text, "pre_tokenizer")
	if err != nil {
		return nil, err
	}
	parts := []component{c}
	if c.Type == "Sequence" {
		if parts, err = parseComponents(c.Pretokenizers, "pre_tokenizer"); err != nil {
			return nil, err
		}
	}
	if len(parts) == 0 || len(parts) > maxStages {
		return nil, fmt.Errorf("pre_tokenizer: a sequence of %d; supported are 1 to %d", len(parts), maxStages)
	}
	var stages []stage
	for i, part := range parts {
		if last := i == len(parts)-1; last != (part.Type == "ByteLevel") {
			return nil, fmt.Errorf("pre_tokenizer: part %d of %d is %q; supported are Split and Digits, and after them ByteLevel",
				i+1, len(parts), part.Type)
		}
		s, err := part.stage()
		if err != nil {
			return nil, fmt.Errorf("pre_tokenizer: %w", err)
		}
		if s.split != nil || s.prefixSpace {
			stages = append(stages, s)
		}
	}
	return stages, nil
}

func (c component) stage() (stage, error) {
	switch c.Type {
	case "ByteLevel":
		s := stage{prefixSpace: c.AddPrefixSpace == nil || *c.AddPrefixSpace}
		if c.UseRegex == nil || *c.UseRegex {
			s.split = gpt2Split
		}
		return s, nil
	case "Digits":
		return stage{split: digitsSplit(c.IndividualDigits)}, nil
	case "Split":
		switch {
		case c.Behavior != "Isolated" || c.Invert:
			return stage{}, fmt.Errorf("type Split with behavior %q and invert %t is not supported; supported is Isolated and false",
				c.Behavior, c.Invert)
		case c.Pattern.Regex == nil:
			return stage{}, errors.New("type Split by a String instead of a Regex is not supported")
		}
		split, ok := splitPatterns[*c.Pattern.Regex]
		if !ok {
			return stage{}, fmt.Errorf("type Split by the pattern %s is not supported; supported are the patterns of Llama 3, Qwen 2 and GPT-2",
				shorten(*c.Pattern.Regex))
		}
		return stage{split: split}, nil
	}
	return stage{}, fmt.Errorf("type %q is not supported", c.Type)
}

// parsePostProcessor notes which special token is put before a text. Encode itself adds
// none.
func (t *Tokenizer) parsePostProcessor(text []byte) error {
	if isNull(text) {
		return nil
	}
	c, err := parseComponent(text, "post_processor")
	if err != nil {
		return err
	}
	parts := []component{c}
	if c.Type == "Sequence" {
		if parts, err = parseComponents(c.Processors, "post_processor"); err != nil {
			return err
		}
	}
	for _, part := range parts {
		switch part.Type {
		case "ByteLevel": // only moves offsets
		case "TemplateProcessing":
			if len(part.Single) > 0 {
				t.templateStart = part.Single[0].SpecialToken.ID
			}
		default:
			return fmt.Errorf("post_processor %q is not supported; supported are ByteLevel and TemplateProcessing", part.Type)
		}
	}
	return nil
}

func checkDecoder(text []byte) error {
	if isNull(text) {
		return errors.New("decoder: missing; supported is ByteLevel")
	}
	c, err := parseComponent(text, "decoder")
	if err != nil {
		return err
	}
	if c.Type == "Sequence" && len(c.Decoders) == 1 {
		if c, err = parseComponent(c.Decoders[0], "decoder"); err != nil {
			return err
		}
	}
	if c.Type != "ByteLevel" {
		return fmt.Errorf("decoder %q is not supported; supported is ByteLevel", c.Type)
	}
	return nil
}

// shorten quotes s for an error.
func shorten(s string) string {
	if r := []rune(s); len(r) > patternShown {
		s = string(r[:patternShown]) + "..."
	}
	return strconv.Quote(s)
}
