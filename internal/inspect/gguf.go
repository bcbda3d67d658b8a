package inspect

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"cria/internal/convert"
	"cria/internal/gguf"
)

// GGUF is a model file of ggml.
type GGUF struct {
	Version      int    `json:"version"`
	Architecture string `json:"architecture"`
	Name         string `json:"name"` // general.name

	Importable    bool  `json:"importable"`     // cria import takes it; if not, Problems say why
	ImportedBytes int64 `json:"imported_bytes"` // of the weights in bfloat16

	Parameters int64       `json:"parameters"`
	Bytes      int64       `json:"bytes"` // of the file
	Tensors    int         `json:"tensors"`
	Types      []GGUFType  `json:"types"` // by bytes, largest first
	Tokenizer  string      `json:"tokenizer"`
	Tokens     int         `json:"tokens"`
	Template   bool        `json:"chat_template"`
	Metadata   []GGUFValue `json:"metadata"`
}

// GGUFType counts the tensors of one storage type.
type GGUFType struct {
	Type    string `json:"type"`
	Tensors int    `json:"tensors"`
	Bytes   int64  `json:"bytes"`
}

// GGUFValue is one metadata entry; arrays are given by their length, long texts are cut.
type GGUFValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (r *Report) gguf(size int64) {
	g := &GGUF{Bytes: size, Types: []GGUFType{}, Metadata: []GGUFValue{}}
	r.GGUF = g
	f, err := gguf.Open(r.Path)
	if err != nil {
		r.problem("%v", err)
		return
	}
	defer f.Close()
	g.Version, g.Tensors = f.Version(), len(f.Tensors())
	for _, t := range f.Tensors() {
		n := int64(t.NumElements())
		g.Parameters += n
		g.ImportedBytes += 2 * n
		i := slices.IndexFunc(g.Types, func(x GGUFType) bool { return x.Type == t.Type.String() })
		if i < 0 {
			i = len(g.Types)
			g.Types = append(g.Types, GGUFType{Type: t.Type.String()})
		}
		g.Types[i].Tensors++
		g.Types[i].Bytes += int64(len(t.Data))
	}
	slices.SortStableFunc(g.Types, func(a, b GGUFType) int { return int(min(max(b.Bytes-a.Bytes, -1), 1)) })
	for _, key := range f.Keys() {
		v, _ := f.Value(key)
		g.Metadata = append(g.Metadata, GGUFValue{key, short(v)})
	}
	text := func(key string) string { s, _ := gguf.Get[string](f, key); return s }
	g.Architecture, g.Name = text("general.architecture"), text("general.name")
	g.Tokenizer = strings.TrimSuffix(text("tokenizer.ggml.model")+"/"+text("tokenizer.ggml.pre"), "/")
	g.Template = text("tokenizer.chat_template") != ""
	tokens, _ := gguf.Get[[]string](f, "tokenizer.ggml.tokens")
	g.Tokens = len(tokens)
	if err := convert.CheckGGUF(r.Path); err != nil {
		r.problem("cria cannot import it: %v", err)
	}
	g.Importable = len(r.Problems) == 0
}

// short is a metadata value on one line.
func short(v any) string {
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice {
		return fmt.Sprintf("%d values", r.Len())
	}
	s := []rune(fmt.Sprint(v))
	if len(s) > 80 {
		return fmt.Sprintf("%s… (%d characters)", string(s[:60]), len(s))
	}
	return string(s)
}
