package tiering

import (
	"context"
	"log/slog"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/object"
)

// RootWriterConfig says what a RootWriter works with. Zero numbers mean the defaults.
type RootWriterConfig struct {
	Store    object.Store
	Metadata Metadata

	Debounce time.Duration // from a change to its root, and between two roots; default 1 s
	Deadline time.Duration // of one PUT; default 30 s
	Active   func() bool   // whether this broker is the one that writes roots (the controller); nil: always
	Rand     func() uint64 // of object names; default math/rand/v2
	Logger   *slog.Logger  // default: discards
}

// RootWriter writes the first form of the root after each change (DESIGN D20).
type RootWriter struct{ cfg RootWriterConfig }

// NewRootWriter makes a root writer that Run starts.
func NewRootWriter(cfg RootWriterConfig) *RootWriter { return &RootWriter{cfg: cfg} }

// Changed has the form of a metadata subscriber: the composition root subscribes it. It never blocks.
func (w *RootWriter) Changed(d metadata.Delta, img *metadata.Image) {}

// Run writes roots until ctx ends.
func (w *RootWriter) Run(ctx context.Context) {}

// Stats are the counters now.
func (w *RootWriter) Stats() RootStats { return RootStats{} }
