package export

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"cria/internal/chat"
	"cria/internal/demomodel"
	"cria/internal/tokenizer"
)

// withTemplate is the tiny model with another chat template.
func withTemplate(t *testing.T, jinja string) string {
	t.Helper()
	return copyDir(t, tiny, map[string][]byte{"tokenizer_config.json": edited(t, "tokenizer_config.json", map[string]any{"chat_template": jinja})})
}

// golden is a template of chat_template.json.
func golden(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../testdata/golden/chat_template.json")
	if err != nil {
		t.Fatal(err)
	}
	var g struct{ Templates map[string]string }
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if g.Templates[name] == "" {
		t.Fatalf("no template %s", name)
	}
	return g.Templates[name]
}

const (
	plainRecipe = "model: m\ndataset: d.json\ntemplate: prompt\nprompt_template: \"<|start_header_id|>Anfrage {{1}}\\n\\\"{instruction}\\\"\\n{input}Antwort:\"\n" +
		"response_template: \"{output}<|eot_id|>\"\n"
	bosRecipe    = "model: m\ndataset: d.json\ntemplate: prompt\nprompt_template: \"<|begin_of_text|>{instruction}\\n\"\nresponse_template: \"{output}\"\n"
	systemRecipe = "model: m\ndataset: d.json\ntemplate: chat\nsystem: \"You are a \\\"llama\\\", \\\\ {{ x }}\\nand 你好.\"\n"
)

// Every way in which an adapter was trained: the exported files make the same prompts, in all formats.
func TestPrompts(t *testing.T) {
	for what, c := range map[string]struct {
		model, recipe string
		addBOS        bool
		modelfile     []string
	}{
		"chat template":         {tiny, "", true, []string{"FROM ./x.gguf", `PARAMETER stop "<|eot_id|>"`, "{{ if .System }}<|start_header_id|>system"}},
		"prompt":                {tiny, plainRecipe, false, []string{`{{ "<|start_header_id|>Anfrage {1}\n\"" }}`, `{{ if and $first (not $.System) }}`}},
		"prompt with bos_token": {tiny, bosRecipe, true, []string{"{{ .Content }}"}},
		"system prompt":         {tiny, systemRecipe, true, []string{`SYSTEM """You are a "llama", \ {{ x }}`}},
		"prompt, no chat template": {copyDir(t, tiny, map[string][]byte{"tokenizer_config.json": edited(t, "tokenizer_config.json", map[string]any{"chat_template": nil})}),
			plainRecipe, false, []string{`{{- range .Messages }}{{ if eq .Role "user" }}{{ "<|start_header_id|>Anfrage {1}\n\"" }}{{ .Content }}`}},
		"no bos in the template": {withTemplate(t, golden(t, "smollm2")), "", false, []string{"You are a helpful AI assistant named SmolLM"}},
		"date, tools":            {withTemplate(t, golden(t, "tools")), "", true, []string{"26 Jul 2024"}},
	} {
		t.Run(what, func(t *testing.T) {
			s := open(t, c.model, withHash(t, "", c.recipe))
			if s.addBOS != c.addBOS {
				t.Errorf("add_bos_token is %v", s.addBOS)
			}
			text, err := s.modelfile("x.gguf")
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.modelfile {
				if !strings.Contains(text, want) {
					t.Errorf("the Modelfile lacks %s:\n%s", want, text)
				}
			}
			dir := t.TempDir()
			err = errors.Join(s.GGUF(t.Context(), filepath.Join(dir, "x.gguf"), "x", "Q8_0", nil),
				s.Merge(t.Context(), filepath.Join(dir, "merged"), nil), s.Ollama(t.Context(), filepath.Join(dir, "ollama"), "x", "Q4_0", nil))
			if err != nil {
				t.Fatal(err)
			}
			// A merged directory is exported like the adapter that it is made of.
			again := open(t, filepath.Join(dir, "merged"), "")
			for _, d := range dialogues {
				want, err := s.Chat.Prompt(d.messages...)
				got, gotErr := again.Chat.Prompt(d.messages...)
				if (err == nil) != (gotErr == nil) || err == nil && compare(d.name, got, want) != nil {
					t.Errorf("the merged model's prompt of %q: %v, %v", d.name, gotErr, compare(d.name, got, want))
				}
			}
			if _, err := again.modelfile("x.gguf"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTemplatesThatOllamaCannotSay(t *testing.T) {
	for what, c := range map[string]struct{ jinja, want string }{
		"later turns": {"{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{% elif loop.index > 3 %}[{{ m.content }}]{% else %}<{{ m.content }}>{% endif %}{% endfor %}", "treats later turns differently"},
		"twice":       {"{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "once and in its place"},
		"changed":     {"{% for m in messages %}{{ m.content | upper }}{% endfor %}", "once and in its place"},
		"length":      {"{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{% else %}<{{ m.content }}>{% if m.content|length > 40 %}!{% endif %}{% endif %}{% endfor %}", "another prompt than the one of training"},
	} {
		s := open(t, withTemplate(t, c.jinja), "")
		out := filepath.Join(t.TempDir(), "out")
		err := s.Ollama(t.Context(), out, "x", "Q8_0", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", what, err, c.want)
		}
		if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was written: %v", what, err)
		}
	}
	s := open(t, copyDir(t, tiny, map[string][]byte{"tokenizer_config.json": edited(t, "tokenizer_config.json", map[string]any{"chat_template": nil})}), "")
	if _, err := s.modelfile("x"); !errors.Is(err, chat.ErrNoTemplate) {
		t.Errorf("no chat template: %v", err)
	}
	if err := s.GGUF(t.Context(), filepath.Join(t.TempDir(), "x.gguf"), "x", "F16", nil); err != nil {
		t.Errorf("a model without a chat template as GGUF: %v", err)
	}
}

// A file that makes another prompt is not published.
func TestCheck(t *testing.T) {
	s := open(t, tiny, tinyAdapter)
	s.template = "x" + s.template
	dir := t.TempDir()
	for what, err := range map[string]error{
		"gguf": s.GGUF(t.Context(), filepath.Join(dir, "x.gguf"), "x", "F16", nil), "hf": s.Merge(t.Context(), filepath.Join(dir, "merged"), nil),
		"ollama": s.Ollama(t.Context(), filepath.Join(dir, "ollama"), "x", "F16", nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "another prompt than the one of training: dialogue ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v were written", left)
	}
	for what, changed := range map[string]map[string]any{
		"another token": {"added_tokens_decoder": map[string]any{"2040": map[string]any{"content": "<new>", "special": true}}},
	} {
		tok, err := tokenizer.Load(copyDir(t, tiny, map[string][]byte{"tokenizer_config.json": edited(t, "tokenizer_config.json", changed)}))
		if err == nil {
			err = open(t, tiny, "").check(tok)
		}
		if err == nil {
			t.Errorf("%s: not noticed", what)
		}
	}
	if err := compare("d", []int32{1, 2, 3}, []int32{1, 2}); err == nil || !strings.Contains(err.Error(), `dialogue "d" differs from token 2 of 2 on (3, trained on nothing)`) {
		t.Errorf("one token more: %v", err)
	}
}

// The real templates of Llama 3.2 and SmolLM2.
func TestKnownFamilies(t *testing.T) {
	missing := func(err error) {
		if os.Getenv("CRIA_TEST_MODELS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	log := func(s string) { t.Log(s) }
	config, err := demomodel.Llama32Config(context.Background(), log)
	if err != nil {
		missing(err)
	}
	smol, err := demomodel.Dir(context.Background(), log)
	if err != nil {
		missing(err)
	}
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		ChatTemplate string `json:"chat_template"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	for name, model := range map[string]string{"llama3": withTemplate(t, c.ChatTemplate), "smollm2": smol} {
		s := open(t, model, "")
		text, err := s.modelfile("x.gguf")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, rest, _ := strings.Cut(text, `TEMPLATE """`)
		src, _, _ := strings.Cut(rest, `"""`)
		tmpl, err := template.New("").Parse(src)
		if err != nil {
			t.Fatal(err)
		}
		got, err := executeGo(tmpl, []chat.Message{user("Hi"), assistant("Yes?"), user("Bye")})
		want := map[string]string{
			"smollm2": "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n" +
				"<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
			"llama3": "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>" +
				"<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYes?<|eot_id|>" +
				"<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
		}[name]
		if err != nil || got != want {
			t.Errorf("%s: %v\n%q, want\n%q", name, err, got, want)
		}
	}
}
