package tokenizer

import "unicode/utf8"

// GPT-2's byte alphabet (bytes_to_unicode in its encoder.py): a printable byte of
// Latin-1 stands for itself, the other 68 bytes are spelled U+0100 and up.
const alphabetSize = 256 + 68

var (
	byteToRune [256]rune
	runeToByte [alphabetSize]int16 // -1: not in the alphabet
)

func init() {
	for i := range runeToByte {
		runeToByte[i] = -1
	}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if b < '!' || b > '~' && b < 0xa1 || b == 0xad {
			r = next
			next++
		}
		byteToRune[b] = r
		runeToByte[r] = int16(b)
	}
}

// appendUnspelled appends the bytes that a vocabulary spelling ("Ġthe") stands for.
// ok is false, and dst unchanged, if a character is not in the alphabet.
func appendUnspelled(dst, spelling []byte) (_ []byte, ok bool) {
	n := len(dst)
	for i := 0; i < len(spelling); {
		r, size := rune(spelling[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(spelling[i:])
		}
		if r >= alphabetSize || runeToByte[r] < 0 {
			return dst[:n], false
		}
		dst = append(dst, byte(runeToByte[r]))
		i += size
	}
	return dst, true
}

// spell is the inverse of appendUnspelled.
func spell(text string) string {
	b := make([]byte, 0, 2*len(text))
	for i := range len(text) {
		b = utf8.AppendRune(b, byteToRune[text[i]])
	}
	return string(b)
}

// appendLossy appends src to dst with every maximal ill-formed subsequence replaced by
// U+FFFD, as Rust's String::from_utf8_lossy and the Unicode standard (section 3.9,
// "U+FFFD Substitution of Maximal Subparts") do; Go's own conversions write one U+FFFD
// per byte. rest is an incomplete character at the end of src, which more bytes could
// complete; with final it is replaced too.
func appendLossy(dst, src []byte, final bool) (_, rest []byte) {
	for i := 0; i < len(src); {
		if src[i] < utf8.RuneSelf {
			dst = append(dst, src[i])
			i++
			continue
		}
		if _, size := utf8.DecodeRune(src[i:]); size > 1 {
			dst = append(dst, src[i:i+size]...)
			i += size
			continue
		}
		size, open := illFormed(src[i:])
		if open && !final {
			return dst, src[i:]
		}
		dst = utf8.AppendRune(dst, utf8.RuneError)
		i += size
	}
	return dst, nil
}

// illFormed returns the length of the maximal ill-formed subsequence that p starts with.
// open says that it reaches the end of p and is the beginning of some character.
func illFormed(p []byte) (size int, open bool) {
	want, lo, hi := 0, byte(0x80), byte(0xbf)
	switch c := p[0]; {
	case c >= 0xc2 && c <= 0xdf:
		want = 2
	case c >= 0xe0 && c <= 0xef:
		want = 3
		if c == 0xe0 {
			lo = 0xa0
		} else if c == 0xed {
			hi = 0x9f
		}
	case c >= 0xf0 && c <= 0xf4:
		want = 4
		if c == 0xf0 {
			lo = 0x90
		} else if c == 0xf4 {
			hi = 0x8f
		}
	default:
		return 1, false
	}
	for size = 1; size < want; size++ {
		if size == len(p) {
			return size, true
		}
		if p[size] < lo || p[size] > hi {
			break
		}
		lo, hi = 0x80, 0xbf
	}
	return size, false
}
