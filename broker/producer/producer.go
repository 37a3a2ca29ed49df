// Package producer is what one partition knows of its idempotent and
// transactional producers (KIP-98): the last batches of each, which find
// duplicates and gaps; its epoch, which fences zombies; open transactions, which
// hold back the last stable offset; and the bytes of Kafka's .snapshot and
// .txnindex files. It is pure and takes no locks: package broker/log, its only
// user besides tools, calls it under the partition's lock.
package producer

import (
	"errors"

	"github.com/stratabroker/strata/protocol"
)

// Errors of Check and CheckCoordinator. A batch refused changes nothing.
var (
	// ErrOutOfOrderSequence: a batch is missing before this one.
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrDuplicateSequence: this batch was appended, so long ago that its offset is no longer known.
	ErrDuplicateSequence = errors.New("duplicate sequence number")
	// ErrInvalidProducerEpoch: a newer life of this producer has written here.
	ErrInvalidProducerEpoch = errors.New("producer epoch is fenced")
	// ErrInvalidTxnState: a batch outside of a transaction from a producer that has one open.
	ErrInvalidTxnState = errors.New("invalid transaction state")
	// ErrCoordinatorFenced: a marker of a transaction coordinator that has been replaced.
	ErrCoordinatorFenced = errors.New("transaction coordinator is fenced")
)

// ErrCorrupt means that the bytes of a snapshot or aborted index are not what was written.
var ErrCorrupt = errors.New("producer state is corrupt")

// BatchMeta says where one batch of a producer was appended.
type BatchMeta struct {
	FirstSequence, LastSequence int32
	First, Last                 protocol.Offset    // of its first and last record
	AppendTime                  protocol.Timestamp // wall clock of the append
}
