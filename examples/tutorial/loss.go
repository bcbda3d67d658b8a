// Command tutorial draws the losses in a run's trainer_state.json, as cria and transformers write it, as an SVG picture:
//
//	go run ./examples/tutorial output/trainer_state.json > loss.svg
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
)

// point is an entry of log_history; the last one of a run has no loss.
type point struct {
	Step int      `json:"step"`
	Loss *float64 `json:"loss"`
}

// Sizes of the picture, in pixels.
const (
	width, height = 640, 320
	left, bottom  = 56, 44
	top, right    = 16, 24
)

// style gives every colour for light and for dark backgrounds; the picture itself has none.
const style = `<style>
text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #59636e }
.grid { stroke: #8c959f; stroke-opacity: .35 }
.line { fill: none; stroke: #1a7f37; stroke-width: 2 }
.dot { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 }
.line { stroke: #3fb950 }
.dot { fill: #3fb950 }
}
</style>
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: go run ./examples/tutorial output/trainer_state.json > loss.svg")
	}
	b, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var state struct {
		LogHistory []point `json:"log_history"`
	}
	if err := json.Unmarshal(b, &state); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	var points []point
	for _, p := range state.LogHistory {
		if p.Loss != nil {
			points = append(points, p)
		}
	}
	if len(points) == 0 {
		return fmt.Errorf("%s has no loss in log_history; lower logging_steps", args[0])
	}
	_, err = os.Stdout.WriteString(draw(points))
	return err
}

// draw makes a line of the losses over the steps, with a label at every point where there are few.
func draw(points []point) string {
	last := points[len(points)-1].Step
	low, high := math.Inf(1), math.Inf(-1)
	for _, p := range points {
		low, high = min(low, *p.Loss), max(high, *p.Loss)
	}
	unit := math.Pow(10, math.Floor(math.Log10(max(high-low, 1e-6))))
	low, high = math.Floor(low/unit)*unit, math.Ceil(high/unit)*unit
	if high == low {
		high += unit
	}
	x := func(step int) float64 {
		return left + float64(step)/float64(max(last, 1))*(width-left-right)
	}
	y := func(loss float64) float64 { return top + (high-loss)/(high-low)*(height-top-bottom) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n<title>loss over steps</title>\n", width, height, width, height)
	b.WriteString(style)
	for i := range int(math.Round((high-low)/unit)) + 1 {
		v := low + unit*float64(i)
		fmt.Fprintf(&b, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%.4g</text>`+"\n", left, y(v), width-right, y(v), left-8, y(v)+4, v)
	}
	var line []string
	for _, p := range points {
		line = append(line, fmt.Sprintf("%.1f,%.1f", x(p.Step), y(*p.Loss)))
	}
	fmt.Fprintf(&b, `<polyline class="line" points="%s"/>`+"\n", strings.Join(line, " "))
	for i, p := range points {
		every := (len(points) + 9) / 10
		if i%every != 0 && i != len(points)-1 {
			continue
		}
		fmt.Fprintf(&b, `<circle class="dot" cx="%.1f" cy="%.1f" r="3"/><text x="%.1f" y="%.1f" text-anchor="middle">%.2f</text>`, x(p.Step), y(*p.Loss), x(p.Step)+4, y(*p.Loss)-8, *p.Loss)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(p.Step), height-bottom+18, p.Step)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">step</text>`+"\n</svg>\n", (left+width-right)/2, height-8)
	return b.String()
}
