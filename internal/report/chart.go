package report

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

type xy struct{ x, y float64 }

// series is a line; class is raw, line or eval.
type series struct {
	name, class string
	points      []xy
}

// chart is a picture of lines over steps.
type chart struct {
	label string
	small bool
	zero  bool // the axis of y begins at 0
	lines []series
}

// Sizes of a picture, in its units.
const (
	wideWidth, wideHeight   = 760, 300
	smallWidth, smallHeight = 400, 210

	left, bottom = 62, 40
	top, right   = 30, 18

	mostPoints = 1500 // of a line
	mostDots   = 60   // lines with more points have no dots, nor have smoothed ones; in small pictures a third
)

// pictureStyle is for a picture that stands alone.
const pictureStyle = `<style>
text{font:12px system-ui,"Segoe UI",Helvetica,Arial,sans-serif;fill:#59636e}
.grid{stroke:#8c959f;stroke-opacity:.3}
path{fill:none;stroke-linejoin:round}
.raw{stroke:#9ec1f7;stroke-width:1.2}.line{stroke:#2f6bdb;stroke-width:2}.eval{stroke:#d9730d;stroke-width:2}
circle{stroke:none}circle.raw{fill:#9ec1f7}circle.line{fill:#2f6bdb}circle.eval{fill:#d9730d}
@media (prefers-color-scheme:dark){text{fill:#9198a1}.raw{stroke:#34528d}.line{stroke:#7aa7ff}.eval{stroke:#f0a35a}circle.raw{fill:#34528d}circle.line{fill:#7aa7ff}circle.eval{fill:#f0a35a}}
</style>
`

func (c *chart) any() bool {
	for _, s := range c.lines {
		if len(s.points) > 0 {
			return true
		}
	}
	return false
}

// svg draws the chart; style is put into it. All text is escaped.
func (c *chart) svg(style string) string {
	width, height, class := wideWidth, wideHeight, "wide"
	if c.small {
		width, height, class = smallWidth, smallHeight, "small"
	}
	x0, x1, y0, y1 := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, s := range c.lines {
		for _, p := range s.points {
			x0, x1, y0, y1 = min(x0, p.x), max(x1, p.x), min(y0, p.y), max(y1, p.y)
		}
	}
	if c.zero {
		y0 = min(0, y0)
	}
	if x1 == x0 {
		x0, x1 = x0-1, x1+1
	}
	if y1 <= y0 {
		y0, y1 = y0-math.Abs(y0)/10-1e-9, y1+math.Abs(y1)/10+1e-9
	}
	yt := ticks(y0, y1, 5)
	y0, y1 = min(y0, yt[0]), max(y1, yt[len(yt)-1])
	px := func(x float64) string { return coordinate(left + (x-x0)/(x1-x0)*float64(width-left-right)) }
	py := func(y float64) string {
		return coordinate(float64(height-bottom) - (y-y0)/(y1-y0)*float64(height-top-bottom))
	}

	var b strings.Builder
	size := ""
	if style != "" {
		size = fmt.Sprintf(` width="%d" height="%d"`, width, height)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" class="%s" viewBox="0 0 %d %d"%s role="img" aria-label="%s">`+"\n%s", class, width, height, size, html.EscapeString(c.label), style)
	for _, y := range yt {
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%s" y2="%s"/><text x="%d" y="%s" dy=".35em" text-anchor="end">%s</text>`+"\n", left, width-right, py(y), py(y), left-8, py(y), tick(y))
	}
	for _, x := range ticks(x0, x1, width/95) {
		if x == math.Trunc(x) && x >= x0 && x <= x1 {
			fmt.Fprintf(&b, `<text x="%s" y="%d" text-anchor="middle">%s</text>`+"\n", px(x), height-bottom+18, tick(x))
		}
	}
	fmt.Fprintf(&b, `<text class="unit" x="%d" y="%d" text-anchor="end">step</text>`+"\n", width-right, height-6)
	at := left
	for _, s := range c.lines {
		if len(s.points) == 0 {
			continue
		}
		if len(c.lines) > 1 {
			fmt.Fprintf(&b, `<path class="%s" d="M%d 14h18"/><text x="%d" y="18">%s</text>`+"\n", s.class, at, at+24, html.EscapeString(s.name))
			at += 52 + 12*len(s.name)
		}
		d := make([]string, 0, mostPoints)
		for _, p := range thin(s.points) {
			d = append(d, px(p.x)+" "+py(p.y))
		}
		fmt.Fprintf(&b, `<path class="%s" d="M%s"/>`+"\n", s.class, strings.Join(d, "L"))
		dots := mostDots
		if c.small {
			dots /= 3
		}
		if len(s.points) <= dots && s.name != smoothed {
			for _, p := range s.points {
				fmt.Fprintf(&b, `<circle class="%s" cx="%s" cy="%s" r="3"><title>step %v: %s</title></circle>`+"\n", s.class, px(p.x), py(p.y), p.x, short(p.y))
			}
		}
	}
	return b.String() + "</svg>\n"
}

func coordinate(x float64) string { return strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64) }

// tick is the text of a round number.
func tick(x float64) string {
	if x != 0 && (math.Abs(x) < 1e-3 || math.Abs(x) >= 1e7) {
		return strings.Replace(strconv.FormatFloat(x, 'e', -1, 64), "e-0", "e-", 1)
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

// ticks are up to about n round numbers, from the last one not above low to the first one not below high.
func ticks(low, high float64, n int) (out []float64) {
	raw := (high - low) / float64(n)
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	step := unit * 10
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= raw*0.999 {
			step = m * unit
			break
		}
	}
	for i := math.Floor(low/step + 1e-9); ; i++ {
		x, err := strconv.ParseFloat(strconv.FormatFloat(i*step, 'g', 10, 64), 64)
		if err != nil || len(out) > 3*n {
			return out
		}
		if out = append(out, x); x >= high-step*1e-9 {
			return out
		}
	}
}

// thin keeps of a long line the lowest and the highest point of each of many stretches, so that peaks stay.
func thin(p []xy) []xy {
	if len(p) <= mostPoints {
		return p
	}
	out := make([]xy, 0, mostPoints)
	const stretches = mostPoints / 2
	for i := range stretches {
		part := p[i*len(p)/stretches : (i+1)*len(p)/stretches]
		low, high := 0, 0
		for k := range part {
			if part[k].y < part[low].y {
				low = k
			}
			if part[k].y > part[high].y {
				high = k
			}
		}
		out = append(out, part[min(low, high)])
		if low != high {
			out = append(out, part[max(low, high)])
		}
	}
	return out
}
