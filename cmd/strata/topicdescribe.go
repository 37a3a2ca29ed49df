package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func topicDescribeCommand(cl *client) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "describe TOPIC...",
		Short: "Show partitions, offsets and settings of topics",
		Long: `Show partitions, offsets and settings of topics. LOCAL is the first offset on local disk:
what lies below it comes from the bucket. An end is the offset after the last record: TIERED-END
of those in the bucket (0: none; tiered-end of strata bucket ls), END of all.`,
		Example: `  strata topic describe clicks
  strata topic describe clicks --all-settings
  strata topic describe clicks --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				topics, err := topicDetails(cmd, adm, names)
				if err != nil {
					return err
				}
				out := []topicDescription{}
				for _, t := range topics {
					d, err := describeTopic(cmd.Context(), adm, t, all)
					if err != nil {
						return err
					}
					out = append(out, d)
				}
				return answer(cmd, map[string]any{"topics": out}, func(w io.Writer) error {
					for i, d := range out {
						if i > 0 {
							_, _ = fmt.Fprintln(w)
						}
						if err := d.text(w); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
	}
	c.Flags().BoolVar(&all, "all-settings", false, "show settings that have their default too")
	return c
}

// topicDescription is a topic with all that is told of it.
type topicDescription struct {
	topicJSON
	PartitionList []partitionDescription `json:"partition_list"`
	Settings      map[string]*string     `json:"settings"`
	names         []string               // of the settings, in order
}

// partitionDescription is one partition. Offsets are -1 where the broker gave none.
type partitionDescription struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	LogStart    int64   `json:"log_start"`
	LocalStart  int64   `json:"local_start"`
	TieredEnd   int64   `json:"tiered_end"`
	LogEnd      int64   `json:"log_end"`
}

func describeTopic(ctx context.Context, adm *kadm.Client, t kadm.TopicDetail, all bool) (topicDescription, error) {
	d := topicDescription{topicJSON: topicJSON{t.Topic, topicID(t.ID), t.IsInternal, len(t.Partitions), t.Partitions.NumReplicas()}, Settings: map[string]*string{}}
	offsets := map[string]kadm.ListedOffsets{}
	var err error
	for name, list := range map[string]func(context.Context, ...string) (kadm.ListedOffsets, error){
		"start": adm.ListStartOffsets, "local": adm.ListLocalLogStartOffsets, "tiered": adm.ListLatestRemoteOffsets, "end": adm.ListEndOffsets,
	} {
		if offsets[name], err = list(ctx, t.Topic); err != nil {
			return d, explain(err, "")
		}
	}
	offset := func(name string, partition int32) int64 {
		o, ok := offsets[name].Lookup(t.Topic, partition)
		switch {
		case !ok || o.Err != nil:
			return -1
		case name == "tiered":
			return o.Offset + 1 // Kafka's answer is the last record's offset, -1 for none (KIP-1005)
		}
		return o.Offset
	}
	for _, p := range t.Partitions.Sorted() {
		d.PartitionList = append(d.PartitionList, partitionDescription{
			p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR,
			offset("start", p.Partition), offset("local", p.Partition), offset("tiered", p.Partition), offset("end", p.Partition),
		})
	}
	configs, err := adm.DescribeTopicConfigs(ctx, t.Topic)
	if err != nil {
		return d, explain(err, "")
	}
	resource, err := configs.On(t.Topic, nil)
	if err == nil {
		err = resource.Err
	}
	if err != nil {
		return d, explain(err, resource.ErrMessage)
	}
	for _, c := range resource.Configs {
		if all || c.Source == kmsg.ConfigSourceDynamicTopicConfig {
			d.Settings[c.Key] = c.Value
			d.names = append(d.names, c.Key)
		}
	}
	slices.Sort(d.names)
	return d, nil
}

func (d *topicDescription) text(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s  id %s\n", d.Topic, d.ID); err != nil {
		return err
	}
	offset := func(o int64) string {
		if o < 0 {
			return "?"
		}
		return fmt.Sprint(o)
	}
	err := table(w, "PARTITION\tLEADER\tEPOCH\tREPLICAS\tISR\tSTART\tLOCAL\tTIERED-END\tEND", func(row func(format string, args ...any)) {
		for _, p := range d.PartitionList {
			row("%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s", p.Partition, p.Leader, p.LeaderEpoch, join(p.Replicas), join(p.ISR),
				offset(p.LogStart), offset(p.LocalStart), offset(p.TieredEnd), offset(p.LogEnd))
		}
	})
	for _, name := range d.names {
		value := ""
		if v := d.Settings[name]; v != nil {
			value = *v
		}
		if _, werr := fmt.Fprintf(w, "%s=%s\n", name, value); err == nil {
			err = werr
		}
	}
	return err
}

func join(ids []int32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
}

// topicID is an id as Kafka's tools print it.
func topicID(id kadm.TopicID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func topicOffsetsCommand(cl *client) *cobra.Command {
	var at string
	c := &cobra.Command{
		Use:   "offsets TOPIC...",
		Short: "Look an offset up in each partition",
		Long: `Look an offset up in each partition: that of the first record at or after a time, or of a place
that has a name. A time after all records gives the end. local is the first offset on local disk, tiered-end the
first that is not in the bucket, stable the last stable offset, max-timestamp that of the latest record (-1: none).`,
		Example: `  strata topic offsets clicks
  strata topic offsets clicks --at 2016-02-29T12:00:00Z
  strata topic offsets clicks views --at tiered-end --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			place, err := parsePosition("at", at, moreWords...)
			if err != nil {
				return err
			}
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				if _, err := topicDetails(cmd, adm, names); err != nil {
					return err
				}
				listed, err := place.list(cmd.Context(), adm, names...)
				if err != nil {
					return err
				}
				rows := []offsetJSON{}
				listed.Each(func(o kadm.ListedOffset) {
					rows = append(rows, offsetJSON{o.Topic, o.Partition, o.Offset, o.Timestamp, o.LeaderEpoch})
				})
				slices.SortFunc(rows, func(a, b offsetJSON) int {
					return cmpPartition(a.Topic, a.Partition, b.Topic, b.Partition)
				})
				return answer(cmd, map[string]any{"offsets": rows}, func(w io.Writer) error {
					return table(w, "TOPIC\tPARTITION\tOFFSET\tTIMESTAMP", func(row func(format string, args ...any)) {
						for _, o := range rows {
							row("%s\t%d\t%d\t%s", o.Topic, o.Partition, o.Offset, timeText(o.Timestamp))
						}
					})
				})
			})
		},
	}
	c.Flags().StringVar(&at, "at", "end", "`PLACE`: "+strings.Join(moreWords, ", ")+", "+positionHelp)
	return c
}

type offsetJSON struct {
	Topic       string `json:"topic"`
	Partition   int32  `json:"partition"`
	Offset      int64  `json:"offset"`
	Timestamp   int64  `json:"timestamp"` // of the record that was found, -1 for none
	LeaderEpoch int32  `json:"leader_epoch"`
}

// cmpPartition orders by topic, then partition.
func cmpPartition(a string, ap int32, b string, bp int32) int {
	if c := strings.Compare(a, b); c != 0 {
		return c
	}
	return int(ap - bp)
}

func topicTrimCommand(cl *client) *cobra.Command {
	var before string
	var partitions []int32
	c := &cobra.Command{
		Use:   "trim TOPIC",
		Short: "Delete the records before a place",
		Long: `Delete the records before a place, for good, in both tiers: log starts move there. What is not
yet below the high watermark stays. In the bucket the objects go a while later (strata.sweep.grace.ms).`,
		Example: `  strata topic trim clicks --before 2016-01-01T00:00:00Z
  strata topic trim clicks --before 100000 --partition 3
  strata topic trim clicks --before end`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if before == "" {
				return usage("--before PLACE is needed: %s", positionHelp)
			}
			place, err := parsePosition("before", before)
			if err != nil {
				return err
			}
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				return trim(cmd, adm, names[0], place, partitions)
			})
		},
	}
	c.Flags().StringVar(&before, "before", "", "`PLACE`: "+positionHelp)
	c.Flags().Int32SliceVar(&partitions, "partition", nil, "partitions `N,...` only")
	return c
}

func trim(cmd *cobra.Command, adm *kadm.Client, topic string, place position, partitions []int32) error {
	listed, err := place.list(cmd.Context(), adm, topic)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		if _, ok := listed.Lookup(topic, p); !ok {
			return fmt.Errorf("%s has no partition %d", topic, p)
		}
	}
	var offsets kadm.Offsets
	listed.Each(func(o kadm.ListedOffset) {
		if partitions == nil || slices.Contains(partitions, o.Partition) {
			offsets.AddOffset(topic, o.Partition, o.Offset, -1)
		}
	})
	deleted, err := adm.DeleteRecords(cmd.Context(), offsets)
	if err != nil {
		return explain(err, "")
	}
	type result struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		LogStart  int64  `json:"log_start"`
		Error     string `json:"error,omitempty"`
	}
	rows := []result{}
	var failed error
	for _, r := range deleted.Sorted() {
		row := result{Topic: topic, Partition: r.Partition, LogStart: r.LowWatermark}
		if r.Err != nil {
			failed = fmt.Errorf("%s partition %d: %w", topic, r.Partition, explain(r.Err, ""))
			row.Error = failed.Error()
		}
		rows = append(rows, row)
	}
	err = answer(cmd, map[string]any{"partitions": rows}, func(w io.Writer) error {
		return table(w, "TOPIC\tPARTITION\tSTART", func(row func(format string, args ...any)) {
			for _, r := range rows {
				if r.Error == "" {
					row("%s\t%d\t%d", r.Topic, r.Partition, r.LogStart)
				}
			}
		})
	})
	if failed != nil {
		return failed
	}
	return err
}
