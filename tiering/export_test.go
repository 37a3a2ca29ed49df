package tiering

import (
	"context"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
)

// Lookup gives the entry that covers an offset.
func (r *Reader) Lookup(ctx context.Context, k protocol.PartitionKey, o protocol.Offset) (e format.Entry, err error) {
	err = r.withCurrent(k, o, func(v view) error {
		e, err = v.find(ctx, o)
		return err
	})
	return e, err
}

// CommitManifest is the command that makes v, which follows the row's, current.
func CommitManifest(row metadata.Partition, v format.Version, tieredEnd protocol.Offset) *metadata.Command {
	c := manifestCommit{key: row.Key, parent: row.Manifest, version: v, tieredEnd: tieredEnd, epoch: row.LeaderEpoch}
	return c.command()
}

// CauseInterval is how often one cause is told.
const CauseInterval = causeInterval

// NewCauses makes what tells causes.
var NewCauses = newCauses

// Failed tells of a failure.
func (c *causes) Failed(err error, attrs ...any) { c.failed(err, attrs...) }

// Succeeded tells that it is over.
func (c *causes) Succeeded() { c.succeeded() }
