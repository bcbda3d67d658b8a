// Package data turns dataset files into training rows and decides the order in which they are trained.
//
// The way is: Read (files to examples), Template.Row or another RowFunc (one example to token ids and labels), Encode
// (all examples, cut to length, with a report), Steps (the rows of every optimizer step, as the reference trains them).
package data

import (
	"fmt"

	"cria/internal/tokenizer"
)

// Ignore is the label of a token that is not trained: PyTorch's cross-entropy ignore_index.
const Ignore int32 = -100

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

// Row is one tokenised example. IDs and Labels have the same length; Labels[i] is IDs[i] where the token is trained and
// Ignore elsewhere, as in a Hugging Face data set: the model at position i-1 predicts Labels[i], so Labels[0] has no
// effect.
type Row struct {
	IDs     []int32
	Labels  []int32
	Example int // index of the example that it was made from; set by Encode
}

// Labelled returns the number of tokens that enter the loss: labels from the second position on that are not Ignore.
func (r Row) Labelled() int {
	n := 0
	for i := 1; i < len(r.Labels); i++ {
		if r.Labels[i] != Ignore {
			n++
		}
	}
	return n
}

// Encoder is what rows need of a tokenizer: ids of a whole text without added special tokens, where special tokens inside
// the plain byte ranges are ordinary text.
type Encoder interface {
	Encode(text string, plain ...tokenizer.Range) []int32
}
