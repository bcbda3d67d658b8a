package tokenizer

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Range is a range of bytes of a text: Start <= i < End.
type Range struct{ Start, End int }

// addedToken is an entry of added_tokens: text that becomes one id wherever it occurs.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no word character touches it
	LStrip     bool   `json:"lstrip"`      // takes the white space before it along
	RStrip     bool   `json:"rstrip"`      // takes the white space after it along
	Normalized bool   `json:"normalized"`  // looked for after the others; there is no normalizer
	Special    bool   `json:"special"`
}

// add makes tok an added token, or gives one that exists new properties. Its id must be
// the one that the tokenizers library, which goes by content, would give it.
func (t *Tokenizer) add(tok *addedToken) error {
	if tok.Content == "" {
		return nil // ignored there too
	}
	if len(tok.Content) > maxAddedBytes {
		return fmt.Errorf("added token %s: %d bytes, more than %d", shorten(tok.Content), len(tok.Content), maxAddedBytes)
	}
	if len(t.added) == maxAdded {
		return fmt.Errorf("more than %d added tokens", maxAdded)
	}
	id, known := t.ID(tok.Content)
	if !known {
		id = t.nextID()
	}
	if tok.ID != id {
		return fmt.Errorf("added token %q has id %d, but its place is %d: the vocabulary and the added tokens do not belong together",
			tok.Content, tok.ID, id)
	}
	if int(id) >= maxTokens {
		return fmt.Errorf("added token %q: id %d is not below %d", tok.Content, id, maxTokens)
	}
	if !known && t.flag(id) != 0 {
		return fmt.Errorf("added token %q has id %d, which another token has", tok.Content, id)
	}
	if extra := int(id) + 1 - len(t.texts); extra > 0 {
		t.texts = append(t.texts, make([]string, extra)...)
		t.flags = append(t.flags, make([]tokenFlag, extra)...)
	}
	text, spelled := appendUnspelled(nil, []byte(tok.Content))
	if !spelled {
		text = []byte(tok.Content)
	}
	t.texts[id] = string(text)
	t.flags[id] |= flagKnown | flagAdded
	if tok.Special {
		t.flags[id] |= flagSpecial
	}
	t.added[tok.Content], t.addedByID[id] = tok, tok
	t.lastAdded = max(t.lastAdded, id)
	return nil
}

// nextID is the id of an added token that the model does not have.
func (t *Tokenizer) nextID() int32 {
	if len(t.added) > 0 && int(t.lastAdded) >= t.modelTokens {
		return t.lastAdded + 1
	}
	return int32(t.modelTokens)
}

// indexAdded prepares the search for added tokens.
func (t *Tokenizer) indexAdded() {
	t.addedRaw, t.addedNormalized = newAddedTrie(), newAddedTrie()
	for _, tok := range t.added {
		if tok.Normalized {
			t.addedNormalized.add(tok)
		} else {
			t.addedRaw.add(tok)
		}
	}
}

// addedTrie finds the longest added token at a position.
type addedTrie struct {
	first  [256]bool     // the bytes that tokens start with
	edges  [][]edge      // per node; 0 is the root
	tokens []*addedToken // per node: the token that ends there, or nil
}

// edge leads to the node of the next byte.
type edge struct {
	byte byte
	node uint32
}

func newAddedTrie() addedTrie {
	return addedTrie{edges: [][]edge{nil}, tokens: []*addedToken{nil}}
}

func (a *addedTrie) add(tok *addedToken) {
	a.first[tok.Content[0]] = true
	node := uint32(0)
	for i := range len(tok.Content) {
		child := a.next(node, tok.Content[i])
		if child == 0 {
			child = uint32(len(a.tokens))
			a.edges[node] = append(a.edges[node], edge{tok.Content[i], child})
			a.edges, a.tokens = append(a.edges, nil), append(a.tokens, nil)
		}
		node = child
	}
	a.tokens[node] = tok
}

// next is the node after another one, 0 where there is none.
func (a *addedTrie) next(node uint32, b byte) uint32 {
	for _, e := range a.edges[node] {
		if e.byte == b {
			return e.node
		}
	}
	return 0
}

func (a *addedTrie) empty() bool { return len(a.tokens) == 1 }

// longestPrefix returns the longest token that s starts with, or nil.
func (a *addedTrie) longestPrefix(s string) (tok *addedToken) {
	node := uint32(0)
	for i := range len(s) {
		if node = a.next(node, s[i]); node == 0 {
			break
		}
		if a.tokens[node] != nil {
			tok = a.tokens[node]
		}
	}
	return tok
}

// find returns the first token at or after byte i of s (the longest if several start
// there) and its position, and a nil token if there is none. s is text[base:] cut
// somewhere, and plain are ranges of text: no token that overlaps one of them counts.
func (a *addedTrie) find(s string, i, base int, plain []Range) (*addedToken, int) {
	for i < len(s) {
		for len(plain) > 0 && (plain[0].End <= base+i || plain[0].End <= plain[0].Start) {
			plain = plain[1:]
		}
		end := len(s)
		if len(plain) > 0 {
			if plain[0].Start <= base+i {
				i = plain[0].End - base
				continue
			}
			end = min(end, plain[0].Start-base)
		}
		for ; i < end; i++ {
			if a.first[s[i]] {
				if tok := a.longestPrefix(s[i:end]); tok != nil {
					return tok, i
				}
			}
		}
	}
	return nil, len(s)
}

// cut cuts s at its added tokens, as find_matches of the tokenizers library does
// (added_vocabulary.rs), and calls text for what lies between them (never empty) and
// token for each of them, in order.
func (a *addedTrie) cut(s string, base int, plain []Range, text func(piece string, base int), token func(id int32)) {
	done := 0
	for i := 0; ; {
		tok, start := a.find(s, i, base, plain)
		if tok == nil {
			break
		}
		end := start + len(tok.Content)
		i = end
		if tok.SingleWord && (endsWithWord(s[:start]) || startsWithWord(s[end:])) {
			continue
		}
		if tok.LStrip {
			start = max(done, len(strings.TrimRightFunc(s[:start], unicode.IsSpace)))
		}
		if tok.RStrip {
			end = len(s) - len(strings.TrimLeftFunc(s[end:], unicode.IsSpace))
		}
		if start > done {
			text(s[done:start], base+done)
		}
		token(tok.ID)
		done = end
	}
	if done < len(s) {
		text(s[done:], base+done)
	}
}

func endsWithWord(s string) bool {
	r, size := utf8.DecodeLastRuneInString(s)
	return size > 0 && isWord(r)
}

func startsWithWord(s string) bool {
	r, size := utf8.DecodeRuneInString(s)
	return size > 0 && isWord(r)
}

// isWord is \w of Rust's regex crate (UTS 18, annex C).
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc,
		unicode.Other_Alphabetic, unicode.Join_Control)
}
