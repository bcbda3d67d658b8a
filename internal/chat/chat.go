// Package chat turns dialogues into the text, the ids and the training labels that a model's own chat template makes of
// them, as transformers' apply_chat_template does.
package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"cria/internal/jinja"
	"cria/internal/tokenizer"
)

// Message is one turn of a dialogue.
type Message struct {
	Role    string // system, user, assistant, tool, ...
	Content string

	// Raw, if not nil, is the whole message as a JSON object, with what Role and Content cannot say: content in parts,
	// tool_calls, reasoning. The template sees it instead of them.
	Raw json.RawMessage
}

// ParseMessages reads a JSON list of messages as the OpenAI API has them.
func ParseMessages(text []byte) ([]Message, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("messages: a JSON list of objects was expected: %w", err)
	}
	out := make([]Message, len(raw))
	for i, r := range raw {
		var m struct {
			Role    *string         `json:"role"`
			Content json.RawMessage `json:"content"`
		}
		if err := json.Unmarshal(r, &m); err != nil || m.Role == nil {
			return nil, fmt.Errorf("message %d: an object with a role was expected", i+1)
		}
		out[i] = Message{Role: *m.Role, Raw: r}
		if json.Unmarshal(m.Content, &out[i].Content) != nil {
			out[i].Content = "" // parts, or none
		}
	}
	return out, nil
}

// Options of a rendering.
type Options struct {
	AddGenerationPrompt bool
	Tools               json.RawMessage // list of tool descriptions; nil: none
	Now                 func() time.Time
}

// Template is a model's chat template with its tokenizer.
type Template struct {
	t     *jinja.Template
	tok   *tokenizer.Tokenizer
	added []string // spellings of the added tokens, longest first
}

// ErrNoTemplate is returned for a model without a chat template.
var ErrNoTemplate = errors.New("the model has no chat template (neither chat_template in tokenizer_config.json nor a chat_template.jinja): " +
	"it was not made to chat; use template: prompt with a prompt_template, or an Instruct model")

// New takes the chat template that came with a tokenizer.
func New(tok *tokenizer.Tokenizer) (*Template, error) {
	src := tok.Config().ChatTemplate
	if src == "" {
		return nil, ErrNoTemplate
	}
	t, err := jinja.Parse(src)
	if err != nil {
		return nil, fmt.Errorf("the model's chat template cannot be used: %w", err)
	}
	return &Template{t, tok, tok.AddedTokens()}, nil
}

// Text renders a dialogue as apply_chat_template(tokenize=False) does.
func (t *Template) Text(messages []Message, o Options) (string, error) {
	text, _, err := t.render(messages, o, 0)
	return text, err
}

// IDs renders and tokenises a dialogue. What looks like a special token inside a message is ordinary text, so that no
// message can forge a turn.
func (t *Template) IDs(messages []Message, o Options) ([]int32, error) {
	messages, o, err := plainJSON(messages, o)
	if err != nil {
		return nil, err
	}
	mark, err := t.mark(messages, o)
	if err != nil {
		return nil, err
	}
	text, plain, err := t.render(messages, o, mark)
	if err != nil {
		return nil, err
	}
	return t.tok.Encode(text, plain...), nil
}

// plainJSON brings all JSON of a dialogue into the form in which its strings can be searched.
func plainJSON(messages []Message, o Options) (_ []Message, _ Options, err error) {
	messages = slices.Clone(messages)
	for i := range messages {
		if m := &messages[i]; m.Raw != nil {
			if m.Raw, err = canonical(m.Raw); err != nil {
				return nil, o, fmt.Errorf("message %d: %w", i+1, err)
			}
		}
	}
	if o.Tools != nil {
		if o.Tools, err = canonical(o.Tools); err != nil {
			return nil, o, fmt.Errorf("tools: %w", err)
		}
	}
	return messages, o, nil
}

// render runs the template. With a mark, every spelling of an added token in the messages carries it behind its first
// character; the marks are taken out of the text again and their places returned.
func (t *Template) render(messages []Message, o Options, mark rune) (text string, plain []tokenizer.Range, err error) {
	list := make([]any, len(messages))
	for i, m := range messages {
		if list[i], err = t.value(m, mark); err != nil {
			return "", nil, fmt.Errorf("message %d: %w", i+1, err)
		}
	}
	vars := map[string]any{"messages": list, "add_generation_prompt": o.AddGenerationPrompt, "tools": nil, "documents": nil}
	if len(o.Tools) > 0 {
		if vars["tools"], err = jinja.FromJSON([]byte(t.marked(string(o.Tools), mark))); err != nil {
			return "", nil, fmt.Errorf("tools: %w", err)
		}
	}
	c := t.tok.Config()
	for name, token := range map[string]string{"bos_token": c.BOSToken, "eos_token": c.EOSToken, "pad_token": c.PadToken, "unk_token": c.UnkToken} {
		if token != "" {
			vars[name] = token
		}
	}
	res, err := t.t.Render(vars, jinja.Options{Now: o.Now})
	if err != nil {
		return "", nil, fmt.Errorf("the model's chat template: %w", err)
	}
	if mark == 0 {
		return res.Text, nil, nil
	}
	var b strings.Builder
	for rest := res.Text; ; {
		before, after, found := strings.Cut(rest, string(mark))
		b.WriteString(before)
		if !found {
			return b.String(), plain, nil
		}
		_, n := utf8.DecodeLastRuneInString(before)
		plain = append(plain, tokenizer.Range{Start: b.Len() - n, End: b.Len()})
		rest = after
	}
}

// value is a message as the template sees it.
func (t *Template) value(m Message, mark rune) (jinja.Value, error) {
	if m.Raw != nil {
		return jinja.FromJSON([]byte(t.marked(string(m.Raw), mark)))
	}
	return jinja.Object(jinja.Member{Key: "role", Value: m.Role}, jinja.Member{Key: "content", Value: t.marked(m.Content, mark)})
}

// mark chooses a private-use character that the dialogue does not hold; 0 where nothing needs to be marked.
func (t *Template) mark(messages []Message, o Options) (rune, error) {
	all := string(o.Tools)
	for _, m := range messages {
		all += m.Content + string(m.Raw)
	}
	if !slices.ContainsFunc(t.added, func(s string) bool { return strings.Contains(all, s) }) {
		return 0, nil
	}
	for r := rune(0xE000); r < 0xF8FF; r++ {
		if !strings.ContainsRune(all, r) {
			return r, nil
		}
	}
	return 0, errors.New("the dialogue holds every private-use character and special tokens besides")
}

// marked puts the mark behind the first character of every added token in s.
func (t *Template) marked(s string, mark rune) string {
	if mark == 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		_, n := utf8.DecodeRuneInString(s[i:])
		b.WriteString(s[i : i+n])
		if slices.ContainsFunc(t.added, func(a string) bool { return strings.HasPrefix(s[i:], a) }) {
			b.WriteRune(mark)
		}
		i += n
	}
	return b.String()
}

// Row renders a dialogue for training: its ids up to the end of the last reply, and labels, which are the ids of every
// reply of the assistant with its end of turn, and -100 elsewhere.
//
// Replies are found by rendering turn by turn: the dialogue before a reply, with the generation prompt, must be a prefix of
// the dialogue with it, and that one of the whole, token for token. A template that goes back on what it made of earlier
// turns is refused with the turn at which it does.
func (t *Template) Row(messages []Message, o Options) (ids, labels []int32, err error) {
	o.AddGenerationPrompt = false
	whole, err := t.IDs(messages, o)
	if err != nil {
		return nil, nil, err
	}
	labels = slices.Repeat([]int32{-100}, len(whole))
	end := 0
	for i, m := range messages {
		if m.Role != "assistant" {
			continue
		}
		o.AddGenerationPrompt = true
		before, err := t.IDs(messages[:i], o)
		if err != nil {
			return nil, nil, fmt.Errorf("turn %d: %w", i+1, err)
		}
		o.AddGenerationPrompt = false
		after, err := t.IDs(messages[:i+1], o)
		if err != nil {
			return nil, nil, fmt.Errorf("turn %d: %w", i+1, err)
		}
		if !prefix(before, after) {
			return nil, nil, fmt.Errorf("turn %d: the chat template renders the dialogue before this reply in another way once the reply is there, so the reply's tokens cannot be told apart", i+1)
		}
		if !prefix(after, whole) {
			return nil, nil, fmt.Errorf("turn %d: the chat template renders this turn in another way once later turns follow, so training would not see what chatting sees", i+1)
		}
		end = len(before) + t.endOfTurn(after[len(before):])
		copy(labels[len(before):end], whole[len(before):end])
	}
	return whole[:end], labels[:end], nil
}

func prefix(a, b []int32) bool { return len(a) <= len(b) && slices.Equal(a, b[:len(a)]) }

// endOfTurn is how many tokens of a reply are up to and with its last special token: the line break that many templates
// put behind the end of a turn is never generated.
func (t *Template) endOfTurn(reply []int32) int {
	for n := len(reply); n > 0; n-- {
		if t.tok.IsSpecial(reply[n-1]) {
			return n
		}
	}
	return len(reply)
}

// Alpaca is the dialogue of an instruction row: the system prompt if there is one, the instruction with the input below it,
// and the output.
func Alpaca(system, instruction, input, output string) []Message {
	var out []Message
	if system != "" {
		out = append(out, Message{Role: "system", Content: system})
	}
	if input != "" {
		instruction += "\n" + input
	}
	return append(out, Message{Role: "user", Content: instruction}, Message{Role: "assistant", Content: output})
}
