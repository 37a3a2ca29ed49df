package broker

import (
	"log/slog"
	"time"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/object"
)

// Config is what a Broker is made of.
type Config struct {
	// Static is the checked configuration; Validate has passed it.
	Static *metadata.Static
	// Logger is what the broker's named loggers write to. One that package broker/loggers made
	// lets its levels be lowered, too, while the broker runs.
	Logger *slog.Logger
	// Store, if set, is used instead of what strata.bucket.url names (which must
	// be set all the same). Close closes it.
	Store object.Store
	// Restore, if set, brings a cluster back from the bucket that strata.bucket.url names, into a data
	// folder that is empty: latest, a time, or a root (recovery.ParseTarget). A restore that was broken off goes on at
	// the next start, with or without it; one that is done is not done again.
	Restore string
	// Fatal is called when the broker must not go on: a sync failed or the metadata
	// log broke. It must end the process at once. nil: log and exit.
	Fatal func(error)
}

func (c *Config) groupSettings(memory *group.Memory) group.Settings {
	s := c.Static
	return group.Settings{
		MinSessionTimeout: s.Millis("group.min.session.timeout.ms"), MaxSessionTimeout: s.Millis("group.max.session.timeout.ms"),
		InitialRebalanceDelay: s.Millis("group.initial.rebalance.delay.ms"), MaxSize: int32(s.Int("group.max.size")),
		OffsetMetadataMaxBytes: int32(s.Int("offset.metadata.max.bytes")), OffsetsRetention: time.Duration(min(s.Int("offsets.retention.minutes"), int64(metadata.Never/time.Minute))) * time.Minute,
		ExpiryInterval: s.Millis("offsets.retention.check.interval.ms"), MaxBatchBytes: int(s.Int("message.max.bytes")), Memory: memory,
	}
}

func (c *Config) serverConfig(memory int64) server.Config {
	s := c.Static
	budget := s.Int("queued.max.request.bytes")
	if budget < 0 {
		budget = s.Int("strata.request.memory.bytes")
	}
	budget = min(budget, memory/requestShare)
	idle := s.Millis("connections.max.idle.ms")
	if idle < 0 {
		idle = metadata.Never
	}
	return server.Config{
		MaxConnections: int(s.Int("max.connections")), MaxConnectionsPerIP: int(s.Int("max.connections.per.ip")),
		MaxFrame: protocol.ByteSize(s.Int("strata.frame.max.bytes")), MaxProduceFrame: protocol.ByteSize(s.Int("socket.request.max.bytes")),
		MemoryBudget: protocol.ByteSize(budget), FrameTimeout: s.Millis("strata.frame.idle.ms"), IdleTimeout: idle,
	}
}
