package admin

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// LogStart is where the log of a partition is to begin, in both tiers.
type LogStart struct {
	Key    protocol.PartitionKey
	Offset protocol.Offset
	Epoch  protocol.Epoch // of the leader that checked it: another one may have less committed
}

// startsInCommand keeps a command well below what the metadata log takes.
const startsInCommand = 5000

// AdvanceLogStarts moves log starts forward and returns an error a row. Once it
// is nil the new start is durable and in force here; files and objects below it
// follow. One that is not above the partition's own changes nothing. It is served on a
// full disk too, for it frees space (DESIGN D7).
func (a *Admin) AdvanceLogStarts(ctx context.Context, rows []LogStart) []error {
	errs := make([]error, len(rows))
	img := a.Image()
	var wire []*metadatapb.LogStart
	var places []int
	for i, r := range rows {
		if p, ok := img.Partition(r.Key); ok && r.Offset <= p.LogStart {
			continue
		}
		wire = append(wire, &metadatapb.LogStart{TopicId: r.Key.Topic[:], Partition: r.Key.Partition, Offset: int64(r.Offset), LeaderEpoch: int32(r.Epoch)})
		places = append(places, i)
	}
	for chunk := range slices.Chunk(wire, startsInCommand) {
		cmd := &metadatapb.AdvanceLogStarts{Rows: chunk}
		result, err := a.cfg.Metadata.Propose(ctx, &metadata.Command{Kind: &metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: cmd}})
		for i := range chunk {
			switch {
			case err != nil:
				errs[places[i]] = answer(err)
			case i < len(result.Rows):
				errs[places[i]] = startError(result.Rows[i])
			}
		}
		places = places[len(chunk):]
	}
	return errs
}

// startError: a leader epoch that is over means that the client should look for the leader anew.
func startError(err error) error {
	if errors.Is(err, metadata.ErrStaleLeaderEpoch) {
		return protocol.Errorf(kerr.NotLeaderForPartition, "%v", err)
	}
	return answer(err)
}
