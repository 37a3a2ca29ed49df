package metadata

import (
	"slices"
	"strings"
	"sync"
)

// brokerIndex is built once: settings are looked up for every topic.
var brokerIndex = sync.OnceValue(func() map[string]*Setting {
	index := map[string]*Setting{}
	for _, s := range IgnoredBrokerSettings() {
		index[s.Name] = &s
	}
	for _, s := range BrokerSettings() {
		index[s.Name] = &s
	}
	return index
})

// BrokerSetting looks up one broker setting, also one that is known and ignored.
func BrokerSetting(name string) (*Setting, bool) {
	s, ok := brokerIndex()[name]
	if !ok {
		if why := ignoredByPrefix(name); why != "" {
			row := ignoredSetting(name, why)
			return &row, true
		}
	}
	return s, ok
}

// ignoredByPrefix tells why names have no effect that Kafka makes up of a prefix
// and others: settings of one listener, and of its plug-ins for tiered storage.
func ignoredByPrefix(name string) (why string) {
	switch {
	case strings.HasPrefix(name, "listener.name."):
		return "listeners are PLAINTEXT only"
	case strings.HasPrefix(name, "rsm.config."), strings.HasPrefix(name, "rlmm.config."):
		return "Java classes cannot be loaded; the bucket is set by strata.bucket.url"
	}
	return ""
}

// BrokerSettings is the table of the broker settings that strata acts on, in the order of names. Names
// without strata. have Kafka 4.3's meaning, default and range.
func BrokerSettings() []Setting {
	out := identitySettings()
	out = append(out, networkSettings()...)
	out = append(out, logSettings()...)
	out = append(out, groupSettings()...)
	out = append(out, strataSettings()...)
	slices.SortFunc(out, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func identitySettings() []Setting {
	return []Setting{
		{Name: "advertised.listeners", Type: ListSetting, Null: true, Doc: "Addresses that clients are told to use, NAME://host:port each; default: listeners."},
		{Name: "auto.create.topics.enable", Type: BooleanSetting, Default: "true", Doc: "Create a topic when a client first asks for it."},
		{Name: "broker.rack", Type: StringSetting, Null: true, Doc: "Rack or zone of this broker."},
		{Name: "controller.listener.names", Type: ListSetting, Null: true, Doc: "Listeners of the metadata quorum; not for clients."},
		{Name: "controller.quorum.bootstrap.servers", Type: ListSetting, Default: "", Doc: "host:port of controllers to join. A broker that is its own controller needs none."},
		{Name: "default.replication.factor", Type: IntSetting, Default: "1", Min: 1, Max: 32767, Doc: "Replicas of a topic that is created without saying how many."},
		{Name: "delete.topic.enable", Type: BooleanSetting, Default: "true", Doc: "Whether topics may be deleted."},
		{Name: "listener.security.protocol.map", Type: StringSetting, Default: "PLAINTEXT:PLAINTEXT", Doc: "Security protocol of each listener name, NAME:PROTOCOL each. A name that is itself a protocol needs no row."},
		{Name: "listeners", Type: ListSetting, Default: "PLAINTEXT://:9092", Doc: "Addresses to listen on, NAME://host:port each."},
		{Name: "log.dir", Type: ListSetting, Default: "/tmp/kafka-logs", Doc: "Data directory where log.dirs is not set."},
		{Name: "log.dirs", Type: ListSetting, Null: true, Doc: "The data directory. One; several are refused."},
		{Name: "node.id", Type: IntSetting, Default: "", Null: true, Doc: "Number of this broker in the cluster. Required."},
		{Name: "num.partitions", Type: IntSetting, Default: "1", Min: 1, Doc: "Partitions of a topic that is created without saying how many."},
		{Name: "process.roles", Type: ListSetting, Null: true, Allowed: []string{"broker", "controller"}, Doc: "Roles of this process. Every strata broker takes part in the metadata quorum: broker,controller."},
	}
}

func networkSettings() []Setting {
	return []Setting{
		{Name: "connections.max.idle.ms", Type: LongSetting, Default: "600000", Min: -1, Doc: "Close a connection that was idle this long; -1 never."},
		{Name: "fetch.max.bytes", Type: IntSetting, Default: "57671680", Min: 1024, Doc: "Largest response to one fetch, whatever the client asks."},
		{Name: "max.connections", Type: IntSetting, Default: "2147483647", Min: 1, Update: Dynamic, Doc: "Connections at one time, all listeners together."},
		{Name: "max.connections.per.ip", Type: IntSetting, Default: "2147483647", Min: 1, Update: Dynamic, Doc: "Connections at one time from one address."},
		{Name: "max.incremental.fetch.session.cache.slots", Type: IntSetting, Default: "1000", Doc: "Fetch sessions kept at one time; 0 for none (KIP-227)."},
		{Name: "max.request.partition.size.limit", Type: IntSetting, Default: "2000", Min: 1, Doc: "Most partitions in one answer to DescribeTopicPartitions."},
		{Name: "queued.max.request.bytes", Type: LongSetting, Default: "-1", Min: -1, Doc: "Memory for requests that were read and not answered; -1 takes strata.request.memory.bytes."},
		{Name: "socket.receive.buffer.bytes", Type: IntSetting, Default: "-1", Min: -1, Doc: "SO_RCVBUF of a client's socket; -1 leaves it to the operating system, which grows it as a producer needs (Kafka's default, 102400, costs half as much CPU again)."},
		{Name: "socket.request.max.bytes", Type: IntSetting, Default: "104857600", Min: 1, Doc: "Largest Produce request."},
		{Name: "socket.send.buffer.bytes", Type: IntSetting, Default: "-1", Min: -1, Doc: "SO_SNDBUF of a client's socket; -1 leaves it to the operating system, which grows it as a consumer takes what is sent (with Kafka's default, 102400, a fast consumer waits more often)."},
	}
}

// logSettings are the defaults of topic settings and what runs the logs.
func logSettings() []Setting {
	return []Setting{
		{Name: "compression.gzip.level", Type: IntSetting, Default: "-1", Valid: gzipLevel, Range: "1 to 9, or -1", Update: Dynamic, Doc: "Default of the topic setting compression.gzip.level."},
		{Name: "compression.lz4.level", Type: IntSetting, Default: "9", Min: 1, Max: 17, Update: Dynamic, Doc: "Default of the topic setting compression.lz4.level."},
		{Name: "compression.type", Type: StringSetting, Default: "producer", Allowed: []string{"uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"}, Update: Dynamic, Doc: "Default of the topic setting compression.type."},
		{Name: "compression.zstd.level", Type: IntSetting, Default: "3", Min: -131072, Max: 22, Update: Dynamic, Doc: "Default of the topic setting compression.zstd.level."},
		{Name: "log.cleaner.backoff.ms", Type: LongSetting, Default: "15000", Update: Dynamic, Doc: "Time the cleaner rests when no log is due."},
		{Name: "log.cleaner.dedupe.buffer.size", Type: LongSetting, Default: "134217728", Min: 1 << 20, Update: Dynamic, Doc: "Memory for the keys of the logs that are being cleaned, all threads together; 24 bytes a key. It is taken as keys come and given back after each log. What does not fit is cleaned in a further pass."},
		{Name: "log.cleaner.delete.retention.ms", Type: LongSetting, Default: "86400000", Update: Dynamic, Doc: "Default of the topic setting delete.retention.ms."},
		{Name: "log.cleaner.enable", Type: BooleanSetting, Default: "true", Doc: "Whether compacted topics are cleaned. Without it they only grow."},
		{Name: "log.cleaner.io.buffer.load.factor", Type: DoubleSetting, Default: "0.9", Max: 1, Update: Dynamic, Doc: "How much of log.cleaner.dedupe.buffer.size is filled; more holds more keys and takes longer."},
		{Name: "log.cleaner.io.max.bytes.per.second", Type: DoubleSetting, Default: "1.7976931348623157E308", Update: Dynamic, Doc: "Most bytes a second that cleaning reads and writes, all threads together."},
		{Name: "log.cleaner.max.compaction.lag.ms", Type: LongSetting, Default: maxLong, Min: 1, Update: Dynamic, Doc: "Default of the topic setting max.compaction.lag.ms."},
		{Name: "log.cleaner.min.cleanable.ratio", Type: DoubleSetting, Default: "0.5", Max: 1, Update: Dynamic, Doc: "Default of the topic setting min.cleanable.dirty.ratio."},
		{Name: "log.cleaner.min.compaction.lag.ms", Type: LongSetting, Default: "0", Update: Dynamic, Doc: "Default of the topic setting min.compaction.lag.ms."},
		{Name: "log.cleaner.threads", Type: IntSetting, Default: "1", Min: 0, Max: 64, Doc: "Logs that are cleaned at a time."},
		{Name: "log.cleanup.policy", Type: ListSetting, Default: "delete", Allowed: []string{"compact", "delete"}, Update: Dynamic, Doc: "Default of the topic setting cleanup.policy."},
		{Name: "log.flush.interval.messages", Type: LongSetting, Default: maxLong, Min: 1, Update: Dynamic, Doc: "Default of the topic setting flush.messages."},
		{Name: "log.flush.interval.ms", Type: LongSetting, Null: true, Update: Dynamic, Doc: "Default of the topic setting flush.ms."},
		{Name: "log.flush.offset.checkpoint.interval.ms", Type: IntSetting, Default: "60000", Min: 1, Doc: "Time between two writes of the recovery point."},
		{Name: "log.flush.scheduler.interval.ms", Type: LongSetting, Default: maxLong, Doc: "Default of the topic setting flush.ms where log.flush.interval.ms is not set."},
		{Name: "log.index.interval.bytes", Type: IntSetting, Default: "4096", Update: Dynamic, Doc: "Default of the topic setting index.interval.bytes."},
		{Name: "log.index.size.max.bytes", Type: IntSetting, Default: "10485760", Min: 4, Update: Dynamic, Doc: "Default of the topic setting segment.index.bytes."},
		{Name: "log.local.retention.bytes", Type: LongSetting, Default: "-2", Min: -2, Update: Dynamic, Doc: "Default of the topic setting local.retention.bytes."},
		{Name: "log.local.retention.ms", Type: LongSetting, Default: "-2", Min: -2, Update: Dynamic, Doc: "Default of the topic setting local.retention.ms."},
		{Name: "log.message.timestamp.after.max.ms", Type: LongSetting, Default: "3600000", Update: Dynamic, Doc: "Default of the topic setting message.timestamp.after.max.ms."},
		{Name: "log.message.timestamp.before.max.ms", Type: LongSetting, Default: maxLong, Update: Dynamic, Doc: "Default of the topic setting message.timestamp.before.max.ms."},
		{Name: "log.message.timestamp.type", Type: StringSetting, Default: "CreateTime", Allowed: []string{"CreateTime", "LogAppendTime"}, Update: Dynamic, Doc: "Default of the topic setting message.timestamp.type."},
		{Name: "log.remote.copy.lag.bytes", Type: LongSetting, Default: "-1", Min: -1, Update: Dynamic, Doc: "Default of the topic setting remote.copy.lag.bytes."},
		{Name: "log.remote.copy.lag.ms", Type: LongSetting, Default: "0", Min: -1, Update: Dynamic, Doc: "Default of the topic setting remote.copy.lag.ms."},
		{Name: "log.retention.bytes", Type: LongSetting, Default: "-1", Min: -1, Update: Dynamic, Doc: "Default of the topic setting retention.bytes."},
		{Name: "log.retention.check.interval.ms", Type: LongSetting, Default: "300000", Min: 1, Doc: "Time between two looks for segments to roll, expire or evict."},
		{Name: "log.retention.hours", Type: IntSetting, Default: "168", Min: -1, Doc: "Default of the topic setting retention.ms, in hours."},
		{Name: "log.retention.minutes", Type: IntSetting, Null: true, Min: -1, Doc: "Default of the topic setting retention.ms, in minutes; goes before log.retention.hours."},
		{Name: "log.retention.ms", Type: LongSetting, Null: true, Min: -1, Update: Dynamic, Doc: "Default of the topic setting retention.ms; goes before log.retention.minutes."},
		{Name: "log.roll.hours", Type: IntSetting, Default: "168", Min: 1, Doc: "Default of the topic setting segment.ms, in hours."},
		{Name: "log.roll.jitter.hours", Type: IntSetting, Default: "0", Doc: "Default of the topic setting segment.jitter.ms, in hours."},
		{Name: "log.roll.jitter.ms", Type: LongSetting, Null: true, Update: Dynamic, Doc: "Default of the topic setting segment.jitter.ms; goes before log.roll.jitter.hours."},
		{Name: "log.roll.ms", Type: LongSetting, Null: true, Min: 1, Update: Dynamic, Doc: "Default of the topic setting segment.ms; goes before log.roll.hours."},
		{Name: "log.segment.bytes", Type: IntSetting, Default: "1073741824", Min: 1 << 20, Update: Dynamic, Doc: "Default of the topic setting segment.bytes."},
		{Name: "message.max.bytes", Type: IntSetting, Default: "1048588", Update: Dynamic, Doc: "Default of the topic setting max.message.bytes."},
		{Name: "min.insync.replicas", Type: IntSetting, Default: "1", Min: 1, Update: Dynamic, Doc: "Default of the topic setting min.insync.replicas."},
		{Name: "producer.id.expiration.ms", Type: IntSetting, Default: "86400000", Min: 1, Update: Dynamic, Doc: "How long an idle producer is remembered."},
		{Name: "unclean.leader.election.enable", Type: BooleanSetting, Default: "false", Update: Dynamic, Doc: "Default of the topic setting unclean.leader.election.enable."},
	}
}

func groupSettings() []Setting {
	return []Setting{
		{Name: "group.initial.rebalance.delay.ms", Type: IntSetting, Default: "3000", Doc: "How long a new group waits for more members before its first rebalance."},
		{Name: "group.max.session.timeout.ms", Type: IntSetting, Default: "1800000", Doc: "Longest session timeout a member may ask for."},
		{Name: "group.max.size", Type: IntSetting, Default: "2147483647", Min: 1, Doc: "Most members of one group."},
		{Name: "group.min.session.timeout.ms", Type: IntSetting, Default: "6000", Doc: "Shortest session timeout a member may ask for."},
		{Name: "offset.metadata.max.bytes", Type: IntSetting, Default: "4096", Doc: "Longest metadata string of a committed offset."},
		{Name: "offsets.retention.check.interval.ms", Type: LongSetting, Default: "600000", Min: 1, Doc: "Time between two looks for expired committed offsets."},
		{Name: "offsets.retention.minutes", Type: IntSetting, Default: "10080", Min: 1, Doc: "How long committed offsets outlive the last member of their group."},
		{Name: "offsets.topic.num.partitions", Type: IntSetting, Default: "50", Min: 1, Doc: "Partitions of __consumer_offsets. Not to be changed once it exists."},
		{Name: "offsets.topic.replication.factor", Type: ShortSetting, Default: "3", Min: 1, Max: 32767, Doc: "Replicas of __consumer_offsets."},
		{Name: "offsets.topic.segment.bytes", Type: IntSetting, Default: "104857600", Min: 1 << 20, Doc: "segment.bytes of __consumer_offsets."},
	}
}

func strataSettings() []Setting {
	return []Setting{
		{Name: "remote.fetch.max.wait.ms", Type: IntSetting, Default: "500", Min: 1, Update: Dynamic, Doc: "Longest wait of a fetch for the bucket (KIP-1018)."},
		{Name: "remote.list.offsets.request.timeout.ms", Type: LongSetting, Default: "30000", Min: 1, Update: Dynamic, Doc: "Longest wait of a look-up by time for the bucket (KIP-1075)."},
		{Name: "remote.log.manager.copier.thread.pool.size", Type: IntSetting, Default: "10", Min: 1, Max: 1000, Update: Dynamic, Doc: "Uploads at one time."},
		{Name: "remote.log.manager.copy.max.bytes.per.second", Type: LongSetting, Default: "9223372036854775807", Min: 1, Update: Dynamic, Doc: "Bytes of segments that are uploaded a second, all partitions together. A segment goes whole, and those after it wait until it is paid for (KIP-956)."},
		{Name: "remote.log.manager.fetch.max.bytes.per.second", Type: LongSetting, Default: "9223372036854775807", Min: 1, Update: Dynamic, Doc: "Bytes that are read from the bucket a second for clients, all partitions together; what the cache holds costs none (KIP-956)."},
		{Name: "remote.log.manager.task.interval.ms", Type: LongSetting, Default: "30000", Min: 1, Doc: "Time between two looks at all tiered partitions; a sealed segment is uploaded at once."},
		{Name: "remote.log.reader.threads", Type: IntSetting, Default: "10", Min: 1, Max: 1000, Update: Dynamic, Doc: "Reads from the bucket at one time."},
		{Name: "strata.bootstrap.expect", Type: IntSetting, Default: "1", Min: 1, Max: 1, Doc: "Controllers that found a new cluster together."},
		{Name: "strata.bucket.url", Type: StringSetting, Null: true, Doc: "Where sealed segments go: dir:///abs/path, s3://bucket/prefix?endpoint=http://host:port&region=NAME&path.style=true, or minio://bucket/prefix?endpoint=host:port&secure=false&region=NAME. Without it nothing is tiered."},
		{Name: "strata.cache.bytes", Type: LongSetting, Default: "134217728", Min: 1 << 20, Doc: "Memory for chunks read from the bucket."},
		{Name: "strata.cache.index.bytes", Type: LongSetting, Default: "33554432", Min: 1 << 20, Doc: "Memory for indexes and manifest pages read from the bucket."},
		{Name: "strata.cold.compaction.interval.ms", Type: LongSetting, Default: "15000", Min: 100, Doc: "Time between two looks at which compacted partitions are due for compaction in the bucket."},
		{Name: "strata.cold.compaction.map.bytes", Type: LongSetting, Default: "134217728", Min: 1 << 20, Doc: "Memory for the keys of one compaction in the bucket. With more keys than fit it takes several passes."},
		{Name: "strata.cold.compaction.max.bytes.per.second", Type: LongSetting, Default: "0", Doc: "What compaction reads from the bucket and writes to it, together; 0 for no limit."},
		{Name: "strata.commit.path", Type: StringSetting, Default: "auto", Allowed: []string{"auto", "file", "journal"}, Doc: "How appends reach stable storage: small ones together through the journal and large ones by their files (auto), or all one way."},
		{Name: "strata.disk.budget.bytes", Type: LongSetting, Default: "-1", Min: -1, Doc: "Local disk that segments of topics that move to the bucket may take, all partitions together; -1 for all there is but the reserve. Compacted, internal and local topics are not counted. Beyond it what the bucket holds is evicted before local retention asks for it, the oldest first. Where that is not enough, as when the bucket is away for long, clients' produce to these topics is refused with KAFKA_STORAGE_ERROR until uploads or total retention have made room."},
		{Name: "strata.disk.reserve.bytes", Type: LongSetting, Default: "536870912", Doc: "Free disk space below which clients' produce is refused, so that the broker itself can go on."},
		{Name: "strata.durability", Type: StringSetting, Default: "fsync", Allowed: []string{"fsync", "replicated"}, Doc: "What an acknowledgement rests on: fsync is stable storage, replicated is Kafka's page cache."},
		{Name: "strata.fetch.session.memory.bytes", Type: LongSetting, Default: "134217728", Doc: "Memory for fetch sessions; a client that gets none goes on with full fetches."},
		{Name: "strata.file.handles", Type: IntSetting, Default: "0", Min: 0, Doc: "Log files kept open at one time, at least 64; 0 stands for three quarters of what the process may open, at most 65536; the rest is for connections. With more partitions that are written to than three quarters of that, each append beyond syncs a file."},
		{Name: "strata.frame.idle.ms", Type: IntSetting, Default: "30000", Min: 1, Doc: "Time within which a request must arrive whole once it has begun."},
		{Name: "strata.frame.max.bytes", Type: IntSetting, Default: "1048576", Min: 1024, Doc: "Largest request other than Produce."},
		{Name: "strata.http.listen", Type: StringSetting, Default: "127.0.0.1:9644", Doc: "Address of /metrics, /healthz and /readyz; empty for none."},
		{Name: "strata.memory.max.bytes", Type: LongSetting, Default: "0", Min: 0, Doc: "Memory that the broker's process may take, at least 134217728; 0 stands for half of what the machine or its control group has, at least 268435456. The garbage collector works against it; requests and answers get a quarter of it at most, remembered producer ids an eighth, groups with their committed offsets an eighth. The page cache does not count."},
		{Name: "strata.remote.storage.enable", Type: BooleanSetting, Null: true, Doc: "Default of the topic setting remote.storage.enable; unset means true where a bucket is set."},
		{Name: "strata.request.memory.bytes", Type: LongSetting, Default: "268435456", Min: 8 << 20, Doc: "Memory for requests being read or served, all connections together."},
		{Name: "strata.offsets.seal.interval.ms", Type: LongSetting, Default: "60000", Doc: "How often the internal topics' partitions with news are sealed, so that they are uploaded and committed offsets survive a lost disk. One with steady commits costs a segment and a manifest an interval: two PUTs. 0 leaves it to offsets.topic.segment.bytes and segment.ms."},
		{Name: "strata.segment.min.bytes", Type: IntSetting, Default: "1048576", Doc: "Default of the topic setting strata.segment.min.bytes."},
		{Name: "strata.sweep.grace.ms", Type: LongSetting, Default: "3600000", Min: 100, Doc: "How long an object that nothing names is left alone, so that readers of an old manifest finish."},
		{Name: "strata.sweep.interval.ms", Type: LongSetting, Default: "900000", Min: 100, Doc: "Time between two rounds of the sweeper. An object that nothing names is deleted once it has been so for a grace, at most two graces and two intervals after it became garbage."},
		{Name: "strata.upload.timeout.ms", Type: LongSetting, Default: "60000", Min: 100, Doc: "Deadline of one upload, on top of the time its size needs at 1 MiB/s."},
	}
}
