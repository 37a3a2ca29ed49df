package metadata

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/stratabroker/strata/protocol/record"
)

// TopicConfig is what a topic's settings amount to on one broker.
type TopicConfig struct {
	Compact, Delete                        bool
	Compression                            string // producer, uncompressed, gzip, snappy, lz4 or zstd
	GzipLevel, LZ4Level, ZstdLevel         int
	SegmentBytes, SegmentMinBytes          int64
	IndexIntervalBytes, IndexMaxBytes      int64
	SegmentMs, SegmentJitterMs             int64 // jitter: below this, taken off SegmentMs, for each segment another
	FlushMessages, FlushMs                 int64
	RetentionMs, RetentionBytes            int64 // -1: no limit
	LocalRetentionMs, LocalRetentionBytes  int64 // effective; -1: no limit
	DeleteRetentionMs                      int64
	MinCompactionLagMs, MaxCompactionLagMs int64
	MinCleanableDirtyRatio                 float64 // 0 to 1
	// RemoteCopyLagMs and RemoteCopyLagBytes: a sealed segment is due for upload once it
	// satisfies one of them (KIP-1241); 0: at once. Effective: -1 has been resolved to
	// local retention, and is left where that is for ever: no limit.
	RemoteCopyLagMs, RemoteCopyLagBytes       int64
	TimestampBeforeMaxMs, TimestampAfterMaxMs int64
	MaxMessageBytes, MinISR                   int32
	LogAppendTime                             bool
	// RemoteDelete: this topic itself says remote.storage.enable=false and
	// remote.log.delete.on.disable=true, so its objects are to go. A default never says so.
	RemoteDelete                     bool
	RemoteStorage, RemoteCopyDisable bool
	UncleanElection                  bool
}

// Topic resolves a topic's settings: override, dynamic broker, dynamic default,
// file, default. topic "" gives what a topic without overrides has.
func (s *Static) Topic(img *Image, topic string) TopicConfig {
	c, values := s.topicConfig(img.Config, topic)
	own, _ := img.Config(Resource{TopicResource, topic}, "remote.storage.enable")
	c.RemoteDelete = strings.EqualFold(strings.TrimSpace(own), "false") && values["remote.log.delete.on.disable"] == "true"
	return c
}

// topicConfig is Topic with the overrides of an image or with others; values are canonical.
func (s *Static) topicConfig(o overrides, topic string) (c TopicConfig, values map[string]string) {
	values = map[string]string{}
	for name, setting := range topicIndex() {
		values[name] = s.topicValue(o, topic, setting).Value
	}
	return topicConfig(values), values
}

func topicConfig(values map[string]string) TopicConfig {
	long := func(name string) int64 {
		n, _ := strconv.ParseInt(values[name], 10, 64)
		return n
	}
	isTrue := func(name string) bool { return values[name] == "true" }
	policy := SplitList(values["cleanup.policy"])
	ratio, _ := strconv.ParseFloat(values["min.cleanable.dirty.ratio"], 64)
	c := TopicConfig{
		Compact: slices.Contains(policy, "compact"), Delete: slices.Contains(policy, "delete"),
		Compression: values["compression.type"],
		GzipLevel:   int(long("compression.gzip.level")), LZ4Level: int(long("compression.lz4.level")), ZstdLevel: int(long("compression.zstd.level")),
		SegmentBytes: long("segment.bytes"), SegmentMinBytes: long("strata.segment.min.bytes"),
		IndexIntervalBytes: long("index.interval.bytes"), IndexMaxBytes: long("segment.index.bytes"),
		SegmentMs: long("segment.ms"), SegmentJitterMs: long("segment.jitter.ms"), FlushMessages: long("flush.messages"), FlushMs: long("flush.ms"),
		RetentionMs: long("retention.ms"), RetentionBytes: long("retention.bytes"),
		LocalRetentionMs: long("local.retention.ms"), LocalRetentionBytes: long("local.retention.bytes"),
		DeleteRetentionMs:  long("delete.retention.ms"),
		MinCompactionLagMs: long("min.compaction.lag.ms"), MaxCompactionLagMs: long("max.compaction.lag.ms"),
		MinCleanableDirtyRatio: ratio,
		RemoteCopyLagMs:        long("remote.copy.lag.ms"), RemoteCopyLagBytes: long("remote.copy.lag.bytes"),
		TimestampBeforeMaxMs: long("message.timestamp.before.max.ms"), TimestampAfterMaxMs: long("message.timestamp.after.max.ms"),
		MaxMessageBytes: int32(min(long("max.message.bytes"), math.MaxInt32)), MinISR: int32(min(long("min.insync.replicas"), math.MaxInt32)),
		LogAppendTime: values["message.timestamp.type"] == "LogAppendTime",
		RemoteStorage: isTrue("remote.storage.enable"), RemoteCopyDisable: isTrue("remote.log.copy.disable"),
		UncleanElection: isTrue("unclean.leader.election.enable"),
	}
	if c.LocalRetentionMs == -2 {
		c.LocalRetentionMs = c.RetentionMs
	}
	if c.LocalRetentionBytes == -2 {
		c.LocalRetentionBytes = c.RetentionBytes
	}
	if c.RemoteCopyLagMs == -1 {
		c.RemoteCopyLagMs = c.LocalRetentionMs
	}
	if c.RemoteCopyLagBytes == -1 {
		c.RemoteCopyLagBytes = c.LocalRetentionBytes
	}
	return c
}

// Codec is the codec that the topic stores batches in, with its level; ok is
// false where they stay as the producer sent them.
func (c *TopicConfig) Codec() (codec record.Codec, level int, ok bool) {
	switch c.Compression {
	case "uncompressed":
		return record.None, 0, true
	case "gzip":
		return record.Gzip, c.GzipLevel, true
	case "snappy":
		return record.Snappy, 0, true
	case "lz4":
		return record.LZ4, c.LZ4Level, true
	case "zstd":
		return record.Zstd, c.ZstdLevel, true
	}
	return record.None, 0, false
}
