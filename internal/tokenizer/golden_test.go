package tokenizer_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"cria/internal/tokenizer"
)

const goldenDir = "../../testdata/golden"

// golden is testdata/golden/tokenizer.json: texts with the reference library's ids and
// its decode(skip_special_tokens=True) of them.
type golden struct {
	Strings        []string  `json:"strings"`
	Tiny           [][]int32 `json:"tiny"`
	TinyDecoded    []string  `json:"tiny_decoded"`
	SmolLM2        [][]int32 `json:"smollm2"`
	SmolLM2Decoded []string  `json:"smollm2_decoded"`
	Llama3         [][]int32 `json:"llama3.1"`
	Llama3Decoded  []string  `json:"llama3.1_decoded"`
}

func readGolden(t testing.TB) (g golden) {
	t.Helper()
	data, err := os.ReadFile(goldenDir + "/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Strings) < 300 {
		t.Fatalf("only %d golden strings", len(g.Strings))
	}
	return g
}

func loadTiny(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Load(goldenDir + "/tiny-llama")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// checkGolden compares ids, decoded text and streamed text, then puts all strings
// together as one text, which must come out as its own bytes.
func checkGolden(t *testing.T, tok *tokenizer.Tokenizer, texts []string, ids [][]int32, decoded []string) {
	t.Helper()
	wrong := 0
	for i, text := range texts {
		if got := tok.Encode(text); !slices.Equal(got, ids[i]) {
			if wrong++; wrong <= 5 {
				t.Errorf("string %d %q: ids %v, want %v", i, text, got, ids[i])
			}
		}
		if got := tok.Decode(ids[i], true); got != decoded[i] {
			t.Errorf("string %d: decoded %q, want %q", i, got, decoded[i])
		}
		if got := streamed(tok, ids[i], true); got != decoded[i] {
			t.Errorf("string %d: streamed %q, want %q", i, got, decoded[i])
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d strings encoded differently", wrong, len(texts))
	}
	all := strings.Join(texts, "")
	if got := tok.Decode(tok.Encode(all), false); got != all {
		t.Error("all strings in one: the decoded text is not the text")
	}
}

func streamed(tok *tokenizer.Tokenizer, ids []int32, skipSpecial bool) string {
	s := tok.NewStream(skipSpecial)
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(s.Push(id))
	}
	b.WriteString(s.Flush())
	return b.String()
}

func TestGoldenTiny(t *testing.T) {
	g := readGolden(t)
	checkGolden(t, loadTiny(t), g.Strings, g.Tiny, g.TinyDecoded)
}
