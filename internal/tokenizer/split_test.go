package tokenizer

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// TestPieces compares the hand-written splitters with the regular expressions, as the
// reference library cut the texts of testdata/pieces.json (written by variants.py).
func TestPieces(t *testing.T) {
	data, err := os.ReadFile("testdata/pieces.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden []struct {
		Name   string
		Pieces [][]string
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	splitters := map[string]splitter{
		"llama3": llama3Split(3), "qwen2": llama3Split(1), "gpt2": gpt2Split,
		"each digit": digitsSplit(true), "digits": digitsSplit(false),
	}
	if len(golden) != len(splitters) {
		t.Fatalf("%d kinds", len(golden))
	}
	for _, g := range golden {
		for _, want := range g.Pieces {
			text := strings.Join(want, "")
			if got := cutAll(splitters[g.Name], text); !slices.Equal(got, want) {
				t.Errorf("%s: %+q, want %+q", g.Name, got, want)
			}
		}
	}
}

func cutAll(split splitter, s string) (pieces []string) {
	for i := 0; i < len(s); {
		end := split(s, i)
		pieces = append(pieces, s[i:end])
		i = end
	}
	return pieces
}

// TestUnicodeVersion fails when a Go release brings newer tables, which would change
// ids: newInUnicode15 must then leave out what came since. The counts are those of
// \p{L}, \p{N} and \s in tokenizers 0.19.1, taken over all code points.
func TestUnicodeVersion(t *testing.T) {
	counts := map[class]int{}
	for _, c := range classes() {
		counts[c]++
	}
	if counts[classLetter] != 131756 || counts[classNumber] != 1791 || counts[classSpace] != 25 {
		t.Errorf("Unicode %s: %d letters, %d numbers, %d spaces", unicode.Version, counts[classLetter], counts[classNumber], counts[classSpace])
	}
	digits := 0
	for _, c := range numerics() {
		if c == classNumber {
			digits++
		}
	}
	if digits != 1831 {
		t.Errorf("Unicode %s: %d numeric characters", unicode.Version, digits)
	}
}
