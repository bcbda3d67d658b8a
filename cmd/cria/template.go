package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"cria/internal/chat"
	"cria/internal/disk"
	"cria/internal/jinja"
	"cria/internal/tokenizer"

	"github.com/spf13/cobra"
)

func newTemplate(ui *ui) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "template DIR|FILE.jinja",
		Short: "Render a chat template with given variables",
		Long: "Render the chat template of a model directory, or a Jinja file. Standard input holds the variables: one JSON object, or\n" +
			"with --json a list of them, for which a list of {\"text\": ...} or {\"error\": ...} is printed. The variables are all that\n" +
			"the template sees; the exit code is 0 also where entries are errors.",
		Example: "  cria template chat_template.jinja < variables.json\n  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"add_generation_prompt\": true}' | cria template ./model",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one model directory or Jinja file: cria template DIR|FILE.jinja")
			}
			path, err := ui.cached(args[0])
			if err != nil {
				return err
			}
			t, err := readTemplate(path)
			if err != nil {
				return err
			}
			in, err := io.ReadAll(ui.in)
			if err != nil {
				return err
			}
			if !asJSON {
				text, err := renderJSON(t, in)
				if err != nil {
					return err
				}
				_, err = io.WriteString(ui.out, text)
				return err
			}
			var sets []json.RawMessage
			if err := disk.Unmarshal(in, &sets); err != nil {
				return usagef("standard input: a JSON list of objects was expected: %v", err)
			}
			out := make([]map[string]string, len(sets))
			for i, set := range sets {
				if text, err := renderJSON(t, set); err != nil {
					out[i] = map[string]string{"error": err.Error()}
				} else {
					out[i] = map[string]string{"text": text}
				}
			}
			return ui.json(out)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "a list of variable sets in, a list of results out")
	return c
}

// readTemplate takes a Jinja file, or the chat template of a model directory.
func readTemplate(path string) (*jinja.Template, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		src, err := io.ReadAll(io.LimitReader(f, 16<<20)) // more than the longest template, and not all of a device
		if err != nil {
			return nil, err
		}
		t, err := jinja.Parse(string(src))
		return t, at(path, err)
	}
	tok, err := tokenizer.Load(path)
	if err != nil {
		return nil, err
	}
	src := tok.Config().ChatTemplate
	if src == "" {
		return nil, chat.ErrNoTemplate
	}
	t, err := jinja.Parse(src)
	return t, at(path, err)
}

// at puts the file before a template's error.
func at(path string, err error) error {
	var e *jinja.Error
	if errors.As(err, &e) {
		return fmt.Errorf("%s:%d:%d: %s", path, e.Line, e.Column, e.Message)
	}
	return err
}

// renderJSON renders with the variables of one JSON object.
func renderJSON(t *jinja.Template, set []byte) (string, error) {
	var raw map[string]json.RawMessage
	if err := disk.Unmarshal(set, &raw); err != nil {
		return "", usagef("a JSON object of variables was expected: %v", err)
	}
	vars := make(map[string]any, len(raw))
	for name, value := range raw {
		v, err := jinja.FromJSON(value)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		vars[name] = v
	}
	res, err := t.Render(vars, jinja.Options{})
	return res.Text, err
}
