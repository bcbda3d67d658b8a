package tokenizer

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var fuzzTexts = []string{
	"", " ", "hello world", "I'm 12345 皇上！\r\n\n  甄嬛", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|eot_id|>",
	"<|eot_id|", "<<|eot_id|>>", "e\u0301\u200d👨‍👩‍👧 \u00a0\u3000x", "\x00\x01\x7f'ſ'S", "\xff\xf0\x9f\x91", "   \n \t a  ",
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
}

// FuzzRoundTrip: the tiny vocabulary has a token for every byte, so a text comes back; and
// text put together from a stream is what Decode returns, also for ids that are no text.
func FuzzRoundTrip(f *testing.F) {
	for _, text := range fuzzTexts {
		f.Add(text)
	}
	tok := loadTiny(f)
	if slices.Min(tok.byteID[:]) < 0 {
		f.Fatal("a byte has no token")
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids := tok.Encode(text)
		if got := tok.Decode(ids, false); utf8.ValidString(text) && got != text {
			t.Errorf("%q comes back as %q", text, got)
		}
		for i := range len(text) { // ids at random
			ids = append(ids, int32(text[i])*8+int32(i%8))
		}
		for _, skip := range []bool{false, true} {
			s := tok.NewStream(skip)
			var b strings.Builder
			for _, id := range ids {
				piece := s.Push(id)
				if !utf8.ValidString(piece) {
					t.Errorf("%q is not UTF-8", piece)
				}
				b.WriteString(piece)
			}
			b.WriteString(s.Flush())
			if want := tok.Decode(ids, skip); b.String() != want {
				t.Errorf("streamed %q, want %q", b.String(), want)
			}
		}
	})
}

// FuzzPlain: exactly those occurrences of special tokens become ids that do not touch the
// plain range, and a text that is plain throughout has none.
func FuzzPlain(f *testing.F) {
	for i, text := range fuzzTexts {
		f.Add(text, i, 2*i)
	}
	tok, none := loadTiny(f), withoutAdded(f)
	f.Fuzz(func(t *testing.T, text string, start, end int) {
		var want []int // positions; the tiny model's special tokens cannot overlap each other
		for content := range tok.added {
			for from := 0; ; {
				i := strings.Index(text[from:], content)
				if i < 0 {
					break
				}
				i += from
				from = i + len(content)
				if start >= end || from <= start || i >= end {
					want = append(want, i)
				}
			}
		}
		slices.Sort(want)
		var got []int
		at := 0
		for _, id := range tok.Encode(text, Range{start, end}) {
			if tok.IsSpecial(id) {
				got = append(got, at)
			}
			at += len(tok.texts[id])
		}
		if at != len(text) {
			t.Errorf("%d bytes of %d", at, len(text))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, plain %d:%d: special tokens at %v, want %v", text, start, end, got, want)
		}
		if got, want := tok.Encode(text, Range{0, len(text)}), none.Encode(text); !slices.Equal(got, want) {
			t.Errorf("%q, all plain: %v, want %v", text, got, want)
		}
	})
}
