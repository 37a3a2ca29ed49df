// Package plan decides what is done next with one partition: what to upload, how far retention
// moves the log start, when manifest entries are dropped, and what a cold compaction takes on. It is pure: a view, a policy and the time go in, values come out. It
// knows offsets, sizes and timestamps; it does not know objects, disks,
// metadata commands or who leads. Package tiering acts on it; the broker root
// fills in Policy.
package plan

import (
	"fmt"
	"iter"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/compact"
)

// Unlimited is the value of a retention limit that does not limit.
const Unlimited = -1

// Policy is what a topic's settings mean to its cold tier.
type Policy struct {
	RetentionMs    int64 // retention.ms, over both tiers; Unlimited for none
	RetentionBytes int64 // retention.bytes of one partition, over both tiers; Unlimited for none
	CopyDisabled   bool  // remote.log.copy.disable: nothing new is uploaded (KIP-950)
	CopyLagMs      int64 // remote.copy.lag.ms (KIP-1241); Unlimited for none
	CopyLagBytes   int64 // remote.copy.lag.bytes; Unlimited for none

	Compact    bool // cleanup.policy holds compact; with delete beside it the limits above hold too
	Compaction Compaction
}

// Expires tells whether the policy ever moves a log start.
func (p Policy) Expires() bool {
	return p.RetentionMs >= 0 || p.RetentionBytes >= 0
}

// Segment is one sealed segment of either tier: a manifest entry or a sealed range of the hot log.
type Segment struct {
	Base, End    protocol.Offset // [Base, End)
	Bytes        int64           // of its batches
	MaxTimestamp protocol.Timestamp
	Sealed       protocol.Timestamp // when it was sealed, by the broker's clock; 0 or less: not known
}

// View is one partition as the image and the hot log show it.
type View struct {
	LogStart  protocol.Offset
	TieredEnd protocol.Offset
	Committed protocol.Offset // the high watermark: nothing above it is looked at
	Bytes     int64           // of batches in both tiers, from the log start on
	HotBytes  int64           // of them, those above the tiered end
}

// Uploads says how many of the sealed hot segments, which begin at the tiered
// end, go into the next manifest commit: as many as hold at most limit bytes,
// but one also where it alone holds more. Segments that do not continue the cold
// tier, or lie above what is committed, break an invariant of the hot log: the error names them.
// It stops at the first that is not due by remote.copy.lag.ms and remote.copy.lag.bytes.
func Uploads(p Policy, v View, sealed []Segment, limit int64, now protocol.Timestamp) (int, error) {
	if p.CopyDisabled {
		return 0, nil
	}
	next, total := v.TieredEnd, int64(0)
	for i, s := range sealed {
		if s.Base != next || s.End <= s.Base {
			return 0, fmt.Errorf("sealed range [%d, %d) does not continue the tiered end at %d", s.Base, s.End, next)
		}
		if s.End > v.Committed {
			return 0, fmt.Errorf("sealed range [%d, %d) reaches above the committed end %d", s.Base, s.End, v.Committed)
		}
		if total += s.Bytes; i > 0 && total > limit || !p.copyDue(s, v.HotBytes-total, now) {
			return i, nil
		}
		next = s.End
	}
	return len(sealed), nil
}

// copyDue tells whether a sealed segment, above which lie so many bytes, has waited long enough: for either of the
// two, as in Kafka. One from the future, or without a time, has.
func (p Policy) copyDue(s Segment, above int64, now protocol.Timestamp) bool {
	switch age := int64(now) - int64(s.MaxTimestamp); {
	case p.CopyLagMs == 0, p.CopyLagBytes == 0:
		return true
	case p.CopyLagMs > 0 && (s.MaxTimestamp < 0 || age < 0 || age >= p.CopyLagMs):
		return true
	default:
		return p.CopyLagBytes > 0 && above >= p.CopyLagBytes
	}
}

// LogStart says where total retention puts the log start: the view's own where
// nothing expires. segments are those that end above the log start, oldest
// first, of the cold tier and then of the hot one; it stops reading at the
// first that stays. Whole segments expire:
//
//   - by time, when the greatest timestamp is older than retention.ms. A record
//     from the future counts as written when its segment was sealed, else it
//     would hold all that follows it for ever (KAFKA-20609). One that is from the past by
//     now is as old as it says: the clock may have been wrong when the segment was sealed;
//   - by size, while what is left without the segment is still at least retention.bytes.
//
// An error is that of segments.
func LogStart(p Policy, v View, segments iter.Seq2[Segment, error], now protocol.Timestamp) (protocol.Offset, error) {
	start, left := v.LogStart, v.Bytes
	if !p.Expires() {
		return start, nil
	}
	for s, err := range segments {
		if err != nil {
			return v.LogStart, err
		}
		if s.End > v.Committed || !p.tooOld(s, now) && !p.tooMuch(left-s.Bytes) {
			break
		}
		start, left = max(start, s.End), left-s.Bytes
	}
	return start, nil
}

// HotStart is LogStart where nothing is known of the cold tier: of the sealed hot segments alone, oldest first,
// Bytes being those of the hot tier. What precedes them goes with them, so it must be sure to have expired too.
// By size it has. By time it has where a segment was also sealed so long ago, for what precedes it was sealed before.
func HotStart(p Policy, v View, sealed []Segment, now protocol.Timestamp) protocol.Offset {
	start, left := v.LogStart, v.Bytes
	for _, s := range sealed {
		old := s.Sealed > 0 && p.tooOld(s, now) && p.tooOld(Segment{MaxTimestamp: s.Sealed}, now)
		if s.End > v.Committed || !old && !p.tooMuch(left-s.Bytes) {
			break
		}
		start, left = max(start, s.End), left-s.Bytes
	}
	return start
}

func (p Policy) tooMuch(left int64) bool { return p.RetentionBytes >= 0 && left >= p.RetentionBytes }

func (p Policy) tooOld(s Segment, now protocol.Timestamp) bool {
	at := s.written(now)
	// A segment without any time stays: nothing says that it is old.
	return p.RetentionMs >= 0 && at >= 0 && int64(now)-int64(at) > p.RetentionMs
}

// written is when the last record of a segment was written, as compaction takes it in both tiers.
func (s Segment) written(now protocol.Timestamp) protocol.Timestamp {
	return compact.Written(s.MaxTimestamp, s.Sealed, now)
}

// Drop tells whether a manifest's first entry is wholly below the log start,
// so that a new version without it is due.
func Drop(logStart protocol.Offset, first Segment) bool { return first.End <= logStart }
