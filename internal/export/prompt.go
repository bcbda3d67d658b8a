package export

import (
	"errors"
	"fmt"
	"strings"

	"cria/internal/chat"
	"cria/internal/data"
	"cria/internal/generate"
	"cria/internal/recipe"
)

// chatTemplate is the Jinja template of the exported files, "" where a model has none. It is the model's own, unless the
// adapter was trained on other prompts: with a system prompt from the recipe, or with a prompt_template for the first turn
// (see generate.Chat.Prompt).
func chatTemplate(c *generate.Chat) (string, error) {
	own := strings.TrimSuffix(c.Tokenizer.Config().ChatTemplate, "\n") // Jinja drops it at the end of a template
	switch {
	case c.Recipe != nil && c.Recipe.Template == recipe.TemplatePrompt:
		return promptTemplate(c.Recipe, own)
	case c.System != "" && own != "":
		return "{%- if messages[0]['role'] != 'system' %}{%- set messages = [{'role': 'system', 'content': " + quoted(c.System) +
			"}] + messages %}{%- endif %}" + own, nil
	}
	return c.Tokenizer.Config().ChatTemplate, nil
}

// promptTemplate has the recipe's prompt for a first turn without a system message. Everything else is the model's own
// template, later turns cut off from what that makes of the first.
func promptTemplate(r *recipe.Recipe, own string) (string, error) {
	parts, err := promptParts(r)
	if err != nil {
		return "", err
	}
	for i := range parts {
		parts[i] = quoted(parts[i])
	}
	first := "{{- " + strings.Join(parts, " + messages[0]['content'] + ") + " }}"
	if own == "" {
		return "{%- if messages|length != 1 or messages[0]['role'] == 'system' %}" +
			"{{- raise_exception('this model was trained on single turns without a system message') }}{%- endif %}" + first, nil
	}
	return "{%- macro turns(messages, add_generation_prompt) %}" + own + "{% endmacro %}" +
		"{%- if messages[0]['role'] == 'system' %}{{- turns(messages, add_generation_prompt) }}{%- else %}" + first +
		"{%- if messages|length > 1 %}{{- turns(messages, add_generation_prompt)[turns(messages[:1], true)|length:] }}{%- endif %}{%- endif %}", nil
}

// promptParts is the text around every {instruction} of the recipe's prompt.
func promptParts(r *recipe.Recipe) ([]string, error) {
	t, err := data.ParseTemplate(r.PromptTemplate, r.ResponseTemplate)
	if err != nil {
		return nil, err
	}
	const mark = "\ue000"
	if strings.Contains(r.PromptTemplate, mark) {
		return nil, errors.New("prompt_template holds the private-use character U+E000, which export needs")
	}
	text, _ := t.Prompt(data.Example{Instruction: mark})
	return strings.Split(text, mark), nil
}

// quoted is a Jinja string.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s) + `"`
}

// wantsBOS says whether a reader of the file has to put bos_token in front of a prompt that does not begin with it: where the
// tokenizer does so, but not where training did not.
func (s *Source) wantsBOS() bool {
	bos, ok := s.Chat.Tokenizer.BOS()
	if !ok || !s.Chat.Tokenizer.Config().AddBOS {
		return false
	}
	ids, err := s.Chat.Prompt(chat.Message{Role: "user", Content: "a"})
	return err != nil || len(ids) > 0 && ids[0] == bos
}

// system is the system prompt that the recipe gives to dialogues without one.
func (s *Source) system() string {
	if s.Chat.Recipe != nil && s.Chat.Recipe.Template == recipe.TemplatePrompt {
		return "" // it stands in the prompt
	}
	return s.Chat.System
}

// text renders a dialogue for a reply with the exported template.
func text(t *chat.Template, messages []chat.Message) (string, error) {
	s, err := t.Text(messages, chat.Options{AddGenerationPrompt: true, Now: chat.Today})
	if err != nil {
		return "", fmt.Errorf("the exported chat template: %w", err)
	}
	return s, nil
}
