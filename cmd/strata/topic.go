package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func topicCommand() *cobra.Command {
	var cl client
	c := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe and delete topics",
		Example: `  strata topic create clicks --partitions 6
  strata topic list
  strata topic describe clicks
  strata topic delete clicks`,
	}
	cl.flags(c)
	parent(c)
	c.AddCommand(topicCreateCommand(&cl), topicListCommand(&cl), topicDescribeCommand(&cl), topicDeleteCommand(&cl))
	return c
}

// admin runs fn with an admin client.
func (c *client) admin(ctx context.Context, fn func(*kadm.Client) error) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	return fn(kadm.NewClient(cl))
}

func topicCreateCommand(cl *client) *cobra.Command {
	var partitions int32
	var replicas int16
	var config []string
	c := &cobra.Command{
		Use:   "create TOPIC...",
		Short: "Create topics",
		Long:  "Create topics. Settings that are not given follow the broker's; `strata settings --scope topic` lists them.",
		Example: `  strata topic create clicks
  strata topic create clicks --partitions 6 --config retention.ms=-1
  strata topic create archive --config segment.bytes=1048576 --config local.retention.bytes=1`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			pairs, err := parsePairs("config", config)
			if err != nil {
				return err
			}
			configs := map[string]*string{}
			for name, value := range pairs {
				configs[name] = &value
			}
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				created, err := adm.CreateTopics(cmd.Context(), partitions, replicas, configs, topics...)
				if err != nil {
					return err
				}
				return eachTopic(cmd.OutOrStdout(), "created", topics, func(topic string) (string, error) {
					return created[topic].ErrMessage, created[topic].Err
				})
			})
		},
	}
	c.Flags().Int32Var(&partitions, "partitions", -1, "`N` partitions (default: num.partitions of the broker)")
	c.Flags().Int16Var(&replicas, "replication-factor", -1, "`N` replicas (default: default.replication.factor of the broker)")
	c.Flags().StringArrayVar(&config, "config", nil, "topic setting, `key=value`; may be given often")
	noDefaults(c, "partitions", "replication-factor")
	return c
}

// noDefaults keeps out of the help the default of a flag whose text tells it better.
func noDefaults(c *cobra.Command, flags ...string) {
	for _, name := range flags {
		flag := c.Flags().Lookup(name)
		flag.DefValue = "0"
		if flag.Value.Type() == "string" {
			flag.DefValue = ""
		}
	}
}

// eachTopic prints one line for each topic that is done and gives one error for
// those that are not.
func eachTopic(w io.Writer, done string, topics []string, result func(topic string) (text string, err error)) error {
	var failed []string
	for _, topic := range topics {
		text, err := result(topic)
		switch {
		case err == nil:
			if _, err := fmt.Fprintf(w, "%s %s\n", done, topic); err != nil {
				return err
			}
		case text != "":
			failed = append(failed, topic+": "+text)
		default:
			failed = append(failed, topic+": "+err.Error())
		}
	}
	if failed != nil {
		return fmt.Errorf("not %s: %s", done, strings.Join(failed, "; "))
	}
	return nil
}

func topicListCommand(cl *client) *cobra.Command {
	var internal bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List topics",
		Example: `  strata topic list
  strata topic list --internal`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				topics, err := adm.ListTopicsWithInternal(cmd.Context())
				if err != nil {
					return err
				}
				return table(cmd.OutOrStdout(), "TOPIC\tPARTITIONS\tREPLICAS", func(row func(format string, args ...any)) {
					for _, t := range topics.Sorted() {
						if internal || !t.IsInternal {
							row("%s\t%d\t%d", t.Topic, len(t.Partitions), t.Partitions.NumReplicas())
						}
					}
				})
			})
		},
	}
	c.Flags().BoolVar(&internal, "internal", false, "list internal topics too")
	return c
}

func table(w io.Writer, head string, rows func(row func(format string, args ...any))) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var text strings.Builder
	text.WriteString(head + "\n")
	rows(func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) })
	if _, err := io.WriteString(tw, text.String()); err != nil {
		return err
	}
	return tw.Flush()
}

func topicDescribeCommand(cl *client) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "describe TOPIC...",
		Short: "Show partitions, offsets and settings of topics",
		Long: `Show partitions, offsets and settings of topics. LOCAL is the first offset on local disk:
what lies below it comes from the bucket. An end is the offset after the last record: TIERED-END
of those in the bucket (0: none; tiered-end of strata bucket ls), END of all.`,
		Example: `  strata topic describe clicks
  strata topic describe clicks --all-settings`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				for i, topic := range topics {
					if i > 0 {
						_, _ = fmt.Fprintln(cmd.OutOrStdout())
					}
					if err := describeTopic(cmd.Context(), adm, cmd.OutOrStdout(), topic, all); err != nil {
						return fmt.Errorf("%s: %w", topic, err)
					}
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&all, "all-settings", false, "show settings that have their default too")
	return c
}

func describeTopic(ctx context.Context, adm *kadm.Client, w io.Writer, topic string, all bool) error {
	topics, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	detail := topics[topic]
	if detail.Err != nil {
		return detail.Err
	}
	offsets := map[string]kadm.ListedOffsets{}
	for name, list := range map[string]func(context.Context, ...string) (kadm.ListedOffsets, error){
		"start": adm.ListStartOffsets, "local": adm.ListLocalLogStartOffsets, "tiered": adm.ListLatestRemoteOffsets, "end": adm.ListEndOffsets,
	} {
		if offsets[name], err = list(ctx, topic); err != nil {
			return err
		}
	}
	offset := func(name string, partition int32) string {
		o, ok := offsets[name].Lookup(topic, partition)
		if !ok || o.Err != nil {
			return "?"
		}
		if name == "tiered" {
			o.Offset++ // Kafka's answer is the last record's offset, -1 for none (KIP-1005)
		}
		return fmt.Sprint(o.Offset)
	}
	if _, err := fmt.Fprintf(w, "%s  id %s\n", topic, base64.RawURLEncoding.EncodeToString(detail.ID[:])); err != nil {
		return err
	}
	err = table(w, "PARTITION\tLEADER\tEPOCH\tREPLICAS\tISR\tSTART\tLOCAL\tTIERED-END\tEND", func(row func(format string, args ...any)) {
		for _, p := range detail.Partitions.Sorted() {
			row("%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s", p.Partition, p.Leader, p.LeaderEpoch, join(p.Replicas), join(p.ISR),
				offset("start", p.Partition), offset("local", p.Partition), offset("tiered", p.Partition), offset("end", p.Partition))
		}
	})
	if err != nil {
		return err
	}
	return describeSettings(ctx, adm, w, topic, all)
}

func join(ids []int32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
}

func describeSettings(ctx context.Context, adm *kadm.Client, w io.Writer, topic string, all bool) error {
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return err
	}
	resource, err := configs.On(topic, nil)
	if err != nil {
		return err
	}
	if resource.Err != nil {
		return resource.Err
	}
	for _, c := range resource.Configs {
		if all || c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
			if _, err := fmt.Fprintf(w, "%s=%s\n", c.Key, c.MaybeValue()); err != nil {
				return err
			}
		}
	}
	return nil
}

func topicDeleteCommand(cl *client) *cobra.Command {
	return &cobra.Command{
		Use:   "delete TOPIC...",
		Short: "Delete topics, their objects in the bucket too",
		Long: `Delete topics with all their records. Their objects go from the bucket a while later
(strata.sweep.grace.ms, strata.sweep.interval.ms).`,
		Example: "  strata topic delete clicks",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				deleted, err := adm.DeleteTopics(cmd.Context(), topics...)
				if err != nil {
					return err
				}
				return eachTopic(cmd.OutOrStdout(), "deleted", topics, func(topic string) (string, error) {
					return deleted[topic].ErrMessage, deleted[topic].Err
				})
			})
		},
	}
}
