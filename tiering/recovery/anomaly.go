package recovery

import (
	"fmt"
	"strings"

	"github.com/stratabroker/strata/protocol"
)

// Kind is what is wrong, in the words that other scrubbers use where they have one.
type Kind string

// The kinds of anomalies.
const (
	MissingIdentity  Kind = "missing_identity"           // no cluster.json or OWNER
	CorruptIdentity  Kind = "corrupt_identity"           // it does not decode
	IdentityMismatch Kind = "identity_mismatch"          // cluster.json, OWNER, root and image disagree
	MissingRoot      Kind = "missing_root"               // no whole root, or a retained one is gone
	CorruptRoot      Kind = "corrupt_root"               //
	MissingManifest  Kind = "missing_partition_manifest" // the root page of a partition's manifest
	MissingPage      Kind = "missing_manifest_page"      // a page below it
	CorruptPage      Kind = "corrupt_manifest_page"      //
	CorruptManifest  Kind = "corrupt_manifest_object"    // head or footer of an object whose pages are good
	SummaryMismatch  Kind = "manifest_summary_mismatch"  // a page does not hold what its parent or the row says
	OffsetGap        Kind = "offset_gap"                 // the manifest does not cover [log start, tiered end)
	OffsetOverlap    Kind = "offset_overlap"             // it goes beyond the tiered end
	MissingSegment   Kind = "missing_segment"            //
	SegmentSize      Kind = "segment_size_mismatch"      // shortened, or longer than its entry says
	SwappedSegment   Kind = "swapped_segment"            // a whole object, but another one
	CorruptSegment   Kind = "corrupt_segment"            // batches, indexes or footer
	BadCompaction    Kind = "compaction_mismatch"        // what an entry says of its compaction is not true, or a compacted one lies above one that is not
	NewerFormat      Kind = "newer_format"               // not damage: a newer strata wrote it, this one cannot judge
)

// missing tells whether the kind may also mean that the sweeper was there.
func (k Kind) missing() bool {
	return k == MissingRoot || k == MissingManifest || k == MissingPage || k == MissingSegment
}

// Anomaly is one thing that is wrong with a bucket.
type Anomaly struct {
	Kind      Kind
	Topic     string // name, or id where the image does not know it; "" where no partition is concerned
	Partition int32
	Base, End protocol.Offset // [Base, End) is what it concerns; none where both are 0
	Object    string          // key
	Detail    string
}

// String gives one line: the kind, then name=value pairs, then the detail.
func (a Anomaly) String() string {
	var b strings.Builder
	b.WriteString(string(a.Kind))
	if a.Topic != "" {
		fmt.Fprintf(&b, " topic=%s partition=%d", a.Topic, a.Partition)
	}
	if a.Base != 0 || a.End != 0 {
		fmt.Fprintf(&b, " offsets=[%d,%d)", a.Base, a.End)
	}
	if a.Object != "" {
		fmt.Fprintf(&b, " object=%s", a.Object)
	}
	if a.Detail != "" {
		b.WriteString(": " + strings.ReplaceAll(a.Detail, "\n", " "))
	}
	return b.String()
}
