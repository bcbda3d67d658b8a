package tokenizer_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cria/internal/demomodel"
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

// orSkip ends the test if a file of demomodel cannot be had here: as skipped, unless the
// environment demands that all models be tested.
func orSkip(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CRIA_TEST_MODELS") == "required" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func TestGoldenSmolLM2(t *testing.T) {
	dir, err := demomodel.Dir(context.Background(), func(line string) { t.Log(line) })
	orSkip(t, err)
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	g := readGolden(t)
	checkGolden(t, tok, g.Strings, g.SmolLM2, g.SmolLM2Decoded)
	if c := tok.Config(); c.EOSToken != "<|im_end|>" || !strings.Contains(c.ChatTemplate, "<|im_start|>") {
		t.Errorf("config %+v", c)
	}
}

func TestGoldenLlama3(t *testing.T) {
	path, err := demomodel.Llama3Tokenizer(context.Background(), func(line string) { t.Log(line) })
	orSkip(t, err)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	g := readGolden(t)
	checkGolden(t, tok, g.Strings, g.Llama3, g.Llama3Decoded)
	if got := tok.VocabSize(); got != 128256 {
		t.Errorf("VocabSize is %d", got)
	}
	start := time.Now()
	ids := tok.Encode(strings.Repeat("a", 1<<20))
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("1 MB of a took %v", took)
	}
	if len(ids) != 1<<17 || slices.Min(ids) != slices.Max(ids) { // aaaaaaaa
		t.Errorf("%d ids", len(ids))
	}
}
