// Package api answers Kafka's requests, one file for each API key: check, call,
// give errors their codes. It has no logic that a second API could need; that
// is in broker/replica, broker/admin and the coordinators. Package
// broker/server calls Handle, the composition root makes the Handler.
package api

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/coordinator"
	"github.com/stratabroker/strata/broker/loggers"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Config is what a Handler needs.
type Config struct {
	Self     protocol.BrokerID
	Admin    *admin.Admin
	Replicas *replica.Manager
	Cold     replica.Cold // answers ErrNoCold where there is no bucket
	Groups   coordinator.API
	Quorum   func() (metadata.Quorum, error)
	Loggers  *loggers.Registry
	Now      func() time.Time
	Logger   *slog.Logger
}

// Handler starts requests; see server.Handler. It is safe for concurrent use.
type Handler struct {
	cfg      Config
	sessions *sessionCache
	// background holds the requests that wait for the quorum or the bucket.
	background sync.WaitGroup
	ctx        context.Context //nolint:containedctx // the life of the handler: ends its background requests
	stop       context.CancelFunc
}

// New makes a Handler.
func New(cfg Config) *Handler {
	ctx, stop := context.WithCancel(context.Background())
	static := cfg.Admin.Static()
	return &Handler{
		cfg: cfg, ctx: ctx, stop: stop,
		sessions: newSessionCache(int(static.Int("max.incremental.fetch.session.cache.slots")), static.Int("strata.fetch.session.memory.bytes"), cfg.Now),
	}
}

// Close ends what runs in the background and waits for it.
func (h *Handler) Close() {
	h.stop()
	h.background.Wait()
}

// Handle starts one request.
func (h *Handler) Handle(r *server.Request) {
	switch r.Header.Key {
	case protocol.KeyProduce:
		h.produce(r)
	case protocol.KeyFetch:
		h.fetch(r)
	default:
		h.handleDecoded(r)
	}
}

// handleDecoded serves all APIs that kmsg decodes.
func (h *Handler) handleDecoded(r *server.Request) {
	req := kmsg.RequestForKey(r.Header.Key)
	if req == nil {
		r.Reply(server.Response{NoReply: true, Close: fmt.Errorf("API key %d is not served", r.Header.Key)})
		return
	}
	req.SetVersion(r.Header.Version)
	if err := req.ReadFrom(r.Body); err != nil {
		r.Reply(server.Response{NoReply: true, Close: fmt.Errorf("%s version %d: %w", apiName(r.Header.Key), r.Header.Version, err)})
		return
	}
	if !h.answerNow(r, req) && !h.answerLater(r, req) {
		h.handleGroup(r, req)
	}
}

// answerNow serves what needs the image only.
func (h *Handler) answerNow(r *server.Request, req kmsg.Request) bool {
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		reply(r, h.apiVersions(req))
	case *kmsg.MetadataRequest:
		if len(h.toCreate(req)) > 0 {
			return false
		}
		reply(r, h.metadata(r, req))
	case *kmsg.DescribeClusterRequest:
		reply(r, h.describeCluster(r, req))
	case *kmsg.ListConfigResourcesRequest:
		reply(r, h.listConfigResources(req))
	case *kmsg.DescribeConfigsRequest:
		reply(r, h.describeConfigs(req))
	case *kmsg.FindCoordinatorRequest:
		if h.needsOffsetsTopic(req) {
			return false
		}
		reply(r, h.findCoordinator(r, req))
	default:
		return h.answerTools(r, req)
	}
	return true
}

// answerTools serves what tools ask of the image and the logs.
func (h *Handler) answerTools(r *server.Request, req kmsg.Request) bool {
	switch req := req.(type) {
	case *kmsg.AlterReplicaLogDirsRequest:
		reply(r, h.alterReplicaLogDirs(req))
	case *kmsg.DescribeLogDirsRequest:
		reply(r, h.describeLogDirs(req))
	case *kmsg.ElectLeadersRequest:
		reply(r, h.electLeaders(req))
	case *kmsg.AlterPartitionAssignmentsRequest:
		reply(r, h.alterPartitionReassignments(req))
	case *kmsg.ListPartitionReassignmentsRequest:
		reply(r, h.listPartitionReassignments())
	case *kmsg.DescribeProducersRequest:
		reply(r, h.describeProducers(req))
	case *kmsg.UnregisterBrokerRequest:
		reply(r, h.unregisterBroker(req))
	case *kmsg.DescribeTopicPartitionsRequest:
		reply(r, h.describeTopicPartitions(req))
	default:
		return false
	}
	return true
}

// answerLater serves what may wait for the quorum or the bucket.
func (h *Handler) answerLater(r *server.Request, req kmsg.Request) bool {
	var work func(context.Context) kmsg.Response
	switch req := req.(type) {
	case *kmsg.MetadataRequest:
		work = func(ctx context.Context) kmsg.Response { return h.createMissing(ctx, r, req, h.toCreate(req)) }
	case *kmsg.FindCoordinatorRequest:
		work = func(ctx context.Context) kmsg.Response { return h.createAndFind(ctx, r, req) }
	case *kmsg.ListOffsetsRequest:
		work = func(ctx context.Context) kmsg.Response { return h.listOffsets(ctx, req) }
	case *kmsg.OffsetForLeaderEpochRequest:
		work = func(ctx context.Context) kmsg.Response { return h.offsetForLeaderEpoch(ctx, req) }
	case *kmsg.CreateTopicsRequest:
		work = func(ctx context.Context) kmsg.Response { return h.createTopics(ctx, req) }
	case *kmsg.DeleteRecordsRequest:
		work = func(ctx context.Context) kmsg.Response { return h.deleteRecords(ctx, req) }
	case *kmsg.DescribeQuorumRequest:
		work = func(context.Context) kmsg.Response { return h.describeQuorum(req) }
	case *kmsg.DeleteTopicsRequest:
		work = func(ctx context.Context) kmsg.Response { return h.deleteTopics(ctx, req) }
	case *kmsg.CreatePartitionsRequest:
		work = func(ctx context.Context) kmsg.Response { return h.createPartitions(ctx, req) }
	case *kmsg.AlterConfigsRequest:
		work = func(ctx context.Context) kmsg.Response { return h.alterConfigs(ctx, req) }
	case *kmsg.UpdateFeaturesRequest:
		work = func(ctx context.Context) kmsg.Response { return h.updateFeatures(ctx, req) }
	case *kmsg.IncrementalAlterConfigsRequest:
		work = func(ctx context.Context) kmsg.Response { return h.incrementalAlterConfigs(ctx, req) }
	case *kmsg.InitProducerIDRequest:
		work = func(ctx context.Context) kmsg.Response { return h.initProducerID(ctx, req) }
	default:
		return false
	}
	// Off the connection's goroutine; the server lets 32 of a connection run at once.
	h.background.Go(func() { reply(r, work(h.ctx)) })
	return true
}

// reply encodes resp and answers r with it.
func reply(r *server.Request, resp kmsg.Response) {
	resp.SetVersion(r.Header.Version)
	r.Reply(server.Response{Parts: []server.Part{server.Bytes(resp.AppendTo(nil))}})
}

// within bounds ctx by a client's timeout in milliseconds.
func within(ctx context.Context, ms int32) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(max(ms, 1))*time.Millisecond)
}

// endpoint is where a client that came by a listener reaches a broker: the
// listener of the same name.
func endpoint(b metadata.Broker, listener string) (host string, port int32, ok bool) {
	for _, l := range b.Listeners {
		if strings.EqualFold(l.Name, listener) {
			return l.Host, int32(l.Port), true
		}
	}
	return "", -1, false
}

// leader finds a partition by topic name.
func (h *Handler) leader(img *metadata.Image, topic string, partition int32) (*replica.Leader, error) {
	t, ok := img.Topic(topic)
	if !ok || partition < 0 || partition >= t.Partitions {
		return nil, unknownPartition(topic, partition)
	}
	return h.cfg.Replicas.Get(protocol.PartitionKey{Topic: t.ID, Partition: partition})
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
