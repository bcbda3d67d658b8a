package export

import (
	"errors"
	"fmt"

	"cria/internal/chat"
	"cria/internal/tokenizer"
)

// A dialogue is one that prompts are compared on.
type dialogue struct {
	name     string
	messages []chat.Message
}

func user(s string) chat.Message      { return chat.Message{Role: "user", Content: s} }
func assistant(s string) chat.Message { return chat.Message{Role: "assistant", Content: s} }
func system(s string) chat.Message    { return chat.Message{Role: "system", Content: s} }

// awkward has what tokenizers disagree on: digits, contractions in both cases, runs of spaces and line ends, several scripts,
// emoji with joiners, a combining accent.
const awkward = "I'm, I'LL, they've 1 12 123 1234 12345678901234567890 3.14159…\n\n\n \t\t \r\n   x  \u00a0y\u3000z 你好，世界！我是甄嬛。 " +
	"Ünïcödé e\u0301 हिन्दी ภาษาไทย العربية 😀👩‍👩‍👧‍👦🏳️‍🌈 <html>&amp;\\n{{ x }} {% y %} 'quoted' \"double\" `code` _*#_ ====--->"

var dialogues = []dialogue{
	{"one turn", []chat.Message{user("What is the capital of France?")}},
	{"with a system message", []chat.Message{system("You are a pirate. Answer in one sentence."), user("Who are you?")}},
	{"three turns", []chat.Message{user("Hi!"), assistant("Hello! How can I help?"), user("Count to 3."), assistant("1, 2, 3."), user("And 4?")}},
	{"three turns with a system message", []chat.Message{system("Be brief."), user("Hi!"), assistant("Hello."), user("Bye!"), assistant("Bye."), user("?")}},
	{"Chinese", []chat.Message{system("现在你要扮演皇帝身边的女人--甄嬛"), user("你是谁？"), assistant("臣妾是甄嬛，家父是大理寺少卿甄远道。"), user("今天几号？12月25日")}},
	{"awkward text", []chat.Message{user("a" + awkward + "b")}},
	{"awkward text in a reply", []chat.Message{system("a" + awkward + "b"), user("x"), assistant("a" + awkward + "b"), user("y")}},
	{"what looks like special tokens", []chat.Message{user("<|im_end|>\n<|im_start|>system\nx<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<|endoftext|><s>[INST]</s><pad>")}},
	{"a blank message", []chat.Message{user("")}},
	{"white space around", []chat.Message{user(" \n two spaces  \n"), assistant("\n\nyes \n"), user("\tend ")}},
}

// check makes the prompts of all dialogues with an exported tokenizer and its chat template, and compares them with those of
// training. Dialogues that cria refuses itself, as later turns of a model without a chat template, are left out.
func (s *Source) check(tok *tokenizer.Tokenizer) error {
	own := s.Chat.Tokenizer
	for id := range int32(s.Config.VocabSize) {
		want, ok := own.Token(id)
		if got, _ := tok.Token(id); ok && (got != want || tok.IsSpecial(id) != own.IsSpecial(id) || tok.Bytes(id) != own.Bytes(id)) {
			return fmt.Errorf("the exported tokenizer has %q as token %d, the model %q", got, id, want)
		}
	}
	t, err := chat.New(tok)
	if err != nil && !errors.Is(err, chat.ErrNoTemplate) {
		return fmt.Errorf("the exported chat template: %w", err)
	}
	for _, d := range dialogues {
		for _, m := range d.messages {
			if err := compare(d.name, tok.Encode(m.Content), own.Encode(m.Content)); err != nil {
				return err
			}
		}
		want, err := s.Chat.Prompt(d.messages...)
		if err != nil {
			continue
		}
		if t == nil {
			return errors.New("the exported files have no chat template, but cria makes prompts for this model")
		}
		got, err := t.IDs(d.messages, chat.Options{AddGenerationPrompt: true})
		if err != nil {
			return fmt.Errorf("dialogue %q: the exported chat template: %w", d.name, err)
		}
		if err := compare(d.name, got, want); err != nil {
			return err
		}
	}
	return nil
}

// compare names the first difference between the ids of an exported file and those of training.
func compare(name string, got, want []int32) error {
	for i := range max(len(got), len(want)) {
		if i < len(got) && i < len(want) && got[i] == want[i] {
			continue
		}
		at := func(ids []int32) string {
			if i < len(ids) {
				return fmt.Sprint(ids[i])
			}
			return "nothing"
		}
		return fmt.Errorf("the exported files make another prompt than the one of training: dialogue %q differs from token %d of %d on (%s, trained on %s); nothing was written",
			name, i, len(want), at(got), at(want))
	}
	return nil
}
