// Package format is the bytes of the bucket: object names, cluster.json and
// OWNER, segment objects, the copy-on-write manifest tree and the root. It is
// pure: pages come through a Load function, objects go out as byte slices or
// readers, randomness and time come in as arguments. It does not know the
// object store, the policy of tiering or the image. Package tiering, its
// shells and tiering/recovery use it. README.md draws the bytes.
package format

import (
	"errors"
	"fmt"
)

// FormatVersion is the format version that this code writes, in every footer and page. It
// reads this and all older ones.
const FormatVersion = 1

// Errors of the decoders, matched with errors.Is.
var (
	// ErrCorrupt is what every CorruptError wraps.
	ErrCorrupt = errors.New("corrupt")
	// ErrNewerFormat means that a newer strata wrote the object: nothing is wrong with it.
	ErrNewerFormat = errors.New("format version is newer than this strata reads")
	// ErrForeign is given for a key that no strata object has.
	ErrForeign = errors.New("not the key of a strata object")
	// ErrInvalid refuses an Edit or a SegmentMeta that would break the manifest's or
	// the object's invariants: the caller's bug or a lost race, never damage.
	ErrInvalid = errors.New("invalid")
)

// CorruptError says which part of which kind of object is damaged, and how.
type CorruptError struct {
	Part   Part
	Detail string // with the numbers that disagree
}

// Part is the part of the bucket that a CorruptError blames.
type Part string

// The parts.
const (
	ClusterPart  Part = "cluster.json"
	OwnerPart    Part = "OWNER"
	FooterPart   Part = "footer"
	IdentityPart Part = "identity" // the object is whole but is not the one that was asked for
	IndexPart    Part = "index"
	ChunkPart    Part = "chunk"
	BatchPart    Part = "batch"
	PagePart     Part = "page"
	RootPart     Part = "root"
	EntryPart    Part = "manifest entry" // the object is good
)

// Error gives "corrupt <part>: <detail>".
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v %s: %s", ErrCorrupt, string(e.Part), e.Detail)
}

// Unwrap gives ErrCorrupt.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

func corrupt(part Part, format string, args ...any) error {
	return &CorruptError{Part: part, Detail: fmt.Sprintf(format, args...)}
}

func newer(part Part, version uint64) error {
	return fmt.Errorf("%s: %w: %d, newest known is %d", string(part), ErrNewerFormat, version, FormatVersion)
}
