package report

import (
	"math"
	"slices"
)

// Spread is a set of values in brief.
type Spread struct {
	Min, Median, Max float64
	N                int
}

// spread of nothing is all NaN.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN(), 0}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Spread{sorted[0], (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[n-1], n}
}

// values of a metric on one side, by pair.
func (r *Result) values(side, metric string) map[int]float64 {
	out := map[int]float64{}
	for _, s := range r.Samples {
		if v, ok := s.Values[metric]; ok && s.Side == side {
			out[s.Pair] = v
		}
	}
	return out
}

// Side is the spread of a metric on one side.
func (r *Result) Side(side, metric string) Spread {
	var all []float64
	for _, v := range r.values(side, metric) {
		all = append(all, v)
	}
	return spread(all)
}

// ratios are A/B of the pairs in which both were measured.
func (r *Result) ratios(a, b, metric string) (all []float64) {
	right := r.values(b, metric)
	for pair, v := range r.values(a, metric) {
		if w, ok := right[pair]; ok && w != 0 {
			all = append(all, v/w)
		}
	}
	return all
}

// Ratio is the spread of A/B over the pairs in which both were measured.
func (r *Result) Ratio(a, b, metric string) Spread { return spread(r.ratios(a, b, metric)) }

// manyPairs are enough to leave one out.
const manyPairs = 5

// reach is how far ratios lie from 1, as a factor: the second furthest of manyPairs
// or more, as one leg that was disturbed says nothing about the others, else the furthest.
func reach(ratios []float64) float64 {
	factors := []float64{1}
	for _, v := range ratios {
		factors = append(factors, max(v, 1/v))
	}
	slices.Sort(factors)
	if len(ratios) >= manyPairs {
		factors = factors[:len(ratios)]
	}
	return factors[len(factors)-1]
}

// of gives the spread that a claim is about.
func (r *Result) of(c Claim) Spread {
	if c.B == "" {
		return r.Side(c.A, c.Metric)
	}
	return r.Ratio(c.A, c.B, c.Metric)
}
