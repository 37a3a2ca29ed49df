// Package admin makes changes of the metadata that clients ask for: it checks
// them as Kafka does, fixes ids, placement and preconditions, proposes the
// command and gives refusals their Kafka codes. It knows no wire formats;
// broker/api and the composition root call it.
package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// Metadata is the quorum as admin sees it.
type Metadata interface {
	// Image is the newest applied image.
	Image() *metadata.Image
	// Propose returns when this broker has applied the command, or with a refusal
	// (metadata.Err...) or an outcome that is not known.
	Propose(ctx context.Context, c *metadata.Command) (metadata.Result, error)
}

// Config is what an Admin needs.
type Config struct {
	Self     protocol.BrokerID
	Static   *metadata.Static
	Metadata Metadata
	// Epoch is the broker's registration in force.
	Epoch func() protocol.BrokerEpoch
	// BelowReserve tells that the disk is nearly full: what grows the metadata is refused (DESIGN D7).
	BelowReserve func() bool
}

// checkReserve refuses a change that would grow the metadata on a full disk.
func (a *Admin) checkReserve() error {
	if a.cfg.BelowReserve() {
		return protocol.Errorf(kerr.KafkaStorageError, "the disk is full: strata.disk.reserve.bytes=%s is reached", a.cfg.Static.String("strata.disk.reserve.bytes"))
	}
	return nil
}

// Admin is safe for concurrent use.
type Admin struct {
	cfg Config

	mu       sync.Mutex
	nextPID  protocol.ProducerID // guarded by mu: next id of the block in hand
	blockEnd protocol.ProducerID // guarded by mu
}

// New makes an Admin.
func New(cfg Config) *Admin { return &Admin{cfg: cfg} }

// Static is the broker's configuration.
func (a *Admin) Static() *metadata.Static { return a.cfg.Static }

// Image is the newest applied image.
func (a *Admin) Image() *metadata.Image { return a.cfg.Metadata.Image() }

// producerIDBlock is how many ids a broker takes at a time, as Kafka's.
const producerIDBlock = 1000

// AllocateProducerID gives a producer id that no other producer has.
func (a *Admin) AllocateProducerID(ctx context.Context) (protocol.ProducerID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.nextPID == a.blockEnd {
		if err := a.takeBlock(ctx); err != nil {
			return protocol.NoProducerID, err
		}
	}
	id := a.nextPID
	a.nextPID++
	return id, nil
}

// takeBlock asks for the next block. After an unknown outcome the block may be
// lost, never given twice: the next try names what the image says by then.
func (a *Admin) takeBlock(ctx context.Context) error {
	for {
		cmd := &metadatapb.AllocateProducerIDs{
			Broker: int32(a.cfg.Self), BrokerEpoch: int64(a.cfg.Epoch()),
			ExpectedNext: int64(a.Image().NextProducerID()), Count: producerIDBlock,
		}
		result, err := a.cfg.Metadata.Propose(ctx, &metadata.Command{Kind: &metadatapb.Command_AllocateProducerIds{AllocateProducerIds: cmd}})
		if errors.Is(err, metadata.ErrProducerIDBlock) && ctx.Err() == nil {
			continue // another broker took one meanwhile
		}
		if err != nil {
			return answer(err)
		}
		a.nextPID, a.blockEnd = result.FirstProducerID, result.FirstProducerID+producerIDBlock
		return nil
	}
}

// newTopicID makes a random id that none of Kafka's reserved ones (all but the
// last byte zero) can be.
func newTopicID() protocol.TopicID {
	var id protocol.TopicID
	for id.IsZero() {
		_, _ = rand.Read(id[:]) // crypto/rand never fails
		if id[0] == 0xff || id.String()[0] == '-' {
			id = protocol.TopicID{} // a leading dash looks like a flag to Kafka's tools
		}
	}
	return id
}

// answer gives a refusal of the metadata its Kafka code.
func answer(err error) error {
	var known *protocol.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	for _, row := range []struct {
		refusal error
		code    *kerr.Error
	}{
		{metadata.ErrTopicExists, kerr.TopicAlreadyExists},
		{metadata.ErrTopicIDExists, kerr.TopicAlreadyExists},
		{metadata.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
		{metadata.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
		{metadata.ErrPartitionCount, kerr.InvalidPartitions},
		{metadata.ErrReplicationFactor, kerr.InvalidReplicationFactor},
		{metadata.ErrStaleBrokerEpoch, kerr.StaleBrokerEpoch},
		{metadata.ErrUnknownBroker, kerr.BrokerIDNotRegistered},
		{metadata.ErrUnknownDirectory, kerr.InvalidReplicaAssignment},
		{metadata.ErrAllReplicasFenced, kerr.InvalidReplicaAssignment},
		{metadata.ErrInvalidCommand, kerr.InvalidRequest},
		{context.DeadlineExceeded, kerr.RequestTimedOut},
		{context.Canceled, kerr.RequestTimedOut},
	} {
		if errors.Is(err, row.refusal) {
			return protocol.Errorf(row.code, "%v", err)
		}
	}
	// An unknown outcome or a lost leader: the client asks again.
	return protocol.Errorf(kerr.RequestTimedOut, "%v", err)
}

func (a *Admin) propose(ctx context.Context, cmd *metadata.Command) error {
	_, err := a.cfg.Metadata.Propose(ctx, cmd)
	return answer(err)
}

func nowMs() int64 { return time.Now().UnixMilli() }
