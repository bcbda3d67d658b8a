package data

import (
	"fmt"
	"slices"
	"strings"

	"cria/internal/pack"
	"cria/internal/tokenizer"
)

// Template is the pair prompt_template and response_template of a recipe: literal text with the placeholders
// {instruction}, {input} and {system} (the row's own) in the prompt and {output} in the response. {{ and }} stand for literal
// braces.
type Template struct {
	// TrainAll trains the prompt too (train_on: all).
	TrainAll bool

	prompt, response []piece
}

// piece is literal text, or the value of the column that it names.
type piece struct {
	literal string
	column  string
}

// TemplateError says what is wrong in one of the two templates.
type TemplateError struct {
	Key    string // prompt_template or response_template
	Offset int    // byte in the template at which the fault begins
	Reason string
}

func (e *TemplateError) Error() string {
	return fmt.Sprintf("%s: at byte %d: %s", e.Key, e.Offset, e.Reason)
}

// ParseTemplate reads the two templates. The prompt must use {instruction} and the response {output}; any other
// placeholder, and a brace that is not doubled, is refused with a *TemplateError.
func ParseTemplate(prompt, response string) (*Template, error) {
	var t Template
	var err error
	if t.prompt, err = parsePieces("prompt_template", prompt, "instruction", "instruction", "input", "system"); err != nil {
		return nil, err
	}
	if t.response, err = parsePieces("response_template", response, "output", "output"); err != nil {
		return nil, err
	}
	return &t, nil
}

func parsePieces(key, text, required string, columns ...string) ([]piece, error) {
	fault := func(at int, format string, args ...any) error {
		return &TemplateError{key, at, fmt.Sprintf(format, args...)}
	}
	var pieces []piece
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			pieces = append(pieces, piece{literal: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c != '{' && c != '}':
			literal.WriteByte(c)
			i++
		case i+1 < len(text) && text[i+1] == c:
			literal.WriteByte(c)
			i += 2
		case c == '}':
			return nil, fault(i, "a single }: write }} for a brace in the text")
		default:
			n := strings.IndexAny(text[i+1:], "{}\n")
			if n < 0 || text[i+1+n] != '}' {
				return nil, fault(i, "{ without a closing }: write {{ for a brace in the text")
			}
			name := text[i+1 : i+1+n]
			if !slices.Contains(columns, name) {
				return nil, fault(i, "unknown placeholder {%s}: here only {%s} can be used, and {{ }} for braces in the text",
					name, strings.Join(columns, "}, {"))
			}
			flush()
			pieces = append(pieces, piece{column: name})
			i += n + 2
		}
	}
	flush()
	if !uses(pieces, required) {
		return nil, fault(0, "{%s} is missing: without it that column would not be trained", required)
	}
	return pieces, nil
}

func uses(pieces []piece, column string) bool {
	return slices.ContainsFunc(pieces, func(p piece) bool { return p.column == column })
}

// Uses says whether the prompt has a place for a column: instruction, input or system.
func (t *Template) Uses(column string) bool { return uses(t.prompt, column) }

// Literals are the texts that are the template's own.
func (t *Template) Literals() (out []string) {
	for _, p := range slices.Concat(t.prompt, t.response) {
		if p.column == "" {
			out = append(out, p.literal)
		}
	}
	return out
}

// Prompt renders the prompt of an example: its text and the byte ranges that came from the example, in order, without
// empty ones and with adjacent ones merged.
func (t *Template) Prompt(e Example) (string, []tokenizer.Range) { return render(t.prompt, e) }

// Response renders the response of an example as Prompt does the prompt.
func (t *Template) Response(e Example) (string, []tokenizer.Range) { return render(t.response, e) }

func render(pieces []piece, e Example) (string, []tokenizer.Range) {
	var b strings.Builder
	var plain []tokenizer.Range
	for _, p := range pieces {
		var value string
		switch p.column {
		case "":
			b.WriteString(p.literal)
			continue
		case "instruction":
			value = e.Instruction
		case "input":
			value = e.Input
		case "system":
			value = e.System
		case "output":
			value = e.Output
		}
		if value == "" {
			continue
		}
		start := b.Len()
		b.WriteString(value)
		if n := len(plain); n > 0 && plain[n-1].End == start {
			plain[n-1].End = b.Len()
		} else {
			plain = append(plain, tokenizer.Range{Start: start, End: b.Len()})
		}
	}
	return b.String(), plain
}

// RowFunc returns the row encoder of the template: the ids of the prompt, unlabelled without TrainAll, then the ids of the
// response and of end (the token that append_pad_token appends, if any), labelled. Prompt and response are tokenised apart,
// each as a whole, as the reference's tutorial does; inside the example's values special tokens are ordinary text. An example
// with something that the template would leave out is an error.
func (t *Template) RowFunc(tok Encoder, end ...int32) RowFunc {
	return func(e Example) (pack.Row, error) {
		if err := t.refuse(&e); err != nil {
			return pack.Row{}, err
		}
		text, plain := t.Prompt(e)
		ids := tok.Encode(text, plain...)
		prompt := len(ids)
		if t.TrainAll {
			prompt = 0
		}
		text, plain = t.Response(e)
		ids = append(ids, tok.Encode(text, plain...)...)
		ids = append(ids, end...)
		labels := slices.Clone(ids)
		for i := range prompt {
			labels[i] = pack.Ignore
		}
		return pack.Row{IDs: ids, Labels: labels}, nil
	}
}

// refuse names what the template would leave out.
func (t *Template) refuse(e *Example) error {
	switch {
	case e.Format == Text || e.Format == ShareGPT || e.Format == Messages || e.Format == PromptCompletion && e.Dialogue != nil:
		return fmt.Errorf("%s is a row of the format %s; template: prompt takes alpaca and prompt_completion rows, template: chat takes this one", e.Where(), e.Format)
	case len(e.Dialogue) > 0:
		return fmt.Errorf("%s has a history, which template: prompt cannot render; use template: chat, or empty the column", e.Where())
	case len(e.Tools) > 0:
		return fmt.Errorf("%s has tools, which template: prompt cannot render; use template: chat, or empty the column", e.Where())
	case e.Input != "" && !uses(t.prompt, "input"):
		return fmt.Errorf("%s has an input, but prompt_template has no {input}: add it, or empty the column", e.Where())
	case e.System != "" && !uses(t.prompt, "system"):
		return fmt.Errorf("%s has a system prompt, but prompt_template has no {system}: add it, use template: chat, or empty the column", e.Where())
	}
	return nil
}
