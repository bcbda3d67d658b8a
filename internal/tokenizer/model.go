package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
)

// parseModel reads the model. Its vocabulary and its merges, nearly all of a file, are
// read where they stand, so that they are walked only once.
func (t *Tokenizer) parseModel(r *jsonReader) error {
	var s struct {
		kind, unk, prefix, suffix string
		dropout                   float64
		byteFallback              bool
	}
	settings := map[string]any{
		"type": &s.kind, "unk_token": &s.unk, "continuing_subword_prefix": &s.prefix, "end_of_word_suffix": &s.suffix,
		"dropout": &s.dropout, "byte_fallback": &s.byteFallback, "fuse_unk": &t.fuseUnk, "ignore_merges": &t.ignoreMerges,
	}
	seen := map[string]bool{}
	var mergesFirst []byte
	err := r.object(func(key []byte) error {
		name := string(key)
		if seen[name] {
			return r.errorf("%q is there twice", name)
		}
		seen[name] = true
		switch {
		case name == "vocab":
			return within(name, t.parseVocab(r))
		case name == "merges" && seen["vocab"]:
			return within(name, t.parseMerges(r))
		}
		text, err := r.raw()
		if err != nil {
			return err
		}
		if name == "merges" {
			mergesFirst = text
		} else if v := settings[name]; v != nil {
			if err := decode(name, text, v); err != nil {
				return err
			}
			if name == "type" && s.kind != "BPE" {
				return fmt.Errorf("type %q is not supported; %s", s.kind, supportedModel)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"vocab", "merges"} { // a type is missing in GPT-2's file too
		if !seen[name] {
			return fmt.Errorf("%s: missing; %s", name, supportedModel)
		}
	}
	switch {
	case s.prefix != "":
		return fmt.Errorf("continuing_subword_prefix %q is not supported; %s", s.prefix, supportedModel)
	case s.suffix != "":
		return fmt.Errorf("end_of_word_suffix %q is not supported; %s", s.suffix, supportedModel)
	case s.byteFallback:
		return errors.New("byte_fallback true is not supported; " + supportedModel)
	case s.dropout != 0:
		return fmt.Errorf("dropout %g is not supported: encoding would be random", s.dropout)
	}
	if mergesFirst != nil {
		if err := t.parseMerges(&jsonReader{data: mergesFirst}); err != nil {
			return within("merges", err)
		}
	}
	missing := 0
	for b := range 256 {
		id, ok := t.vocab[string([]byte{byte(b)})]
		if !ok {
			id = -1
			missing++
		}
		t.byteID[b] = id
	}
	if s.unk != "" && missing > 0 {
		id, ok := t.ID(s.unk)
		if !ok {
			return fmt.Errorf("unk_token %q is not in the vocabulary, and %d bytes need it", s.unk, missing)
		}
		t.unk = id
	}
	return nil
}

// parseVocab reads {"token": id, ...}.
func (t *Tokenizer) parseVocab(r *jsonReader) error {
	type entry struct {
		end     int // of its bytes in arena; they start where the last entry's end
		id      int32
		literal bool
	}
	var arena []byte
	var entries []entry
	size := 0
	err := r.object(func(key []byte) error {
		if len(entries) == maxTokens {
			return fmt.Errorf("more than %d tokens", maxTokens)
		}
		if len(key) > maxTokenBytes {
			return r.errorf("a token of %d bytes, longer than %d", len(key), maxTokenBytes)
		}
		var spelled bool
		if arena, spelled = appendUnspelled(arena, key); !spelled {
			arena = append(arena, key...)
		}
		id, err := r.index(maxTokens)
		entries = append(entries, entry{len(arena), int32(id), !spelled})
		size = max(size, id+1)
		return err
	})
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return errors.New("empty")
	}
	all := string(arena)
	t.texts, t.flags = make([]string, size), make([]tokenFlag, size)
	t.vocab, t.literal = make(map[string]int32, len(entries)), map[string]int32{}
	start := 0
	for _, e := range entries {
		token, in, flag := all[start:e.end], t.vocab, flagKnown
		start = e.end
		if e.literal {
			in, flag = t.literal, flagKnown|flagLiteral
		}
		if t.flags[e.id] != 0 {
			return fmt.Errorf("id %d belongs to two tokens", e.id)
		}
		before := len(in)
		in[token] = e.id
		if len(in) == before {
			return fmt.Errorf("token %q is there twice", spell(token))
		}
		t.texts[e.id], t.flags[e.id] = token, flag
	}
	t.modelTokens = len(entries)
	return nil
}

// parseMerges reads ["a b", ...] or [["a", "b"], ...], the lowest rank first.
func (t *Tokenizer) parseMerges(r *jsonReader) error {
	var merges []merge
	last := int32(0) // the whole of the last merge
	var both []byte
	add := func(left, right []byte) error {
		if len(merges) == maxMerges {
			return fmt.Errorf("more than %d merges", maxMerges)
		}
		if len(left)+len(right) > 2*maxTokenBytes {
			return r.errorf("merge %d is longer than %d bytes", len(merges), 2*maxTokenBytes)
		}
		var m merge
		var okLeft, okRight, ok bool
		both, okLeft = appendUnspelled(both[:0], left)
		n := len(both)
		both, okRight = appendUnspelled(both, right)
		if okLeft && okRight {
			m.left, okLeft = t.vocab[string(both[:n])]
			m.right, okRight = t.vocab[string(both[n:])]
			// Ids follow ranks in most files, and two comparisons cost less than a lookup.
			for id := last; id <= last+1 && !ok; id++ {
				m.whole, ok = id, int(id) < len(t.texts) && t.texts[id] == string(both) && t.flags[id] == flagKnown
			}
			if !ok {
				m.whole, ok = t.vocab[string(both)]
			}
		} else {
			m.left, okLeft = t.ID(string(left))
			m.right, okRight = t.ID(string(right))
			m.whole, ok = t.ID(string(left) + string(right))
		}
		if !okLeft || !okRight || !ok {
			return r.errorf("merge %d (%q, %q): a part or the whole is not in the vocabulary", len(merges), left, right)
		}
		last = m.whole
		merges = append(merges, m)
		return nil
	}
	parts := make([]string, 0, 3)
	err := r.array(func() error {
		if r.peek() == '"' {
			s, err := r.str()
			if err != nil {
				return err
			}
			left, right, ok := bytes.Cut(s, []byte(" "))
			if !ok || bytes.IndexByte(right, ' ') >= 0 {
				return r.errorf("merge %d is %q, not two tokens", len(merges), s)
			}
			return add(left, right)
		}
		parts = parts[:0]
		err := r.array(func() error {
			if len(parts) == 2 {
				return r.errorf("merge %d has more than two tokens", len(merges))
			}
			s, err := r.str()
			parts = append(parts, string(s))
			return err
		})
		if err != nil {
			return err
		}
		if len(parts) != 2 {
			return r.errorf("merge %d has %d tokens instead of two", len(merges), len(parts))
		}
		return add([]byte(parts[0]), []byte(parts[1]))
	})
	if err != nil {
		return err
	}
	t.merges = newMergeTable(merges)
	return nil
}
