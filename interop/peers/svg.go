package main

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// Sizes of the picture, in pixels.
const (
	width  = 860
	margin = 16
	bar    = 20 // height of a bar, with the space below it
	labels = 330
	column = (width - 2*margin - labels) / 2
	value  = 78 // space for the number behind a bar
)

// style gives every colour for light and for dark backgrounds; the picture itself has none.
const style = `<style>
text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 13px }
.small { fill: #59636e }
.cria { fill: #1a7f37 }
.peer { fill: #8c959f }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.small { fill: #9198a1 }
.cria { fill: #3fb950 }
.peer { fill: #6e7681 }
}
</style>
`

// svg draws, for every job and side, speed and peak memory as bars.
func svg(f *Figures) string {
	var b strings.Builder
	y := margin
	text := func(x, y int, class, anchor, s string) {
		fmt.Fprintf(&b, `<text x="%d" y="%d" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, escape(s))
	}
	for _, name := range order {
		j := f.Jobs[name]
		if j == nil {
			continue
		}
		text(margin, y+12, "title", "start", j.Title)
		y += 22
		text(margin+labels, y+10, "small", "start", "tokens a second")
		text(margin+labels+column, y+10, "small", "start", "peak memory")
		y += 18
		speed, peak := 0.0, 0.0
		for _, s := range j.Sides {
			speed, peak = max(speed, s.Tokens), max(peak, s.Peak)
		}
		for _, s := range j.Sides {
			class := "peer"
			if s.Name == "cria" {
				class = "cria"
			}
			text(margin, y+12, "label", "start", s.Title)
			for i, v := range []struct {
				share float64
				shown string
			}{{s.Tokens / speed, fmt.Sprintf("%.0f", s.Tokens)}, {s.Peak / peak, fmt.Sprintf("%.1f GiB", s.Peak/(1<<30))}} {
				x, w := margin+labels+i*column, max(1, int(v.share*float64(column-value)))
				fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="2" class="%s"/>`+"\n", x, y+1, w, bar-6, class)
				text(x+w+6, y+12, "value", "start", v.shown)
			}
			y += bar
		}
		y += margin
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n"+
		"<title>cria and its peers: tokens a second and peak memory</title>\n", width, y, width, y) + style + b.String() + "</svg>\n"
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
