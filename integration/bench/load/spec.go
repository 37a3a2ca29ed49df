// Package load is the load generator: it drives one broker from one thread and
// counts what came back. It runs in a process of its own, so that its CPU time
// is told apart from the broker's. Requests are built once with the module's
// batch builder and franz-go's kmsg, and sent again and again: nothing is
// allocated or encoded for a record while it runs.
package load

import (
	"fmt"
	"time"
)

// Kind is what a run does.
type Kind string

// The kinds of load.
const (
	Produce Kind = "produce" // closed loop: as many requests as the window lets go
	Paced   Kind = "paced"   // open loop: requests at fixed times, whatever the broker does
	Consume Kind = "consume" // reads a topic from its start
)

// Spec says what one run does. It is the argument of the generator's process.
type Spec struct {
	Kind       Kind   `json:"kind"`
	Addr       string `json:"addr"` // of the broker, host:port
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`

	// Of Produce and Paced.
	Conns        int   `json:"conns,omitempty"`         // producers, one connection each
	Window       int   `json:"window,omitempty"`        // requests in flight on a connection
	PerRequest   int   `json:"per_request,omitempty"`   // partitions a request, one batch each
	BatchRecords int   `json:"batch_records,omitempty"` // records in each batch
	RecordBytes  int   `json:"record_bytes,omitempty"`  // size of a record's value
	Acks         int16 `json:"acks,omitempty"`

	// Of Paced.
	Rate float64       `json:"rate,omitempty"` // requests a second, over all connections
	Skip time.Duration `json:"skip,omitempty"` // latencies of the first part are not counted

	// Of Consume.
	Groups  int  `json:"groups,omitempty"`  // each reads the whole topic
	Members int  `json:"members,omitempty"` // of a group, one connection each; partition p is of member p % Members
	Verify  bool `json:"verify,omitempty"`  // check the CRC of each batch too, which takes four times the CPU time
	Wrap    bool `json:"wrap,omitempty"`    // start over at the end of a partition; else the run ends when all is read

	// The run ends at the first of them; 0 is no bound.
	Bytes int64         `json:"bytes,omitempty"` // of record batches
	Limit time.Duration `json:"limit,omitempty"`
}

// Result is what one run measured.
type Result struct {
	Bytes      int64   `json:"bytes"`    // of record batches: acknowledged, or read and checked
	Records    int64   `json:"records"`  // in them
	Requests   int64   `json:"requests"` // answered
	Seconds    float64 `json:"seconds"`  // from the start to the last answer
	CPUSeconds float64 `json:"cpu_seconds"`
	P50        float64 `json:"p50_ms,omitempty"` // Paced: from the intended time of a request to its answer
	P99        float64 `json:"p99_ms,omitempty"`
	P999       float64 `json:"p999_ms,omitempty"`
	Max        float64 `json:"max_ms,omitempty"`
}

// MBps is megabytes (10^6 bytes) a second.
func (r Result) MBps() float64 { return float64(r.Bytes) / 1e6 / r.Seconds }

func (s Spec) check() error {
	ok := false
	switch s.Kind {
	case Produce:
		ok = s.produces()
	case Paced:
		ok = s.produces() && s.Rate > 0 && s.Limit > 0
	case Consume:
		ends := !s.Wrap || s.Bytes > 0 || s.Limit > 0
		ok = s.Groups > 0 && s.Members > 0 && s.Members <= s.Partitions && ends
	}
	if !ok {
		return fmt.Errorf("load: the spec contradicts itself: %+v", s)
	}
	return nil
}

func (s Spec) produces() bool {
	return min(s.Conns, s.Window, s.BatchRecords, s.RecordBytes, s.PerRequest) > 0 && s.PerRequest <= s.Partitions && s.Acks != 0
}
