package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// curve is samples by the name that they are drawn under.
type curve struct {
	name string
	took samples
}

// bar is an amount, and what it may be at most; 0: anything.
type bar struct {
	name       string
	is, target float64
}

// The picture's measures, in pixels.
const (
	width, left, right = 820, 190, 40
	curvesHeight       = 300
	barHeight          = 26
)

var colours = []string{"#0b62a4", "#c8501e", "#2c8a4b", "#7d3fa0", "#8a6d1d", "#555555"}

// draw writes an SVG: for each curve which part of the samples is at most so long,
// over a logarithmic axis of time, and bars below.
func draw(w io.Writer, title string, curves []curve, unit string, bars []bar) error {
	curves = slices.DeleteFunc(slices.Clone(curves), func(c curve) bool { return len(c.took) == 0 })
	height := 70 + curvesHeight + 22*len(curves) + 70 + barHeight*len(bars)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	text(&b, left, 26, "start", title)
	drawCurves(&b, curves)
	drawBars(&b, 70+curvesHeight+22*len(curves)+50, unit, bars)
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func text(b *strings.Builder, x, y float64, anchor, words string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(words))
}

func line(b *strings.Builder, x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

// decades are the powers of ten of milliseconds between which all samples lie.
func decades(curves []curve) (first, last int) {
	first, last = 3, 1
	for _, c := range curves {
		first = min(first, int(math.Floor(math.Log10(milliseconds(c.took.at(0))))))
		last = max(last, int(math.Ceil(math.Log10(milliseconds(c.took.at(1))))))
	}
	return min(first, last-1), last
}

func milliseconds(d time.Duration) float64 { return max(float64(d)/float64(time.Millisecond), 1) }

func drawCurves(b *strings.Builder, curves []curve) {
	first, last := decades(curves)
	x := func(d time.Duration) float64 {
		return left + (math.Log10(milliseconds(d))-float64(first))/float64(last-first)*(width-left-right)
	}
	y := func(part float64) float64 { return 50 + (1-part)*curvesHeight }
	for _, part := range []float64{0, .25, .5, .75, .99} {
		line(b, left, y(part), width-right, y(part), "#dddddd")
		text(b, left-8, y(part)+4, "end", fmt.Sprintf("%.0f %%", part*100))
	}
	for e := first; e <= last; e++ {
		d := time.Duration(math.Pow10(e) * float64(time.Millisecond))
		line(b, x(d), y(0), x(d), y(1), "#dddddd")
		text(b, x(d), y(0)+18, "middle", d.String())
	}
	text(b, left-8, y(1)-8, "end", "done, part of all")
	for i, c := range curves {
		colour := colours[i%len(colours)]
		var points strings.Builder
		for part := 0.0; part <= 1; part += .01 {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(c.took.at(part)), y(part))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", points.String(), colour)
		at := 50 + curvesHeight + 44 + 22*float64(i)
		fmt.Fprintf(b, `<rect x="%d" y="%.1f" width="22" height="4" fill="%s"/>`+"\n", left, at-6, colour)
		text(b, left+30, at, "start", c.name+": "+c.took.String())
	}
}

func drawBars(b *strings.Builder, top int, unit string, bars []bar) {
	most := 1.0
	for _, one := range bars {
		most = max(most, one.is, one.target)
	}
	x := func(n float64) float64 { return left + n/most*(width-left-right-60) }
	for i, one := range bars {
		y := float64(top + i*barHeight)
		text(b, left-8, y+15, "end", one.name)
		fmt.Fprintf(b, `<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", left, y+3, x(one.is)-left, barHeight-8, colours[0])
		text(b, x(one.is)+6, y+16, "start", fmt.Sprintf("%.0f %s", one.is, unit))
		if one.target > 0 {
			line(b, x(one.target), y, x(one.target), y+barHeight-3, "#c00000")
		}
	}
}
