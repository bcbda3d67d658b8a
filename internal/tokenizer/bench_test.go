package tokenizer_test

import (
	"encoding/json"
	"os"
	"testing"

	"cria/internal/tokenizer"
)

// benchmarkTokenizer is the tiny one, or the tokenizer.json that the environment names.
func benchmarkTokenizer(b *testing.B) (*tokenizer.Tokenizer, []byte) {
	b.Helper()
	path := goldenDir + "/tiny-llama/tokenizer.json"
	if p := os.Getenv("CRIA_BENCH_TOKENIZER"); p != "" {
		path = p
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	tok, err := tokenizer.Parse(data)
	if err != nil {
		b.Fatal(err)
	}
	return tok, data
}

func benchmarkEncode(b *testing.B, texts []string) {
	tok, _ := benchmarkTokenizer(b)
	size := 0
	for _, text := range texts {
		size += len(text)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		for _, text := range texts {
			tok.Encode(text)
		}
	}
}

func BenchmarkEncodeGolden(b *testing.B) { benchmarkEncode(b, readGolden(b).Strings) }

func BenchmarkEncodeDialogues(b *testing.B) {
	data, err := os.ReadFile("../../examples/huanhuan/huanhuan.json")
	if err != nil {
		b.Skip("the example data set is not there: ", err)
	}
	var rows []struct{ Instruction, Input, Output string }
	if err := json.Unmarshal(data, &rows); err != nil {
		b.Fatal(err)
	}
	var texts []string
	for _, row := range rows {
		texts = append(texts, row.Instruction, row.Input, row.Output)
	}
	benchmarkEncode(b, texts)
}

func BenchmarkParse(b *testing.B) {
	_, data := benchmarkTokenizer(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tokenizer.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	tok, _ := benchmarkTokenizer(b)
	var ids []int32
	size := 0
	for _, text := range readGolden(b).Strings {
		ids = append(ids, tok.Encode(text)...)
		size += len(text)
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		tok.Decode(ids, true)
	}
}
