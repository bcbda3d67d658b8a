// Package data turns dataset files into training rows and decides the order in which they are trained.
//
// The way is: Open (names of files, globs, directories to a Source), Source.Each (rows of files to examples), a RowFunc such
// as Template.RowFunc's (one example to token ids and labels), Build (all examples, cut to length, into a file of rows, with a
// report), Steps (the rows of every optimizer step, as the reference trains them).
package data

import (
	"encoding/json"
	"strings"

	"cria/internal/chat"
	"cria/internal/pack"
	"cria/internal/tokenizer"
)

// Formats of examples.
const (
	Alpaca           = "alpaca"            // instruction, input, output, and perhaps system and history
	ShareGPT         = "sharegpt"          // conversations of {from, value}, and perhaps system and tools
	Messages         = "messages"          // messages as the OpenAI API has them, and perhaps system and tools
	PromptCompletion = "prompt_completion" // prompt and completion
	Text             = "text"              // text, trained whole
)

// Formats lists them.
var Formats = []string{Alpaca, ShareGPT, Messages, PromptCompletion, Text}

// Example is one row of a dataset and where it was read.
type Example struct {
	Format string // one of Formats

	// Of Alpaca, and of PromptCompletion with the prompt as instruction.
	Instruction string
	Input       string // "" where the row has none
	Output      string

	Dialogue []chat.Message  // the whole of ShareGPT and Messages; the history of Alpaca, before the instruction
	System   string          // system prompt; "" where the row has none of its own
	Tools    json.RawMessage // list of tool descriptions; nil where the row has none
	Text     string          // of Text

	File string
	Line int // line on which the row begins, from 1; 0 in files without lines
	Row  int // number of the row within its file, from 1

	file int // number of the file
}

// Where names the example for a message: file:line (row n).
func (e *Example) Where() string { return where(e.File, e.Line, e.Row) }

// Messages is the example as a dialogue: with its own system prompt or, where it has none, the given one, and with the
// input below the instruction.
func (e *Example) Messages(system string) []chat.Message {
	if e.System != "" {
		system = e.System
	}
	out := e.Dialogue
	if e.Format == Alpaca || e.Format == PromptCompletion && out == nil {
		// a copy: history must not be appended to
		out = append(out[:len(out):len(out)], chat.Alpaca("", e.Instruction, e.Input, e.Output)...)
	}
	if system == "" || len(out) > 0 && (out[0].Role == "system" || out[0].Role == "developer") {
		return out
	}
	return append([]chat.Message{{Role: "system", Content: system}}, out...)
}

// blank tells whether the example asks or answers nothing: an empty text, instruction or reply, or none.
func (e *Example) blank() bool {
	empty := func(s string) bool { return strings.TrimSpace(s) == "" }
	switch {
	case e.Format == Text:
		return empty(e.Text)
	case e.Format != ShareGPT && e.Format != Messages && len(e.Dialogue) == 0:
		return empty(e.Instruction+e.Input) || empty(e.Output)
	}
	replies := 0
	for _, m := range e.Messages("") {
		if m.Role == "assistant" {
			replies++
		}
		if m.Raw == nil && empty(m.Content) && (m.Role == "assistant" || m.Role == "user") {
			return true
		}
	}
	return replies == 0
}

// Row is one tokenised example.
type Row struct {
	pack.Row
	Example int // index of the example that it was made from
}

// Encoder is what rows need of a tokenizer: ids of a whole text without added special tokens, where special tokens inside
// the plain byte ranges are ordinary text.
type Encoder interface {
	Encode(text string, plain ...tokenizer.Range) []int32
}
