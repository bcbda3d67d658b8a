package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"cria/internal/chat"
	"cria/internal/generate"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const chatHelp = `/reset         forget the dialogue
/system TEXT   set the system prompt and forget the dialogue
/help          this list
/exit          end (also Ctrl-D)
Ctrl-C stops a reply; where there is none it ends the chat.`

func newChat(ui *ui) *cobra.Command {
	var a answerFlags
	var system string
	c := &cobra.Command{
		Use:   "chat MODEL",
		Short: "Talk to a model",
		Long: "Talk to a model, with or without an adapter. Prompts are rendered as the adapter was trained to read them, else by the\n" +
			"model's own chat template; with --system by the chat template, unless the recipe's has a place for it ({system}).\n\n" + chatHelp,
		Example: "  cria chat ./model\n  cria chat ./model --adapter output --greedy\n  echo '你是谁？' | cria chat ./model --adapter output",
		RunE: func(cmd *cobra.Command, args []string) error {
			model, o, err := a.start(ui, cmd, args)
			if err != nil {
				return err
			}
			defer model.Close()
			ui.answerStop("")
			t := &talk{ui: ui, model: model, options: o, session: generate.NewSession(model.Model), system: system}
			return t.run(cmd.Context())
		},
	}
	a.add(c.Flags())
	c.Flags().StringVar(&system, "system", "", "system prompt")
	return c
}

// talk is a dialogue on the terminal.
type talk struct {
	ui      *ui
	model   *generate.Chat
	options generate.Options
	session *generate.Session
	system  string
	history []chat.Message
}

func (t *talk) run(ctx context.Context) error {
	f, ok := t.ui.in.(*os.File)
	interactive := ok && term.IsTerminal(int(f.Fd()))
	if interactive {
		t.ui.note("%s", t.ui.paint("2", "Type a message and Enter; /help for commands."))
	}
	in := readLines(t.ui.in)
	for {
		if interactive {
			fmt.Fprint(t.ui.err, t.ui.paint("1", "> "))
		}
		var line string
		select {
		case <-ctx.Done():
			if interactive {
				t.ui.note("")
			}
			return nil
		case l, ok := <-in.lines:
			if !ok {
				return in.err
			}
			line = strings.TrimSpace(l)
		}
		command, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "":
		case command == "/exit" || command == "/quit":
			return nil
		case command == "/help":
			t.ui.note("%s", chatHelp)
		case command == "/reset":
			t.history = nil
			t.ui.note("the dialogue is forgotten")
		case command == "/system":
			t.system, t.history = strings.TrimSpace(rest), nil
			t.ui.note("the system prompt is set, the dialogue forgotten")
		case strings.HasPrefix(command, "/"):
			t.ui.note("there is no command %s; /help lists them", command)
		default:
			if err := t.reply(ctx, line); err != nil {
				return err
			}
		}
	}
}

// maxLine is the longest message, in bytes.
const maxLine = 16 << 20

// lineReader sends the lines of standard input. err says why they ended, once lines is closed.
type lineReader struct {
	lines chan string
	err   error
}

func readLines(r io.Reader) *lineReader {
	l := &lineReader{lines: make(chan string)}
	go func() {
		defer close(l.lines)
		s := bufio.NewScanner(r)
		s.Buffer(nil, maxLine)
		for s.Scan() {
			l.lines <- s.Text()
		}
		l.err = s.Err()
		if errors.Is(l.err, bufio.ErrTooLong) {
			l.err = fmt.Errorf("standard input: a message of more than %d MiB", maxLine>>20)
		}
	}()
	return l
}

// reply answers one line. A prompt that is too long, or that the template refuses, leaves the dialogue as it was.
func (t *talk) reply(ctx context.Context, line string) error {
	dialogue := t.history
	if len(dialogue) == 0 && t.system != "" {
		dialogue = append(dialogue, chat.Message{Role: "system", Content: t.system})
	}
	dialogue = append(dialogue, chat.Message{Role: "user", Content: line})
	prompt, err := t.model.Prompt(dialogue...)
	if err != nil {
		t.ui.fail(err)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer t.ui.catch(cancel)()
	stream := t.model.Tokenizer.NewStream(true)
	var text strings.Builder
	show := func(s string) {
		text.WriteString(s)
		fmt.Fprint(t.ui.out, printable(s))
	}
	res, err := t.session.Generate(ctx, prompt, t.options, func(id int32) { show(stream.Push(id)) })
	var full *generate.ContextError
	if errors.As(err, &full) {
		t.ui.fail(fmt.Errorf("%w; /reset starts anew", err))
		return nil
	}
	if err != nil {
		return err
	}
	show(stream.Flush())
	fmt.Fprintln(t.ui.out)
	if res.FinishReason == "length" {
		t.ui.note("%s", t.ui.paint("2", fmt.Sprintf("(cut after %d tokens; --max-new-tokens allows more)", len(res.IDs))))
	}
	t.history = append(dialogue, chat.Message{Role: "assistant", Content: text.String()})
	return nil
}
