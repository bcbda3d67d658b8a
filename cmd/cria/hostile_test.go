package main

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAnswerFlagsAreChecked(t *testing.T) {
	for args, want := range map[string]string{
		"--temperature NaN":        "--greedy",
		"--temperature Inf":        "--temperature",
		"--top-p NaN":              "--top-p",
		"--min-p NaN":              "--min-p",
		"--repetition-penalty NaN": "--repetition-penalty",
		"--repetition-penalty 1e9": "--repetition-penalty",
		"--threads -1":             "--threads",
		"--threads 100000000":      "--threads",
		"--max-new-tokens many":    `"many" for "--max-new-tokens" flag: invalid syntax; cria generate --help`,
		"--max-new-token 3":        "cria generate --help",
		"no_such_key=1":            "there is no option no_such_key",
	} {
		r := cria(t, append([]string{"generate", tiny, "--prompt", "x"}, strings.Fields(args)...)...)
		r.fails(t, exitUsage, want)
		if strings.Contains(r.err, "strconv") {
			t.Errorf("%s: %s", args, r.err)
		}
	}
	cria(t, "train", filepath.Join(t.TempDir(), "none.yaml")).fails(t, exitUsage, "none.yaml: there is no such file")
	cria(t, "generate", golden+"tiny/adapter", "--prompt", "x").fails(t, exitError, "is an adapter, not a model")
}

// Errors quote files: they must neither fill the terminal nor drive it.
func TestErrorsFitOnAScreen(t *testing.T) {
	long := strings.Repeat("x", 5000)
	many := "first\n" + strings.Repeat("line\n", 500) + "what to do"
	for in, want := range map[string][]string{
		"a\x1b[31mb\tc":                {"a\\u001b[31mb\tc"},
		"config.json: " + long + " do": {"config.json: xxx", "xxx do"},
		many:                           {"first\n", "479 more lines", "what to do"},
	} {
		got := oneScreen(in)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%.100q lacks %q", got, w)
			}
		}
		if strings.Count(got, "\n") > 24 || len(got) > 1300 {
			t.Errorf("%d lines, %d bytes", strings.Count(got, "\n")+1, len(got))
		}
	}
	r := cria(t, "inspect", "no\x1b[2Jfile")
	r.fails(t, exitError, `no\u001b[2Jfile`)
}

// A standard output that cannot be written fails every command, also one that prints token by token.
func TestFullStandardOutput(t *testing.T) {
	for _, args := range [][]string{{"generate", tiny, "--prompt", "x", "--max-new-tokens", "2"}, {"chat", tiny, "--max-new-tokens", "2"}, {"inspect", tiny}, {"--help"}} {
		var errOut bytes.Buffer
		if code := run(args, strings.NewReader("x\n"), brokenWriter{}, &errOut); code != exitError || !strings.Contains(errOut.String(), "disk full") {
			t.Errorf("%v: exit code %d\n%s", args, code, errOut.String())
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestChatMessageTooLong(t *testing.T) {
	criaWith(t, strings.Repeat("x", maxLine+1), "chat", tiny).fails(t, exitError, "more than 16 MiB")
}

// Ctrl-C, SIGTERM and a closed terminal end a command with exit code 130 wherever it is: before anything was written, or in
// the middle of a reply.
func TestInterrupted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot interrupt itself on Windows")
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	stop := func(sigs ...os.Signal) func() {
		return func() {
			for _, sig := range sigs {
				if err := self.Signal(sig); err != nil {
					t.Error(err)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	dir := t.TempDir()
	recipe := job(t, dir, "optim: adamw_torch\n") // has a note, which comes before anything is read
	before := tree(t, dir)
	for _, sigs := range [][]os.Signal{{os.Interrupt}, {syscall.SIGTERM}, {syscall.SIGHUP, syscall.SIGHUP}} {
		if signal.Ignored(sigs[0]) {
			t.Logf("%v does not reach this process", sigs[0])
			continue
		}
		errOut := &watcher{text: "optim", do: stop(sigs...)}
		if code := run([]string{"train", recipe}, strings.NewReader(""), &bytes.Buffer{}, errOut); code != exitInterrupted || !strings.Contains(errOut.String(), "nothing was written") {
			t.Errorf("train, %v: exit code %d\n%s", sigs, code, errOut.String())
		}
		sameTree(t, dir, before)
	}

	out, said := &watcher{text: "", do: stop(os.Interrupt)}, &bytes.Buffer{}
	if code := run([]string{"generate", tiny, "--input-ids", "1,2", "--max-new-tokens", "2000", "--temperature", "9", "--top-k", "0", "--seed", "1"}, strings.NewReader(""), out, said); code != exitInterrupted {
		t.Errorf("generate: exit code %d\n%s", code, said)
	}
	if strings.Contains(said.String(), "checkpoint") || !strings.Contains(said.String(), "cancelled") {
		t.Errorf("generate says %q", said)
	}
}
