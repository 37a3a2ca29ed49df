package tiering

import (
	"context"
	"log/slog"

	"github.com/stratabroker/strata/tiering/object"
)

// BindConfig says which cluster wants to write which bucket.
type BindConfig struct {
	Store         object.Store
	Metadata      Metadata // its image has the cluster id
	URL           string   // for the image; without credentials
	Region        string   // for people
	NewDataFolder bool     // the cluster id was made at this start: no bucket can be ours yet
	Shared        bool     // other clusters may write here: conditional PUT is required
	Logger        *slog.Logger
}

// Bind ties the cluster and the bucket together (DESIGN D21) and returns OWNER's generation.
// At the first start it writes cluster.json and OWNER and proposes BindBucket; later it only reads. A crash
// between any two steps is mended by the next call. Where it refuses, no object was touched.
func Bind(ctx context.Context, cfg BindConfig) (generation uint64, err error) { return 0, nil }
