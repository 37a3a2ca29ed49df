package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func topicCommand() *cobra.Command {
	var cl client
	c := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe, change and delete topics",
		Example: `  strata topic create clicks --partitions 6
  strata topic list
  strata topic describe clicks
  strata topic offsets clicks --at 2016-02-29T12:00:00Z
  strata topic alter clicks --partitions 12
  strata topic delete clicks`,
	}
	cl.flags(c)
	parent(c)
	c.AddCommand(topicCreateCommand(&cl), topicListCommand(&cl), topicDescribeCommand(&cl), topicOffsetsCommand(&cl), topicAlterCommand(&cl),
		topicTrimCommand(&cl), topicDeleteCommand(&cl))
	return c
}

func topicCreateCommand(cl *client) *cobra.Command {
	var partitions int32
	var replicas int16
	var config []string
	var passOver bool
	c := &cobra.Command{
		Use:   "create TOPIC...",
		Short: "Create topics",
		Long:  "Create topics. Settings that are not given follow the broker's; `strata settings --scope topic` lists them.",
		Example: `  strata topic create clicks
  strata topic create clicks --partitions 6 --config retention.ms=-1
  strata topic create archive --config segment.bytes=1048576 --config local.retention.bytes=1
  strata topic create clicks --if-not-exists`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			pairs, err := parsePairs("config", config)
			if err != nil {
				return err
			}
			if partitions == 0 || partitions < -1 {
				return usage("--partitions %d: want 1 or more", partitions)
			}
			configs := map[string]*string{}
			for name, value := range pairs {
				configs[name] = &value
			}
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				created, err := adm.CreateTopics(cmd.Context(), partitions, replicas, configs, topics...)
				if err != nil {
					return explain(err, "")
				}
				return eachNamed(cmd, "topic", "created", topics, func(topic string) (string, error) {
					err := created[topic].Err
					if passOver && errors.Is(err, kerr.TopicAlreadyExists) {
						return "exists", nil
					}
					return "created", explain(err, created[topic].ErrMessage)
				})
			})
		},
	}
	c.Flags().Int32Var(&partitions, "partitions", -1, "`N` partitions (default: num.partitions of the broker)")
	c.Flags().Int16Var(&replicas, "replication-factor", -1, "`N` replicas (default: default.replication.factor of the broker)")
	c.Flags().StringArrayVar(&config, "config", nil, "topic setting, `key=value`; may be given often")
	c.Flags().BoolVar(&passOver, "if-not-exists", false, "pass over topics that exist, whatever they are like")
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

// namedResult is what became of one topic or group, in JSON.
type namedResult struct {
	Topic  string `json:"topic,omitempty"`
	Group  string `json:"group,omitempty"`
	Result string `json:"result"` // created, deleted and so on, or failed
	Error  string `json:"error,omitempty"`
}

// eachNamed prints what became of each topic or group and gives one error for
// those that failed; what was to be done to them is done.
func eachNamed(cmd *cobra.Command, kind, done string, names []string, result func(name string) (became string, err error)) error {
	var results []namedResult
	var failed []string
	for _, name := range names {
		became, err := result(name)
		r := namedResult{Result: became}
		if kind == "group" {
			r.Group = name
		} else {
			r.Topic = name
		}
		if err != nil {
			r.Result, r.Error = "failed", err.Error()
			failed = append(failed, name+": "+err.Error())
		}
		results = append(results, r)
	}
	err := answer(cmd, map[string]any{"results": results}, func(w io.Writer) error {
		for i, r := range results {
			if r.Error != "" {
				continue
			}
			if _, err := fmt.Fprintf(w, "%s %s\n", r.Result, names[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && failed != nil {
		err = fmt.Errorf("not %s: %s", done, strings.Join(failed, "; "))
	}
	return err
}

// topicJSON is a topic in a list.
type topicJSON struct {
	Topic      string `json:"topic"`
	ID         string `json:"id"`
	Internal   bool   `json:"internal"`
	Partitions int    `json:"partitions"`
	Replicas   int    `json:"replication_factor"`
}

func topicListCommand(cl *client) *cobra.Command {
	var internal bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List topics",
		Example: `  strata topic list
  strata topic list --internal
  strata topic list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				all, err := adm.ListTopicsWithInternal(cmd.Context())
				if err != nil {
					return explain(err, "")
				}
				topics := []topicJSON{}
				for _, t := range all.Sorted() {
					if internal || !t.IsInternal {
						topics = append(topics, topicJSON{t.Topic, topicID(t.ID), t.IsInternal, len(t.Partitions), t.Partitions.NumReplicas()})
					}
				}
				return answer(cmd, map[string]any{"topics": topics}, func(w io.Writer) error {
					return table(w, "TOPIC\tPARTITIONS\tREPLICAS", func(row func(format string, args ...any)) {
						for _, t := range topics {
							row("%s\t%d\t%d", t.Topic, t.Partitions, t.Replicas)
						}
					})
				})
			})
		},
	}
	c.Flags().BoolVar(&internal, "internal", false, "list internal topics too")
	return c
}

func topicAlterCommand(cl *client) *cobra.Command {
	var partitions int
	c := &cobra.Command{
		Use:   "alter TOPIC...",
		Short: "Give topics more partitions",
		Long: `Give topics more partitions; there can never be fewer. New records of a key may go to another
partition than those before. For settings see strata config.`,
		Example: "  strata topic alter clicks --partitions 12",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			if partitions < 1 {
				return usage("--partitions %d: want 1 or more", partitions)
			}
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				altered, err := adm.UpdatePartitions(cmd.Context(), partitions, topics...)
				if err != nil {
					return explain(err, "")
				}
				return eachNamed(cmd, "topic", "altered", topics, func(topic string) (string, error) {
					return "altered", explain(altered[topic].Err, altered[topic].ErrMessage)
				})
			})
		},
	}
	c.Flags().IntVar(&partitions, "partitions", 0, "`N` partitions in all")
	return c
}

func topicDeleteCommand(cl *client) *cobra.Command {
	var passOver bool
	c := &cobra.Command{
		Use:   "delete TOPIC...",
		Short: "Delete topics, their objects in the bucket too",
		Long: `Delete topics with all their records. Their objects go from the bucket a while later
(strata.sweep.grace.ms, strata.sweep.interval.ms).`,
		Example: `  strata topic delete clicks
  strata topic delete clicks views --if-exists`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				deleted, err := adm.DeleteTopics(cmd.Context(), topics...)
				if err != nil {
					return explain(err, "")
				}
				return eachNamed(cmd, "topic", "deleted", topics, func(topic string) (string, error) {
					err := deleted[topic].Err
					if passOver && errors.Is(err, kerr.UnknownTopicOrPartition) {
						return "absent", nil
					}
					return "deleted", explain(err, deleted[topic].ErrMessage)
				})
			})
		},
	}
	c.Flags().BoolVar(&passOver, "if-exists", false, "pass over topics that do not exist")
	return c
}

// topicDetails asks for topics, which must be there, in the order of names.
func topicDetails(cmd *cobra.Command, adm *kadm.Client, names []string) ([]kadm.TopicDetail, error) {
	topics, err := adm.ListTopics(cmd.Context(), names...)
	if err != nil {
		return nil, explain(err, "")
	}
	var out []kadm.TopicDetail
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		t, ok := topics[name]
		if !ok {
			t.Err = kerr.UnknownTopicOrPartition
		}
		if t.Err != nil {
			return nil, fmt.Errorf("topic %s: %w", name, explain(t.Err, ""))
		}
		out = append(out, t)
	}
	return out, nil
}
