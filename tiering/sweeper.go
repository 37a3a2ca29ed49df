package tiering

import (
	"context"
	"log/slog"
	"time"

	"github.com/stratabroker/strata/tiering/object"
)

// SweeperConfig says what a Sweeper works with. Zero numbers mean the defaults.
type SweeperConfig struct {
	Store    object.Store
	Metadata Metadata

	Grace         time.Duration // strata.sweep.grace.ms; default 10 min
	Interval      time.Duration // strata.sweep.interval.ms, between two rounds; default 10 min
	ListPerSecond int           // objects listed a second; default 5,000, negative for no limit
	Active        func() bool   // whether this broker is the one that sweeps (the controller); nil: always
	Logger        *slog.Logger  // default: discards
}

// Sweeper deletes what nothing reaches.
type Sweeper struct{ cfg SweeperConfig }

// NewSweeper makes a sweeper that Run starts.
func NewSweeper(cfg SweeperConfig) *Sweeper { return &Sweeper{cfg: cfg} }

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) {}

// Round does one round now; Run calls it. One goroutine at a time.
func (s *Sweeper) Round(ctx context.Context) error { return nil }

// Stats are the counters now.
func (s *Sweeper) Stats() SweeperStats { return SweeperStats{} }
