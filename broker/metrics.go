package broker

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stratabroker/strata/broker/replica"
)

// metric declares one metric. Names without strata_ are those that the JMX
// exporter's usual rules give Kafka's, so that dashboards carry over.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// The metrics, each declared once. They are read from state at scrape: a
// partition or topic that nobody looks at costs nothing (DESIGN D25).
var (
	mBytesIn        = metric{"kafka_server_brokertopicmetrics_bytesin_total", "Bytes of record batches that clients wrote.", counter, []string{"topic"}}
	mBytesOut       = metric{"kafka_server_brokertopicmetrics_bytesout_total", "Bytes of record batches sent to clients.", counter, []string{"topic"}}
	mMessagesIn     = metric{"kafka_server_brokertopicmetrics_messagesin_total", "Records that clients wrote.", counter, []string{"topic"}}
	mProduce        = metric{"kafka_server_brokertopicmetrics_totalproducerequests_total", "Partitions named in Produce requests.", counter, []string{"topic"}}
	mFetch          = metric{"kafka_server_brokertopicmetrics_totalfetchrequests_total", "Partitions that Fetch answers tell of; those of a session only when there is news.", counter, []string{"topic"}}
	mFailedProduce  = metric{"kafka_server_brokertopicmetrics_failedproducerequests_total", "Appends that were refused.", counter, []string{"topic"}}
	mFailedFetch    = metric{"kafka_server_brokertopicmetrics_failedfetchrequests_total", "Reads that were refused.", counter, []string{"topic"}}
	mLogSize        = metric{"kafka_log_log_size", "Bytes of a partition on local disk.", gauge, []string{"topic", "partition"}}
	mLogStart       = metric{"kafka_log_log_logstartoffset", "First offset of a partition, in whichever tier.", gauge, []string{"topic", "partition"}}
	mLogEnd         = metric{"kafka_log_log_logendoffset", "Log end offset of a partition.", gauge, []string{"topic", "partition"}}
	mSegments       = metric{"kafka_log_log_numlogsegments", "Segments of a partition on local disk.", gauge, []string{"topic", "partition"}}
	mLocalStart     = metric{"strata_log_local_start_offset", "First offset of a partition on local disk.", gauge, []string{"topic", "partition"}}
	mTieredEnd      = metric{"strata_log_tiered_end_offset", "First offset of a partition that is in no segment object.", gauge, []string{"topic", "partition"}}
	mRemoteSize     = metric{"kafka_server_brokertopicmetrics_remotelogsizebytes", "Bytes of a partition's segment objects.", gauge, []string{"topic", "partition"}}
	mRemoteSegments = metric{"kafka_server_brokertopicmetrics_remotelogmetadatacount", "Segment objects of a partition.", gauge, []string{"topic", "partition"}}
	mCopyLagBytes   = metric{"kafka_server_brokertopicmetrics_remotecopylagbytes", "Bytes of sealed segments that are not in the bucket yet.", gauge, []string{"topic", "partition"}}
	mCopyLagSegs    = metric{"kafka_server_brokertopicmetrics_remotecopylagsegments", "Sealed segments that are not in the bucket yet.", gauge, []string{"topic", "partition"}}

	mMaxDirty         = metric{"kafka_log_logcleanermanager_max_dirty_percent", "Dirty share of the filthiest compacted log, in percent.", gauge, nil}
	mUncleanable      = metric{"kafka_log_logcleanermanager_uncleanable_partitions_count", "Compacted logs that cannot be cleaned.", gauge, []string{"logdirectory"}}
	mUncleanableBytes = metric{"kafka_log_logcleanermanager_uncleanable_bytes", "Bytes of compacted logs that cannot be cleaned.", gauge, []string{"logdirectory"}}
	mCleanerRun       = metric{"kafka_log_logcleanermanager_time_since_last_run_ms", "Time since the cleaner last looked for something to do.", gauge, nil}
	mCleanDelay       = metric{"kafka_log_logcleaner_max_compaction_delay_secs", "By how long max.compaction.lag.ms of a log has passed, at most.", gauge, nil}
	mCleanTime        = metric{"kafka_log_logcleaner_max_clean_time_secs", "Time that the last cleaning of a log took.", gauge, nil}
	mCleanBuffer      = metric{"kafka_log_logcleaner_max_buffer_utilization_percent", "Share of the memory for keys that the last cleaning used.", gauge, nil}
	mCleanRecopy      = metric{"kafka_log_logcleaner_cleaner_recopy_percent", "Bytes kept of those read by the last cleaning, in percent.", gauge, nil}
	mCleanLooks       = metric{"strata_log_cleaner_looks_total", "Looks at all compacted logs for the filthiest.", counter, nil}
	mCleanPasses      = metric{"strata_log_cleaner_passes_total", "Cleanings of a log.", counter, nil}
	mCleanRead        = metric{"strata_log_cleaner_read_bytes_total", "Bytes that cleaning looked at.", counter, nil}
	mCleanKept        = metric{"strata_log_cleaner_kept_bytes_total", "Bytes that cleaning left of those it looked at.", counter, nil}

	mGroups           = metric{"kafka_coordinator_group_groupmetadatamanager_numgroups", "Groups that this broker coordinates.", gauge, nil}
	mGroupsEmpty      = metric{"kafka_coordinator_group_groupmetadatamanager_numgroupsempty", "Groups without members.", gauge, nil}
	mGroupsPreparing  = metric{"kafka_coordinator_group_groupmetadatamanager_numgroupspreparingrebalance", "Groups that wait for their members to join.", gauge, nil}
	mGroupsCompleting = metric{"kafka_coordinator_group_groupmetadatamanager_numgroupscompletingrebalance", "Groups that wait for their assignment.", gauge, nil}
	mGroupsStable     = metric{"kafka_coordinator_group_groupmetadatamanager_numgroupsstable", "Groups whose members have their assignments.", gauge, nil}
	mGroupOffsets     = metric{"kafka_coordinator_group_groupmetadatamanager_numoffsets", "Committed offsets that are kept.", gauge, nil}
	mOffsetCommits    = metric{"kafka_server_group_coordinator_metrics_offset_commit_count", "Offsets committed.", counter, nil}
	mOffsetsExpired   = metric{"kafka_server_group_coordinator_metrics_offset_expiration_count", "Offsets that outlived their retention.", counter, nil}
	mRebalances       = metric{"kafka_server_group_coordinator_metrics_group_completed_rebalance_count", "Generations of groups begun.", counter, nil}
	mGroupMemory      = metric{"strata_group_memory_bytes", "Memory charged to groups and their offsets.", gauge, nil}
	mGroupMemoryLimit = metric{"strata_group_memory_limit_bytes", "Memory that groups and their offsets may take; beyond it new ones are refused.", gauge, nil}

	mRequests    = metric{"kafka_network_requestmetrics_requests_total", "Requests started.", counter, []string{"request"}}
	mReplies     = metric{"kafka_network_requestmetrics_totaltimems_count", "Requests answered.", counter, []string{"request"}}
	mRequestTime = metric{"strata_request_seconds_total", "Time from a request's arrival to its answer, summed.", counter, []string{"request"}}
	mConnections = metric{"kafka_server_socket_server_metrics_connection_count", "Connections of clients.", gauge, nil}
	mSocketIn    = metric{"strata_socket_bytes_in_total", "Bytes read from clients.", counter, nil}
	mSocketOut   = metric{"strata_socket_bytes_out_total", "Bytes written to clients.", counter, nil}
	mSessions    = metric{"kafka_server_fetchsessioncache_numincrementalfetchsessions", "Fetch sessions.", gauge, nil}
	mSessionPart = metric{"kafka_server_fetchsessioncache_numincrementalfetchpartitionscached", "Partitions of all fetch sessions.", gauge, nil}
	mSessionGone = metric{"kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total", "Fetch sessions that made room for others.", counter, nil}
	mMemory      = metric{"strata_request_memory_bytes", "Memory charged to requests and answers.", gauge, nil}
	mMalformed   = metric{"strata_connections_malformed_total", "Connections closed for what they sent.", counter, nil}

	mPartitions      = metric{"kafka_server_replicamanager_partitioncount", "Partitions on this broker.", gauge, nil}
	mLeaders         = metric{"kafka_server_replicamanager_leadercount", "Partitions that this broker leads.", gauge, nil}
	mUnderReplicated = metric{"kafka_server_replicamanager_underreplicatedpartitions", "Led partitions with a replica out of sync.", gauge, nil}
	mOffline         = metric{"kafka_server_replicamanager_offlinereplicacount", "Partitions that cannot be opened.", gauge, nil}
	mController      = metric{"kafka_controller_kafkacontroller_activecontrollercount", "1 on the broker that is the controller.", gauge, nil}
	mOfflineParts    = metric{"kafka_controller_kafkacontroller_offlinepartitionscount", "Partitions without a leader that serves them.", gauge, nil}
	mTopicsTotal     = metric{"kafka_controller_kafkacontroller_globaltopiccount", "Topics of the cluster.", gauge, nil}
	mPartsTotal      = metric{"kafka_controller_kafkacontroller_globalpartitioncount", "Partitions of the cluster.", gauge, nil}
	mImageIndex      = metric{"strata_metadata_applied_index", "Index of the last metadata command applied.", gauge, nil}
	mOverBudget      = metric{"strata_disk_over_budget", "1 while produce is refused because the logs have used up strata.disk.budget.bytes.", gauge, nil}
	mDiskFree        = metric{"strata_disk_free_bytes", "Free bytes where the data folder lies.", gauge, nil}

	mCopyBytes    = metric{"kafka_server_brokertopicmetrics_remotecopybytes_total", "Bytes of segments that were uploaded.", counter, nil}
	mCopyRequests = metric{"kafka_server_brokertopicmetrics_remotecopyrequests_total", "Segment uploads begun.", counter, nil}
	mCopyErrors   = metric{"kafka_server_brokertopicmetrics_remotecopyerrors_total", "Segment uploads that failed.", counter, nil}
	mFetchBytes   = metric{"kafka_server_brokertopicmetrics_remotefetchbytes_total", "Bytes served from the bucket.", counter, nil}
	mFetchReqs    = metric{"kafka_server_brokertopicmetrics_remotefetchrequests_total", "Reads served from the bucket.", counter, nil}
	mFetchErrors  = metric{"kafka_server_brokertopicmetrics_remotefetcherrors_total", "Reads that the bucket failed.", counter, nil}
	mDeleteReqs   = metric{"kafka_server_brokertopicmetrics_remotedeleterequests_total", "Delete requests to the bucket.", counter, nil}
	mDeleteErrors = metric{"kafka_server_brokertopicmetrics_remotedeleteerrors_total", "Delete requests that failed.", counter, nil}
	mPuts         = metric{"strata_bucket_put_requests_total", "PUT requests to the bucket, manifests included.", counter, nil}
	mGets         = metric{"strata_bucket_get_requests_total", "GET requests to the bucket.", counter, nil}
	mGetBytes     = metric{"strata_bucket_get_bytes_total", "Bytes read from the bucket.", counter, nil}
	mTorn         = metric{"strata_bucket_torn_reads_total", "Answers of the bucket that failed their CRC or length.", counter, nil}
	mRefused      = metric{"strata_archiver_refused_attempts_total", "Uploads that were refused at commit and done again.", counter, nil}
	mCompactRead  = metric{"strata_cold_compaction_read_bytes_total", "Bytes of batches that compaction read from the bucket.", counter, nil}
	mCompactWrote = metric{"strata_cold_compaction_written_bytes_total", "Bytes of objects that compaction wrote to the bucket.", counter, nil}
	mCompactDrop  = metric{"strata_cold_compaction_dropped_records_total", "Records that compaction left out, each time it did.", counter, nil}
	mCompactDone  = metric{"strata_cold_compaction_passes_total", "Compactions of a partition's cold tier.", counter, nil}
	mCompactErrs  = metric{"strata_cold_compaction_errors_total", "Compactions that failed and are begun anew.", counter, nil}
	mCompactRuns  = metric{"strata_cold_compaction_running", "1 while a compaction is under way.", gauge, nil}
	mCompactStops = metric{"strata_cold_compaction_stopped_partitions", "Led partitions that are not compacted because an object of theirs is damaged.", gauge, nil}
	mCacheHits    = metric{"strata_cache_hits_total", "Chunks found in the cache.", counter, nil}
	mCacheMisses  = metric{"strata_cache_misses_total", "Chunks not found in the cache.", counter, nil}
	mCacheBytes   = metric{"strata_cache_bytes", "Bytes of chunks in the cache.", gauge, nil}
	mRounds       = metric{"strata_sweeper_rounds_total", "Rounds of the sweeper.", counter, nil}
	mDeleted      = metric{"strata_sweeper_deleted_objects_total", "Objects that the sweeper deleted.", counter, nil}
	mRoots        = metric{"strata_roots_written_total", "Recovery points written.", counter, nil}
	mRootLag      = metric{"strata_root_lag_seconds", "Age of the oldest metadata change that no recovery point holds.", gauge, nil}
)

// collector reads the broker's state at each scrape.
type collector struct{ b *Broker }

func newCollector(b *Broker) prometheus.Collector { return collector{b} }

// Describe sends nothing: which topics there are changes.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	e := emitter(ch)
	c.topics(e)
	c.partitions(e)
	c.requests(e)
	c.cluster(e)
	c.cleaner(e)
	c.groups(e)
	if c.b.bucket != nil {
		c.tiering(e)
	}
}

type emitter chan<- prometheus.Metric

func (e emitter) emit(m metric, value float64, labels ...string) {
	e <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, m.labels, nil), m.kind, value, labels...)
}

func (c collector) topics(e emitter) {
	for topic, s := range c.b.replicas.TopicStats() {
		e.emit(mBytesIn, float64(s.BytesIn.Load()), topic)
		e.emit(mBytesOut, float64(s.BytesOut.Load()), topic)
		e.emit(mMessagesIn, float64(s.MessagesIn.Load()), topic)
		e.emit(mProduce, float64(s.ProduceRequests.Load()), topic)
		e.emit(mFetch, float64(s.FetchRequests.Load()), topic)
		e.emit(mFailedProduce, float64(s.FailedProduce.Load()), topic)
		e.emit(mFailedFetch, float64(s.FailedFetch.Load()), topic)
	}
}

func (c collector) partitions(e emitter) {
	leaders, under := 0, 0
	for l := range c.b.replicas.All() {
		leaders++
		row := l.Row()
		if len(row.ISR) < len(row.Replicas) {
			under++
		}
		c.partition(e, l)
	}
	e.emit(mPartitions, float64(leaders+c.b.replicas.Offline()))
	e.emit(mLeaders, float64(leaders))
	e.emit(mUnderReplicated, float64(under))
	e.emit(mOffline, float64(c.b.replicas.Offline()))
}

func (c collector) partition(e emitter, l *replica.Leader) {
	topic, partition := l.Topic(), strconv.Itoa(int(l.Key().Partition))
	row := l.Row()
	e.emit(mLogSize, float64(l.Log().Size()), topic, partition)
	e.emit(mSegments, float64(l.Log().Segments()), topic, partition)
	e.emit(mLogStart, float64(row.LogStart), topic, partition)
	e.emit(mLogEnd, float64(l.Log().LEO()), topic, partition)
	e.emit(mLocalStart, float64(l.Log().Start()), topic, partition)
	if !l.Tiered() {
		return
	}
	e.emit(mTieredEnd, float64(row.Manifest.TieredEnd), topic, partition)
	e.emit(mRemoteSize, float64(row.Manifest.Bytes), topic, partition)
	e.emit(mRemoteSegments, float64(row.Manifest.Segments), topic, partition)
	lag := c.b.bucket.lag(l)
	e.emit(mCopyLagBytes, float64(lag.Bytes), topic, partition)
	e.emit(mCopyLagSegs, float64(lag.Segments), topic, partition)
}

func (c collector) groups(e emitter) {
	n := c.b.groupMemory.Counts()
	e.emit(mGroups, float64(n.Empty+n.PreparingRebalance+n.CompletingRebalance+n.Stable))
	e.emit(mGroupsEmpty, float64(n.Empty))
	e.emit(mGroupsPreparing, float64(n.PreparingRebalance))
	e.emit(mGroupsCompleting, float64(n.CompletingRebalance))
	e.emit(mGroupsStable, float64(n.Stable))
	e.emit(mGroupOffsets, float64(n.Offsets))
	e.emit(mOffsetCommits, float64(n.Commits))
	e.emit(mOffsetsExpired, float64(n.Expired))
	e.emit(mRebalances, float64(n.Rebalances))
	e.emit(mGroupMemory, float64(c.b.groupMemory.Used()))
	e.emit(mGroupMemoryLimit, float64(c.b.groupMemory.Limit()))
}

func (c collector) cleaner(e emitter) {
	s, dir := c.b.cleaner.Stats(), c.b.folder.path
	e.emit(mMaxDirty, 100*s.MaxDirtyRatio)
	e.emit(mUncleanable, float64(s.Uncleanable), dir)
	e.emit(mUncleanableBytes, float64(s.UncleanableBytes), dir)
	e.emit(mCleanerRun, float64(s.SinceLastRun.Milliseconds()))
	e.emit(mCleanDelay, s.MaxOverdue.Seconds())
	e.emit(mCleanTime, s.LastTook.Seconds())
	e.emit(mCleanBuffer, 100*s.LastMapShare)
	e.emit(mCleanRecopy, 100*s.LastRecopy)
	e.emit(mCleanLooks, float64(s.Looks))
	e.emit(mCleanPasses, float64(s.Passes))
	e.emit(mCleanRead, float64(s.BytesRead))
	e.emit(mCleanKept, float64(s.BytesKept))
}

func (c collector) requests(e emitter) {
	s := c.b.server.Load().Stats()
	for _, a := range s.APIs {
		e.emit(mRequests, float64(a.Requests), a.Name)
		e.emit(mReplies, float64(a.Replies), a.Name)
		e.emit(mRequestTime, a.TotalTime.Seconds(), a.Name)
	}
	e.emit(mConnections, float64(s.Connections))
	e.emit(mSocketIn, float64(s.BytesIn))
	e.emit(mSocketOut, float64(s.BytesOut))
	e.emit(mMemory, float64(s.MemoryInUse))
	e.emit(mMalformed, float64(s.Malformed))
	f := c.b.handler.FetchSessions()
	e.emit(mSessions, float64(f.Sessions))
	e.emit(mSessionPart, float64(f.Partitions))
	e.emit(mSessionGone, float64(f.Evictions))
}

func (c collector) cluster(e emitter) {
	img, controller := c.b.node.Image(), 0.0
	if c.b.isController() {
		controller = 1
	}
	e.emit(mController, controller)
	e.emit(mOfflineParts, float64(c.b.replicas.Offline()))
	e.emit(mTopicsTotal, float64(img.TopicCount()))
	e.emit(mPartsTotal, float64(img.PartitionCount()))
	e.emit(mImageIndex, float64(img.Index()))
	over := 0.0
	if c.b.dir.OverBudget() {
		over = 1
	}
	e.emit(mOverBudget, over)
	if free, err := c.b.dir.Free(); err == nil {
		e.emit(mDiskFree, float64(free))
	}
}

func (c collector) tiering(e emitter) {
	k := c.b.bucket
	a, r, s, w := k.archiver.Stats(), k.reader.Stats(), k.sweeper.Stats(), k.roots.Stats()
	e.emit(mCopyBytes, float64(a.CopyBytes))
	e.emit(mCopyRequests, float64(a.CopyRequests))
	e.emit(mCopyErrors, float64(a.CopyErrors))
	e.emit(mPuts, float64(a.Puts))
	e.emit(mRefused, float64(a.Refused))
	e.emit(mFetchBytes, float64(r.FetchBytes))
	e.emit(mFetchReqs, float64(r.FetchRequests))
	e.emit(mFetchErrors, float64(r.FetchErrors))
	e.emit(mGets, float64(r.Gets))
	e.emit(mGetBytes, float64(r.GetBytes))
	e.emit(mTorn, float64(r.Torn))
	m := k.compactor.Stats()
	e.emit(mCompactRead, float64(m.BytesRead))
	e.emit(mCompactWrote, float64(m.BytesWritten))
	e.emit(mCompactDrop, float64(m.RecordsDropped))
	e.emit(mCompactDone, float64(m.Passes))
	e.emit(mCompactErrs, float64(m.Errors))
	e.emit(mCompactRuns, float64(m.Running))
	e.emit(mCompactStops, float64(m.Stopped))
	e.emit(mCacheHits, float64(r.CacheHits))
	e.emit(mCacheMisses, float64(r.CacheMisses))
	e.emit(mCacheBytes, float64(r.CacheBytes))
	e.emit(mDeleteReqs, float64(s.DeleteRequests))
	e.emit(mDeleteErrors, float64(s.DeleteErrors))
	e.emit(mRounds, float64(s.Rounds))
	e.emit(mDeleted, float64(s.Deleted))
	e.emit(mRoots, float64(w.Written))
	e.emit(mRootLag, (time.Duration(w.LagMs) * time.Millisecond).Seconds())
}
