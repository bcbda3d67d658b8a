package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cria/internal/demomodel"
	"cria/internal/tokenizer"
)

// real are the templates of models in use, with their tokenizers.
func real(t testing.TB) map[string]*Template {
	t.Helper()
	missing := func(err error) {
		if os.Getenv("CRIA_TEST_MODELS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	log := func(s string) { t.Log(s) }
	smol, err := demomodel.Dir(context.Background(), log)
	if err != nil {
		missing(err)
	}
	// Llama 3.1's tokenizer with 3.2's template, which is 3.1's but for the clock.
	tokenizerJSON, err := demomodel.Llama3Tokenizer(context.Background(), log)
	if err != nil {
		missing(err)
	}
	config, err := demomodel.Llama32Config(context.Background(), log)
	if err != nil {
		missing(err)
	}
	var c map[string]any
	b, err := os.ReadFile(config)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err == nil {
		b, err = json.Marshal(map[string]any{"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": c["chat_template"]})
	}
	llama := t.TempDir()
	if err == nil {
		err = os.WriteFile(filepath.Join(llama, "tokenizer_config.json"), b, 0o666)
	}
	if err == nil {
		b, err = os.ReadFile(tokenizerJSON)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(llama, "tokenizer.json"), b, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*Template{}
	for name, dir := range map[string]string{"SmolLM2": smol, "Llama 3": llama} {
		tok, err := tokenizer.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if out[name], err = New(tok); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// trained is the text of the labelled tokens, with | between runs of them.
func (t *Template) trained(ids, labels []int32) string {
	var b strings.Builder
	for i := 0; i < len(labels); i++ {
		from := i
		for i < len(labels) && labels[i] == ids[i] {
			i++
		}
		if i > from {
			if b.Len() > 0 {
				b.WriteString("|")
			}
			b.WriteString(t.tok.Decode(ids[from:i], false))
		}
	}
	return b.String()
}

func TestRowsOfRealTemplates(t *testing.T) {
	end := map[string]string{"SmolLM2": "<|im_end|>", "Llama 3": "<|eot_id|>"}
	for name, c := range real(t) {
		e := end[name]
		m := []Message{{Role: "system", Content: "你是甄嬛"}, {Role: "user", Content: "hi " + e}, {Role: "assistant", Content: "one " + e + "!"},
			{Role: "user", Content: "再说\n"}, {Role: "assistant", Content: "  二\n\nlines"}, {Role: "user", Content: "x"}, {Role: "assistant", Content: "three"}}
		second := "  二\n\nlines" // as the template has it
		if name == "Llama 3" {
			second = "二\n\nlines" // it trims
		}
		for _, turns := range []struct {
			on   string
			flag map[int]Train
			want string
		}{
			{"", nil, "one " + e + "!" + e + "|" + second + e + "|three" + e},
			{Last, nil, "three" + e},
			{Last, map[int]Train{2: Yes, 6: No}, "one " + e + "!" + e},
			{Replies, map[int]Train{4: No}, "one " + e + "!" + e + "|three" + e},
		} {
			d := slices.Clone(m)
			for i, f := range turns.flag {
				d[i].Train = f
			}
			ids, labels, err := c.Row(d, Options{TrainOn: turns.on})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := c.trained(ids, labels); got != turns.want {
				t.Errorf("%s, train_on %q: trained %q, want %q", name, turns.on, got, turns.want)
			}
			// Every reply stands behind the ids that chatting would give for its prompt, and the whole is the template's text.
			// (Behind the reply that begins with spaces, chatting tokenises these with SmolLM2's line break before them.)
			for _, i := range map[string][]int{"SmolLM2": {2, 4}, "Llama 3": {2, 4, 6}}[name] {
				prompt, err := c.IDs(d[:i], Options{AddGenerationPrompt: true, Now: Today})
				if err != nil || !slices.Equal(prompt, ids[:len(prompt)]) {
					t.Errorf("%s: turn %d: %v, prompt %q\nrow %q", name, i, err, c.tok.Decode(prompt, false), c.tok.Decode(ids, false))
				}
			}
			text, err := c.Text(d, Options{Now: Today})
			if err != nil || strings.TrimSuffix(text, "\n") != c.tok.Decode(ids, false) {
				t.Errorf("%s: row %q, text %q, %v", name, c.tok.Decode(ids, false), text, err)
			}
		}
		ids, labels, err := c.Row(m, Options{TrainOn: All})
		if err != nil || !slices.Equal(ids, labels) {
			t.Errorf("%s, all: %v, %v, %v", name, ids, labels, err)
		}
		m[4].Train = No
		if ids, labels, err = c.Row(m, Options{TrainOn: All}); err != nil || strings.Contains(c.trained(ids, labels), "lines") || !strings.Contains(c.trained(ids, labels), "再说") {
			t.Errorf("%s, all but one: %q, %v", name, c.trained(ids, labels), err)
		}
		// a dialogue that ends with a question is cut behind its last reply, but trained whole
		if ids, _, err = c.Row(m[:4], Options{}); err != nil || strings.Contains(c.tok.Decode(ids, false), "再说") {
			t.Errorf("%s: %q, %v", name, c.tok.Decode(ids, false), err)
		}
		if ids, _, err = c.Row(m[:4], Options{TrainOn: All}); err != nil || !strings.HasSuffix(c.tok.Decode(ids, false), e) {
			t.Errorf("%s: %q, %v", name, c.tok.Decode(ids, false), err)
		}
	}
}

func TestToolsOfLlama3(t *testing.T) {
	c := real(t)["Llama 3"]
	m, err := ParseMessages([]byte(`[{"role":"user","content":"Weather in Paris?"},
		{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"weather","arguments":{"city":"Paris"}}}]},
		{"role":"tool","content":"sunny"},{"role":"assistant","content":"Sunny."}]`))
	if err != nil {
		t.Fatal(err)
	}
	ids, labels, err := c.Row(m, Options{Tools: json.RawMessage(`[{"type":"function","function":{"name":"weather","description":"d <|eot_id|>","parameters":{}}}]`)})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.trained(ids, labels), `{"name": "weather", "parameters": {"city": "Paris"}}<|eot_id|>|Sunny.<|eot_id|>`; got != want {
		t.Errorf("trained %q, want %q", got, want)
	}
	if s := c.tok.Decode(ids, false); !strings.Contains(s, "sunny") || !strings.Contains(s, `"description": "d <|eot_id|>"`) {
		t.Error(s)
	}
}

// Qwen 3's manner: the reasoning of replies before the last question is left out.
func TestReasoningThatIsLeftOut(t *testing.T) {
	tok, err := tokenizer.Load(golden + "tiny-llama")
	if err != nil {
		t.Fatal(err)
	}
	c := withTemplate(t, tok, "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"+
		"{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}<|eot_id|>{% endfor %}"+
		"{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}")
	m := []Message{{Role: "user", Content: "a"}, {Role: "assistant", Content: "<think>why</think>b"}, {Role: "user", Content: "c"}, {Role: "assistant", Content: "<think>so</think>d"}}
	if _, _, err := c.Row(m, Options{}); err == nil || !strings.HasPrefix(err.Error(), "turn 2: ") || !strings.Contains(err.Error(), "reasoning of earlier replies") {
		t.Error(err)
	}
	// without reasoning, and with it in a single turn, it is as any other
	for _, d := range [][]Message{m[:2], {m[0], {Role: "assistant", Content: "b"}, m[2], m[3]}} {
		if ids, labels, err := c.Row(d, Options{}); err != nil || !strings.Contains(c.trained(ids, labels), d[len(d)-1].Content+"<|eot_id|>") {
			t.Errorf("%q, %v", c.trained(ids, labels), err)
		}
	}
}

func BenchmarkRow(b *testing.B) {
	for name, c := range real(b) {
		for _, turns := range []int{1, 10, 50} {
			var m []Message
			for i := range turns {
				m = append(m, Message{Role: "user", Content: fmt.Sprintf("Question %d: what is the capital of a country with some more words in it?", i)},
					Message{Role: "assistant", Content: "An answer of some twenty words, as they are in dialogues, neither very short nor very long; so it goes on."})
			}
			b.Run(fmt.Sprintf("%s/%d", name, turns), func(b *testing.B) {
				for b.Loop() {
					if _, _, err := c.Row(m, Options{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
