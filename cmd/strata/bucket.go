package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/drivers"
	"github.com/stratabroker/strata/tiering/recovery"
)

func bucketCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bucket",
		Short: "Look into a bucket and check it, no broker needed",
		Long: `Look into a bucket and check it. No broker is needed, and none is disturbed. The bucket is what
strata.bucket.url names: dir:///abs/path, s3://bucket/prefix with endpoint, region and path.style
as parameters and credentials as the AWS SDK finds them (AWS_ACCESS_KEY_ID and so on), or
minio://bucket/prefix with endpoint (host:port), secure and region as parameters and credentials
from MINIO_ACCESS_KEY and MINIO_SECRET_KEY, the AWS variables and files, or mc's aliases.`,
		Example: `  strata bucket ls dir://$PWD/strata-data/bucket
  strata bucket cat dir://$PWD/strata-data/bucket clicks/0
  strata bucket verify 's3://archive/prod?endpoint=http://127.0.0.1:9000&region=us-east-1'
  strata bucket ls 'minio://archive/prod?endpoint=127.0.0.1:9000&secure=false'
  strata bucket export dir://$PWD/strata-data/bucket clicks --to /tmp/out`,
	}
	parent(c)
	c.AddCommand(bucketLsCommand(), bucketCatCommand(), bucketVerifyCommand(), bucketExportCommand())
	return c
}

func openStore(ctx context.Context, text string) (object.Store, error) {
	u, err := object.ParseURL(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme == object.SchemeDir { // which would make a missing one
		if _, err := os.Stat(u.Path); err != nil {
			return nil, fmt.Errorf("bucket %s: %w", u, err)
		}
	}
	store, err := drivers.Open(ctx, u, nil)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", u, err)
	}
	return store, nil
}

// withBucket opens what the bucket's newest root says.
func withBucket(ctx context.Context, text string, fn func(*recovery.Bucket) error) error {
	store, err := openStore(ctx, text)
	if err != nil {
		return err
	}
	b, err := recovery.Open(ctx, store)
	if err == nil {
		err = fn(b)
	} else {
		err = fmt.Errorf("bucket %s: %w", text, err)
	}
	return errors.Join(err, store.Close())
}

func bucketLsCommand() *cobra.Command {
	var segments, internal bool
	c := &cobra.Command{
		Use:   "ls URL [TOPIC]",
		Short: "List what the bucket holds: one line a partition, or a segment object",
		Long: `List what the bucket holds, one line a partition: tiered-end is the first offset that is not in
the bucket yet, TIERED-END of strata topic describe. Of topics whose name begins with __ only if named, or with --internal.`,
		Example: `  strata bucket ls dir://$PWD/strata-data/bucket
  strata bucket ls s3://archive/prod clicks --segments
  strata bucket ls s3://archive/prod --internal`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			topic := ""
			if len(args) == 2 {
				topic = args[1]
			}
			err := withBucket(cmd.Context(), args[0], func(b *recovery.Bucket) error {
				shown := func(name string) bool { return internal || topic != "" || !strings.HasPrefix(name, "__") }
				if segments {
					return printAll(cmd, b.Segments(cmd.Context(), topic), segmentToJSON, func(s recovery.SegmentInfo) bool { return shown(s.Topic) })
				}
				return printAll(cmd, b.Partitions(cmd.Context(), topic), partitionToJSON, func(p recovery.PartitionInfo) bool { return shown(p.Topic) })
			})
			if errors.Is(err, recovery.ErrNoRoot) { // the first one is a moment away
				_, err = fmt.Fprintln(cmd.ErrOrStderr(), "nothing yet")
			}
			return err
		},
	}
	c.Flags().BoolVar(&segments, "segments", false, "list every segment object")
	c.Flags().BoolVar(&internal, "internal", false, "list internal topics too")
	return c
}

// printAll prints one line for each that is shown, with --json one object, up to the error that ends them.
func printAll[T fmt.Stringer](cmd *cobra.Command, all iter.Seq2[T, error], toJSON func(T) any, shown func(T) bool) error {
	w := bufio.NewWriter(cmd.OutOrStdout())
	for item, err := range all {
		if err == nil && shown(item) {
			if wantsJSON(cmd) {
				err = printJSON(w, toJSON(item))
			} else {
				_, err = fmt.Fprintln(w, item.String())
			}
		}
		if err != nil {
			return errors.Join(w.Flush(), err)
		}
	}
	return w.Flush()
}

// bucketPartitionJSON is what a bucket holds of a partition.
type bucketPartitionJSON struct {
	Topic        string `json:"topic"`
	Partition    int32  `json:"partition"`
	LogStart     int64  `json:"log_start"`
	TieredEnd    int64  `json:"tiered_end"`
	Segments     int64  `json:"segments"`
	Records      int64  `json:"records"`
	Bytes        int64  `json:"bytes"`
	MaxTimestamp int64  `json:"max_timestamp"` // ms, -1 for none
}

func partitionToJSON(p recovery.PartitionInfo) any {
	return bucketPartitionJSON{p.Topic, p.Partition, int64(p.LogStart), int64(p.TieredEnd), p.Segments, p.Records, p.Bytes, int64(p.MaxTimestamp)}
}

// bucketSegmentJSON is a segment object.
type bucketSegmentJSON struct {
	Topic        string `json:"topic"`
	Partition    int32  `json:"partition"`
	Base         int64  `json:"base"`
	End          int64  `json:"end"`
	Epoch        int32  `json:"epoch"`
	Records      int64  `json:"records"`
	Bytes        int64  `json:"bytes"`
	MaxTimestamp int64  `json:"max_timestamp"`
	Object       string `json:"object"`
}

func segmentToJSON(s recovery.SegmentInfo) any {
	return bucketSegmentJSON{s.Topic, s.Partition, int64(s.Base), int64(s.End), int32(s.Epoch), s.Records, s.ObjectSize, int64(s.MaxTimestamp), s.ObjectKey}
}

func bucketCatCommand() *cobra.Command {
	var from, count int64
	var layout string
	c := &cobra.Command{
		Use:   "cat URL TOPIC/PARTITION",
		Short: "Print the records that a partition has in the bucket",
		Long: `Print the committed records that a partition has in the bucket, each chunk checked on the way.
--format and --json are those of strata consume.`,
		Example: `  strata bucket cat dir://$PWD/strata-data/bucket clicks/0
  strata bucket cat s3://archive/prod clicks/0 --from 1000 --max 10 --format '%o %k %v\n'`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, partition, err := topicAndPartition(args[1])
			if err != nil {
				return err
			}
			printer, err := recordPrinter(cmd, layout)
			if err != nil {
				return err
			}
			return withBucket(cmd.Context(), args[0], func(b *recovery.Bucket) error {
				c := cat{print: printer, topic: topic, partition: partition, max: count}
				return c.run(cmd.Context(), cmd.OutOrStdout(), b, protocol.Offset(from))
			})
		},
	}
	c.Flags().Int64Var(&from, "from", 0, "first `OFFSET`")
	c.Flags().Int64Var(&count, "max", 0, "exit after `N` records")
	c.Flags().StringVar(&layout, "format", `%v\n`, "how to print a record (default `%v\\n`)")
	noDefaults(c, "format")
	return c
}

// topicAndPartition reads TOPIC/PARTITION.
func topicAndPartition(text string) (topic string, partition int32, err error) {
	at := strings.LastIndexByte(text, '/')
	n, err := strconv.ParseInt(text[at+1:], 10, 32)
	if at < 1 || err != nil || n < 0 {
		return "", 0, usage("%s: want TOPIC/PARTITION", text)
	}
	return text[:at], int32(n), nil
}

type cat struct {
	print     func([]byte, *kgo.Record) ([]byte, error)
	topic     string
	partition int32
	max       int64
}

func (c *cat) run(ctx context.Context, out io.Writer, b *recovery.Bucket, from protocol.Offset) error {
	w := bufio.NewWriter(out)
	var text []byte
	printed := int64(0)
	for r, err := range b.Cat(ctx, c.topic, c.partition, from) {
		if err == nil {
			text, err = c.print(text[:0], toKgo(c.topic, c.partition, r))
		}
		if err != nil {
			return errors.Join(w.Flush(), err)
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		if printed++; c.max > 0 && printed >= c.max {
			break
		}
	}
	return w.Flush()
}

// toKgo is a record of a bucket or a file, for what prints those of a broker.
func toKgo(topic string, partition int32, r record.Record) *kgo.Record {
	out := &kgo.Record{
		Topic: topic, Partition: partition, Offset: int64(r.Offset), Timestamp: time.UnixMilli(int64(r.Timestamp)), Key: r.Key, Value: r.Value,
	}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return out
}

func bucketVerifyCommand() *cobra.Command {
	var o recovery.Options
	var told bool
	c := &cobra.Command{
		Use:   "verify URL",
		Short: "Read everything that the bucket names and check it",
		Long: `Read everything that the bucket's roots reach and check it: that each object is there, whole and
the one that was meant, every checksum, and that offsets have no gap. One line on standard output
for each anomaly; the summary goes to standard error, with --json too a line of standard output. The exit status is 0
where the bucket is clean. A broker may be running. Objects that no root names are counted, not
anomalies: older manifests and deleted segments that wait for the sweep, and uploads under way.`,
		Example: `  strata bucket verify dir://$PWD/strata-data/bucket
  strata bucket verify s3://archive/prod --parallel 16 --progress`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return verify(cmd, args[0], o, told)
		},
	}
	progressFlag(c, &told)
	c.Flags().IntVar(&o.Parallel, "parallel", 4, "`N` segment objects read at one time")
	c.Flags().DurationVar(&o.Grace, "grace", 0, "the cluster's strata.sweep.grace.ms, as in 1h: what an older root than that misses may have been swept")
	return c
}

func verify(cmd *cobra.Command, url string, o recovery.Options, told bool) error {
	ctx, errOut := cmd.Context(), cmd.ErrOrStderr()
	if o.Parallel < 1 {
		return usage("--parallel %d: want 1 or more", o.Parallel)
	}
	store, err := openStore(ctx, url)
	if err != nil {
		return err
	}
	var outErr error
	o.Found = func(a recovery.Anomaly) {
		if err := printAnomaly(cmd, a); err != nil {
			outErr = err
		}
	}
	bar := newProgress(cmd, told)
	o.Progress = func(p recovery.Progress) {
		bar.tell("checked %d of %d segment objects, %s of %s", p.Segments, p.TotalSegments, sizeText(p.Bytes), sizeText(p.TotalBytes))
	}
	report, err := recovery.Verify(ctx, store, o)
	bar.end()
	err = errors.Join(err, outErr, store.Close())
	if err != nil {
		return fmt.Errorf("bucket %s: %w", url, err)
	}
	if wantsJSON(cmd) {
		err = printJSON(cmd.OutOrStdout(), map[string]any{"summary": map[string]any{
			"clean": report.Clean(), "anomalies": report.Anomalies, "roots": report.Roots, "topics": report.Topics, "partitions": report.Partitions,
			"manifest_pages": report.Pages, "segments": report.Segments, "bytes": report.Bytes,
			"unreachable_objects": report.UnreachableObjects, "unreachable_bytes": report.UnreachableBytes,
		}})
	} else {
		_, err = fmt.Fprintln(errOut, report.String())
	}
	if err == nil && !report.Clean() {
		err = fmt.Errorf("bucket %s: %d anomalies", url, report.Anomalies)
	}
	return err
}

func printAnomaly(cmd *cobra.Command, a recovery.Anomaly) error {
	if !wantsJSON(cmd) {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), a.String())
		return err
	}
	return printJSON(cmd.OutOrStdout(), map[string]any{"anomaly": map[string]any{
		"kind": a.Kind, "topic": a.Topic, "partition": a.Partition, "base": a.Base, "end": a.End, "object": a.Object, "detail": a.Detail,
	}})
}
