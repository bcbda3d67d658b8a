package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// ui is the door to the terminal: results on out, everything else on err, colours and redrawn lines only where a terminal
// shows them.
type ui struct {
	in       io.Reader
	out, err io.Writer
	colour   bool // of err
	tty      bool // err is a terminal

	mu     sync.Mutex
	status string // the line that is being redrawn

	catching sync.Mutex // its own: Ctrl-C works while a write waits for the terminal
	onINT    func()     // takes Ctrl-C while set
	onStop   string     // what the first Ctrl-C is answered with
}

func newUI(in io.Reader, out, errOut io.Writer) *ui {
	u := &ui{in: in, out: out, err: errOut, onStop: "stopping; press Ctrl-C again to stop at once"}
	if f, ok := errOut.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		u.tty = true
		u.colour = os.Getenv("NO_COLOR") == ""
	}
	return u
}

// paint returns s in an ANSI colour where colours are shown.
func (u *ui) paint(code, s string) string {
	if !u.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// note prints a remark, above a line that is being redrawn.
func (u *ui) note(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clear()
	fmt.Fprintf(u.err, format+"\n", args...)
	u.draw()
}

func (u *ui) fail(err error) { u.note("%s %s", u.paint("31;1", "error:"), oneScreen(err.Error())) }

// oneScreen makes a message that may quote files safe for a terminal, and cuts out what fills more than a screen. The end
// stays: it says what to do.
func oneScreen(s string) string {
	const lines, runes = 24, 1200
	all := strings.Split(printable(s), "\n")
	if n := len(all); n > lines {
		all = append(append(all[:lines-2:lines-2], fmt.Sprintf("... %d more lines ...", n-lines+1)), all[n-1])
	}
	for i, line := range all {
		if r := []rune(line); len(r) > runes {
			all[i] = string(r[:runes*2/3]) + " ... " + string(r[len(r)-runes/3:])
		}
	}
	return strings.Join(all, "\n")
}

// output remembers the first error of standard output, which printing token by token does not look at.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// show replaces the status line; without a terminal it does nothing.
func (u *ui) show(line string) {
	if !u.tty {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clear()
	u.status = line
	u.draw()
}

func (u *ui) clear() {
	if u.status != "" {
		fmt.Fprint(u.err, "\r\x1b[K")
	}
}

func (u *ui) draw() {
	if u.status == "" {
		return
	}
	line := u.status
	if f, ok := u.err.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 1 && utf8.RuneCountInString(line) >= w {
			line = string([]rune(line)[:w-1])
		}
	}
	fmt.Fprint(u.err, line)
}

// close removes the status line.
func (u *ui) close() { u.show("") }

// json prints v as one indented JSON document on standard output.
func (u *ui) json(v any) error {
	e := json.NewEncoder(u.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// catch gives Ctrl-C to f until the returned function is called.
func (u *ui) catch(f func()) (release func()) {
	u.catching.Lock()
	defer u.catching.Unlock()
	u.onINT = f
	return func() {
		u.catching.Lock()
		defer u.catching.Unlock()
		u.onINT = nil
	}
}

// answerStop sets what the first Ctrl-C is answered with, "" for nothing.
func (u *ui) answerStop(s string) {
	u.catching.Lock()
	defer u.catching.Unlock()
	u.onStop = s
}

func (u *ui) stopping() string {
	u.catching.Lock()
	defer u.catching.Unlock()
	return u.onStop
}

// interrupt hands Ctrl-C to whoever catches it.
func (u *ui) interrupt() bool {
	u.catching.Lock()
	f := u.onINT
	u.catching.Unlock()
	if f == nil {
		return false
	}
	f()
	return true
}

// printable makes model output safe for a terminal: control characters other than newline and tab are shown, not obeyed.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) && !bidi(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}

// bidi tells characters that reorder the text around them.
func bidi(r rune) bool { return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 }
