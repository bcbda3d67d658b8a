// Package chat turns dialogues into the text, the ids and the training labels that a model's own chat template makes of
// them, as transformers' apply_chat_template does.
package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

	Train Train // of a reply, for Row; no template sees it
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
	TrainOn             string // of Row: Replies, Last or All; "" means Replies
}

// Template is a model's chat template with its tokenizer.
type Template struct {
	t     *jinja.Template
	tok   *tokenizer.Tokenizer
	added []string // spellings of the added tokens, longest first

	tail   func() string // see replyTail
	pieces bool          // texts may be tokenised in pieces
}

// ErrNoTemplate is returned for a model without a chat template.
var ErrNoTemplate = errors.New("the model has no chat template (neither chat_template in tokenizer_config.json nor a chat_template.jinja): " +
	"it was not made to chat; use template: prompt with a prompt_template, or an Instruct model")

// New takes the chat template that came with a tokenizer.
func New(tok *tokenizer.Tokenizer) (*Template, error) {
	return NewSource(tok, tok.Config().ChatTemplate)
}

// NewSource takes another template for a tokenizer.
func NewSource(tok *tokenizer.Tokenizer, src string) (*Template, error) {
	if src == "" {
		return nil, ErrNoTemplate
	}
	t, err := jinja.Parse(src)
	if err != nil {
		return nil, fmt.Errorf("the model's chat template cannot be used: %w", err)
	}
	return newTemplate(t, tok), nil
}

func newTemplate(t *jinja.Template, tok *tokenizer.Tokenizer) *Template {
	c := &Template{t: t, tok: tok, added: tok.AddedTokens()}
	c.tail = sync.OnceValue(c.replyTail)
	c.pieces = slices.Equal(append(tok.Encode("a\n"), tok.Encode("b")...), tok.Encode("a\nb"))
	return c
}

// Text renders a dialogue as apply_chat_template(tokenize=False) does.
func (t *Template) Text(messages []Message, o Options) (string, error) {
	r, err := t.values(messages, o, 0)
	if err != nil {
		return "", err
	}
	text, _, err := r.text(len(messages), o.AddGenerationPrompt)
	return text, err
}

// IDs renders and tokenises a dialogue. What looks like a special token inside a message is ordinary text, so that no
// message can forge a turn.
func (t *Template) IDs(messages []Message, o Options) ([]int32, error) {
	r, err := t.prepare(messages, o)
	if err != nil {
		return nil, err
	}
	text, plain, err := r.text(len(messages), o.AddGenerationPrompt)
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

// rendering is a dialogue made ready for the template.
type rendering struct {
	t        *Template
	mark     rune
	messages []any
	tools    any
	now      func() time.Time
}

// prepare makes a dialogue ready to be rendered and tokenised: with a mark where it spells added tokens.
func (t *Template) prepare(messages []Message, o Options) (*rendering, error) {
	messages, o, err := plainJSON(messages, o)
	if err != nil {
		return nil, err
	}
	mark, err := t.mark(messages, o)
	if err != nil {
		return nil, err
	}
	return t.values(messages, o, mark)
}

// values makes the template's variables. With a mark, every spelling of an added token in the messages carries it behind
// its first character.
func (t *Template) values(messages []Message, o Options, mark rune) (r *rendering, err error) {
	r = &rendering{t: t, mark: mark, messages: make([]any, len(messages)), now: o.Now}
	for i, m := range messages {
		if r.messages[i], err = t.value(m, mark); err != nil {
			return nil, fmt.Errorf("message %d: %w", i+1, err)
		}
	}
	if len(o.Tools) > 0 {
		if r.tools, err = jinja.FromJSON([]byte(t.marked(string(o.Tools), mark))); err != nil {
			return nil, fmt.Errorf("tools: %w", err)
		}
	}
	return r, nil
}

// text runs the template on the first n messages. The marks are taken out of the text again and their places returned.
func (r *rendering) text(n int, addGenerationPrompt bool) (text string, plain []tokenizer.Range, err error) {
	vars := map[string]any{"messages": r.messages[:n:n], "add_generation_prompt": addGenerationPrompt, "tools": r.tools, "documents": nil}
	c := r.t.tok.Config()
	for name, token := range map[string]string{"bos_token": c.BOSToken, "eos_token": c.EOSToken, "pad_token": c.PadToken, "unk_token": c.UnkToken} {
		if token != "" {
			vars[name] = token
		}
	}
	res, err := r.t.t.Render(vars, jinja.Options{Now: r.now})
	if err != nil {
		return "", nil, fmt.Errorf("the model's chat template: %w", err)
	}
	if r.mark == 0 {
		return res.Text, nil, nil
	}
	var b strings.Builder
	for rest := res.Text; ; {
		before, after, found := strings.Cut(rest, string(r.mark))
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
