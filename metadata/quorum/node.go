// Package quorum runs the metadata on Raft: one node of one broker. It adapts
// metadata.Apply to hashicorp/raft, proposes commands, and publishes each new
// image with its delta. It does not know what the commands mean. Only the
// composition root opens a Node; everybody else is handed what it needs of one.
package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/raftstore"
	"github.com/stratabroker/strata/protocol"
)

// Errors of a Node, beside the refusals of package metadata.
var (
	ErrNotLeader      = errors.New("this broker does not lead the metadata quorum")           // nothing was proposed
	ErrUnknownOutcome = errors.New("metadata command was proposed, its outcome is not known") // ask the image
	ErrClosed         = errors.New("metadata quorum is closed")
	ErrFailed         = errors.New("metadata quorum has failed, the broker must stop")
	ErrInUse          = raftstore.ErrInUse
	ErrNewerFormat    = errors.New("metadata folder is of a newer format")
	ErrDamaged        = errors.New("metadata folder is damaged") // nothing was changed in it
	ErrForeignFolder  = errors.New("folder is not the metadata of this broker")
)

// Defaults of Config.
const (
	DefaultSnapshotEntries = 1024
	DefaultSnapshotBytes   = 16 << 20
	DefaultTrailingEntries = 1024
)

// Config of a Node.
type Config struct {
	Dir         string // made if missing; one node at a time
	NodeID      protocol.BrokerID
	DirectoryID metadata.DirectoryID // of the disk that Dir lies on: a new disk is another Raft server
	Logger      *slog.Logger
	// Transport carries Raft between brokers; it is closed with the node if it
	// is a raft.WithClose. nil: one in memory, for a voter that is alone.
	Transport raft.Transport
	// Bootstrap founds a cluster with this node as its only voter where Dir holds none.
	Bootstrap bool
	// Seed, if set, gives the image that a cluster founded by Bootstrap begins with, instead of an empty
	// one. It is asked only where Dir holds no metadata, and again after a crash before that was durable.
	Seed func() (*metadata.Image, error)
	// A snapshot is taken, and the log cut, after so many entries (or one for
	// every four partitions, if that is more) or so many bytes of commands; the last
	// TrailingEntries stay for brokers that lag a little. 0: the defaults.
	SnapshotEntries uint64
	SnapshotBytes   int64
	TrailingEntries uint64
}

// Node is one member of the metadata quorum. All methods may run concurrently.
type Node struct {
	config Config
	id     raft.ServerID
	store  *raftstore.Store
	trans  raft.Transport
	raft   *raft.Raft
	fsm    *fsm

	failure  atomic.Pointer[error]
	failed   chan struct{} // closed once, after failure was set
	failOnce sync.Once

	observer *raft.Observer
	kick     chan raft.Observation // something about the leader has changed
	stop     chan struct{}         // closed by Close
	over     chan struct{}         // closed when Raft's goroutines have ended
	end      func()                // ends them and waits; may be called many times
	work     sync.WaitGroup        // goroutines of the node

	mu      sync.Mutex // guards the fields below; held for moments only
	closed  bool
	leading bool          // this node leads and has applied all that was committed before
	turned  chan struct{} // closed and replaced when leading or the known leader changes
}

// Open starts the node on its folder. A lone voter is leader soon after; use
// WaitLeader. Errors: ErrInUse, ErrNewerFormat, ErrForeignFolder, or of the disk.
func Open(ctx context.Context, config Config) (_ *Node, err error) {
	config = config.withDefaults()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkFormat(config.Dir); err != nil {
		return nil, err
	}
	n := &Node{
		config: config,
		id:     serverID(config.NodeID, config.DirectoryID),
		failed: make(chan struct{}),
		kick:   make(chan raft.Observation, 1),
		stop:   make(chan struct{}),
		over:   make(chan struct{}),
		turned: make(chan struct{}),
	}
	n.end = sync.OnceFunc(func() {
		_ = n.raft.Shutdown().Error() // it has none
		close(n.over)
	})
	n.fsm = newFSM(n.fail)
	n.store, err = raftstore.Open(raftstore.Config{
		Dir: filepath.Join(config.Dir, "store"), Logger: config.Logger, Failed: n.fail,
	})
	if err != nil {
		return nil, err
	}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, n.store.Close())
	}
	return n, nil
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = DefaultSnapshotEntries
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = DefaultSnapshotBytes
	}
	if c.TrailingEntries == 0 {
		c.TrailingEntries = DefaultTrailingEntries
	}
	return c
}

// serverID names the disk as well as the broker: a broker with a new disk must
// join anew, so that it can never vote twice in one term.
func serverID(node protocol.BrokerID, dir metadata.DirectoryID) raft.ServerID {
	return raft.ServerID(fmt.Sprintf("%d-%x", node, dir[:]))
}

func brokerOf(id raft.ServerID) protocol.BrokerID {
	node, _, _ := strings.Cut(string(id), "-")
	n, err := strconv.ParseInt(node, 10, 32)
	if err != nil {
		return protocol.NoBroker
	}
	return protocol.BrokerID(n)
}

// start runs Raft over the open store.
func (n *Node) start() error {
	logger := newRaftLogger(n.config.Logger)
	snapshots, err := openSnapshots(n.config.Dir, logger)
	if err != nil {
		return err
	}
	n.trans = n.config.Transport
	if n.trans == nil {
		_, inmem := raft.NewInmemTransport(raft.ServerAddress(n.id))
		inmem.Connect(inmem.LocalAddr(), inmem)
		n.trans = inmem
	}
	if n.config.Bootstrap {
		if err := n.bootstrap(snapshots); err != nil {
			return err
		}
	}
	if err := n.checkWhole(snapshots); err != nil {
		return err
	}
	conf := raft.DefaultConfig()
	conf.LocalID = n.id
	conf.Logger = logger
	conf.ShutdownOnRemove = false
	conf.NoLegacyTelemetry = true
	conf.TrailingLogs = n.config.TrailingEntries
	// Snapshots are asked for by the node, which knows bytes too.
	conf.SnapshotInterval = never
	conf.SnapshotThreshold = ^uint64(0)
	n.raft, err = raft.NewRaft(conf, n.fsm, n.store, n.store, snapshots, n.trans)
	if err != nil {
		if failure := n.Err(); failure != nil {
			err = failure
		}
		return fmt.Errorf("start metadata quorum: %w", err)
	}
	lone, err := n.lone()
	if err != nil {
		n.end()
		return err
	}
	n.observer = raft.NewObserver(n.kick, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	n.raft.RegisterObserver(n.observer)
	n.work.Go(n.watch)
	n.work.Go(n.snapshotWhenDue)
	n.work.Go(n.stopRaftOnFailure)
	if lone {
		n.standForElection()
	}
	return nil
}

const never = 10 * 365 * 24 * time.Hour

// bootstrap founds a cluster of one where the folder holds none.
func (n *Node) bootstrap(snapshots raft.SnapshotStore) error {
	last, err := n.store.LastIndex()
	if err != nil {
		return err
	}
	kept, err := snapshots.List()
	if err != nil {
		return fmt.Errorf("list metadata snapshots: %w", err)
	}
	if last > 0 || len(kept) > 0 {
		return nil
	}
	self := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: n.id, Address: n.trans.LocalAddr()}}}
	if n.config.Seed != nil {
		return n.seed(snapshots, self)
	}
	return n.store.Bootstrap(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(self)})
}

// seed founds a cluster of one on an image that another one left: as a snapshot at the image's
// index, after which the log goes on. The snapshot is one rename, synced: before it the folder holds nothing.
func (n *Node) seed(snapshots raft.SnapshotStore, self raft.Configuration) error {
	img, err := n.config.Seed()
	if err != nil {
		return err
	}
	if err := checkVersion(img); err != nil {
		return err
	}
	const term = 1
	if err := n.store.SetTerm(term); err != nil {
		return err
	}
	sink, err := snapshots.Create(raft.SnapshotVersionMax, img.Index(), term, self, img.Index(), n.trans)
	if err != nil {
		return fmt.Errorf("seed the metadata: %w", err)
	}
	if _, err := sink.Write(metadata.MarshalImage(img)); err != nil {
		return errors.Join(fmt.Errorf("seed the metadata: %w", err), sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("seed the metadata: %w", err)
	}
	return nil
}

// lone tells whether this node is the only voter. A node that can reach nobody
// and is no member would wait for ever: that is an error.
func (n *Node) lone() (bool, error) {
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return false, fmt.Errorf("read the quorum's configuration: %w", err)
	}
	voters, self := 0, false
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || s.ID == n.id
		}
	}
	if n.config.Transport == nil && (!self || voters > 1) {
		return false, fmt.Errorf("%w: %s is not the only voter of %v in %s", ErrForeignFolder, n.id, f.Configuration().Servers, n.config.Dir)
	}
	return self && voters == 1, nil
}

// standForElection makes a lone voter leader at once: it has nobody to wait
// for. (Short election timeouts instead would stay for the node's life, and
// the leader's lease cannot be set later.)
func (n *Node) standForElection() {
	n.work.Go(func() {
		req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.id), Addr: n.trans.EncodePeer(n.id, n.trans.LocalAddr()),
		}}
		if err := n.trans.TimeoutNow(n.id, n.trans.LocalAddr(), req, new(raft.TimeoutNowResponse)); err != nil {
			n.config.Logger.Warn("lone voter waits for its election timeout", "error", err)
		}
	})
}

// Image is the newest image that this broker has applied. It never blocks.
func (n *Node) Image() *metadata.Image { return n.fsm.image.Load() }

// Subscribe calls fn once at once with all there is, as a delta from nothing,
// and from then on with each delta and the image it led to, in order, on the
// goroutine that applies, before Propose returns. fn must not block, Propose or
// Subscribe; it runs until the node is closed.
func (n *Node) Subscribe(fn func(metadata.Delta, *metadata.Image)) { n.fsm.subscribe(fn) }

// IsLeader tells whether this node leads the quorum and has applied all that was committed before it did.
func (n *Node) IsLeader() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leading
}

// Leader is the broker that leads the quorum as far as this one knows, NoBroker when it knows none.
func (n *Node) Leader() protocol.BrokerID {
	_, id := n.raft.LeaderWithID()
	return brokerOf(id)
}

// WaitLeader returns when the quorum has a leader that this broker knows of; if
// that is itself, when it has applied all that was committed before.
func (n *Node) WaitLeader(ctx context.Context) error {
	for {
		n.mu.Lock()
		turned, leading := n.turned, n.leading
		n.mu.Unlock()
		if l := n.Leader(); leading || l != protocol.NoBroker && n.raft.State() != raft.Leader {
			return nil
		}
		select {
		case <-turned:
		case <-n.failed:
			return n.Err()
		case <-n.stop:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("wait for a leader of the metadata quorum: %w", ctx.Err())
		}
	}
}

// watch keeps leading up to date.
func (n *Node) watch() {
	for {
		leading := n.raft.State() == raft.Leader && n.settle(n.raft.Barrier(0)) == nil
		n.mu.Lock()
		n.leading = leading
		close(n.turned)
		n.turned = make(chan struct{})
		n.mu.Unlock()
		select {
		case <-n.kick:
		case <-n.stop:
			return
		}
	}
}

// snapshotWhenDue takes a snapshot when the log has grown by one of the thresholds.
func (n *Node) snapshotWhenDue() {
	for {
		select {
		case <-n.fsm.grown:
		case <-n.stop:
			return
		}
		if !n.fsm.due(n.config.SnapshotEntries, n.config.SnapshotBytes) {
			continue
		}
		if err := n.Snapshot(); err != nil && !errors.Is(err, ErrClosed) {
			n.config.Logger.Warn("metadata snapshot failed, the log goes on growing", "error", err)
		}
	}
}

// Snapshot writes a snapshot now and cuts the log behind it; it is durable when nil is returned.
func (n *Node) Snapshot() error {
	err := n.settle(n.raft.Snapshot())
	switch {
	case err == nil, errors.Is(err, raft.ErrNothingNewToSnapshot):
		return nil
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	}
	return fmt.Errorf("snapshot the metadata: %w", err)
}

// fail makes the node useless for good. It may be called on any goroutine of Raft, so it only signals.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
		n.failure.Store(&err)
		close(n.failed)
	})
}

// stopRaftOnFailure ends Raft at once: it would go on after a failed write of
// its log, and panic at the next election.
func (n *Node) stopRaftOnFailure() {
	select {
	case <-n.failed:
		n.config.Logger.Error("metadata quorum has failed", "error", n.Err())
		n.end()
	case <-n.stop:
	}
}

// Failed is closed when the node cannot go on: its disk failed, or the log
// holds what this binary does not know. The broker must stop; Err says why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Err is nil until Failed is closed; then it wraps ErrFailed.
func (n *Node) Err() error {
	if err := n.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Close stops the node and frees its folder. Proposals under way get ErrUnknownOutcome.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return ErrClosed
	}
	n.closed = true
	n.mu.Unlock()
	close(n.stop)
	n.end()
	n.raft.DeregisterObserver(n.observer)
	n.work.Wait()
	return n.store.Close()
}

// settle waits for an answer of Raft. Raft may drop one when it is shut down;
// the goroutine then waits to the end of the process.
func (n *Node) settle(f raft.Future) error {
	answer := make(chan error, 1)
	go func() { answer <- f.Error() }()
	select {
	case err := <-answer:
		return err
	case <-n.over:
		return raft.ErrRaftShutdown
	}
}
