package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Curve says that the sides of a row are sizes, such as "100 partitions".
type Curve struct {
	Axis     string   // what is counted
	Metrics  []string // keys of those whose cost is drawn against the size
	Doubling float64  // how many times the cost twice the size may have
}

// Sizes of a curve's panel, in pixels.
const (
	curveHeight = 120
	curveHead   = 44 // title, and the value above the highest point
	curveFoot   = 26 // sizes
	curveLeft   = 40
	curveWidth  = labelWidth + plotWidth + valueWidth - 2*curveLeft
)

// point is a size and the median of its costs.
type point struct{ size, cost float64 }

// points of a metric, the smallest size first; sides that are no size are left out.
func (r *Result) points(metric string) (out []point) {
	for _, side := range r.sides() {
		first, _, _ := strings.Cut(side, " ")
		size, err := strconv.ParseFloat(first, 64)
		if cost := r.Side(side, metric); cost.N > 0 && err == nil {
			out = append(out, point{size, cost.Median})
		}
	}
	slices.SortFunc(out, func(a, b point) int { return int(a.size - b.size) })
	return out
}

// linePanel draws a metric against the size from y on, both logarithmic, and returns where the next panel
// begins. A flat line is one: the axis of costs spans a factor of ten at least.
func linePanel(b *strings.Builder, c *Curve, m Metric, points []point, y int) int {
	least, most := math.Inf(1), 0.0
	for _, p := range points {
		if most = max(most, p.cost); p.cost > 0 {
			least = min(least, p.cost)
		}
	}
	if most == 0 {
		return y
	}
	most = max(most, 10*least) // least is finite: most is above 0
	title(b, fmt.Sprintf("%s, %s, against %s", m.Title, m.Unit, c.Axis), y)
	top := float64(y + curveHead)
	bottom := top + curveHeight
	first, last := points[0].size, points[len(points)-1].size
	place := func(p point) (x, y float64) {
		x = margin + curveLeft + curveWidth*math.Log(p.size/first)/max(math.Log(last/first), 1e-9)
		return x, bottom - curveHeight*math.Log(max(p.cost, least)/least)/math.Log(most/least)
	}
	// Dashed: as steep as it may be, up to where it leaves the panel.
	from := point{first, max(points[0].cost, least)}
	doublings := min(math.Log(most/from.cost)/math.Log(c.Doubling), math.Log2(last/first))
	x1, y1 := place(from)
	x2, y2 := place(point{first * math.Pow(2, doublings), from.cost * math.Pow(c.Doubling, doublings)})
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#b3541e" stroke-dasharray="4 4"/>`+"\n", x1, y1, x2, y2)
	var line []string
	for _, p := range points {
		x, at := place(p)
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#dddddd"/>`+"\n", x, x, top, bottom+6)
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x, at, colours[0])
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle" font-size="11">%s</text>`+"\n", x, at-8, number(p.cost))
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle" font-size="11" fill="#444444">%s</text>`+"\n", x, bottom+20, thousands(int64(p.size)))
		line = append(line, fmt.Sprintf("%.1f,%.1f", x, at))
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-opacity="0.6"/>`+"\n", strings.Join(line, " "), colours[0])
	return int(bottom) + curveFoot + 10
}
