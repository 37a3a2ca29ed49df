package replica

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/isr"
	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Acks is what a producer wants to wait for.
type Acks int16

// AcksAll waits for all in-sync replicas, AcksLeader for the leader's disk.
const (
	AcksAll    Acks = -1
	AcksNone   Acks = 0
	AcksLeader Acks = 1
)

// decodeBudget bounds what one batch may unfold to where a topic's settings
// make the broker look at records.
const decodeBudget = 64 << 20

// Append takes what a client sent for this partition: exactly one record batch
// (Produce version 3 and later). It checks and appends before it returns; done
// is called once, maybe before Append returns, when the batch is refused or
// what acks asks for is true. The bytes of records are patched in place and
// not kept. A duplicate of an idempotent producer is answered when the original
// would have been.
func (l *Leader) Append(records []byte, acks Acks, now time.Time, done func(Appended, error)) {
	config := l.config.Load()
	batch, err := checkClientBatch(records, config, now)
	if err == nil && acks == AcksAll {
		err = l.checkMinISR(config)
	}
	if err == nil {
		batch, err = conform(batch, config)
	}
	if err != nil {
		l.stats.FailedProduce.Add(1)
		done(Appended{}, err)
		return
	}
	l.append(batch, log.AppendOptions{LogAppendTime: config.LogAppendTime, Now: timestamp(now), Client: true}, acks, done)
}

// AppendInternal appends a batch that this broker made (group state), past the
// disk reserve and the checks of clients' data; epoch fences it.
func (l *Leader) AppendInternal(batch record.Batch, epoch protocol.Epoch, now time.Time, done func(Appended, error)) {
	if epoch != l.Epoch() {
		done(Appended{}, protocol.Errorf(kerr.NotLeaderForPartition, "leader epoch %d, in force is %d", epoch, l.Epoch()))
		return
	}
	l.append(batch, log.AppendOptions{Now: timestamp(now), Coordinator: true}, AcksAll, done)
}

func (l *Leader) append(batch record.Batch, o log.AppendOptions, acks Acks, done func(Appended, error)) {
	count, size := int64(batch.Count()), int64(len(batch))
	info, err := l.write(batch, o)
	if err != nil {
		l.stats.FailedProduce.Add(1)
		done(Appended{}, appendError(err))
		return
	}
	if !info.Duplicate {
		l.stats.BytesIn.Add(size)
		l.stats.MessagesIn.Add(count)
	}
	at := Appended{First: info.First, AppendTime: info.AppendTime, LogStart: l.LogStart()}
	if acks == AcksNone {
		done(at, nil)
		return
	}
	// With the leader as the whole ISR its durable offset is the HW, so acks=1
	// and acks=all wait for the same.
	l.await(ack{next: info.Next, at: at, done: done})
}

// write is the only way into the log; close waits for it.
func (l *Leader) write(batch record.Batch, o log.AppendOptions) (log.AppendInfo, error) {
	l.appending.Lock()
	defer l.appending.Unlock()
	if err := l.Closed(); err != nil {
		return log.AppendInfo{}, err
	}
	return l.log.Append(batch, l.Epoch(), o)
}

func (l *Leader) checkMinISR(config *metadata.TopicConfig) error {
	row := l.row.Load()
	if need := isr.EffectiveMin(int(config.MinISR), len(row.Replicas)); len(row.ISR) < need {
		return protocol.Errorf(kerr.NotEnoughReplicas, "%d replicas are in sync, min.insync.replicas asks for %d", len(row.ISR), need)
	}
	return nil
}

// checkClientBatch makes the checks of the header that every append gets.
func checkClientBatch(records []byte, config *metadata.TopicConfig, now time.Time) (record.Batch, error) {
	if len(records) == 0 {
		return nil, protocol.Errorf(kerr.InvalidRecord, "no record batch was sent")
	}
	if len(records) > record.PrefixLen+4 && int8(records[16]) != record.Magic {
		code := kerr.InvalidRecord // the formats before 2; a later one is unknown
		if int8(records[16]) > record.Magic {
			code = kerr.CorruptMessage
		}
		return nil, protocol.Errorf(code, "record batches of magic %d are not taken, only 2", int8(records[16]))
	}
	batch, rest, err := record.Split(records)
	switch {
	case errors.Is(err, record.ErrShort):
		return nil, protocol.Errorf(kerr.InvalidRecord, "%v", err)
	case err != nil:
		return nil, protocol.Errorf(kerr.CorruptMessage, "%v", err)
	case len(rest) > 0:
		return nil, protocol.Errorf(kerr.InvalidRecord, "more than one record batch was sent for one partition")
	}
	if err := checkSize(batch, config); err != nil {
		return nil, err
	}
	if err := batch.Check(); err != nil {
		if errors.Is(err, record.ErrInvalid) {
			return nil, protocol.Errorf(kerr.InvalidRecord, "%v", err)
		}
		return nil, protocol.Errorf(kerr.CorruptMessage, "%v", err)
	}
	return batch, checkClientHeader(batch, config, now)
}

func checkSize(b record.Batch, config *metadata.TopicConfig) error {
	if len(b) > int(config.MaxMessageBytes) {
		return protocol.Errorf(kerr.MessageTooLarge, "the record batch has %d bytes, max.message.bytes is %d", len(b), config.MaxMessageBytes)
	}
	return nil
}

func checkClientHeader(b record.Batch, config *metadata.TopicConfig, now time.Time) error {
	switch {
	case b.Count() != b.LastOffsetDelta()+1:
		return protocol.Errorf(kerr.InvalidRecord, "record count %d does not match last offset delta %d", b.Count(), b.LastOffsetDelta())
	case b.BaseOffset() != 0:
		return protocol.Errorf(kerr.InvalidRecord, "the base offset of a batch sent by a client must be 0, not %d", b.BaseOffset())
	case b.Control():
		return protocol.Errorf(kerr.InvalidRecord, "clients may not write control batches")
	case b.Codec() > record.Zstd:
		return protocol.Errorf(kerr.UnsupportedCompressionType, "codec %d", b.Codec())
	case b.Transactional():
		return protocol.Errorf(kerr.TransactionalIDAuthorizationFailed, "transactions are not served")
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return protocol.Errorf(kerr.InvalidRecord, "producer epoch %d, base sequence %d of an idempotent producer", b.ProducerEpoch(), b.BaseSequence())
	case config.LogAppendTime:
		return nil
	}
	ahead, behind := int64(b.MaxTimestamp()-timestamp(now)), int64(timestamp(now)-b.BaseTimestamp())
	switch {
	case b.MaxTimestamp() >= 0 && ahead > config.TimestampAfterMaxMs:
		return protocol.Errorf(kerr.InvalidTimestamp, "timestamp %d is %d ms ahead of the broker, message.timestamp.after.max.ms is %d", b.MaxTimestamp(), ahead, config.TimestampAfterMaxMs)
	case b.BaseTimestamp() >= 0 && behind > config.TimestampBeforeMaxMs:
		return protocol.Errorf(kerr.InvalidTimestamp, "timestamp %d is %d ms behind the broker, message.timestamp.before.max.ms is %d", b.BaseTimestamp(), behind, config.TimestampBeforeMaxMs)
	}
	return nil
}

// conform looks into the records where the topic asks for it: a compacted topic
// refuses null keys, a compression.type other than producer recompresses. A
// batch that cannot be decoded is refused by such a topic only.
func conform(b record.Batch, config *metadata.TopicConfig) (record.Batch, error) {
	if config.Compact {
		for r, err := range b.Records(decodeBudget) {
			switch {
			case err != nil:
				return nil, protocol.Errorf(kerr.InvalidRecord, "%v", err)
			case r.Key == nil:
				return nil, protocol.Errorf(kerr.InvalidRecord, "a compacted topic takes no record without a key")
			}
		}
	}
	want, level, ok := config.Codec()
	if !ok || b.Codec() == want {
		return b, nil
	}
	out, err := b.Recompress(want, level, decodeBudget)
	if err != nil {
		return nil, protocol.Errorf(kerr.InvalidRecord, "%v", err)
	}
	return out, checkSize(out, config)
}

func timestamp(t time.Time) protocol.Timestamp { return protocol.Timestamp(t.UnixMilli()) }

// appendError gives the log's refusals Kafka's codes.
func appendError(err error) error {
	if _, known := errors.AsType[*protocol.Error](err); known {
		return err
	}
	code := kerr.KafkaStorageError
	switch {
	case errors.Is(err, producer.ErrOutOfOrderSequence):
		code = kerr.OutOfOrderSequenceNumber
	case errors.Is(err, producer.ErrDuplicateSequence):
		code = kerr.DuplicateSequenceNumber
	case errors.Is(err, producer.ErrInvalidProducerEpoch):
		code = kerr.InvalidProducerEpoch
	case errors.Is(err, producer.ErrInvalidTxnState):
		code = kerr.InvalidTxnState
	case errors.Is(err, log.ErrClosed):
		code = kerr.NotLeaderForPartition
	}
	return protocol.Errorf(code, "%v", err)
}
