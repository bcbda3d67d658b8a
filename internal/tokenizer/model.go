package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
)

func (t *Tokenizer) parseModel(text []byte) error {
	if isNull(text) {
		return errors.New("missing; " + supportedModel)
	}
	m, err := (&jsonReader{data: text}).members()
	if err != nil {
		return err
	}
	var s struct {
		kind, unk, prefix, suffix string
		dropout                   float64
		byteFallback              bool
	}
	for name, v := range map[string]any{
		"type": &s.kind, "unk_token": &s.unk, "continuing_subword_prefix": &s.prefix, "end_of_word_suffix": &s.suffix,
		"dropout": &s.dropout, "byte_fallback": &s.byteFallback, "fuse_unk": &t.fuseUnk, "ignore_merges": &t.ignoreMerges,
	} {
		if err := unmarshal(m, name, v); err != nil {
			return err
		}
	}
	switch {
	case s.kind != "BPE" && (s.kind != "" || m["merges"] == nil): // GPT-2's file has no type
		return fmt.Errorf("type %q is not supported; %s", s.kind, supportedModel)
	case s.prefix != "":
		return fmt.Errorf("continuing_subword_prefix %q is not supported; %s", s.prefix, supportedModel)
	case s.suffix != "":
		return fmt.Errorf("end_of_word_suffix %q is not supported; %s", s.suffix, supportedModel)
	case s.byteFallback:
		return errors.New("byte_fallback true is not supported; " + supportedModel)
	case s.dropout != 0:
		return fmt.Errorf("dropout %g is not supported: encoding would be random", s.dropout)
	}
	if err := t.parseVocab(m["vocab"]); err != nil {
		return fmt.Errorf("vocab: %w", err)
	}
	if err := t.parseMerges(m["merges"]); err != nil {
		return fmt.Errorf("merges: %w", err)
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
func (t *Tokenizer) parseVocab(text []byte) error {
	if isNull(text) {
		return errors.New("missing")
	}
	type entry struct {
		end     int // of its bytes in arena; they start where the last entry's end
		id      int32
		literal bool
	}
	// A spelling is never shorter than its bytes, nor an escape than its character.
	arena := make([]byte, 0, len(text))
	entries := make([]entry, 0, len(text)/16)
	size := 0
	r := &jsonReader{data: text}
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
func (t *Tokenizer) parseMerges(text []byte) error {
	if isNull(text) {
		return errors.New("missing")
	}
	t.merges = newPairTable(min(bytes.Count(text, []byte(",")), maxMerges) + 1)
	r := &jsonReader{data: text}
	rank := int32(0)
	var both []byte // both spellings, as bytes where they are in the alphabet
	parts := make([]string, 0, 3)
	merge := func(left, right []byte) error {
		if rank == maxMerges {
			return fmt.Errorf("more than %d merges", maxMerges)
		}
		if len(left)+len(right) > 2*maxTokenBytes {
			return r.errorf("a merge longer than %d bytes", 2*maxTokenBytes)
		}
		var l, m, whole int32
		var okL, okR, ok bool
		both, okL = appendUnspelled(both[:0], left)
		n := len(both)
		both, okR = appendUnspelled(both, right)
		if okL && okR {
			l, okL = t.vocab[string(both[:n])]
			m, okR = t.vocab[string(both[n:])]
			whole, ok = t.vocab[string(both)]
		} else {
			l, okL = t.ID(string(left))
			m, okR = t.ID(string(right))
			whole, ok = t.ID(string(left) + string(right))
		}
		if !okL || !okR || !ok {
			return r.errorf("merge %d (%q, %q): a part or the whole is not in the vocabulary", rank, left, right)
		}
		t.merges.set(l, m, rank, whole)
		rank++
		return nil
	}
	return r.array(func() error {
		if r.peek() == '"' {
			s, err := r.str()
			if err != nil {
				return err
			}
			left, right, ok := bytes.Cut(s, []byte(" "))
			if !ok || bytes.IndexByte(right, ' ') >= 0 {
				return r.errorf("merge %d is %q, not two tokens", rank, s)
			}
			return merge(left, right)
		}
		parts = parts[:0]
		err := r.array(func() error {
			s, err := r.str()
			parts = append(parts, string(s))
			if len(parts) > 2 {
				return r.errorf("merge %d has more than two tokens", rank)
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(parts) != 2 {
			return r.errorf("merge %d has %d tokens instead of two", rank, len(parts))
		}
		return merge([]byte(parts[0]), []byte(parts[1]))
	})
}
