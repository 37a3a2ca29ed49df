// Package broker is the composition root: it opens the data folder, the
// metadata quorum, the logs and the bucket, joins the rooms by the small
// interfaces that each declares, serves, and takes everything down in order.
// It is the only place where everything meets. Package cmd/strata calls New
// and Run; tests may run a broker in their own process.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/api"
	"github.com/stratabroker/strata/broker/coordinator"
	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/loggers"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/metadata/quorum"
	"github.com/stratabroker/strata/protocol"
)

// strataVersion is the level of the feature strata.version that this binary finalises and can apply.
const strataVersion = 1

// Broker is one running broker that is its own controller.
type Broker struct {
	cfg    Config
	folder *folder
	node   *quorum.Node
	dir    *log.Dir
	bucket *bucket // nil where none is set

	restore *restore // nil unless one is under way

	replicas    *replica.Manager
	admin       *admin.Admin
	groups      *coordinator.Coordinator
	groupMemory *group.Memory
	cleaner     *log.Cleaner
	handler     *api.Handler
	loggers     *loggers.Registry
	server      atomic.Pointer[server.Server]
	http        *httpServer
	bound       []server.Listener
	cold        replica.Cold

	memory     int64        // strata.memory.max.bytes in force
	epoch      atomic.Int64 // protocol.BrokerEpoch in force
	ready      atomic.Bool
	background sync.WaitGroup
	closeOnce  sync.Once
	closeErr   error
}

// New opens everything and registers the broker; it serves from Run on. An
// error is one line for people: what could not be opened, and why. Nothing is
// left running then.
func New(ctx context.Context, cfg Config) (_ *Broker, err error) {
	b := &Broker{cfg: cfg, loggers: loggers.Of(cfg.Logger)}
	b.cfg.Logger = b.loggers.Logger("broker")
	if b.cfg.Fatal == nil {
		b.cfg.Fatal = func(err error) {
			b.cfg.Logger.Error("the broker cannot go on", "error", err)
			os.Exit(1)
		}
	}
	defer func() {
		if err != nil {
			_ = b.close(false) // the first error is the one to tell
		}
	}()
	if b.memory, err = MemoryMax(cfg.Static); err != nil {
		return nil, err
	}
	steps := []func(context.Context) error{b.bind, b.openFolder, b.openStore, b.openQuorum, b.bindBucket, b.openReplicas, b.finishRestore, b.openServing}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *Broker) self() protocol.BrokerID { return protocol.BrokerID(b.cfg.Static.Int("node.id")) }

// bind takes the ports first, so that a taken one stops the start before
// anything is touched.
func (b *Broker) bind(ctx context.Context) error {
	clients, err := b.cfg.Static.ClientListeners()
	if err != nil {
		return err
	}
	buffers := server.Buffers{
		Send: int(b.cfg.Static.Int("socket.send.buffer.bytes")), Receive: int(b.cfg.Static.Int("socket.receive.buffer.bytes")),
	}
	for _, l := range clients {
		bound, err := server.Listen(ctx, l.Name, l.Addr(), buffers)
		if err != nil {
			return fmt.Errorf("listeners=%s: %w", b.cfg.Static.String("listeners"), err)
		}
		b.bound = append(b.bound, bound)
	}
	b.http, err = listenHTTP(ctx, b.cfg.Static.String("strata.http.listen"))
	return err
}

func (b *Broker) openFolder(context.Context) error {
	path, err := filepath.Abs(b.cfg.Static.LogDir())
	if err != nil {
		return err
	}
	if b.folder, err = openFolder(path, b.self(), b.decideRestore); err != nil {
		return err
	}
	s := b.cfg.Static
	b.dir, err = log.OpenDir(log.DirConfig{
		FS: vfs.OS(), Path: path, MaxOpenFiles: fileHandles(s.Int("strata.file.handles"), b.cfg.Logger), DiskReserve: s.Int("strata.disk.reserve.bytes"), MaxProducers: mostProducers(b.memory),
		Fsync: s.String("strata.durability") == "fsync", Commit: log.CommitPath(s.String("strata.commit.path")), BootID: bootID(), Now: time.Now, Logger: b.loggers.Logger("broker.log"), OnFatal: b.cfg.Fatal,
	})
	if err != nil {
		return fmt.Errorf("data folder %s: %w", path, err)
	}
	return nil
}

// openQuorum starts the metadata and founds the cluster at the first start.
func (b *Broker) openQuorum(ctx context.Context) error {
	var err error
	cfg := quorum.Config{
		Dir: filepath.Join(b.folder.path, metadataDir), NodeID: b.self(), DirectoryID: b.folder.id, Logger: b.loggers.Logger("metadata.quorum"), Bootstrap: true,
	}
	if b.restore != nil {
		cfg.Seed = func() (*metadata.Image, error) { return b.seed(ctx) }
	}
	b.node, err = quorum.Open(ctx, cfg)
	if err != nil {
		return err
	}
	if err := b.node.WaitLeader(ctx); err != nil {
		return err
	}
	if b.node.Image().ClusterID() == "" {
		if b.folder.clusterID != "" {
			return fmt.Errorf("data folder %s belongs to cluster %s, but its metadata is gone", b.folder.path, b.folder.clusterID)
		}
		var id [16]byte
		_, _ = rand.Read(id[:]) // crypto/rand never fails
		found := &metadatapb.InitCluster{ClusterId: base64.RawURLEncoding.EncodeToString(id[:]), StrataVersion: strataVersion}
		if _, err := b.node.Propose(ctx, &metadata.Command{Kind: &metadatapb.Command_InitCluster{InitCluster: found}}); err != nil {
			return fmt.Errorf("found the cluster: %w", err)
		}
	}
	switch id := b.node.Image().ClusterID(); b.folder.clusterID {
	case id:
	case "":
		return b.folder.writeMeta(id)
	default:
		return fmt.Errorf("data folder %s belongs to cluster %s, its metadata to cluster %s", b.folder.path, b.folder.clusterID, id)
	}
	return nil
}

// openReplicas registers this process, recovers the logs and follows the image.
func (b *Broker) openReplicas(ctx context.Context) error {
	b.admin = admin.New(admin.Config{
		Self: b.self(), Static: b.cfg.Static, Metadata: b.node, BelowReserve: b.dir.BelowReserve,
		Epoch: func() protocol.BrokerEpoch { return protocol.BrokerEpoch(b.epoch.Load()) },
	})
	b.cold = noCold{}
	if b.bucket != nil {
		b.cold = cold{b.bucket.reader}
	}
	b.replicas = replica.NewManager(replica.Config{
		Self: b.self(), Dir: b.dir, Static: b.cfg.Static, Propose: b.node.Propose, Cold: b.cold, WholeHot: admin.Internal, ColdDropped: b.coldDropped(),
		Sealed: b.onSealed, Leadership: b.onLeadership, Now: time.Now, Logger: b.loggers.Logger("broker.replica"),
	})
	b.cleaner = b.newCleaner()
	b.groupMemory = group.NewMemory(b.memory / groupShare)
	b.groups = coordinator.New(coordinator.Config{
		Partitions: offsetsTopic{b.admin, b.replicas, b.cold, b.dir.BelowReserve}, Topics: func() group.Topics { return b.node.Image() }, Group: b.cfg.groupSettings(b.groupMemory), Ends: b.restoredEnd,
		Logger: b.loggers.Logger("broker.coordinator"),
	})
	if b.bucket != nil {
		b.bucket.compose()
	}
	if err := b.register(ctx); err != nil {
		return err
	}
	if err := b.replicas.Load(ctx, b.node.Image()); err != nil {
		return err
	}
	if err := b.prepareEnds(); err != nil {
		return err
	}
	b.node.Subscribe(b.onImage)
	if err := b.dir.Checkpoint(); err != nil {
		return fmt.Errorf("write the checkpoints: %w", err)
	}
	return nil
}

// onImage is the one subscriber of the quorum. It runs on the applying
// goroutine, so that a proposer's change is there when Propose returns.
func (b *Broker) onImage(d metadata.Delta, img *metadata.Image) {
	b.replicas.Apply(d, img)
	if len(d.Removed) > 0 {
		names := make([]string, len(d.Removed))
		for i, t := range d.Removed {
			names[i] = t.Name
		}
		b.groups.TopicDeleted(names)
	}
	if b.bucket != nil {
		b.bucket.onImage(d, img)
	}
	b.follow(d, img)
}

func (b *Broker) onSealed(k protocol.PartitionKey) {
	if b.bucket != nil {
		b.bucket.archiver.Notify(k)
	}
}

func (b *Broker) onLeadership(topic string, k protocol.PartitionKey, epoch protocol.Epoch, leader bool) {
	if topic == admin.OffsetsTopic {
		b.groups.OnLeadership(k.Partition, epoch, leader)
	}
}

func (b *Broker) openServing(context.Context) error {
	b.handler = api.New(api.Config{
		Self: b.self(), Admin: b.admin, Replicas: b.replicas, Cold: b.cold, Groups: b.groups, Quorum: b.node.Describe, Loggers: b.loggers, Now: time.Now,
		Logger: b.loggers.Logger("broker.api"),
	})
	cfg := b.cfg.serverConfig(b.memory)
	cfg.Listeners, cfg.Handler, cfg.Logger = b.bound, b.handler, b.loggers.Logger("broker.server")
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	b.server.Store(s)
	b.follow(own(), b.node.Image()) // what changed until here was for a server that was not there
	return nil
}

// Run unfences the broker and serves until ctx ends, then stops cleanly. It
// returns an error only when the broker had to stop by itself.
func (b *Broker) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	b.background.Go(func() { b.replicas.Run(work) })
	b.background.Go(func() { b.cleaner.Run(work) })
	if b.bucket != nil {
		b.background.Go(func() { b.bucket.run(work) })
	}
	b.http.serve(b)
	if err := b.unfence(ctx); err != nil && ctx.Err() == nil {
		b.http.close()
		stop()
		b.background.Wait()
		return errors.Join(err, b.close(false))
	}
	b.server.Load().Serve()
	b.ready.Store(true)
	b.cfg.Logger.Info("serving", "node.id", b.self(), "cluster.id", b.node.Image().ClusterID(), "listeners", b.Listeners())
	var failed error
	select {
	case <-ctx.Done():
	case <-b.node.Failed():
		failed = b.node.Err()
	}
	b.ready.Store(false)
	b.stopServing()
	b.http.close()
	stop()
	b.background.Wait()
	return errors.Join(failed, b.close(failed == nil))
}

// stopServing ends all requests. What they appended stays.
func (b *Broker) stopServing() {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := b.server.Load().Close(ctx); err != nil {
		b.cfg.Logger.Warn("connections did not end in time", "error", err)
	}
}

// Ready is closed to requests until the broker serves.
func (b *Broker) Ready() bool { return b.ready.Load() }

// close takes down what New opened, in the opposite order. It may be called
// for a broker that was opened in part.
func (b *Broker) close(clean bool) error {
	b.closeOnce.Do(func() { b.closeErr = b.closeAll(clean) })
	return b.closeErr
}

func (b *Broker) closeAll(clean bool) error {
	var errs []error
	b.http.close()
	for _, l := range b.bound {
		_ = l.Net.Close() // closed by the server already, if it ran
	}
	if b.handler != nil {
		b.handler.Close()
	}
	if b.groups != nil {
		b.groups.Close() // before the replicas, whose commits it waits for
	}
	if b.replicas != nil {
		b.replicas.Close()
	}
	if b.bucket != nil {
		errs = append(errs, b.bucket.close())
	}
	if b.dir != nil {
		errs = append(errs, b.dir.Close(clean))
	}
	if b.node != nil {
		errs = append(errs, b.closeQuorum())
	}
	if b.folder != nil {
		errs = append(errs, b.folder.unlock())
	}
	return errors.Join(errs...)
}

// closeQuorum does not wait for ever: badger retries a flush without end when
// its folder has vanished or the disk is full. What it was told is synced already.
func (b *Broker) closeQuorum() error {
	done := make(chan error, 1)
	go func() { done <- b.node.Close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(5 * time.Second):
		return errors.New("the metadata store does not close: its folder may be gone or the disk full")
	}
}

// Listeners are the addresses clients use, "NAME://host:port" each.
func (b *Broker) Listeners() []string {
	var out []string
	for _, l := range b.endpoints() {
		out = append(out, l.String())
	}
	return out
}

// HTTP is the address of /metrics, /healthz and /readyz; "" where they are off.
func (b *Broker) HTTP() string { return b.http.addr() }

// BucketURL is where sealed segments go, without credentials; "" for nowhere.
func (b *Broker) BucketURL() string {
	if b.bucket == nil {
		return ""
	}
	return b.bucket.url.String()
}
