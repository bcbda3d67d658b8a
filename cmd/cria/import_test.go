package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cria/internal/inspect"
)

// smallGGUF writes a Llama of a few hundred bytes as GGUF 3, with some metadata replaced or added.
func smallGGUF(t testing.TB, path string, changed map[string]any) string {
	t.Helper()
	values := map[string]any{
		"general.architecture": "llama", "llama.block_count": uint32(1), "llama.context_length": uint32(8), "llama.embedding_length": uint32(2),
		"llama.feed_forward_length": uint32(3), "llama.attention.head_count": uint32(1), "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
		"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.tokens": []string{"a", "b", "ab", "<s>"},
		"tokenizer.ggml.token_type": []int32{1, 1, 1, 3}, "tokenizer.ggml.merges": []string{"a b"},
		"tokenizer.ggml.bos_token_id": uint32(3), "tokenizer.ggml.eos_token_id": uint32(3),
	}
	for k, v := range changed {
		values[k] = v
	}
	tensors := []struct {
		name  string
		shape []uint64 // innermost first, as the format has it
	}{
		{"token_embd", []uint64{2, 4}}, {"blk.0.attn_norm", []uint64{2}}, {"blk.0.attn_q", []uint64{2, 2}}, {"blk.0.attn_k", []uint64{2, 2}},
		{"blk.0.attn_v", []uint64{2, 2}}, {"blk.0.attn_output", []uint64{2, 2}}, {"blk.0.ffn_norm", []uint64{2}}, {"blk.0.ffn_gate", []uint64{2, 3}},
		{"blk.0.ffn_up", []uint64{2, 3}}, {"blk.0.ffn_down", []uint64{3, 2}}, {"output_norm", []uint64{2}},
	}
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			if s, ok := v.(string); ok {
				v = append(binary.LittleEndian.AppendUint64(nil, uint64(len(s))), s...)
			}
			if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.WriteString("GGUF")
	put(uint32(3), uint64(len(tensors)), uint64(len(values)))
	for key, v := range values {
		put(key)
		switch v := v.(type) {
		case uint32:
			put(uint32(4), v)
		case float32:
			put(uint32(6), v)
		case string:
			put(uint32(8), v)
		case []int32:
			put(uint32(9), uint32(5), uint64(len(v)), v)
		case []string:
			put(uint32(9), uint32(8), uint64(len(v)))
			for _, s := range v {
				put(s)
			}
		}
	}
	const room = 32 // every tensor here is smaller, and 32 is the alignment
	for i, x := range tensors {
		put(x.name+".weight", uint32(len(x.shape)), x.shape, uint32(0), uint64(i*room))
	}
	b.Write(make([]byte, (room-b.Len()%room)%room+len(tensors)*room))
	return write(t, path, b.String())
}

func TestImport(t *testing.T) {
	dir := t.TempDir()
	file := smallGGUF(t, filepath.Join(dir, "small.gguf"), nil)
	var report inspect.Report
	cria(t, "inspect", file, "--json").parse(t, &report)
	if g := report.GGUF; !g.Importable || g.Parameters != 48 || g.ImportedBytes != 96 || g.Types[0].Type != "F32" || g.Tokens != 4 {
		t.Errorf("inspect says %+v %v", g, report.Problems)
	}

	model := filepath.Join(dir, "new", "model")
	r := cria(t, "import", file, model).ok(t)
	for _, want := range []string{"LlamaForCausalLM, 1 layer", "48 in 11 tensors", "4 tokens", model} {
		if !strings.Contains(r.out, want) {
			t.Errorf("standard output lacks %q:\n%s", want, r.out)
		}
	}
	if !strings.Contains(r.err, "cria chat "+model) {
		t.Errorf("standard error does not say what to do next: %s", r.err)
	}
	cria(t, "inspect", model, "--json").parse(t, &report)
	if m := report.Model; m == nil || !m.Usable || m.Source == nil || m.Source.Name != "small.gguf" {
		t.Errorf("inspect says %+v %v", m, report.Problems)
	}
	cria(t, "generate", model, "--input-ids", "3,0", "--max-new-tokens", "2", "--greedy").ok(t)

	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	cria(t, "import", file, empty).ok(t)
}

func TestImportRefuses(t *testing.T) {
	dir := t.TempDir()
	file := smallGGUF(t, filepath.Join(dir, "small.gguf"), nil)
	other := smallGGUF(t, filepath.Join(dir, "other.gguf"), map[string]any{"general.architecture": "mamba"})
	experts := smallGGUF(t, filepath.Join(dir, "experts.gguf"), map[string]any{"llama.expert_count": uint32(8)})
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := write(t, filepath.Join(dir, "cut.gguf"), string(content[:len(content)-40]))
	full := filepath.Dir(write(t, filepath.Join(dir, "full", "file"), "x"))
	for _, c := range []struct {
		name     string
		from, to string
		code     int
		want     []string
	}{
		{"no file", filepath.Join(dir, "none.gguf"), "out", exitError, []string{"none.gguf"}},
		{"not GGUF", filepath.Join(full, "file"), "out", exitUsage, []string{"not a GGUF file"}},
		{"another architecture", other, "out", exitError, []string{"mamba"}},
		{"mixture of experts", experts, "out", exitError, []string{"expert_count"}},
		{"cut off", cut, "out", exitError, []string{"cut off"}},
		{"directory is full", file, "full", exitUsage, []string{"not empty"}},
		{"directory is a file", file, "cut.gguf", exitUsage, []string{"cut.gguf"}},
		{"directory below a file", file, "cut.gguf/out", exitUsage, []string{"cut.gguf"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := tree(t, dir)
			cria(t, "import", c.from, filepath.Join(dir, c.to)).fails(t, c.code, c.want...)
			sameTree(t, dir, before)
		})
	}
}

// interrupted is a context that ends after it was asked a number of times.
type interrupted struct {
	context.Context
	left int
}

func (c *interrupted) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// Ctrl-C at any moment leaves nothing behind.
func TestImportInterrupted(t *testing.T) {
	dir := t.TempDir()
	file := smallGGUF(t, filepath.Join(dir, "small.gguf"), nil)
	before := tree(t, dir)
	stopped := 0
	for left := range 200 {
		var out, errOut bytes.Buffer
		err := runImport(&interrupted{context.Background(), left}, newUI(nil, &out, &errOut), file, filepath.Join(dir, "model"))
		if err == nil {
			break
		}
		stopped++
		if out.Len() > 0 || !strings.Contains(errOut.String(), "nothing was left") {
			t.Errorf("after %d: %v\n%s%s", left, err, out.String(), errOut.String())
		}
		sameTree(t, dir, before)
	}
	if stopped < 3 || stopped == 200 {
		t.Errorf("stopped %d times", stopped)
	}
}

func TestImportProgress(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		spent       time.Duration
		want        string
	}{
		{0, 4 << 30, 0, "[                    ] 0 bytes of 4.0 GiB"},
		{1 << 30, 4 << 30, 2 * time.Second, "[=====               ] 1.0 GiB of 4.0 GiB  512.0 MiB/s  6s left"},
		{4 << 30, 4 << 30, 8 * time.Second, "[====================] 4.0 GiB of 4.0 GiB  512.0 MiB/s  0s left"},
		{10, 0, time.Second, ""}, // must not divide by zero
	} {
		if got := importProgress(c.done, c.total, c.spent); got != c.want && c.want != "" {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
