package broker

import (
	"context"
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/plan"
)

// hot shows the replicas of this broker to package tiering.
type hot struct{ replicas *replica.Manager }

// Led implements tiering.Hot.
func (h hot) Led() []tiering.Led {
	var out []tiering.Led
	for l := range h.replicas.Tiered {
		out = append(out, led(l))
	}
	return out
}

// Leads implements tiering.Hot.
func (h hot) Leads(k protocol.PartitionKey) (tiering.Led, bool) {
	l, err := h.replicas.Get(k)
	if err != nil || !l.Tiered() {
		return tiering.Led{}, false
	}
	return led(l), true
}

func led(l *replica.Leader) tiering.Led {
	config := l.Config()
	return tiering.Led{
		Key: l.Key(), Topic: l.Topic(), Epoch: l.Epoch(), HW: l.HighWatermark(), LEO: l.Log().LEO(),
		Policy: policy(&config, l.Topic()),
	}
}

func policy(c *metadata.TopicConfig, topic string) plan.Policy {
	p := plan.Policy{
		RetentionMs: c.RetentionMs, RetentionBytes: c.RetentionBytes, Compact: c.Compact,
		Compaction: plan.Compaction{
			MinDirtyRatio: c.MinCleanableDirtyRatio, MinLagMs: c.MinCompactionLagMs, MaxLagMs: c.MaxCompactionLagMs,
			DeleteRetentionMs: c.DeleteRetentionMs, SegmentBytes: c.SegmentBytes,
		},
		CopyDisabled: c.RemoteCopyDisable || !c.RemoteStorage,
		CopyLagMs:    c.RemoteCopyLagMs, CopyLagBytes: c.RemoteCopyLagBytes,
	}
	if admin.Internal(topic) {
		p.CopyLagMs = 0 // what groups were told is committed does not wait
	}
	if c.MaxCompactionLagMs == math.MaxInt64 {
		p.Compaction.MaxLagMs = plan.Unlimited
	}
	if !c.Delete {
		p.RetentionMs, p.RetentionBytes = plan.Unlimited, plan.Unlimited
	}
	return p
}

// Sealed implements tiering.Hot.
func (h hot) Sealed(k protocol.PartitionKey, from protocol.Offset) ([]tiering.SealedRange, error) {
	l, err := h.replicas.Get(k)
	if err != nil {
		return nil, err
	}
	ranges, err := l.Log().Sealed(from, l.UploadLimit())
	out := make([]tiering.SealedRange, len(ranges))
	for i, r := range ranges {
		out[i] = tiering.SealedRange(r)
	}
	return out, err
}

// BytesFrom implements tiering.Hot.
func (h hot) BytesFrom(k protocol.PartitionKey, from protocol.Offset) int64 {
	l, err := h.replicas.Get(k)
	if err != nil {
		return 0
	}
	return l.BytesFrom(from)
}

// OpenSealed implements tiering.Hot.
func (h hot) OpenSealed(k protocol.PartitionKey, r tiering.SealedRange) (tiering.SealedSource, error) {
	l, err := h.replicas.Get(k)
	if err != nil {
		return nil, err
	}
	sealed, err := l.Log().OpenSealed(log.SegmentRange(r))
	if err != nil {
		return nil, err
	}
	return source{sealed}, nil
}

// source is a sealed segment in tiering's words.
type source struct{ log.SealedReader }

// Range implements tiering.SealedSource.
func (s source) Range() tiering.SealedRange { return tiering.SealedRange(s.SealedReader.Range()) }

// cold shows the bucket to package replica, with Kafka's codes on its errors.
type cold struct{ reader *tiering.Reader }

func coldError(err error) error {
	code := kerr.KafkaStorageError
	switch {
	case err == nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, tiering.ErrOutOfRange):
		code = kerr.OffsetOutOfRange
	case errors.Is(err, tiering.ErrUnknownPartition):
		code = kerr.UnknownTopicOrPartition
	}
	return protocol.Errorf(code, "%v", err)
}

// Read implements replica.Cold.
func (c cold) Read(ctx context.Context, k protocol.PartitionKey, from protocol.Offset, maxBytes int, minOne bool) (replica.ColdBatches, error) {
	got, err := c.reader.Read(ctx, k, from, maxBytes, minOne)
	return replica.ColdBatches{Bytes: got.Batches, Next: got.Next, Aborted: got.Aborted, Release: got.Release}, coldError(err)
}

// OffsetForTime implements replica.Cold.
func (c cold) OffsetForTime(ctx context.Context, k protocol.PartitionKey, ts protocol.Timestamp, from protocol.Offset) (replica.Found, bool, error) {
	f, ok, err := c.reader.OffsetForTime(ctx, k, ts, from)
	return replica.Found(f), ok, coldError(err)
}

// MaxTimestamp implements replica.Cold.
func (c cold) MaxTimestamp(ctx context.Context, k protocol.PartitionKey) (replica.Found, bool, error) {
	f, ok, err := c.reader.MaxTimestamp(ctx, k)
	return replica.Found(f), ok, coldError(err)
}

// EpochEnd implements replica.Cold.
func (c cold) EpochEnd(ctx context.Context, k protocol.PartitionKey, epoch protocol.Epoch) (protocol.EpochEnd, bool, error) {
	e, end, ok, err := c.reader.EpochEnd(ctx, k, epoch)
	return protocol.EpochEnd{Epoch: e, End: end}, ok, coldError(err)
}

// StateAt implements replica.Cold.
func (c cold) StateAt(ctx context.Context, k protocol.PartitionKey, at protocol.Offset) ([]protocol.EpochStart, []byte, error) {
	s, err := c.reader.StateAt(ctx, k, at)
	if errors.Is(err, tiering.ErrNoState) {
		return nil, nil, replica.ErrNoState
	}
	return s.Epochs, s.Producers, coldError(err)
}

// noCold is the cold tier of a broker without a bucket.
type noCold struct{}

func errNoCold() error {
	return protocol.Errorf(kerr.KafkaStorageError, "%v", replica.ErrNoCold)
}

// Read implements replica.Cold.
func (noCold) Read(context.Context, protocol.PartitionKey, protocol.Offset, int, bool) (replica.ColdBatches, error) {
	return replica.ColdBatches{}, errNoCold()
}

// OffsetForTime implements replica.Cold.
func (noCold) OffsetForTime(context.Context, protocol.PartitionKey, protocol.Timestamp, protocol.Offset) (replica.Found, bool, error) {
	return replica.Found{}, false, errNoCold()
}

// MaxTimestamp implements replica.Cold.
func (noCold) MaxTimestamp(context.Context, protocol.PartitionKey) (replica.Found, bool, error) {
	return replica.Found{}, false, errNoCold()
}

// EpochEnd implements replica.Cold.
func (noCold) EpochEnd(context.Context, protocol.PartitionKey, protocol.Epoch) (protocol.EpochEnd, bool, error) {
	return protocol.EpochEnd{}, false, errNoCold()
}

// StateAt implements replica.Cold.
func (noCold) StateAt(context.Context, protocol.PartitionKey, protocol.Offset) ([]protocol.EpochStart, []byte, error) {
	return nil, nil, errNoCold()
}
