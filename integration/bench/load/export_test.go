package load

import "time"

// Histogram is the one of the open loop.
type Histogram struct{ histogram }

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) { h.add(d) }

// Quantile is in milliseconds.
func (h *Histogram) Quantile(q float64) float64 { return h.quantile(q) }

// Run runs a spec in this process.
func Run(s Spec) (Result, error) { return run(s, func() error { return nil }) }

// Batch is what the producers send.
func Batch(records, size int) []byte { return batch(records, size) }
