package log

import (
	"context"
	"io"
	"time"

	"github.com/stratabroker/strata/protocol"
)

type Dir struct{}
type Log struct{}
type Slice struct{}

func OpenDir(cfg DirConfig) (*Dir, error)             { panic("being written") }
func (d *Dir) Clean() bool                            { panic("being written") }
func (d *Dir) CleanBrokerEpoch() protocol.BrokerEpoch { panic("being written") }
func (d *Dir) SetBrokerEpoch(e protocol.BrokerEpoch)  { panic("being written") }
func (d *Dir) SameBoot() bool                         { panic("being written") }
func (d *Dir) Partitions() ([]Found, error)           { panic("being written") }
func (d *Dir) SetAside(name string) error             { panic("being written") }
func (d *Dir) Checkpoint() error                      { panic("being written") }
func (d *Dir) Close(clean bool) error                 { panic("being written") }
func (d *Dir) Free() (int64, error)                   { panic("being written") }
func (d *Dir) BelowReserve() bool                     { panic("being written") }
func (d *Dir) OpenLog(topic string, key protocol.PartitionKey, cfg Config, init Init, events Events) (*Log, Recovery, error) {
	panic("being written")
}
func (l *Log) Append(batches []byte, epoch protocol.Epoch, o AppendOptions) (AppendInfo, error) {
	panic("being written")
}
func (l *Log) Start() protocol.Offset              { panic("being written") }
func (l *Log) LEO() protocol.Offset                { panic("being written") }
func (l *Log) Durable() protocol.Offset            { panic("being written") }
func (l *Log) RecoveryPoint() protocol.Offset      { panic("being written") }
func (l *Log) SetHighWatermark(hw protocol.Offset) { panic("being written") }
func (l *Log) Read(from, below protocol.Offset, maxBytes int, minOne bool) (Slice, error) {
	panic("being written")
}
func (s Slice) Len() int                                { panic("being written") }
func (s Slice) First() protocol.Offset                  { panic("being written") }
func (s Slice) Next() protocol.Offset                   { panic("being written") }
func (s Slice) WriteTo(w io.Writer) (int64, error)      { panic("being written") }
func (s Slice) Bytes() ([]byte, error)                  { panic("being written") }
func (s Slice) ReadAt(p []byte, off int64) (int, error) { panic("being written") }
func (s Slice) Release()                                { panic("being written") }
func (l *Log) OffsetForTime(ts protocol.Timestamp, below protocol.Offset) (TimedOffset, bool, error) {
	panic("being written")
}
func (l *Log) MaxTimestamp(below protocol.Offset) (TimedOffset, bool, error) { panic("being written") }
func (l *Log) EpochEnd(e protocol.Epoch) (protocol.Epoch, protocol.Offset, bool) {
	panic("being written")
}
func (l *Log) LatestEpoch() protocol.Epoch                               { panic("being written") }
func (l *Log) Epochs() []protocol.EpochStart                             { panic("being written") }
func (l *Log) AssignEpoch(e protocol.Epoch, start protocol.Offset) error { panic("being written") }
func (l *Log) Aborted(from, to protocol.Offset) ([]protocol.AbortedTxn, error) {
	panic("being written")
}
func (l *Log) LastStable(hw protocol.Offset) protocol.Offset              { panic("being written") }
func (l *Log) Sealed(from, below protocol.Offset) ([]SegmentRange, error) { panic("being written") }
func (l *Log) OpenSealed(r SegmentRange) (SealedReader, error)            { panic("being written") }
func (l *Log) SetStart(o protocol.Offset) error                           { panic("being written") }
func (l *Log) Evict(below protocol.Offset, keepBytes int64, keepAge time.Duration, now time.Time) (segments int, bytes int64, err error) {
	panic("being written")
}
func (l *Log) RetentionStart(now time.Time, age time.Duration, bytes int64, below protocol.Offset) (protocol.Offset, error) {
	panic("being written")
}
func (l *Log) Truncate(to protocol.Offset) error     { panic("being written") }
func (l *Log) TruncateFully(init Init) error         { panic("being written") }
func (l *Log) MaybeRoll(now time.Time) (bool, error) { panic("being written") }
func (l *Log) Roll() error                           { panic("being written") }
func (l *Log) Flush(ctx context.Context) error       { panic("being written") }
func (l *Log) Size() int64                           { panic("being written") }
func (l *Log) Segments() int                         { panic("being written") }
func (l *Log) SetConfig(cfg Config)                  { panic("being written") }
func (l *Log) Delete() error                         { panic("being written") }
func (l *Log) Close() error                          { panic("being written") }
