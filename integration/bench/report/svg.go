package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Sizes of a picture, in pixels.
const (
	panelHeight = 26 // of a side
	panelHead   = 30 // a metric's title above its sides
	labelWidth  = 190
	plotWidth   = 420
	valueWidth  = 150
	valueGap    = 16 // between the plot, where a dot may touch the end, and the value
	margin      = 12
)

// colours of the sides, in the order of Result.sides.
var colours = [...]string{"#0b6e4f", "#b3541e", "#8a8a8a", "#33658a"}

// SVG draws a row: for each metric and side a dot a leg, and a bar to the median; of a curve, lines.
func SVG(row Row, r *Result) string {
	var b strings.Builder
	sides := r.sides()
	y := margin + 24
	if row.Curve != nil {
		note(&b, fmt.Sprintf("both axes logarithmic; dashed: twice the size, %g times the cost", row.Curve.Doubling), 0)
	}
	for _, m := range row.Metrics {
		if row.Curve == nil {
			y = panel(&b, row, r, m, sides, y)
		} else if slices.Contains(row.Curve.Metrics, m.Key) {
			y = linePanel(&b, row.Curve, m, r.points(m.Key), y)
		}
	}
	width, height := margin*2+labelWidth+plotWidth+valueWidth, y+margin
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<rect width="%d" height="%d" fill="#ffffff"/>
<text x="%d" y="%d" font-size="15" font-weight="bold">%s</text>
%s</svg>
`, width, height, width, height, width, height, margin, margin+10, html.EscapeString(row.Title), b.String())
}

// title heads a panel, note stands at its other end.
func title(b *strings.Builder, text string, y int) {
	fmt.Fprintf(b, `<text x="%d" y="%d" fill="#444444">%s</text>`+"\n", margin, y+18, html.EscapeString(text))
}

func note(b *strings.Builder, text string, y int) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" font-size="11" fill="#444444">%s</text>`+"\n",
		margin+labelWidth+plotWidth+valueWidth, y+18, html.EscapeString(text))
}

// compared are the ratios of a metric, with their targets.
func compared(row Row, r *Result, m Metric) string {
	var parts []string
	for _, c := range row.Claims {
		if s := r.of(c); c.Metric == m.Key && c.B != "" && s.N > 0 {
			part := fmt.Sprintf("%s / %s: %s", c.A, c.B, number(s.Median))
			if c.Target != 0 {
				part += " (target " + target(c, m) + ")"
			}
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// panel draws one metric from y on and returns where the next one begins.
func panel(b *strings.Builder, row Row, r *Result, m Metric, sides []string, y int) int {
	most, shown := 0.0, 0
	for _, side := range sides {
		if s := r.Side(side, m.Key); s.N > 0 {
			most, shown = math.Max(most, s.Max), shown+1
		}
	}
	if shown == 0 {
		return y
	}
	title(b, strings.TrimSuffix(m.Title+", "+m.Unit, ", "), y)
	note(b, compared(row, r, m), y)
	y += panelHead
	scale := func(v float64) float64 {
		if most == 0 {
			return margin + labelWidth
		}
		return margin + labelWidth + v/most*plotWidth
	}
	for i, side := range sides {
		s := r.Side(side, m.Key)
		if s.N == 0 {
			continue
		}
		colour := colours[i%len(colours)]
		fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", margin+10, y+13, html.EscapeString(side))
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="16" fill="%s" fill-opacity="0.3"/>`+"\n", margin+labelWidth, y+1, scale(s.Median)-margin-labelWidth, colour)
		for _, sample := range r.Samples {
			if v, ok := sample.Values[m.Key]; ok && sample.Side == side {
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%d" r="3.5" fill="%s" fill-opacity="0.75"/>`+"\n", scale(v), y+9, colour)
			}
		}
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s" stroke-width="2"/>`+"\n", scale(s.Median), scale(s.Median), y-1, y+19, colour)
		fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", margin+labelWidth+plotWidth+valueGap, y+13, html.EscapeString(quantity(s.Median, m.Unit)))
		y += panelHeight
	}
	return y
}
