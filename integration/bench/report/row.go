// Package report turns the legs of benchmark rows into statistics, the page
// RESULTS.md and its pictures. It is pure but for reading and writing these files.
package report

import "time"

// Metric is one thing that each leg measures.
type Metric struct {
	Key   string // in Sample.Values
	Title string
	Unit  string
}

// Claim compares side A with side B in one metric, pair by pair. Without B it
// is about A's own values.
type Claim struct {
	Metric string
	A, B   string
	AtMost bool    // the target is an upper limit
	Target float64 // of the ratio A/B, or of A's value; 0 is no target, it is shown only
	Zero   bool    // the target is 0
}

// Row is what a benchmark row is about. It is code; its results are data.
type Row struct {
	Name    string
	Title   string
	Method  string // what is done, with the numbers that matter
	Metrics []Metric
	Claims  []Claim
	Curve   *Curve // how a row whose sides are sizes is drawn; nil of others
}

// Sample is one leg.
type Sample struct {
	Side   string             `json:"side"`
	Pair   int                `json:"pair"` // legs of one number were run one after the other
	Values map[string]float64 `json:"values"`
}

// Result is one run of a row: a line of results.json.
type Result struct {
	Row     string    `json:"row"`
	When    time.Time `json:"when"`
	Took    float64   `json:"took_seconds"`
	Pairs   int       `json:"pairs"`
	Machine Machine   `json:"machine"`
	Samples []Sample  `json:"samples"`
	Notes   []string  `json:"notes,omitempty"`
}

// Machine is where and with what a row was run.
type Machine struct {
	CPU    string  `json:"cpu"`
	Cores  int     `json:"cores"`
	Memory string  `json:"memory"`
	Kernel string  `json:"kernel"`
	Disk   string  `json:"disk"`
	Go     string  `json:"go"`
	Java   string  `json:"java"`
	Kafka  string  `json:"kafka"`
	Strata string  `json:"strata"`
	Load   float64 `json:"load_average"` // before the row: what else was going on
}
