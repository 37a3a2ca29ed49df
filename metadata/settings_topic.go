package metadata

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	maxLong = "9223372036854775807"
)

// TopicSetting looks up one topic setting.
func TopicSetting(name string) (*Setting, bool) {
	s, ok := topicIndex()[name]
	return s, ok
}

// topicIndex is built once: settings are looked up for every topic.
var topicIndex = sync.OnceValue(func() map[string]*Setting {
	index := map[string]*Setting{}
	for _, s := range TopicSettings() {
		index[s.Name] = &s
	}
	return index
})

// TopicSettings is the table of topic settings in the order of names. Names,
// defaults and ranges are those of Kafka 4.3's LogConfig; strata.* is ours.
func TopicSettings() []Setting {
	out := slices.Concat(segmentSettings(), retentionSettings(), recordSettings())
	slices.SortFunc(out, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// segmentSettings are how the log is cut and synced.
func segmentSettings() []Setting {
	return []Setting{
		{
			Name: "flush.messages", Type: LongSetting, Default: maxLong, Min: 1, Synonyms: []string{"log.flush.interval.messages"},
			Doc: "With strata.durability=replicated: force a sync after this many records. In fsync mode every acknowledged record is synced.",
		},
		{
			Name: "flush.ms", Type: LongSetting, Default: maxLong, Synonyms: []string{"log.flush.interval.ms", "log.flush.scheduler.interval.ms"},
			Doc: "With strata.durability=replicated: force a sync after this time.",
		},
		{
			Name: "index.interval.bytes", Type: IntSetting, Default: "4096", Synonyms: []string{"log.index.interval.bytes"},
			Doc: "Bytes of records between two entries of a segment's offset index.",
		},
		{
			Name: "preallocate", Type: BooleanSetting, Default: "false", Synonyms: []string{"log.preallocate"}, Valid: notPreallocated, Range: "false",
			Doc: "Whether segment files are made at their full size. They are not: after a crash, blocks that were never written could not be told from lost records.",
		},
		{
			Name: "segment.bytes", Type: IntSetting, Default: "1073741824", Min: 1 << 20, Synonyms: []string{"log.segment.bytes"},
			Doc: "Size at which a segment is sealed.",
		},
		{
			Name: "segment.index.bytes", Type: IntSetting, Default: "10485760", Min: 4, Synonyms: []string{"log.index.size.max.bytes"},
			Doc: "Size of an offset index at which its segment is sealed.",
		},
		{
			Name: "segment.jitter.ms", Type: LongSetting, Default: "0", Synonyms: []string{"log.roll.jitter.ms", "log.roll.jitter.hours"},
			Doc: "Time taken off segment.ms, less than this and different for each segment, so that segments begun together are not sealed together.",
		},
		{
			Name: "segment.ms", Type: LongSetting, Default: "604800000", Min: 1, Synonyms: []string{"log.roll.ms", "log.roll.hours"},
			Doc: "Age at which a segment is sealed: by the broker's clock always, by record time once it holds strata.segment.min.bytes.",
		},
		{
			Name: "strata.segment.min.bytes", Type: IntSetting, Default: "1048576", Max: math.MaxInt32, Synonyms: []string{"strata.segment.min.bytes"},
			Doc: "Record time seals a segment only once it holds this much, so that years of back-filled events do not make thousands of tiny segments; 0 gives Kafka's rule.",
		},
	}
}

// retentionSettings are what is kept, where, and how it is compacted.
func retentionSettings() []Setting {
	return []Setting{
		{
			Name: "cleanup.policy", Type: ListSetting, Default: "delete", Allowed: []string{"compact", "delete"}, Synonyms: []string{"log.cleanup.policy"},
			Doc: "What happens to old records: delete expires them by time and size, compact keeps the last record of each key, in the bucket too; with both, what is left expires; an empty list keeps all for ever. Compacted data is uploaded to the bucket but not evicted.",
		},
		{
			Name: "delete.retention.ms", Type: LongSetting, Default: "86400000", Synonyms: []string{"log.cleaner.delete.retention.ms"},
			Doc: "How long a compacted topic keeps a tombstone.",
		},
		{
			Name: "file.delete.delay.ms", Type: LongSetting, Default: "0", Synonyms: []string{"log.segment.delete.delay.ms"}, Valid: noDelay, Range: "0",
			Doc: "How long a deleted file is kept. Not at all (Kafka: 60000): it goes as soon as its last reader is done, and the space is free.",
		},
		{
			Name: "local.retention.bytes", Type: LongSetting, Default: "-2", Min: -2, Synonyms: []string{"log.local.retention.bytes"},
			Doc: "Bytes of a partition kept on local disk once they are in the bucket; -2 means retention.bytes, -1 no limit.",
		},
		{
			Name: "local.retention.ms", Type: LongSetting, Default: "-2", Min: -2, Synonyms: []string{"log.local.retention.ms"},
			Doc: "How long a segment stays on local disk once it is in the bucket; -2 means retention.ms, -1 no limit.",
		},
		{
			Name: "max.compaction.lag.ms", Type: LongSetting, Default: maxLong, Min: 1, Synonyms: []string{"log.cleaner.max.compaction.lag.ms"},
			Doc: "Longest time a record may stay uncompacted.",
		},
		{
			Name: "min.cleanable.dirty.ratio", Type: DoubleSetting, Default: "0.5", Max: 1, Synonyms: []string{"log.cleaner.min.cleanable.ratio"},
			Doc: "Share of dirty bytes at which a log is compacted.",
		},
		{
			Name: "min.compaction.lag.ms", Type: LongSetting, Default: "0", Synonyms: []string{"log.cleaner.min.compaction.lag.ms"},
			Doc: "Shortest time a record stays uncompacted.",
		},
		{
			Name: "remote.copy.lag.bytes", Type: LongSetting, Default: "-1", Min: -1, Synonyms: []string{"log.remote.copy.lag.bytes"},
			Doc: "A sealed segment is uploaded once this many bytes of the partition lie above it, or once it has the age of remote.copy.lag.ms; 0 in either of them: at once; -1 means local.retention.bytes, and no such limit where that has none. Where neither limits, nothing is uploaded. Internal topics are uploaded at once (KIP-1241).",
		},
		{
			Name: "remote.copy.lag.ms", Type: LongSetting, Default: "0", Min: -1, Synonyms: []string{"log.remote.copy.lag.ms"},
			Doc: "A sealed segment is uploaded once its newest record is this old, or once remote.copy.lag.bytes lie above it; 0 in either of them: at once; -1 means local.retention.ms, and no such limit where that has none. Where neither limits, nothing is uploaded (KIP-1241).",
		},
		{Name: "remote.log.copy.disable", Type: BooleanSetting, Default: "false", Doc: "Stop uploading this topic; what is in the bucket stays readable (KIP-950)."},
		{Name: "remote.log.delete.on.disable", Type: BooleanSetting, Default: "false", Doc: "Must be true to turn remote.storage.enable off: the objects are then deleted."},
		{
			Name: "remote.storage.enable", Type: BooleanSetting, Default: "false", Synonyms: []string{"strata.remote.storage.enable"},
			Doc: "Upload sealed segments to the bucket. Where a bucket is set the default is true.",
		},
		{
			Name: "retention.bytes", Type: LongSetting, Default: "-1", Min: -1, Synonyms: []string{"log.retention.bytes"},
			Doc: "Bytes of a partition kept in both tiers together; -1 no limit.",
		},
		{
			Name: "retention.ms", Type: LongSetting, Default: "604800000", Min: -1, Synonyms: []string{"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
			Doc: "How long records are kept, by their timestamps, in both tiers together; -1 for ever.",
		},
	}
}

// notPreallocated is the Valid of preallocate.
func notPreallocated(value string) string {
	if strings.EqualFold(value, "true") {
		return "Segment files are not preallocated here: after a crash, blocks that were never written could not be told from lost records"
	}
	return ""
}

// noDelay is the Valid of file.delete.delay.ms.
func noDelay(value string) string {
	if strings.HasPrefix(value, "-") {
		return "Value must be at least 0"
	}
	if n, err := strconv.ParseInt(value, 10, 64); err != nil || n != 0 {
		return "Only 0 is taken here: a file goes as soon as its last reader is done"
	}
	return ""
}

// gzipLevel is the Valid of compression.gzip.level.
func gzipLevel(value string) string {
	if n, err := strconv.Atoi(value); err != nil || n != -1 && (n < 1 || n > 9) {
		return "Value must be between 1 and 9 or equal to -1"
	}
	return ""
}

const throttledRange = "*, or partition:broker pairs"

// throttledReplicas makes the Valid of a side's throttled replicas.
func throttledReplicas(side string) func(string) string {
	return func(value string) string {
		if strings.TrimSpace(value) == "*" {
			return ""
		}
		for _, pair := range SplitList(value) {
			partition, broker, ok := strings.Cut(pair, ":")
			_, noPartition := strconv.ParseUint(partition, 10, 31)
			_, noBroker := strconv.ParseUint(broker, 10, 31)
			if !ok || noPartition != nil || noBroker != nil {
				return side + ".replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
			}
		}
		return ""
	}
}

// recordSettings are what is taken, and what replication asks for.
func recordSettings() []Setting {
	return []Setting{
		{
			Name: "compression.gzip.level", Type: IntSetting, Default: "-1", Valid: gzipLevel, Range: "1 to 9, or -1", Synonyms: []string{"compression.gzip.level"},
			Doc: "Level for gzip where the broker compresses.",
		},
		{
			Name: "compression.lz4.level", Type: IntSetting, Default: "9", Min: 1, Max: 17, Synonyms: []string{"compression.lz4.level"},
			Doc: "Level for lz4 where the broker compresses.",
		},
		{
			Name: "compression.type", Type: StringSetting, Default: "producer", Allowed: []string{"uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"}, Synonyms: []string{"compression.type"},
			Doc: "Codec of stored batches. producer keeps each batch as it was sent; any other value makes the broker recompress.",
		},
		{
			Name: "compression.zstd.level", Type: IntSetting, Default: "3", Min: -131072, Max: 22, Synonyms: []string{"compression.zstd.level"},
			Doc: "Level for zstd where the broker compresses.",
		},
		{
			Name: "follower.replication.throttled.replicas", Type: ListSetting, Default: "", Valid: throttledReplicas("follower"), Range: throttledRange,
			Doc: "Replicas whose catching up is throttled. A cluster of one broker replicates nothing, so there is nothing to throttle.",
		},
		{
			Name: "leader.replication.throttled.replicas", Type: ListSetting, Default: "", Valid: throttledReplicas("leader"), Range: throttledRange,
			Doc: "Replicas that are throttled on the leader's side. A cluster of one broker replicates nothing, so there is nothing to throttle.",
		},
		{
			Name: "max.message.bytes", Type: IntSetting, Default: "1048588", Synonyms: []string{"message.max.bytes"},
			Doc: "Largest record batch the topic takes, after compression.",
		},
		{
			Name: "message.timestamp.after.max.ms", Type: LongSetting, Default: "3600000", Synonyms: []string{"log.message.timestamp.after.max.ms"},
			Doc: "How far a record's timestamp may lie ahead of the broker's clock (CreateTime).",
		},
		{
			Name: "message.timestamp.before.max.ms", Type: LongSetting, Default: maxLong, Synonyms: []string{"log.message.timestamp.before.max.ms"},
			Doc: "How far a record's timestamp may lie behind the broker's clock (CreateTime).",
		},
		{
			Name: "message.timestamp.type", Type: StringSetting, Default: "CreateTime", Allowed: []string{"CreateTime", "LogAppendTime"}, Synonyms: []string{"log.message.timestamp.type"},
			Doc: "Whose clock stamps records: the producer's or the broker's.",
		},
		{
			Name: "min.insync.replicas", Type: IntSetting, Default: "1", Min: 1, Synonyms: []string{"min.insync.replicas"},
			Doc: "In-sync replicas needed for acks=all; the effective value is never above the replication factor.",
		},
		{
			Name: "unclean.leader.election.enable", Type: BooleanSetting, Default: "false", Synonyms: []string{"unclean.leader.election.enable"},
			Doc: "Whether a replica that may lack acknowledged records may lead.",
		},
	}
}
