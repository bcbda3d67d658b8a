// Package report makes what a finished training run leaves to be looked at: report.html, a page that needs nothing else, and
// loss.svg, a picture.
package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"strings"
	"unicode"
)

// Run is what a report is of.
type Run struct {
	Title    string
	Output   string      // directory of the adapter
	Points   []Point     // in the order of the log
	Problems []string    // what speaks against the result, each with advice; none: it looks healthy
	Cards    [][2]string // the main figures: value and name
	Facts    [][2]string // name and value: machine, versions, data
	Recipe   string      // resolved
	Samples  []Sample
	About    string // where the prompts of Samples come from and how they were answered, or why there are none; "": nothing is said
}

// Point is a log entry. What it does not have is nil.
type Point struct {
	Step                                                   int
	Epoch                                                  float64
	Loss, GradNorm, LearningRate, EvalLoss, EvalPerplexity *float64
}

// Sample is the answer to a prompt without and with the adapter, and the one that the data have, if they have one.
type Sample struct{ Prompt, Before, After, Want string }

//go:embed page.html
var pageHTML string

//go:embed page.css
var style string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"safe": safe, "number": number}).Parse(pageHTML))

// safe replaces characters that are not seen or that reorder others; lines stay.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		if r == '\t' {
			return ' '
		}
		return '\uFFFD'
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// number is a value of a table: four digits that count, none for nil.
func number(x any) string {
	switch x := x.(type) {
	case *float64:
		if x == nil {
			return ""
		}
		return short(*x)
	case float64:
		return short(x)
	}
	return fmt.Sprint(x)
}

func short(x float64) string {
	if a := math.Abs(x); a >= 1e-3 && a < 1e6 {
		s := fmt.Sprintf("%.4f", x)
		if a >= 100 {
			s = fmt.Sprintf("%.1f", x)
		}
		return s
	}
	return fmt.Sprintf("%.3g", x)
}

// lastRows is how many entries of the log the page lists.
const lastRows = 12

// HTML is the page: no script, nothing from outside, and a policy that forbids both.
func (r *Run) HTML() ([]byte, error) {
	hash := sha256.Sum256([]byte(style))
	type figure struct {
		Name, Note string
		SVG        template.HTML
	}
	v := struct {
		*Run
		CSS     template.CSS
		Hash    string
		Figures []figure
		Last    []Point
	}{Run: r, CSS: template.CSS(style), Hash: "sha256-" + base64.StdEncoding.EncodeToString(hash[:])}
	for _, f := range r.figures() {
		if c := f.chart; c.any() {
			v.Figures = append(v.Figures, figure{f.name, f.note, template.HTML(c.svg(""))}) // svg escapes what it is given
		}
	}
	for _, p := range r.Points { // an evaluation stands in the line of its step
		if n := len(v.Last); n > 0 && v.Last[n-1].Step == p.Step && v.Last[n-1].EvalLoss == nil && p.Loss == nil {
			v.Last[n-1].EvalLoss, v.Last[n-1].EvalPerplexity = p.EvalLoss, p.EvalPerplexity
		} else {
			v.Last = append(v.Last, p)
		}
	}
	v.Last = v.Last[max(0, len(v.Last)-lastRows):]
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// SVG is the picture of the losses alone, for light and dark backgrounds; nil where there are none.
func (r *Run) SVG() []byte {
	c := r.figures()[0].chart
	if !c.any() {
		return nil
	}
	return []byte(c.svg(pictureStyle))
}

type namedChart struct {
	name, note string
	chart      *chart
}

// figures are the run's charts, that of the losses first.
func (r *Run) figures() []namedChart {
	pick := func(f func(*Point) *float64) (out []xy) {
		for i := range r.Points {
			if y := f(&r.Points[i]); y != nil && !math.IsNaN(*y) && !math.IsInf(*y, 0) {
				out = append(out, xy{float64(r.Points[i].Step), *y})
			}
		}
		return out
	}
	loss := pick(func(p *Point) *float64 { return p.Loss })
	lines := []series{{"loss", "raw", loss}}
	if len(loss) > 4 {
		lines = append(lines, series{smoothed, "line", smooth(loss)})
	} else {
		lines[0].class = "line"
	}
	if eval := pick(func(p *Point) *float64 { return p.EvalLoss }); len(eval) > 0 {
		lines = append(lines, series{"evaluation", "eval", eval})
	}
	one := func(name string, f func(*Point) *float64) *chart {
		return &chart{label: name, small: true, zero: true, lines: []series{{name, "line", pick(f)}}}
	}
	return []namedChart{
		{"Loss", "mean of the trained tokens, over steps", &chart{label: "loss over steps", lines: lines}},
		{"Gradient norm", "before clipping", one("gradient norm", func(p *Point) *float64 { return p.GradNorm })},
		{"Learning rate", "", one("learning rate", func(p *Point) *float64 { return p.LearningRate })},
	}
}

const smoothed = "smoothed"

// smooth is the moving average of LLaMA-Factory's and TensorBoard's plots: the longer the run, the smoother.
func smooth(p []xy) []xy {
	w := 1.8 * (1/(1+math.Exp(-0.05*float64(len(p)))) - 0.5)
	out := append([]xy{}, p...)
	for i := 1; i < len(out); i++ {
		out[i].y = out[i-1].y*w + (1-w)*p[i].y
	}
	return out
}
