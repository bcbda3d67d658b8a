// Command cria fine-tunes Llama models with LoRA and chats with the result.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"cria/internal/recipe"
	"cria/internal/train"

	"github.com/spf13/cobra"
)

// Exit codes, as docs/cli.md lists them.
const (
	exitOK          = 0
	exitError       = 1   // something failed; the message says what to do
	exitUsage       = 2   // the command line or the recipe is wrong; nothing was written
	exitNonFinite   = 3   // training stopped before a NaN or infinite update
	exitUnhealthy   = 4   // training went to its end and the adapter is saved, but something speaks against it
	exitInterrupted = 130 // stopped by a signal; what was done is saved
)

// usageError marks errors of the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run executes one command line and returns its exit code.
func run(args []string, in io.Reader, out, errOut io.Writer) (code int) {
	stdout := &output{Writer: out}
	ui := newUI(in, stdout, errOut)
	defer func() {
		if p := recover(); p != nil {
			ui.note("error: internal error: %v\n%s\nThis is a fault in cria; please report it with the command that you ran", p, debug.Stack())
			code = exitError
		}
	}()
	ctx, stop := signals(ui)
	defer stop()
	root := newRoot(ui)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	ui.close()
	if err == nil && stdout.err != nil {
		err = stdout.err
	}
	if err == nil {
		return exitOK
	}
	var (
		usage   usageError
		recipes recipe.Errors
		one     *recipe.Error
		nan     *train.NonFiniteError
		ill     *train.UnhealthyError
	)
	switch {
	case errors.Is(err, train.ErrInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &nan):
		ui.fail(err)
		return exitNonFinite
	case errors.As(err, &ill):
		ui.fail(err)
		return exitUnhealthy
	case errors.As(err, &usage), errors.As(err, &recipes), errors.As(err, &one), strings.HasPrefix(err.Error(), "unknown command"):
		ui.fail(err)
		return exitUsage
	}
	ui.fail(err)
	return exitError
}

// signals returns a context that ends with the first SIGINT, SIGTERM or SIGHUP (a closed terminal; nohup keeps it away); the
// second one ends the process.
func signals(ui *ui) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(ch, syscall.SIGHUP)
	}
	var busy sync.WaitGroup
	busy.Go(func() {
		for n := 0; ; n++ {
			sig, ok := <-ch
			if !ok {
				return
			}
			if sig == os.Interrupt && ui.interrupt() {
				n--
				continue
			}
			if n > 0 {
				if sig == syscall.SIGHUP {
					continue // of one terminal the shell and the system both tell
				}
				os.Exit(exitInterrupted)
			}
			cancel()
			if s := ui.stopping(); s != "" {
				busy.Go(func() { ui.note("%s", s) }) // may wait for the terminal
			}
		}
	})
	return ctx, func() { signal.Stop(ch); close(ch); cancel(); busy.Wait() }
}

func newRoot(ui *ui) *cobra.Command {
	root := &cobra.Command{
		Use:   "cria",
		Short: "Fine-tune Llama models with LoRA, and chat with the result",
		Long: "cria fine-tunes Llama models with LoRA and chats with the result: one binary, no Python.\n\n" +
			"Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong\n" +
			"command line or recipe (nothing was written), 3 training stopped at a NaN, 4 trained and saved but suspicious (no\n" +
			"improvement, a loss above chance, or an adapter of zeros), 130 interrupted and saved.",
		Example:       "  cria demo\n  cria train recipe.yaml learning_rate=2e-4\n  cria chat ./model --adapter output",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       train.Version(),
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%s; %s --help lists the flags", goParse.ReplaceAllString(err.Error(), ""), c.CommandPath())
	})
	root.AddCommand(newData(ui), newPlan(ui), newTrain(ui), newInit(ui), newGenerate(ui), newChat(ui), newImport(ui), newImportRecipe(ui), newMerge(ui), newVerify(ui), newExport(ui), newPull(ui), newInspect(ui), newTokenize(ui), newTemplate(ui), newDoctor(ui), newBench(ui), newDemo(ui))
	addCompletions(root)
	return root
}

// goParse is how strconv's errors begin.
var goParse = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `)
