package tokenizer_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"cria/internal/tokenizer"
)

// variant is an entry of testdata/variants.json, which variants.py writes with the
// reference library.
type variant struct {
	Name           string
	Patch          map[string]any
	Rename         map[string]string
	Texts          []string
	IDs            [][]int32
	Decoded        []string
	DecodedSpecial []string `json:"decoded_special"`
}

// apply is build of variants.py.
func (v variant) apply(t *testing.T, base []byte) []byte {
	t.Helper()
	var file map[string]any
	if err := json.Unmarshal(base, &file); err != nil {
		t.Fatal(err)
	}
	model := file["model"].(map[string]any)
	for key, value := range v.Patch {
		if key == "model" {
			maps.Copy(model, value.(map[string]any))
		} else {
			file[key] = value
		}
	}
	vocab := model["vocab"].(map[string]any)
	for from, to := range v.Rename {
		vocab[to] = vocab[from]
		delete(vocab, from)
	}
	model["merges"] = slices.DeleteFunc(model["merges"].([]any), func(merge any) bool {
		left, right, _ := strings.Cut(merge.(string), " ")
		for _, token := range []string{left, right, left + right} {
			if _, renamed := v.Rename[token]; renamed {
				return true
			}
		}
		return false
	})
	out, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVariants(t *testing.T) {
	path := "testdata/variants.json"
	if p := os.Getenv("CRIA_TOKENIZER_VARIANTS"); p != "" {
		path = p // a larger file of the same kind
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var variants []variant
	if err := json.Unmarshal(data, &variants); err != nil {
		t.Fatal(err)
	}
	base, err := os.ReadFile(goldenDir + "/tiny-llama/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variants {
		t.Run(v.Name, func(t *testing.T) {
			tok, err := tokenizer.Parse(v.apply(t, base))
			if err != nil {
				t.Fatal(err)
			}
			wrong := 0
			for i, text := range v.Texts {
				if got := tok.Encode(text); !slices.Equal(got, v.IDs[i]) {
					if wrong++; wrong <= 5 {
						t.Errorf("%+q: ids %v, want %v", text, got, v.IDs[i])
					}
				}
				if got := tok.Decode(v.IDs[i], true); got != v.Decoded[i] {
					t.Errorf("%+q: decoded %+q, want %+q", text, got, v.Decoded[i])
				}
				if got := tok.Decode(v.IDs[i], false); got != v.DecodedSpecial[i] {
					t.Errorf("%+q: decoded with special tokens %+q, want %+q", text, got, v.DecodedSpecial[i])
				}
				if got := streamed(tok, v.IDs[i], true); got != v.Decoded[i] {
					t.Errorf("%+q: streamed %+q, want %+q", text, got, v.Decoded[i])
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d texts encoded differently", wrong, len(v.Texts))
			}
		})
	}
}
