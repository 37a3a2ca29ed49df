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
  strata bucket ls 'minio://archive/prod?endpoint=127.0.0.1:9000&secure=false'`,
	}
	parent(c)
	c.AddCommand(bucketLsCommand(), bucketCatCommand(), bucketVerifyCommand())
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
					return printAll(cmd.OutOrStdout(), b.Segments(cmd.Context(), topic), func(s recovery.SegmentInfo) bool { return shown(s.Topic) })
				}
				return printAll(cmd.OutOrStdout(), b.Partitions(cmd.Context(), topic), func(p recovery.PartitionInfo) bool { return shown(p.Topic) })
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

// printAll prints one line for each that is shown, up to the error that ends them.
func printAll[T fmt.Stringer](out io.Writer, all iter.Seq2[T, error], shown func(T) bool) error {
	w := bufio.NewWriter(out)
	for item, err := range all {
		if err != nil {
			return errors.Join(w.Flush(), err)
		}
		if shown(item) {
			_, _ = fmt.Fprintln(w, item.String()) // a bufio.Writer keeps its error for Flush
		}
	}
	return w.Flush()
}

func bucketCatCommand() *cobra.Command {
	var from, count int64
	var layout string
	c := &cobra.Command{
		Use:   "cat URL TOPIC/PARTITION",
		Short: "Print the records that a partition has in the bucket",
		Long: `Print the committed records that a partition has in the bucket, each chunk checked on the way.
--format is that of strata consume.`,
		Example: `  strata bucket cat dir://$PWD/strata-data/bucket clicks/0
  strata bucket cat s3://archive/prod clicks/0 --from 1000 --max 10 --format '%o %k %v\n'`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			at := strings.LastIndexByte(args[1], '/')
			if at < 0 {
				return usage("%s: want TOPIC/PARTITION", args[1])
			}
			topic := args[1][:at]
			partition, err := strconv.ParseInt(args[1][at+1:], 10, 32)
			if err != nil || partition < 0 {
				return usage("%s: want TOPIC/PARTITION", args[1])
			}
			format, err := kgo.NewRecordFormatter(layout)
			if err != nil {
				return usage("--format %s: %v", layout, err)
			}
			return withBucket(cmd.Context(), args[0], func(b *recovery.Bucket) error {
				c := cat{format: format, topic: topic, partition: int32(partition), max: count}
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

type cat struct {
	format    *kgo.RecordFormatter
	topic     string
	partition int32
	max       int64
}

func (c *cat) run(ctx context.Context, out io.Writer, b *recovery.Bucket, from protocol.Offset) error {
	w := bufio.NewWriter(out)
	var text []byte
	printed := int64(0)
	for r, err := range b.Cat(ctx, c.topic, c.partition, from) {
		if err != nil {
			return errors.Join(w.Flush(), err)
		}
		shown := kgo.Record{
			Topic: c.topic, Partition: c.partition, Offset: int64(r.Offset), Timestamp: time.UnixMilli(int64(r.Timestamp)), Key: r.Key, Value: r.Value,
		}
		for _, h := range r.Headers {
			shown.Headers = append(shown.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		text = c.format.AppendRecord(text[:0], &shown)
		if _, err := w.Write(text); err != nil {
			return err
		}
		if printed++; c.max > 0 && printed >= c.max {
			break
		}
	}
	return w.Flush()
}

func bucketVerifyCommand() *cobra.Command {
	var o recovery.Options
	c := &cobra.Command{
		Use:   "verify URL",
		Short: "Read everything that the bucket names and check it",
		Long: `Read everything that the bucket's roots reach and check it: that each object is there, whole and
the one that was meant, every checksum, and that offsets have no gap. One line on standard output
for each anomaly; the summary and how far it has come go to standard error. The exit status is 0
where the bucket is clean. A broker may be running. Objects that no root names are counted, not
anomalies: older manifests and deleted segments that wait for the sweep, and uploads under way.`,
		Example: `  strata bucket verify dir://$PWD/strata-data/bucket
  strata bucket verify s3://archive/prod --parallel 16`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return verify(cmd, args[0], o)
		},
	}
	c.Flags().IntVar(&o.Parallel, "parallel", 4, "`N` segment objects read at one time")
	c.Flags().DurationVar(&o.Grace, "grace", 0, "the cluster's strata.sweep.grace.ms, as in 1h: what an older root than that misses may have been swept")
	return c
}

func verify(cmd *cobra.Command, url string, o recovery.Options) error {
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
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), a.String()); err != nil {
			outErr = err
		}
	}
	last := time.Now()
	o.Progress = func(p recovery.Progress) {
		if now := time.Now(); now.Sub(last) >= progressInterval {
			last = now
			_, _ = fmt.Fprintf(errOut, "checked %d of %d segment objects, %d of %d MiB\n", p.Segments, p.TotalSegments, p.Bytes>>20, p.TotalBytes>>20)
		}
	}
	report, err := recovery.Verify(ctx, store, o)
	err = errors.Join(err, outErr, store.Close())
	if err != nil {
		return fmt.Errorf("bucket %s: %w", url, err)
	}
	_, _ = fmt.Fprintln(errOut, report.String())
	if !report.Clean() {
		return fmt.Errorf("bucket %s: %d anomalies", url, report.Anomalies)
	}
	return nil
}

// progressInterval is the time between two lines of a long command's progress.
const progressInterval = 2 * time.Second
