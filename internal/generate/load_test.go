package generate

import (
	"testing"

	"cria/internal/chat"
	"cria/internal/recipe"
)

// A system prompt stands where the adapter's template has a place for it, else the chat template is used.
func TestPromptSystem(t *testing.T) {
	c, _, _, err := OpenPrompts("../../testdata/golden/tiny-llama", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	system, user, reply := chat.Message{Role: "system", Content: "甄嬛"}, chat.Message{Role: "user", Content: "你是谁？"}, chat.Message{Role: "assistant", Content: "我"}
	for _, test := range []struct {
		template string
		dialogue []chat.Message
		want     string // "": as the chat template renders it
	}{
		{"S:{system} U:{instruction} A:", []chat.Message{system, user}, "S:甄嬛 U:你是谁？ A:"},
		{"S:{system} U:{instruction} A:", []chat.Message{user}, "S: U:你是谁？ A:"},
		{"U:{instruction} A:", []chat.Message{user}, "U:你是谁？ A:"},
		{"U:{instruction} A:", []chat.Message{system, user}, ""},
		{"S:{system} U:{instruction} A:", []chat.Message{system}, ""},
	} {
		if err := c.UsePrompt(&recipe.Recipe{Template: recipe.TemplatePrompt, PromptTemplate: test.template, ResponseTemplate: "{output}"}); err != nil {
			t.Fatal(err)
		}
		ids, err := c.Prompt(test.dialogue...)
		if err != nil {
			t.Fatal(err)
		}
		want := test.want
		if want == "" {
			text, err := c.messages.IDs(test.dialogue, chat.Options{AddGenerationPrompt: true})
			if err != nil {
				t.Fatal(err)
			}
			want = c.Tokenizer.Decode(text, false)
		}
		if got := c.Tokenizer.Decode(ids, false); got != want {
			t.Errorf("%q: %q, want %q", test.template, got, want)
		}
	}
	// A second turn goes on behind the first.
	if err := c.UsePrompt(&recipe.Recipe{Template: recipe.TemplatePrompt, PromptTemplate: "S:{system} U:{instruction} A:", ResponseTemplate: "{output}"}); err != nil {
		t.Fatal(err)
	}
	one, err := c.Prompt(system, user)
	if err != nil {
		t.Fatal(err)
	}
	two, err := c.Prompt(system, user, reply, user)
	if err != nil || len(two) <= len(one) || c.Tokenizer.Decode(two[:len(one)], false) != "S:甄嬛 U:你是谁？ A:" {
		t.Errorf("%v, %q", err, c.Tokenizer.Decode(two, false))
	}
}
