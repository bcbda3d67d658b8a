package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"cria/internal/tokenizer"

	"github.com/spf13/cobra"
)

func newTokenize(ui *ui) *cobra.Command {
	var asJSON bool
	var ids string
	c := &cobra.Command{
		Use:   "tokenize DIR [TEXT ...]",
		Short: "Show the tokens of a text, or the text of tokens",
		Long: "Show the token ids of each TEXT, or of each line of standard input. Special tokens in a text are recognised, and none is\n" +
			"added. Below the ids stand the tokens: · is a space, ⏎ a line break, ⇥ a tab, <E4> a byte of a character that several\n" +
			"tokens share.\n\n" +
			"With --json and no TEXT, standard input is a JSON list of texts, and the answer is a JSON list of lists of ids.",
		Example: "  cria tokenize ./model 'Hello, world'\n  echo '[\"Hello\", \"<|eot_id|>\"]' | cria tokenize ./model --json\n  cria tokenize ./model --decode 9707,11,1879",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the model's directory: cria tokenize DIR [TEXT ...]")
			}
			decode := cmd.Flags().Changed("decode")
			if decode && len(args) > 1 {
				return usagef("give either TEXT or --decode")
			}
			dir, err := ui.cached(args[0])
			if err != nil {
				return err
			}
			tok, err := tokenizer.Load(dir)
			if err != nil {
				return err
			}
			texts := args[1:]
			switch {
			case decode:
				return decodeIDs(ui, tok, ids, asJSON)
			case asJSON && len(texts) == 0:
				if texts, err = readTexts(ui.in); err != nil {
					return err
				}
				return writeIDs(ui, tok, texts)
			case asJSON:
				return writeIDs(ui, tok, texts)
			case len(texts) > 0:
				for _, s := range texts {
					if err := writeTokens(ui, tok, s); err != nil {
						return err
					}
				}
				return nil
			}
			return eachLine(ui.in, func(s string) error { return writeTokens(ui, tok, s) })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "read and write JSON")
	c.Flags().StringVar(&ids, "decode", "", "token ids, separated by commas, whose text is wanted")
	return c
}

// readTexts reads a JSON list of strings.
func readTexts(in io.Reader) ([]string, error) {
	d := json.NewDecoder(in)
	var list []*string
	err := d.Decode(&list)
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		err = fmt.Errorf("it has a JSON %s", wrong.Value)
	}
	if err != nil {
		return nil, fmt.Errorf("standard input is not a JSON list of strings: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("standard input goes on after the JSON list")
	}
	texts := make([]string, len(list))
	for i, s := range list {
		if s == nil {
			return nil, fmt.Errorf("standard input is not a JSON list of strings: element %d is null", i)
		}
		texts[i] = *s
	}
	return texts, nil
}

func eachLine(in io.Reader, f func(string) error) error {
	r := bufio.NewReader(in)
	for {
		s, err := r.ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		if err == nil || s != "" {
			if err := f(strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// writeIDs answers with one JSON list of lists of ids, on one line.
func writeIDs(ui *ui, tok *tokenizer.Tokenizer, texts []string) error {
	out := make([][]int32, len(texts))
	for i, s := range texts {
		out[i] = append([]int32{}, tok.Encode(s)...)
	}
	return json.NewEncoder(ui.out).Encode(out)
}

// writeTokens prints the ids of a text on one line and its tokens on the next.
func writeTokens(ui *ui, tok *tokenizer.Tokenizer, text string) error {
	ids := tok.Encode(text)
	shown := make([]string, len(ids))
	for i, id := range ids {
		shown[i] = visible(tok, id)
	}
	_, err := fmt.Fprintf(ui.out, "%s\n%s\n", strings.Trim(fmt.Sprint(ids), "[]"), strings.Join(shown, " "))
	return err
}

func decodeIDs(ui *ui, tok *tokenizer.Tokenizer, list string, asJSON bool) error {
	var ids []int32
	if strings.TrimSpace(list) != "" {
		var err error
		if ids, err = parseIDs(list); err != nil {
			return usagef("--decode: want token ids separated by commas, not %q", list)
		}
	}
	for _, id := range ids {
		if _, ok := tok.Token(id); !ok {
			return usagef("--decode: the tokenizer has no token %d; ids go from 0 to %d", id, tok.VocabSize()-1)
		}
	}
	text := tok.Decode(ids, false)
	if asJSON {
		return ui.json(text)
	}
	_, err := fmt.Fprintln(ui.out, printable(text))
	return err
}

// visible is a token with every character of it shown.
func visible(tok *tokenizer.Tokenizer, id int32) string {
	text := tok.Bytes(id)
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, "<%02X>", text[0])
		case r == ' ':
			b.WriteRune('·')
		case r == '\n':
			b.WriteRune('⏎')
		case r == '\t':
			b.WriteRune('⇥')
		default:
			b.WriteString(printable(string(r)))
		}
		text = text[n:]
	}
	return b.String()
}
