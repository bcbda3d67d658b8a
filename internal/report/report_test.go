package report

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func sample(n int) *Run {
	r := &Run{Title: "<script>alert(1)</script>", Output: "out\u202e", Recipe: "model: <b>\n", Cards: [][2]string{{"1.5", "loss"}}, Facts: [][2]string{{"machine", "a & b"}},
		About: "<i>", Samples: []Sample{{"<i>who", "before\nthis", "after", "<i>"}}, Problems: []string{"the loss <did not> fall"}}
	for i := range n {
		loss, norm, rate := 3+1/float64(i+1), 0.5, 1e-4*float64(n-i)
		p := Point{Step: i + 1, Epoch: float64(i) / 10, Loss: &loss, GradNorm: &norm, LearningRate: &rate}
		if i%5 == 4 {
			p.EvalLoss = &loss
		}
		r.Points = append(r.Points, p)
	}
	return r
}

// The page is closed to scripts and to the network, and shows text as text.
func TestHTML(t *testing.T) {
	for _, n := range []int{0, 1, 3, 40, 5000} {
		b, err := sample(n).HTML()
		if err != nil {
			t.Fatal(err)
		}
		s := string(b)
		for _, bad := range []string{"<script", "<b>\n", "<i>", "<did not>", "\u202e", " style=", " src=", " href=", "url(", "@import", "NaN", "Inf", "ZgotmplZ"} {
			if strings.Contains(s, bad) {
				t.Errorf("%d points: the page has %q", n, bad)
			}
		}
		if strings.Count(s, "http://www.w3.org/2000/svg")+strings.Count(s, "http-equiv") != strings.Count(s, "http") {
			t.Errorf("%d points: the page names something outside", n)
		}
		if want := map[bool]int{true: 0, false: 3}[n == 0]; strings.Count(s, "<svg") != want {
			t.Errorf("%d points: %d pictures", n, strings.Count(s, "<svg"))
		}
		if len(b) > 400<<10 {
			t.Errorf("%d points: %d bytes", n, len(b))
		}
	}
}

// The picture is XML, and its points lie inside it.
func TestSVG(t *testing.T) {
	if sample(0).SVG() != nil {
		t.Error("a picture of nothing")
	}
	nan := math.NaN()
	with := sample(20)
	with.Points[3].Loss = &nan
	for _, r := range []*Run{sample(1), sample(2), sample(20), sample(5000), with} {
		s := string(r.SVG())
		d := xml.NewDecoder(strings.NewReader(s))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range regexp.MustCompile(`[ML]([-0-9.]+) ([-0-9.]+)`).FindAllStringSubmatch(s, -1) {
			var x, y float64
			fmt.Sscan(m[1], &x)
			fmt.Sscan(m[2], &y)
			if x < left-1 || x > wideWidth-right+1 || y < top-17 || y > wideHeight-bottom+1 {
				t.Fatalf("point %v %v", x, y)
			}
		}
	}
}

func TestTicks(t *testing.T) {
	for _, tt := range []struct {
		low, high float64
		want      string
	}{{0, 10, "[0 2 4 6 8 10]"}, {2.41, 3.5, "[2 2.5 3 3.5]"}, {0, 0.00098, "[0 0.0002 0.0004 0.0006 0.0008 0.001]"}, {1, 3, "[1 1.5 2 2.5 3]"}, {-3, 4, "[-4 -2 0 2 4]"}} {
		if got := fmt.Sprint(ticks(tt.low, tt.high, 5)); got != tt.want {
			t.Errorf("%v to %v: %s, want %s", tt.low, tt.high, got, tt.want)
		}
	}
}

// A peak of a long line is not lost.
func TestThin(t *testing.T) {
	p := make([]xy, 100_000)
	for i := range p {
		p[i].x = float64(i)
	}
	p[77_777].y, p[77_778].y = 9, -9
	out := thin(p)
	if len(out) > mostPoints || !slices.Contains(out, p[77_777]) || !slices.Contains(out, p[77_778]) {
		t.Errorf("%d points", len(out))
	}
}
