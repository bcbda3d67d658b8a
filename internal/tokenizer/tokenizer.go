// Package tokenizer reads Hugging Face tokenizer.json files with a byte-level BPE model
// (Llama 3, SmolLM2, GPT-2 and their like), encodes text and decodes token ids.
package tokenizer

import (
	"cmp"
	"maps"
	"slices"
)

// A Tokenizer encodes text to token ids and back. It is immutable after Load or Parse
// and safe for concurrent use.
type Tokenizer struct {
	texts   []string         // id -> the bytes it stands for
	flags   []tokenFlag      // id -> what it is; 0: no such token
	vocab   map[string]int32 // bytes -> id, for tokens spelled in the byte alphabet
	literal map[string]int32 // spelling -> id, for tokens with characters outside of it
	byteID  [256]int32       // byte -> id, or -1

	merges       mergeTable
	words        wordCache
	ignoreMerges bool
	unk          int32 // -1: none
	fuseUnk      bool

	modelTokens     int // tokens of the model: added ones are numbered from here
	added           map[string]*addedToken
	addedByID       map[int32]*addedToken
	lastAdded       int32     // the largest id of an added token
	addedRaw        addedTrie // added tokens looked for first: normalized is false
	addedNormalized addedTrie
	stages          []stage

	templateStart string // the special token that post_processor puts before a text
	config        Config
}

type tokenFlag uint8

const (
	flagKnown   tokenFlag = 1 << iota
	flagLiteral           // in Tokenizer.literal: its text is its spelling
	flagAdded             // in Tokenizer.added: its content is its spelling
	flagSpecial
)

// Encode returns the ids of text, as encode(add_special_tokens=False) of the tokenizers
// library does: added tokens in the text are recognised and nothing is put around it.
//
// plain are byte ranges of text, sorted by Start, that hold a user's words: an
// occurrence of an added token that overlaps one of them is not recognised, so that data
// cannot forge a turn of a dialogue. Text in and around them is tokenised together,
// exactly as if the vocabulary had no such token. (A token outside of plain that strips
// white space takes it from a plain range too, as the reference would.)
//
// Bytes that are not valid UTF-8 are encoded one by one.
func (t *Tokenizer) Encode(text string, plain ...Range) []int32 {
	dst := make([]int32, 0, len(text)/3+1)
	word := func(piece string) { dst = t.appendWord(dst, piece) }
	token := func(id int32) { dst = append(dst, id) }
	piece := func(s string, _ int) { t.cutWords(s, t.stages, word) }
	pieces := piece
	if !t.addedNormalized.empty() {
		pieces = func(s string, base int) { t.addedNormalized.cut(s, base, plain, piece, token) }
	}
	t.addedRaw.cut(text, 0, plain, pieces, token)
	return dst
}

// cutWords passes s through the pre_tokenizers and calls word for every piece.
func (t *Tokenizer) cutWords(s string, stages []stage, word func(string)) {
	if len(stages) == 0 {
		word(s)
		return
	}
	if stages[0].prefixSpace && s[0] != ' ' {
		s = " " + s
	}
	split := stages[0].split
	if split == nil {
		t.cutWords(s, stages[1:], word)
		return
	}
	for i := 0; i < len(s); {
		end := split(s, i)
		if len(stages) == 1 {
			word(s[i:end])
		} else {
			t.cutWords(s[i:end], stages[1:], word)
		}
		i = end
	}
}

// Decode returns the text of ids, without any clean-up of spaces, as decode of the
// tokenizers library does: ill-formed UTF-8 becomes U+FFFD, ids without a token are left
// out, and so are special tokens if skipSpecial is set.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	var raw []byte
	for _, id := range ids {
		if text, ok := t.decoded(id, skipSpecial); ok {
			raw = append(raw, text...)
		}
	}
	out, _ := appendLossy(make([]byte, 0, len(raw)), raw, true)
	return string(out)
}

func (t *Tokenizer) decoded(id int32, skipSpecial bool) (text string, ok bool) {
	flag := t.flag(id)
	if flag&flagKnown == 0 || skipSpecial && flag&flagSpecial != 0 {
		return "", false
	}
	return t.texts[id], true
}

func (t *Tokenizer) flag(id int32) tokenFlag {
	if id < 0 || int(id) >= len(t.flags) {
		return 0
	}
	return t.flags[id]
}

// VocabSize is one more than the largest id: an embedding needs at least that many rows.
func (t *Tokenizer) VocabSize() int { return len(t.texts) }

// ID returns the id of a token in the vocabulary's spelling ("Ġthe", "<|eot_id|>").
func (t *Tokenizer) ID(token string) (id int32, ok bool) {
	if tok := t.added[token]; tok != nil {
		return tok.ID, true
	}
	if text, spelled := appendUnspelled(nil, []byte(token)); spelled {
		id, ok = t.vocab[string(text)]
	} else {
		id, ok = t.literal[token]
	}
	return id, ok
}

// Token returns the vocabulary's spelling of id.
func (t *Tokenizer) Token(id int32) (token string, ok bool) {
	switch flag := t.flag(id); {
	case flag&flagKnown == 0:
		return "", false
	case flag&flagAdded != 0:
		return t.addedByID[id].Content, true
	case flag&flagLiteral != 0:
		return t.texts[id], true
	default:
		return spell(t.texts[id]), true
	}
}

// Bytes returns the bytes that id stands for, "" if there is no such token. They
// may be a part of a character.
func (t *Tokenizer) Bytes(id int32) string {
	if t.flag(id)&flagKnown == 0 {
		return ""
	}
	return t.texts[id]
}

// IsSpecial says whether id is a special token, which skipSpecial leaves out.
func (t *Tokenizer) IsSpecial(id int32) bool { return t.flag(id)&flagSpecial != 0 }

// Config returns what tokenizer_config.json says; it is zero after Parse.
func (t *Tokenizer) Config() Config { return t.config }

// BOS returns the id of bos_token, if there is one.
func (t *Tokenizer) BOS() (id int32, ok bool) { return t.named(t.config.BOSToken) }

// EOS returns the id of eos_token, if there is one.
func (t *Tokenizer) EOS() (id int32, ok bool) { return t.named(t.config.EOSToken) }

// Pad returns the id of pad_token, if there is one.
func (t *Tokenizer) Pad() (id int32, ok bool) { return t.named(t.config.PadToken) }

func (t *Tokenizer) named(token string) (int32, bool) {
	if token == "" {
		return 0, false
	}
	return t.ID(token)
}

// AddedTokens returns the spellings of the added tokens, longest first.
func (t *Tokenizer) AddedTokens() []string {
	return slices.SortedFunc(maps.Keys(t.added), func(a, b string) int {
		return cmp.Or(len(b)-len(a), cmp.Compare(a, b))
	})
}
