// Package drivers opens a Store by its URL. Only composition roots and tools
// call it; everything else is given a Store.
package drivers

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/dir"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/object/minio"
	"github.com/stratabroker/strata/tiering/object/s3"
)

// Open makes the store that u names. It sends nothing to a bucket: object.Prober
// tells whether it can be used. A mem store is a new and empty one each time. The
// logger gets what a driver's library has to say, at debug; nil drops it.
func Open(ctx context.Context, u object.URL, logger *slog.Logger) (object.Store, error) {
	switch u.Scheme {
	case object.SchemeDir:
		s, err := dir.New(u.Path)
		if err != nil {
			return nil, err // not a nil *dir.Store in an interface
		}
		return s, nil
	case object.SchemeS3:
		s, err := s3.New(ctx, u, s3.Options{Logger: logger})
		if err != nil {
			return nil, err
		}
		return s, nil
	case object.SchemeMinIO:
		s, err := minio.New(u, minio.Options{})
		if err != nil {
			return nil, err
		}
		return s, nil
	case object.SchemeMem:
		return mem.New(), nil
	}
	return nil, fmt.Errorf("bucket URL with unknown scheme %q", u.Scheme)
}

// Probe is the store's own Probe; a store without one can be used.
func Probe(ctx context.Context, s object.Store) error {
	if p, ok := s.(object.Prober); ok {
		return p.Probe(ctx)
	}
	return nil
}
