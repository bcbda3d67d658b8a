// Package data turns dataset files into training rows and decides the order in which they are trained.
//
// The way is: Read (files to examples), Template.Row or another RowFunc (one example to token ids and labels), Encode
// (all examples, cut to length, with a report), Steps (the rows of every optimizer step, as the reference trains them).
package data

import (
	"fmt"

	"cria/internal/pack"
	"cria/internal/tokenizer"
)

// Example is one alpaca row of a dataset and where it was read.
type Example struct {
	Instruction string
	Input       string // "" where the row has none
	Output      string

	File string
	Line int // line of the row's opening brace, from 1
	Row  int // number of the row within its file, from 1
}

// Where names the example for a message: file:line (row n).
func (e Example) Where() string {
	return fmt.Sprintf("%s:%d (row %d)", e.File, e.Line, e.Row)
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
