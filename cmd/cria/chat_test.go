package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withoutTemplate is the tiny model without a chat template.
func withoutTemplate(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(tiny)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(tiny, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() == "tokenizer_config.json" {
			var m map[string]any
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			delete(m, "chat_template")
			if b, err = json.Marshal(m); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestChat(t *testing.T) {
	args := []string{"chat", tiny, "--greedy", "--max-new-tokens", "12"}
	both := criaWith(t, "你是谁？\n再说\n", args...).ok(t)
	one := criaWith(t, "你是谁？\n", args...).ok(t)
	if !strings.HasPrefix(both.out, one.out) || len(both.out) == len(one.out) {
		t.Errorf("one turn %q, two turns %q", one.out, both.out)
	}
	// after /reset a dialogue begins anew; a system prompt changes it, and --system is the same as /system
	again := criaWith(t, "你是谁？\n/reset\n你是谁？\n", args...).ok(t)
	if again.out != one.out+one.out {
		t.Errorf("after /reset %q, want %q twice", again.out, one.out)
	}
	set := criaWith(t, "/system 皇上万福金安\n你是谁？\n", args...).ok(t)
	flag := criaWith(t, "你是谁？\n", append(args, "--system", "皇上万福金安")...).ok(t)
	if set.out != flag.out || set.out == one.out {
		t.Errorf("/system %q, --system %q, without %q", set.out, flag.out, one.out)
	}
	r := criaWith(t, "/nonsense\n/help\n\n/exit\nnot read\n", args...).ok(t)
	if r.out != "" || !strings.Contains(r.err, "no command /nonsense") || !strings.Contains(r.err, "/system TEXT") {
		t.Errorf("commands: %q %q", r.out, r.err)
	}
}

// A prompt that no context window holds is refused with the numbers, and the dialogue goes on.
func TestChatTooLong(t *testing.T) {
	long := strings.Repeat("皇上万福金安。", 3000)
	r := criaWith(t, long+"\n你是谁？\n", "chat", tiny, "--greedy", "--max-new-tokens", "5").ok(t)
	if !strings.Contains(r.err, "2048") || !strings.Contains(r.err, "/reset") || strings.TrimSpace(r.out) == "" {
		t.Errorf("%q %q", r.out, r.err)
	}
}

// An adapter is asked with the prompt that it was trained with, and later turns go on from there.
func TestChatUsesTheRecipesPrompt(t *testing.T) {
	out := t.TempDir()
	data := filepath.Join(out, "rows.json")
	if err := os.WriteFile(data, []byte(`[{"instruction": "你是谁？", "output": "我是甄嬛。"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, template := range map[string][]string{
		"prompt": {"template=prompt", "prompt_template=<|start_header_id|>user<|end_header_id|>\n\n问：{instruction}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "response_template={output}<|eot_id|>"},
		"chat":   {"template=chat", "system=现在你要扮演皇帝身边的女人"},
	} {
		dir := filepath.Join(out, name)
		cria(t, append([]string{"train", "model=" + tiny, "dataset=" + data, "output_dir=" + dir, "lora.target_modules=all-linear", "lora.lora_alpha=32",
			"learning_rate=1e-2", "max_steps=40"}, template...)...).ok(t)
		r := criaWith(t, "你是谁？\n你是谁？\n", "chat", tiny, "--adapter", dir, "--greedy", "--max-new-tokens", "20").ok(t)
		if first, _, _ := strings.Cut(r.out, "\n"); first != "我是甄嬛。" {
			t.Errorf("%s: %q", name, r.out)
		}
		g := cria(t, "generate", tiny, "--adapter", dir, "--greedy", "--prompt", "你是谁？").ok(t)
		if g.out != "我是甄嬛。\n" {
			t.Errorf("%s: generate says %q", name, g.out)
		}
	}
}

func TestTemplate(t *testing.T) {
	var g struct {
		Templates map[string]string `json:"templates"`
		Cases     []struct {
			Template string          `json:"template"`
			Messages json.RawMessage `json:"messages"`
			Prompt   bool            `json:"add_generation_prompt"`
			Text     string          `json:"text"`
		} `json:"cases"`
	}
	b, err := os.ReadFile(golden + "chat_template.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "t.jinja")
	if err := os.WriteFile(file, []byte(g.Templates["tools"]), 0o644); err != nil {
		t.Fatal(err)
	}
	c := g.Cases[0]
	set, err := json.Marshal(map[string]any{"messages": c.Messages, "add_generation_prompt": c.Prompt, "bos_token": "<|begin_of_text|>"})
	if err != nil {
		t.Fatal(err)
	}
	if r := criaWith(t, string(set), "template", file).ok(t); r.out != c.Text {
		t.Errorf("%q, want %q", r.out, c.Text)
	}
	var out []map[string]string
	criaWith(t, "["+string(set)+`, {}, {"messages": 1}]`, "template", file, "--json").parse(t, &out)
	if len(out) != 3 || out[0]["text"] != c.Text || out[1]["error"] == "" || out[2]["error"] == "" {
		t.Errorf("%v", out)
	}
	criaWith(t, "[", "template", file, "--json").fails(t, exitUsage, "JSON list")
	cria(t, "template").fails(t, exitUsage, "name one")
	if err := os.WriteFile(file, []byte("a\n{% if %}"), 0o644); err != nil {
		t.Fatal(err)
	}
	criaWith(t, "{}", "template", file).fails(t, exitError, "t.jinja:2:")
	criaWith(t, "{}", "template", withoutTemplate(t)).fails(t, exitError, "no chat template")
}
