package api

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Special timestamps of ListOffsets; others are milliseconds.
const (
	latest                = -1
	earliest              = -2
	maxTimestamp          = -3 // KIP-734, version 7
	earliestLocal         = -4 // KIP-405, version 8
	latestTiered          = -5 // KIP-1005, version 9
	earliestPendingUpload = -6 // KIP-1023, version 11
)

// sinceVersion is the first version that may ask for a special timestamp.
func sinceVersion(ts int64) int16 {
	switch ts {
	case maxTimestamp:
		return 7
	case earliestLocal:
		return 8
	case latestTiered:
		return 9
	case earliestPendingUpload:
		return 11
	}
	return 0
}

// ListOffsets, versions 1 to 11: by time in both tiers, and the special
// timestamps. A look-up by time may wait for the bucket, within the request's
// timeout (version 10) and remote.list.offsets.request.timeout.ms.
func (h *Handler) listOffsets(ctx context.Context, req *kmsg.ListOffsetsRequest) kmsg.Response {
	timeout := int32(min(h.cfg.Admin.Static().BrokerInt(h.cfg.Admin.Image(), "remote.list.offsets.request.timeout.ms"), math.MaxInt32))
	if req.Version >= 10 && req.TimeoutMillis > 0 {
		timeout = min(timeout, req.TimeoutMillis)
	}
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	resp, img := kmsg.NewPtrListOffsetsResponse(), h.cfg.Admin.Image()
	type place struct {
		topic     string
		partition int32
	}
	seen := map[place]int{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			seen[place{t.Topic, p.Partition}]++
		}
	}
	for _, t := range req.Topics {
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			op := kmsg.NewListOffsetsResponseTopicPartition()
			op.Partition = p.Partition
			op.Timestamp, op.Offset, op.LeaderEpoch = int64(protocol.NoTimestamp), int64(protocol.NoOffset), int32(protocol.NoEpoch)
			found, err := replica.Found{}, protocol.Errorf(kerr.InvalidRequest, "partition %d is given twice", p.Partition)
			switch at := (place{t.Topic, p.Partition}); seen[at] {
			case 0:
				continue // told already
			case 1:
				found, err = h.listOne(ctx, img, req, t.Topic, p)
			default:
				seen[at] = 0
			}
			if err != nil {
				op.ErrorCode = protocol.CodeOf(err)
			} else {
				op.Offset, op.Timestamp, op.LeaderEpoch = int64(found.Offset), int64(found.Timestamp), int32(found.Epoch)
			}
			out.Partitions = append(out.Partitions, op)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (h *Handler) listOne(ctx context.Context, img *metadata.Image, req *kmsg.ListOffsetsRequest, topic string, p kmsg.ListOffsetsRequestTopicPartition) (replica.Found, error) {
	if req.Version < sinceVersion(p.Timestamp) || p.Timestamp < earliestPendingUpload {
		return replica.Found{}, protocol.Errorf(kerr.UnsupportedVersion, "timestamp %d in version %d", p.Timestamp, req.Version)
	}
	l, err := h.leader(img, topic, p.Partition)
	if err == nil && req.Version >= 4 {
		err = l.CheckEpoch(protocol.Epoch(p.CurrentLeaderEpoch))
	}
	if err != nil {
		return replica.Found{}, err
	}
	if p.Timestamp < 0 && p.Timestamp != maxTimestamp {
		return special(l, p.Timestamp, req.IsolationLevel == 1), nil
	}
	none := replica.Found{Offset: protocol.NoOffset, Timestamp: protocol.NoTimestamp, Epoch: protocol.NoEpoch}
	look := func() (replica.Found, bool, error) {
		if p.Timestamp == maxTimestamp {
			return l.MaxTimestamp(ctx, h.cfg.Cold, req.IsolationLevel == 1)
		}
		return l.OffsetForTime(ctx, h.cfg.Cold, protocol.Timestamp(p.Timestamp), req.IsolationLevel == 1)
	}
	found, ok, err := look()
	switch {
	case ctx.Err() != nil:
		return none, protocol.Errorf(kerr.RequestTimedOut, "the bucket did not answer in time")
	case err != nil:
		return none, err
	case !ok:
		return none, nil
	}
	return found, nil
}

// special answers what needs no look into records.
func special(l *replica.Leader, ts int64, committed bool) replica.Found {
	f := replica.Found{Timestamp: protocol.NoTimestamp, Epoch: l.Epoch()}
	row := l.Row()
	switch ts {
	case latest:
		f.Offset = l.HighWatermark()
		if committed {
			f.Offset = l.LastStable()
		}
	case earliest:
		f.Offset = l.LogStart()
		f.Epoch = l.EpochAt(f.Offset)
	case earliestLocal:
		f.Offset = max(l.LogStart(), l.Log().Start())
		f.Epoch = l.EpochAt(f.Offset)
	case latestTiered:
		f.Offset = row.Manifest.TieredEnd - 1
		f.Epoch = l.EpochAt(f.Offset)
		if row.Manifest.Segments == 0 {
			f.Offset, f.Epoch = protocol.NoOffset, protocol.NoEpoch
		}
	case earliestPendingUpload:
		f.Offset = protocol.NoOffset
		if l.Config().RemoteStorage {
			f.Offset = max(row.Manifest.TieredEnd, l.LogStart())
		}
		f.Epoch = l.EpochAt(f.Offset)
	}
	return f
}
