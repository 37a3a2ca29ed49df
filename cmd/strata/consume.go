package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumer is the command line of strata consume.
type consumer struct {
	client
	group, from, format, isolation string
	partition                      int32
	max                            int64
	untilEnd                       bool

	place position
	print func(text []byte, r *kgo.Record) ([]byte, error)
}

func consumeCommand() *cobra.Command {
	var c consumer
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Read records and print them",
		Long: `Read a topic's records and print each by a format. Without --group it starts at --from; with
one it goes on where the group stopped, commits what it printed, and --from is for a group that
has committed nothing yet.

--isolation read_committed leaves out what was aborted and ends where an open transaction begins.

In --format, %k %v %t %p %o %d stand for key, value, topic, partition, offset and timestamp (ms);
%d{go##2006-01-02T15:04:05Z07:00##} writes a date, %h{%k=%v } the headers, \n \t a new line, a tab.`,
		Example: `  strata consume clicks                                       new records as they come
  strata consume clicks --from beginning --until-end          all there are, then exit
  strata consume clicks --from 2011-06-14T00:00:00Z --max 10
  strata consume clicks --from 1000 --partition 2             from offset 1000 on
  strata consume clicks --group audit                         go on where the group stopped
  strata consume clicks --json --isolation read_committed     one JSON object a line
  strata consume clicks --format '%p/%o %d{go##2006-01-02##} %k: %v\n'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.settle(cmd); err != nil {
				return err
			}
			return c.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&c.group, "group", "", "consume as a member of group `NAME`")
	cmd.Flags().StringVar(&c.from, "from", "", ""+positionHelp+" (default: end, with --until-end or --group beginning)")
	cmd.Flags().Int32Var(&c.partition, "partition", -1, "read partition `N` only")
	cmd.Flags().Int64Var(&c.max, "max", 0, "exit after `N` records")
	cmd.Flags().BoolVar(&c.untilEnd, "until-end", false, "exit after the last record there was at the start")
	cmd.Flags().StringVar(&c.format, "format", `%v\n`, "how to print a record (default `%v\\n`)")
	cmd.Flags().StringVar(&c.isolation, "isolation", "read_uncommitted", "`LEVEL`: read_committed or read_uncommitted")
	noDefaults(cmd, "partition", "format")
	return cmd
}

// settle checks the flags and decides what they mean together.
func (c *consumer) settle(cmd *cobra.Command) (err error) {
	switch {
	case c.partition >= 0 && c.group != "":
		return usage("--partition and --group exclude each other: a group shares out the partitions itself")
	case c.untilEnd && c.group != "":
		return usage("--until-end and --group exclude each other: other members may read up to the end. Use --max")
	case c.isolation != "read_committed" && c.isolation != "read_uncommitted":
		return usage("--isolation %s: want read_committed or read_uncommitted", c.isolation)
	case c.from != "":
		c.place, err = parsePosition("from", c.from)
	case c.untilEnd, c.group != "":
		c.place.word = "beginning"
	default:
		c.place.word = "end"
	}
	if err != nil {
		return err
	}
	c.print, err = recordPrinter(cmd, c.format)
	return err
}

// recordPrinter appends records to a text as --json or --format say.
func recordPrinter(cmd *cobra.Command, layout string) (func([]byte, *kgo.Record) ([]byte, error), error) {
	if wantsJSON(cmd) {
		if cmd.Flags().Changed("format") {
			return nil, usage("--json and --format exclude each other")
		}
		return func(text []byte, r *kgo.Record) ([]byte, error) { return jsonLine(text, recordToJSON(r)) }, nil
	}
	format, err := kgo.NewRecordFormatter(layout)
	if err != nil {
		return nil, usage("--format %s: %v", layout, err)
	}
	return func(text []byte, r *kgo.Record) ([]byte, error) { return format.AppendRecord(text, r), nil }, nil
}

func (c *consumer) run(ctx context.Context, out io.Writer, topic string) error {
	opts := []kgo.Opt{
		kgo.ConsumeResetOffset(c.place.kgo()), kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.KeepControlRecords(), // the last record before the end may be one
	}
	if c.isolation == "read_committed" {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	switch {
	case c.untilEnd: // assigned below, once the ends are known
	case c.group != "":
		opts = append(opts, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(c.group), kgo.AutoCommitMarks())
	case c.partition >= 0:
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {c.partition: c.place.kgo()}}))
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
	return c.copy(ctx, cl, out, ends)
}

// ends checks that the topic is there. With --until-end it gives the end offset
// of each partition that has records to read, and starts to read those.
func (c *consumer) ends(ctx context.Context, cl *kgo.Client, topic string) (map[int32]int64, error) {
	adm := kadm.NewClient(cl)
	end := position{word: "end"}
	if c.isolation == "read_committed" {
		end.word = "stable"
	}
	ends, err := end.list(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	if _, ok := ends.Lookup(topic, c.partition); c.partition >= 0 && !ok {
		return nil, fmt.Errorf("%s has no partition %d", topic, c.partition)
	}
	if !c.untilEnd {
		return nil, nil
	}
	starts, err := c.place.list(ctx, adm, topic)
	if err != nil {
		return nil, err
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

// copy prints records until ctx, --max or the ends.
func (c *consumer) copy(ctx context.Context, cl *kgo.Client, out io.Writer, ends map[int32]int64) (err error) {
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
		text, n, err := c.render(records, ends, open)
		if err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
		printed += n
		cl.MarkCommitRecords(records...) // without a group it does nothing
		if c.max > 0 && printed >= c.max {
			return nil
		}
	}
	return nil
}

// render gives the text of the records below the ends, and how many those are.
// Partitions whose end is reached leave open.
func (c *consumer) render(records []*kgo.Record, ends, open map[int32]int64) (text []byte, n int64, err error) {
	for _, r := range records {
		end, bounded := ends[r.Partition]
		if bounded && r.Offset+1 >= end {
			delete(open, r.Partition)
		}
		if r.Attrs.IsControl() || bounded && r.Offset >= end {
			continue
		}
		if text, err = c.print(text, r); err != nil {
			return nil, 0, err
		}
		n++
	}
	return text, n, nil
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
	grace := dialTimeout
	if ctx.Err() != nil {
		grace = flushGrace // somebody waits for the prompt
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := cl.CommitMarkedOffsets(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return cl.LeaveGroupContext(ctx)
}

// recordToJSON is a record that was consumed.
func recordToJSON(r *kgo.Record) recordJSON {
	ms := r.Timestamp.UnixMilli()
	out := recordJSON{Topic: r.Topic, Partition: &r.Partition, Offset: &r.Offset, Timestamp: &ms}
	out.Key, out.KeyBase64 = textOrBytes(r.Key)
	out.Value, out.ValueBase64 = textOrBytes(r.Value)
	for _, h := range r.Headers {
		header := headerJSON{Key: h.Key}
		header.Value, header.ValueBase64 = textOrBytes(h.Value)
		out.Headers = append(out.Headers, header)
	}
	return out
}
