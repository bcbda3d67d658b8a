package train

import (
	"context"
	"path/filepath"
	"testing"

	"cria/internal/data"
	"cria/internal/demomodel"
	"cria/internal/recipe"
	"cria/internal/tokenizer"
)

// BenchmarkTutorialRows reads and tokenises the tutorial's 3,729 rows with Llama 3.1's tokenizer, on one core: with
// GOMAXPROCS=1 an operation is to take less than 0.3 s.
func BenchmarkTutorialRows(b *testing.B) {
	path, err := demomodel.Llama3Tokenizer(context.Background(), nil)
	if err != nil {
		b.Skip(err)
	}
	tok, err := tokenizer.Load(filepath.Dir(path))
	if err != nil {
		b.Fatal(err)
	}
	r, err := recipe.Load("../../examples/huanhuan/llama3_1.yaml", []string{"dataset=../../examples/huanhuan/huanhuan.json"})
	if err != nil {
		b.Fatal(err)
	}
	eot, _ := tok.ID("<|eot_id|>")
	encode, _, err := rowFunc(r, tok, []int32{eot})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		source, err := data.Open(data.Spec{Paths: r.Dataset})
		if err != nil {
			b.Fatal(err)
		}
		cache := data.Cache{Info: func(string) {}} // a temporary directory, so always made
		set, err := cache.Rows(context.Background(), source, nil, encode, data.Options{MaxLength: r.MaxLength, End: []int32{eot}})
		if err != nil {
			b.Fatal(err)
		}
		if set.Len() != 3729 {
			b.Fatal(set.Len())
		}
		set.Close()
	}
}
