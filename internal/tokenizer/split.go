package tokenizer

import (
	"math"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// A splitter returns the end of the piece of s that starts at byte i < len(s).
// Every splitter covers its whole input and takes time linear in it.
type splitter func(s string, i int) int

// A stage is one pre_tokenizer: it cuts every piece that the stage before it left.
type stage struct {
	split       splitter // nil: leaves the piece whole
	prefixSpace bool     // first puts a space before a piece that does not start with one
}

// The regular expressions that pre_tokenizers of type Split are known to hold. They are
// matched by hand-written code, so that no input can make a matcher backtrack.
var splitPatterns = map[string]splitter{
	// GPT-2, and the same as newer converters write it
	`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`:      gpt2Split,
	`'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`:         gpt2Split,
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}` + llama3Common: llama3Split(3), // Llama 3
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}` + llama3Common:      llama3Split(1), // Qwen 2
}

const llama3Common = `| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

type class uint8

const (
	classOther  class = iota // [^\s\p{L}\p{N}]
	classLetter              // \p{L}
	classNumber              // \p{N}
	classSpace               // \s: White_Space
	classNone                // the end of the text
)

// classes gives the class of every code point as Oniguruma has it in tokenizers 0.19 and
// transformers 4.43: by Unicode 14. (tokenizers 0.23 has Unicode 16; the ids differ only
// for the scripts that came between.)
var classes = sync.OnceValue(func() []class {
	table := make([]class, unicode.MaxRune+1)
	mark(table, unicode.L, classLetter)
	mark(table, unicode.N, classNumber)
	mark(table, unicode.White_Space, classSpace)
	mark(table, newInUnicode15, classOther)
	return table
})

// numerics is char::is_numeric of Rust in tokenizers 0.19, by Unicode 15.
var numerics = sync.OnceValue(func() []class {
	table := make([]class, unicode.MaxRune+1)
	mark(table, unicode.N, classNumber)
	return table
})

// newInUnicode15 holds the letters and numbers that Unicode 14 did not have.
var newInUnicode15 = &unicode.RangeTable{R32: []unicode.Range32{
	{Lo: 0x1123f, Hi: 0x11240, Stride: 1},
	{Lo: 0x11f02, Hi: 0x11f33, Stride: 1},
	{Lo: 0x11f50, Hi: 0x11f59, Stride: 1},
	{Lo: 0x1342f, Hi: 0x1342f, Stride: 1},
	{Lo: 0x13441, Hi: 0x13446, Stride: 1},
	{Lo: 0x1b132, Hi: 0x1b155, Stride: 0x23},
	{Lo: 0x1d2c0, Hi: 0x1d2d3, Stride: 1},
	{Lo: 0x1df25, Hi: 0x1df2a, Stride: 1},
	{Lo: 0x1e030, Hi: 0x1e06d, Stride: 1},
	{Lo: 0x1e4d0, Hi: 0x1e4f9, Stride: 1},
	{Lo: 0x2b739, Hi: 0x2b739, Stride: 1},
	{Lo: 0x31350, Hi: 0x323af, Stride: 1},
}}

func mark(table []class, t *unicode.RangeTable, c class) {
	for _, r := range t.R16 {
		for x := uint32(r.Lo); x <= uint32(r.Hi); x += uint32(r.Stride) {
			table[x] = c
		}
	}
	for _, r := range t.R32 {
		for x := r.Lo; x <= r.Hi; x += r.Stride {
			table[x] = c
		}
	}
}

// classAt returns the class and the size in bytes of the character at s[i:].
func classAt(table []class, s string, i int) (class, int) {
	if i >= len(s) {
		return classNone, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		return table[c], 1
	}
	r, size := utf8.DecodeRuneInString(s[i:])
	return table[r], size
}

// run returns the end of the longest run of at most limit characters of class c at s[i:].
func run(table []class, s string, i int, c class, limit int) int {
	for ; limit > 0; limit-- {
		k, size := classAt(table, s, i)
		if k != c {
			break
		}
		i += size
	}
	return i
}

// gpt2Split is GPT-2's pattern. Its alternatives are tried in order, as there.
func gpt2Split(s string, i int) int {
	table := classes()
	if s[i] == '\'' {
		if e := contraction(s, i, false); e > 0 {
			return e
		}
	}
	j := i
	if s[i] == ' ' {
		j++
	}
	if c, _ := classAt(table, s, j); c < classSpace { // ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+
		return run(table, s, j, c, math.MaxInt)
	}
	return spaces(table, s, i, run(table, s, i, classSpace, math.MaxInt))
}

// llama3Split is Llama 3's pattern, with runs of at most maxDigits digits.
func llama3Split(maxDigits int) splitter {
	return func(s string, i int) int {
		table := classes()
		if s[i] == '\'' {
			if e := contraction(s, i, true); e > 0 {
				return e
			}
		}
		c, size := classAt(table, s, i)
		newline := s[i] == '\r' || s[i] == '\n'
		switch { // [^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
		case c == classLetter:
			return run(table, s, i+size, classLetter, math.MaxInt)
		case c == classNumber:
			return run(table, s, i, classNumber, maxDigits)
		case !newline:
			if next, _ := classAt(table, s, i+size); next == classLetter {
				return run(table, s, i+size, classLetter, math.MaxInt)
			}
		}
		j := i
		if s[i] == ' ' {
			j++
		}
		if e := run(table, s, j, classOther, math.MaxInt); e > j { // ?[^\s\p{L}\p{N}]+[\r\n]*
			for e < len(s) && (s[e] == '\r' || s[e] == '\n') {
				e++
			}
			return e
		}
		e := run(table, s, i, classSpace, math.MaxInt)
		if k := strings.LastIndexAny(s[i:e], "\r\n"); k >= 0 { // \s*[\r\n]+
			return i + k + 1
		}
		return spaces(table, s, i, e)
	}
}

// spaces is \s+(?!\S)|\s+ for the run s[i:e] of white space: followed by something else,
// it leaves its last character to the next piece, unless that is all it has.
func spaces(table []class, s string, i, e int) int {
	if e < len(s) {
		_, size := utf8.DecodeLastRuneInString(s[i:e])
		if e-size > i {
			return e - size
		}
	}
	return e
}

// contraction returns the end of 's, 't, 're, 've, 'm, 'll or 'd at s[i:], or 0. Without
// regard to case, as (?i:'s) is matched, U+017F is an s too.
func contraction(s string, i int, anyCase bool) int {
	at := func(k int) byte {
		if k >= len(s) {
			return 0
		}
		c := s[k]
		if anyCase && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	second := at(i + 2)
	switch at(i + 1) {
	case 's', 't', 'm', 'd':
		return i + 2
	case 'r', 'v':
		if second == 'e' {
			return i + 3
		}
	case 'l':
		if second == 'l' {
			return i + 3
		}
	}
	if anyCase && strings.HasPrefix(s[i+1:], "\u017f") {
		return i + 1 + len("\u017f")
	}
	return 0
}

// digitsSplit is the pre_tokenizer Digits: runs of numeric characters, or each of them.
func digitsSplit(individual bool) splitter {
	limit := math.MaxInt
	if individual {
		limit = 1
	}
	return func(s string, i int) int {
		table := numerics()
		if c, _ := classAt(table, s, i); c == classNumber {
			return run(table, s, i, classNumber, limit)
		}
		for i < len(s) {
			c, size := classAt(table, s, i)
			if c == classNumber {
				break
			}
			i += size
		}
		return i
	}
}
