package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"unicode"

	"cria/internal/chat"
	"cria/internal/disk"
)

// ModelfileName is the file that ollama create reads.
const ModelfileName = "Modelfile"

// Ollama writes a directory with the merged model as GGUF and a Modelfile: the template in Ollama's language, the system
// prompt of the recipe, the tokens that end a reply, and sampling as cria chat does it.
func (s *Source) Ollama(ctx context.Context, dir, name string, t Type, progress Progress) error {
	if err := Vacant(dir, true); err != nil {
		return err
	}
	file := name + ".gguf"
	if err := disk.ValidName(file); err != nil {
		return fmt.Errorf("the GGUF file cannot be called %s: %w", file, err)
	}
	modelfile, err := s.modelfile(file)
	if err != nil {
		return err
	}
	values, tensors, err := s.prepare(dir, name, t)
	if err != nil {
		return err
	}
	return disk.PublishDir(disk.OS{}, dir, func(d *disk.DirWriter) error {
		err := d.WriteFile(ModelfileName, func(w io.Writer) error { _, err := io.WriteString(w, modelfile); return err })
		if err != nil {
			return err
		}
		if err := d.WriteFile(file, func(w io.Writer) error { return s.writeGGUF(ctx, w, values, tensors, progress) }); err != nil {
			return err
		}
		return s.checkGGUF(filepath.Join(d.Dir(), file))
	})
}

// modelfile makes the Modelfile and checks its template.
func (s *Source) modelfile(from string) (string, error) {
	if s.template == "" {
		return "", fmt.Errorf("%w; ollama needs one: export as gguf, or train with template: prompt", chat.ErrNoTemplate)
	}
	tmpl, err := s.goTemplate()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# ollama create NAME -f %s\nFROM ./%s\n\nTEMPLATE \"\"\"%s\"\"\"\n", ModelfileName, from, tmpl)
	if system := s.system(); system != "" {
		if strings.Contains(system, `"""`) || strings.HasSuffix(system, `"`) || strings.ContainsFunc(system, unprintable) {
			return "", errors.New(`the recipe's system prompt holds """, a quotation mark at its end or a control character, which a Modelfile cannot say; export as gguf`)
		}
		fmt.Fprintf(&b, "SYSTEM \"\"\"%s\"\"\"\n", system)
	}
	b.WriteString("\n")
	for _, id := range s.ends() {
		token, _ := s.Chat.Tokenizer.Token(id)
		fmt.Fprintf(&b, "PARAMETER stop %q\n", token)
	}
	for _, p := range s.sampling() {
		fmt.Fprintf(&b, "PARAMETER %s %s\n", p.name, strconv.FormatFloat(p.value, 'g', -1, 64))
	}
	return b.String(), nil
}

type parameter struct {
	name  string
	value float64
}

// sampling is generation_config.json's, with transformers' defaults, as cria chat samples; Ollama's own defaults differ.
func (s *Source) sampling() []parameter {
	d := s.Chat.Defaults
	or := func(v *float64, missing float64) float64 {
		if v == nil {
			return missing
		}
		return *v
	}
	topK := 50.0
	if d.TopK != nil {
		topK = float64(*d.TopK)
	}
	temperature := or(d.Temperature, 1)
	if d.DoSample != nil && !*d.DoSample {
		temperature = 0 // the likeliest token
	}
	return []parameter{{"temperature", temperature}, {"top_k", topK}, {"top_p", or(d.TopP, 1)}, {"min_p", or(d.MinP, 0)},
		{"repeat_penalty", or(d.RepetitionPenalty, 1)}}
}

// unprintable tells characters that Ollama's parser drops.
func unprintable(r rune) bool { return !strconv.IsPrint(r) && !unicode.IsSpace(r) || r == '\r' }

// turns are the texts that a chat template puts around messages.
type turns struct {
	before  string // of a first user message
	reply   string // between a first user message and its reply
	between string // between a reply and the next user message
	later   string // between a later user message and its reply
}

// Messages whose places in a rendered dialogue show what stands around them.
const (
	markSystem = "⟦system⟧"
	markUser   = "⟦user %d⟧"
	markReply  = "⟦reply %d⟧"
)

// goTemplate makes Ollama's template of the exported chat template. What that puts around messages is found by rendering
// dialogues; then all dialogues are rendered by both and compared. A template that does more, such as one that treats turns
// differently, is refused.
func (s *Source) goTemplate() (string, error) {
	t, err := chat.NewSource(s.Chat.Tokenizer, s.template)
	if err != nil {
		return "", err
	}
	plain, err := probe(t, false)
	if err != nil {
		return "", fmt.Errorf("the chat template cannot be said in Ollama's language: %w; export as gguf, or write a Modelfile's TEMPLATE by hand", err)
	}
	own := s.bosAdded()
	plain.before = strings.TrimPrefix(plain.before, own)
	var tmpl string
	head := literal(plain.before)
	withSystem, err := probe(t, true)
	if err == nil {
		system, middle, _ := strings.Cut(withSystem.before, markSystem)
		head = "{{ if .System }}" + literal(strings.TrimPrefix(system, own)) + "{{ .System }}" + literal(middle) + "{{ else }}" + head + "{{ end }}"
	} else {
		withSystem = plain
	}
	switch {
	case plain.between == "" && plain.later == "": // no later turns: each is a first one
		tmpl = `{{- range .Messages }}{{ if eq .Role "user" }}` + literal(plain.before) + "{{ .Content }}" + literal(plain.reply) +
			`{{ else if eq .Role "assistant" }}{{ .Content }}{{ end }}{{ end }}`
	case plain.between != withSystem.between || plain.later != withSystem.later || withSystem.reply != withSystem.later:
		return "", errors.New("the chat template treats dialogues with a system message differently, which export does not put into Ollama's language; export as gguf")
	case plain.reply == plain.later:
		tmpl = "{{- $first := true }}" + head + `{{ range .Messages }}{{ if eq .Role "user" }}{{ if not $first }}` + literal(plain.between) +
			"{{ end }}{{ $first = false }}{{ .Content }}" + literal(plain.later) + `{{ else if eq .Role "assistant" }}{{ .Content }}{{ end }}{{ end }}`
	default:
		tmpl = "{{- $first := true }}" + head + `{{ range .Messages }}{{ if eq .Role "user" }}{{ if not $first }}` + literal(plain.between) +
			"{{ end }}{{ .Content }}{{ if and $first (not $.System) }}" + literal(plain.reply) + "{{ else }}" + literal(plain.later) +
			`{{ end }}{{ $first = false }}{{ else if eq .Role "assistant" }}{{ .Content }}{{ end }}{{ end }}`
	}
	return tmpl, s.checkGo(t, tmpl)
}

// bosAdded is the text of the token that readers put in front of a prompt, "" where they add none.
func (s *Source) bosAdded() string {
	if !s.addBOS {
		return ""
	}
	return s.Chat.Tokenizer.Config().BOSToken
}

// probe renders three turns and cuts the text at the messages.
func probe(t *chat.Template, withSystem bool) (turns, error) {
	cut := func(n int) ([]string, error) {
		var messages []chat.Message
		if withSystem {
			messages = append(messages, system(markSystem))
		}
		for i := range n {
			if i > 0 {
				messages = append(messages, assistant(fmt.Sprintf(markReply, i)))
			}
			messages = append(messages, user(fmt.Sprintf(markUser, i+1)))
		}
		rest, err := text(t, messages)
		if err != nil {
			return nil, err
		}
		if withSystem && strings.Count(rest, markSystem) != 1 {
			return nil, errors.New("it does not show the system message once")
		}
		var parts []string
		for _, m := range messages {
			if m.Role == "system" {
				continue
			}
			before, after, ok := strings.Cut(rest, m.Content)
			if !ok || strings.Contains(after, m.Content) {
				return nil, fmt.Errorf("it does not show message %s once and in its place", m.Content)
			}
			parts, rest = append(parts, before), after
		}
		return append(parts, rest), nil
	}
	one, err := cut(1)
	if err != nil {
		return turns{}, err
	}
	first := turns{before: one[0], reply: one[1]}
	three, err := cut(3)
	if err != nil {
		if withSystem {
			return turns{}, err
		}
		return first, nil // it has no later turns
	}
	first.between, first.later = three[2], three[5]
	if three[0] != one[0] || three[1] != one[1] || three[4] != three[2] || three[3] != three[5] {
		return turns{}, errors.New("it treats later turns differently")
	}
	return first, nil
}

// literal is text in a Go template inside a Modelfile.
func literal(s string) string {
	if strings.Contains(s, "{{") || strings.Contains(s, `"`) || strings.ContainsFunc(s, unprintable) {
		return "{{ " + strconv.QuoteToASCII(s) + " }}"
	}
	return s
}

// checkGo compares what a Go template and the exported chat template make of the dialogues. Go templates cannot strip white
// space, so none stands around these messages.
func (s *Source) checkGo(t *chat.Template, src string) error {
	tmpl, err := template.New("").Parse(src)
	if err != nil {
		return fmt.Errorf("the template made for Ollama: %w", err)
	}
	tok := s.Chat.Tokenizer
	for _, d := range dialogues {
		messages := make([]chat.Message, len(d.messages))
		for i, m := range d.messages {
			messages[i] = chat.Message{Role: m.Role, Content: strings.TrimSpace(m.Content)}
		}
		want, err := text(t, messages)
		if err != nil {
			continue // refused by the chat template, too
		}
		got, err := executeGo(tmpl, messages)
		if err != nil {
			return err
		}
		if got = s.bosAdded() + got; got != want {
			return fmt.Errorf("Ollama's template: %w", compare(d.name, tok.Encode(got), tok.Encode(want)))
		}
	}
	return nil
}

// executeGo renders a dialogue as Ollama does (Template.Execute of its package template).
func executeGo(t *template.Template, messages []chat.Message) (string, error) {
	var system []string
	for _, m := range messages {
		if m.Role == "system" {
			system = append(system, m.Content)
		}
	}
	var b strings.Builder
	err := t.Execute(&b, map[string]any{"System": strings.Join(system, "\n\n"), "Messages": messages, "Response": ""})
	return b.String(), err
}
