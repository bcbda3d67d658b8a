// Command peers makes a picture and a table of the figures that interop/peers.py wrote.
//
//	go run ./interop/peers peers.json peers.svg performance.md
//
// The table takes the place of what stands between the markers in the Markdown file.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Figures are the content of peers.json, as far as it is shown.
type Figures struct {
	Jobs  map[string]*Job `json:"jobs"`
	Clone *Clone          `json:"clone"`
}

// Job is one job that both sides did.
type Job struct {
	Title   string  `json:"title"`
	Method  string  `json:"method"`
	Machine Machine `json:"machine"`
	Quick   bool    `json:"quick"`
	Sides   []Side  `json:"sides"` // cria first
}

// Side is one program's figures.
type Side struct {
	Name   string    `json:"name"`
	Title  string    `json:"title"`
	Step   float64   `json:"seconds_per_step"` // median of Each
	Each   []float64 `json:"each_seconds_per_step"`
	Tokens float64   `json:"tokens_per_second"`
	Peak   float64   `json:"peak_bytes"`
	First  *float64  `json:"first_step_seconds"` // from the start of the program
}

// Machine is where and when a job was measured.
type Machine struct {
	CPU     string  `json:"cpu"`
	Threads int     `json:"threads"`
	Memory  float64 `json:"memory_bytes"`
	System  string  `json:"system"`
	Go      string  `json:"go"`
	Commit  string  `json:"commit"`
	Date    string  `json:"date"`
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, %d threads, %.1f GiB, %s, %s, commit %s, %s", m.CPU, m.Threads, m.Memory/(1<<30), m.System, m.Go, m.Commit, m.Date)
}

// Clone is how long cria takes from a clean clone to a loss, in seconds.
type Clone struct {
	Clone   float64 `json:"clone_seconds"`
	Build   float64 `json:"build_seconds"`
	Import  float64 `json:"import_seconds"`
	Loss    float64 `json:"first_loss_seconds"`
	All     float64 `json:"seconds"`
	Machine Machine `json:"machine"`
}

// order is that of the jobs in table and picture.
var order = []string{"smollm2-bf16", "smollm2-f32", "slice"}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: peers JSON SVG MARKDOWN")
		os.Exit(2)
	}
	if err := render(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func render(figures, picture, document string) error {
	f, err := read(figures)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	changed, err := insert(string(text), table(f))
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	if err := os.WriteFile(picture, []byte(svg(f)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(document, []byte(changed), 0o644)
}

// read reads figures and refuses what cannot be shown.
func read(path string) (*Figures, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &Figures{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for name, j := range f.Jobs {
		if j == nil || len(j.Sides) == 0 {
			return nil, fmt.Errorf("%s: job %s has no figures", path, name)
		}
		for _, s := range j.Sides {
			if !(s.Step > 0 && s.Tokens > 0 && s.Peak > 0) {
				return nil, fmt.Errorf("%s: job %s, %s: a figure is not positive, so something else disturbed the runs; measure it again", path, name, s.Name)
			}
		}
	}
	return f, nil
}

const begin, end = "<!-- peers:begin -->", "<!-- peers:end -->"

// insert puts a table between the markers.
func insert(document, table string) (string, error) {
	before, rest, ok := strings.Cut(document, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", errors.New("no " + begin + " with " + end + " after it")
	}
	return before + begin + "\n" + table + end + after, nil
}

// table is the figures in Markdown.
func table(f *Figures) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("![tokens a second and peak memory of cria and its peers](peers.svg)\n")
	for _, name := range order {
		j := f.Jobs[name]
		if j == nil {
			continue
		}
		line("%s (%s).\n", j.Title, j.Method)
		line("| | s a step (each) | tokens/s | cria is faster | peak memory | start to first step |")
		line("|---|---|---|---|---|---|")
		for _, s := range j.Sides {
			faster, first := "", ""
			if s.Name != "cria" {
				faster = fmt.Sprintf("%.1f times", s.Step/j.Sides[0].Step)
			}
			if s.First != nil {
				first = fmt.Sprintf("%.1f s", *s.First)
			}
			line("| %s | %.2f (%s) | %.0f | %s | %.1f GiB | %s |", s.Title, s.Step, each(s.Each), s.Tokens, faster, s.Peak/(1<<30), first)
		}
		line("\n%s.%s\n", j.Machine, map[bool]string{true: " A quick run, which shows only that it works."}[j.Quick])
	}
	if c := f.Clone; c != nil {
		line("From a clean clone to the first loss of the demo's recipe: %.0f s (git clone %.1f, go build with empty build cache %.1f, import of the model %.1f,"+
			" start to first step %.1f; Go's modules and the model's file were downloaded before). %s.\n", c.All, c.Clone, c.Build, c.Import, c.Loss, c.Machine)
	}
	return b.String()
}

func each(x []float64) string {
	var out []string
	for _, v := range x {
		out = append(out, fmt.Sprintf("%.2f", v))
	}
	return strings.Join(out, ", ")
}
