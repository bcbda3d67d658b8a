package data

import (
	"regexp"
	"slices"
)

// marker is what templates write where a model has a special token.
var marker = regexp.MustCompile(`<\|[^|<>\s]{1,60}\|>|<｜[^｜<>\s]{1,60}｜>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>`)

// Foreign lists the markers in texts that are no single tokens of this tokenizer: a model sees them as ordinary letters, so
// the template was made for another one.
func Foreign(tok Encoder, texts ...string) (out []string) {
	for _, t := range texts {
		for _, m := range marker.FindAllString(t, -1) {
			if !slices.Contains(out, m) && len(tok.Encode(m)) != 1 {
				out = append(out, m)
			}
		}
	}
	return out
}
