package tokenizer

// A Stream turns token ids into text one id at a time. The strings that Push and Flush
// return, put together, are what Decode returns for the same ids. Not for concurrent use.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	pending     []byte // an incomplete UTF-8 character, at most 3 bytes
	out         []byte
}

// NewStream returns an empty Stream. skipSpecial leaves special tokens out, as in Decode.
func (t *Tokenizer) NewStream(skipSpecial bool) *Stream {
	return &Stream{t: t, skipSpecial: skipSpecial}
}

// Push returns the text that id completes: whole UTF-8 characters, possibly none.
func (s *Stream) Push(id int32) string {
	text, ok := s.t.decoded(id, s.skipSpecial)
	if !ok || text == "" {
		return ""
	}
	s.pending = append(s.pending, text...)
	out, rest := appendLossy(s.out[:0], s.pending, false)
	s.pending = s.pending[:copy(s.pending, rest)]
	s.out = out
	return string(out)
}

// Flush ends the text: a character still incomplete becomes U+FFFD.
func (s *Stream) Flush() string {
	out, _ := appendLossy(nil, s.pending, true)
	s.pending = s.pending[:0]
	return string(out)
}
