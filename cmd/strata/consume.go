package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumer is the command line of strata consume.
type consumer struct {
	client
	group, from, format string
	partition           int32
	max                 int64
	untilEnd            bool
}

func consumeCommand() *cobra.Command {
	var c consumer
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Read records and print them",
		Long: `Read a topic's records and print each by a format. Without --group it starts at --from; with
one it goes on where the group stopped, commits what it printed, and --from is for a group that
has committed nothing yet.

In --format, %k %v %t %p %o %d stand for key, value, topic, partition, offset and timestamp (ms);
%d{go##2006-01-02T15:04:05Z07:00##} writes a date, %h{%k=%v } the headers, \n \t a new line, a tab.`,
		Example: `  strata consume clicks                                       new records as they come
  strata consume clicks --from beginning --until-end          all there are, then exit
  strata consume clicks --from 2011-06-14T00:00:00Z --max 10
  strata consume clicks --from 1000 --partition 2             from offset 1000 on
  strata consume clicks --group audit                         go on where the group stopped
  strata consume clicks --format '%p/%o %d{go##2006-01-02##} %k: %v\n'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&c.group, "group", "", "consume as a member of group `NAME`")
	cmd.Flags().StringVar(&c.from, "from", "", "beginning, end, an offset, or a time as in 2006-01-02T15:04:05Z (default: end, with --until-end or --group beginning)")
	cmd.Flags().Int32Var(&c.partition, "partition", -1, "read partition `N` only")
	cmd.Flags().Int64Var(&c.max, "max", 0, "exit after `N` records")
	cmd.Flags().BoolVar(&c.untilEnd, "until-end", false, "exit after the last record there was at the start")
	cmd.Flags().StringVar(&c.format, "format", `%v\n`, "how to print a record (default `%v\\n`)")
	noDefaults(cmd, "partition", "format")
	return cmd
}

// start is what --from means.
func (c *consumer) start() (kgo.Offset, error) {
	switch from := c.from; {
	case from == "beginning", from == "" && (c.untilEnd || c.group != ""):
		return kgo.NewOffset().AtStart(), nil
	case from == "end", from == "":
		return kgo.NewOffset().AtEnd(), nil
	default:
		if n, err := strconv.ParseInt(from, 10, 64); err == nil && n >= 0 {
			return kgo.NewOffset().At(n), nil
		}
		when, err := time.Parse(time.RFC3339Nano, from)
		if err != nil {
			return kgo.Offset{}, usage("--from %s: want beginning, end, an offset, or a time as in 2006-01-02T15:04:05Z", from)
		}
		return kgo.NewOffset().AfterMilli(when.UnixMilli()), nil
	}
}

func (c *consumer) run(ctx context.Context, out io.Writer, topic string) error {
	start, err := c.start()
	if err != nil {
		return err
	}
	if c.partition >= 0 && c.group != "" {
		return usage("--partition and --group exclude each other: a group shares out the partitions itself")
	}
	if c.untilEnd && c.group != "" {
		return usage("--until-end and --group exclude each other: other members may read up to the end. Use --max")
	}
	format, err := kgo.NewRecordFormatter(c.format)
	if err != nil {
		return usage("--format %s: %v", c.format, err)
	}
	opts := []kgo.Opt{
		kgo.ConsumeResetOffset(start), kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.KeepControlRecords(), // the last record before the end may be one
	}
	switch {
	case c.untilEnd: // assigned below, once the ends are known
	case c.group != "":
		opts = append(opts, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(c.group), kgo.AutoCommitMarks())
	case c.partition >= 0:
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {c.partition: start}}))
	default:
		opts = append(opts, kgo.ConsumeTopics(topic))
	}
	cl, err := c.connect(ctx, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	ends, err := c.ends(ctx, cl, topic)
	if err != nil {
		return err
	}
	return c.copy(ctx, cl, out, format, ends)
}

// ends checks that the topic is there. With --until-end it gives the end offset
// of each partition that has records to read, and starts to read those.
func (c *consumer) ends(ctx context.Context, cl *kgo.Client, topic string) (map[int32]int64, error) {
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", topic, err)
	}
	if _, ok := ends.Lookup(topic, c.partition); c.partition >= 0 && !ok {
		return nil, fmt.Errorf("%s has no partition %d", topic, c.partition)
	}
	if !c.untilEnd {
		return nil, nil
	}
	starts, err := c.starts(ctx, adm, topic)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", topic, err)
	}
	out, assigned := map[int32]int64{}, map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(topic, end.Partition)
		if ok && start.Offset < end.Offset && (c.partition < 0 || c.partition == end.Partition) {
			out[end.Partition], assigned[end.Partition] = end.Offset, kgo.NewOffset().At(start.Offset)
		}
	})
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: assigned})
	return out, nil
}

// starts resolves --from for each partition.
func (c *consumer) starts(ctx context.Context, adm *kadm.Client, topic string) (kadm.ListedOffsets, error) {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, err
	}
	switch c.from {
	case "", "beginning":
		return starts, nil
	case "end":
		return adm.ListEndOffsets(ctx, topic)
	}
	if n, err := strconv.ParseInt(c.from, 10, 64); err == nil {
		for partition, o := range starts[topic] {
			o.Offset = max(o.Offset, n)
			starts[topic][partition] = o
		}
		return starts, nil
	}
	when, err := time.Parse(time.RFC3339Nano, c.from)
	if err != nil {
		return nil, err
	}
	return adm.ListOffsetsAfterMilli(ctx, when.UnixMilli(), topic)
}

// copy prints records until ctx, --max or the ends.
func (c *consumer) copy(ctx context.Context, cl *kgo.Client, out io.Writer, format *kgo.RecordFormatter, ends map[int32]int64) (err error) {
	if c.group != "" {
		defer func() { err = errors.Join(err, leave(ctx, cl)) }()
	}
	printed := int64(0)
	open := maps.Clone(ends)
	for !c.untilEnd || len(open) > 0 {
		fetches := cl.PollRecords(ctx, c.limit(printed))
		if ctx.Err() != nil {
			return nil // ctrl-C is how one stops it
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("%s partition %d: %w", errs[0].Topic, errs[0].Partition, errs[0].Err)
		}
		records := fetches.Records()
		var text []byte
		for _, r := range records {
			end, bounded := ends[r.Partition]
			if bounded && r.Offset+1 >= end {
				delete(open, r.Partition)
			}
			if !r.Attrs.IsControl() && (!bounded || r.Offset < end) {
				text = format.AppendRecord(text, r)
				printed++
			}
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
		cl.MarkCommitRecords(records...) // without a group it does nothing
		if c.max > 0 && printed >= c.max {
			return nil
		}
	}
	return nil
}

// limit is how many records may still be taken, in handy portions.
func (c *consumer) limit(printed int64) int {
	const portion = 10000
	if c.max > 0 {
		return int(min(c.max-printed, portion))
	}
	return portion
}

// leave commits what was printed, also after ctrl-C, and leaves the group.
func leave(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushGrace)
	defer cancel()
	if err := cl.CommitMarkedOffsets(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return cl.LeaveGroupContext(ctx)
}
