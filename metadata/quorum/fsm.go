package quorum

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/stratabroker/strata/metadata"
)

var errNotDecodable = errors.New("entry of the metadata log cannot be decoded")

// response is what the FSM answers to a proposer.
type response struct {
	result metadata.Result
	err    error
}

// fsm applies the log to the image. Raft calls it on one goroutine, but for
// Persist of a snapshot.
type fsm struct {
	image atomic.Pointer[metadata.Image]
	fail  func(error)
	grown chan struct{} // something was applied since the last look
	dead  error         // the entry it could not apply; set on the applying goroutine

	entries atomic.Uint64 // applied since the last snapshot
	bytes   atomic.Int64

	publishing  sync.Mutex // guards subscribers, and that they see images in order
	subscribers []func(metadata.Delta, *metadata.Image)
}

var (
	_ raft.BatchingFSM = (*fsm)(nil)
	_ raft.FSMSnapshot = (*snapshot)(nil)
)

func newFSM(fail func(error)) *fsm {
	f := &fsm{fail: fail, grown: make(chan struct{}, 1)}
	f.image.Store(metadata.EmptyImage())
	return f
}

func (f *fsm) subscribe(fn func(metadata.Delta, *metadata.Image)) {
	f.publishing.Lock()
	defer f.publishing.Unlock()
	img := f.image.Load()
	fn(metadata.Diff(metadata.EmptyImage(), img), img)
	f.subscribers = append(f.subscribers, fn)
}

// publish makes img the image and tells the subscribers.
func (f *fsm) publish(delta metadata.Delta, img *metadata.Image) {
	f.publishing.Lock()
	defer f.publishing.Unlock()
	f.image.Store(img)
	for _, fn := range f.subscribers {
		fn(delta, img)
	}
}

// Apply is called for one entry where Raft has no batch.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries that are committed. Their proposers are answered after it returns.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	for i, l := range logs {
		out[i] = f.applyOne(l)
		f.entries.Add(1)
		f.bytes.Add(int64(len(l.Data)))
	}
	select {
	case f.grown <- struct{}{}:
	default:
	}
	return out
}

func (f *fsm) applyOne(l *raft.Log) response {
	if f.dead != nil {
		return response{err: f.dead}
	}
	if l.Type != raft.LogCommand {
		return response{}
	}
	var cmd metadata.Command
	if err := proto.Unmarshal(l.Data, &cmd); err != nil {
		return f.die(l.Index, fmt.Errorf("%w: %w", errNotDecodable, err))
	}
	if metadata.LevelOf(&cmd) == metadata.UnknownLevel {
		return f.die(l.Index, metadata.ErrUnknownCommand)
	}
	img, delta, result, err := metadata.Apply(f.image.Load(), &cmd, l.Index)
	f.publish(delta, img)
	if err := checkVersion(img); err != nil {
		return f.die(l.Index, err)
	}
	return response{result, err}
}

// die stops applying for good: an image without this entry, or with what this
// binary reads wrongly, must not go on, nor into a snapshot.
func (f *fsm) die(index uint64, err error) response {
	f.dead = fmt.Errorf("%w: entry %d: %w", ErrFailed, index, err)
	f.fail(f.dead)
	return response{err: f.dead}
}

func checkVersion(img *metadata.Image) error {
	if v := img.Version(); v > metadata.MaxVersion || v != 0 && v < metadata.MinVersion {
		return fmt.Errorf("%w: it is %d, this binary knows %d to %d", metadata.ErrUnsupportedVersion, v, metadata.MinVersion, metadata.MaxVersion)
	}
	return nil
}

// due tells whether a snapshot is worth its write: it writes every row, and
// saves the next start some 15 us an entry.
func (f *fsm) due(entries uint64, bytes int64) bool {
	entries = max(entries, uint64(f.image.Load().PartitionCount())/4)
	return f.entries.Load() >= entries || f.bytes.Load() >= bytes
}

// Snapshot pins the image; Raft persists it beside further applies.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.dead != nil {
		return nil, f.dead
	}
	s := &snapshot{fsm: f, image: f.image.Load(), entries: f.entries.Load(), bytes: f.bytes.Load()}
	return s, nil
}

// Restore replaces the image by that of a snapshot. One that cannot be read ends the node.
func (f *fsm) Restore(r io.ReadCloser) error {
	if f.dead != nil { // Raft would go on with an older snapshot
		return f.dead
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read metadata snapshot: %w", err)
	}
	img, err := metadata.UnmarshalImage(raw)
	if err == nil {
		err = checkVersion(img)
	}
	if err != nil {
		f.dead = fmt.Errorf("%w: %w", ErrFailed, err)
		f.fail(f.dead)
		return f.dead
	}
	f.publish(metadata.Diff(f.image.Load(), img), img)
	f.entries.Store(0)
	f.bytes.Store(0)
	return nil
}

// snapshot is an image on its way to disk, with what the log had grown by.
type snapshot struct {
	fsm     *fsm
	image   *metadata.Image
	entries uint64
	bytes   int64
}

// Persist writes the snapshot; the sink syncs it when closed.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(metadata.MarshalImage(s.image)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	s.fsm.entries.Add(-s.entries)
	s.fsm.bytes.Add(-s.bytes)
	return nil
}

// Release has nothing to free.
func (s *snapshot) Release() {}
