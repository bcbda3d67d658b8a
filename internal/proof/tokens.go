package proof

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"cria/internal/pack"
	"cria/internal/tokenizer"
)

// Span is a token as it is shown, or several tokens that share a character.
type Span struct {
	IDs     []int32
	Text    string // UTF-8; a byte that belongs to no character stands as <E4>, a special token by its name
	Trained bool   // in the loss
	Special bool
}

// Spans are the tokens of a row, in order. Tokens whose bytes make a character only together are one Span, unless the loss
// takes them apart.
func Spans(tok *tokenizer.Tokenizer, row pack.Row) []Span {
	var spans []Span
	var open Span
	var text []byte
	flush := func() {
		if open.IDs != nil {
			open.Text = decode(text)
			spans = append(spans, open)
		}
		open, text = Span{}, text[:0]
	}
	for i, id := range row.IDs {
		trained := i > 0 && row.Labels[i] != pack.Ignore // as pack.Row.Labelled counts
		name, ok := tok.Token(id)
		if !ok || tok.IsSpecial(id) {
			flush()
			if !ok {
				name = fmt.Sprintf("<no token %d>", id)
			}
			spans = append(spans, Span{[]int32{id}, name, trained, true})
			continue
		}
		piece := tok.Bytes(id)
		if len(text) > 0 && (open.Trained != trained || piece == "" || utf8.RuneStart(piece[0])) {
			flush()
		}
		open.IDs, open.Trained = append(open.IDs, id), trained
		if text = append(text, piece...); !incomplete(text) {
			flush()
		}
	}
	flush()
	return spans
}

// incomplete tells whether text ends within a character.
func incomplete(text []byte) bool {
	for i := len(text) - 1; i >= max(0, len(text)-3); i-- {
		if utf8.RuneStart(text[i]) {
			return !utf8.FullRune(text[i:])
		}
	}
	return false
}

func decode(text []byte) string {
	if utf8.Valid(text) {
		return string(text)
	}
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "<%02X>", text[0])
		} else {
			b.WriteRune(r)
		}
		text = text[n:]
	}
	return b.String()
}

// Part is a piece of a Span's text to be shown: text as it is, or a sign for what cannot be seen.
type Part struct {
	Text string
	Sign bool
}

// Parts makes the text of spans safe and visible. Control characters, and what reorders, hides or breaks text without being
// seen, stand as \u0007; a line break is the sign ⏎ and the break itself, a tab ⇥. A space is shown as · where it could be
// overlooked: beside another, at a line's end or start, beside a special token; with all everywhere, and lines are not broken.
func Parts(spans []Span, all bool) [][]Part {
	out := make([][]Part, len(spans))
	var before rune // the character before; 0 at the edge of text
	for i, s := range spans {
		if s.Special {
			out[i] = parts(s.Text, 0, 0, false)
			before = 0
			continue
		}
		after := rune(0)
		if i+1 < len(spans) && !spans[i+1].Special {
			after, _ = utf8.DecodeRuneInString(spans[i+1].Text)
		}
		out[i] = parts(s.Text, before, after, all)
		if r, n := utf8.DecodeLastRuneInString(s.Text); n > 0 {
			before = r
		}
	}
	return out
}

func parts(text string, before, after rune, all bool) (out []Part) {
	add := func(s string, sign bool) {
		if n := len(out); n > 0 && out[n-1].Sign == sign {
			out[n-1].Text += s
			return
		}
		out = append(out, Part{s, sign})
	}
	edge := func(r rune) bool { return r == 0 || unicode.IsSpace(r) }
	for i, r := range text {
		next := after
		if j := i + utf8.RuneLen(r); j < len(text) {
			next, _ = utf8.DecodeRuneInString(text[j:])
		}
		switch {
		case r == '\n' && all:
			add("⏎", true)
		case r == '\n':
			add("⏎", true)
			add("\n", false)
		case r == '\t':
			add("⇥", true)
		case r == ' ' && (all || edge(before) || edge(next)):
			add("·", true)
		case r == ' ', r == '\u3000' && !edge(before) && !edge(next):
			add(string(r), false)
		case r == '\u3000' || hidden(r):
			add(escaped(r), true)
		default:
			add(string(r), false)
		}
		before = r
	}
	return out
}

// hidden tells characters that cannot be seen, or that do something to a terminal or to the text around them. Of those that
// join letters and emoji (U+200C, U+200D) and of spaces the script itself shows enough.
func hidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Z) && r != ' ' && r != '\u3000' && r != '\u200c' && r != '\u200d'
}

func escaped(r rune) string {
	if r > 0xffff {
		return fmt.Sprintf("\\U%08x", r)
	}
	return fmt.Sprintf("\\u%04x", r)
}

// Safe makes text that may come of files harmless for a terminal, on one line.
func Safe(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			b.WriteString(escaped(r))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Lookalikes are special tokens that the text of spans spells without being them: words of the data that look like markers.
func Lookalikes(tok *tokenizer.Tokenizer, spans []Span) (found []string) {
	var b strings.Builder
	for _, s := range spans {
		if s.Special {
			b.WriteByte(0)
		} else {
			b.WriteString(s.Text)
		}
	}
	text := b.String()
	for _, name := range tok.AddedTokens() {
		if id, _ := tok.ID(name); tok.IsSpecial(id) && strings.Contains(text, name) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// clip leaves out the middle of spans where they are more than most; tokens counts what is left out, trained those of them
// in the loss.
func clip(spans []Span, most int) (head, tail []Span, tokens, trained int) {
	if most <= 0 || len(spans) <= most {
		return spans, nil, 0, 0
	}
	n := most * 2 / 3
	head, tail = spans[:n], spans[len(spans)-(most-n):]
	for _, s := range spans[n : len(spans)-(most-n)] {
		tokens += len(s.IDs)
		if s.Trained {
			trained += len(s.IDs)
		}
	}
	return head, tail, tokens, trained
}
