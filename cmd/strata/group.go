package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func groupCommand() *cobra.Command {
	var cl client
	c := &cobra.Command{
		Use:   "group",
		Short: "List, describe, reset and delete consumer groups",
		Example: `  strata group list
  strata group describe audit
  strata group reset-offsets audit --topic clicks --to beginning --execute
  strata group delete audit`,
	}
	cl.flags(c)
	parent(c)
	c.AddCommand(groupListCommand(&cl), groupDescribeCommand(&cl), groupResetCommand(&cl), groupDeleteCommand(&cl), groupDeleteOffsetsCommand(&cl))
	return c
}

func groupListCommand(cl *client) *cobra.Command {
	var states []string
	c := &cobra.Command{
		Use:   "list",
		Short: "List groups",
		Example: `  strata group list
  strata group list --state Empty,Dead
  strata group list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				listed, err := adm.ListGroups(cmd.Context(), states...)
				if err != nil {
					return explain(err, "")
				}
				type groupJSON struct {
					Group        string `json:"group"`
					State        string `json:"state"`
					ProtocolType string `json:"protocol_type"`
					Coordinator  int32  `json:"coordinator"`
				}
				groups := []groupJSON{}
				for _, g := range listed.Sorted() {
					groups = append(groups, groupJSON{g.Group, g.State, g.ProtocolType, g.Coordinator})
				}
				return answer(cmd, map[string]any{"groups": groups}, func(w io.Writer) error {
					return table(w, "GROUP\tSTATE\tTYPE\tCOORDINATOR", func(row func(format string, args ...any)) {
						for _, g := range groups {
							row("%s\t%s\t%s\t%d", g.Group, orDash(g.State), orDash(g.ProtocolType), g.Coordinator)
						}
					})
				})
			})
		},
	}
	c.Flags().StringSliceVar(&states, "state", nil, "only groups in these `STATES`, as in Stable,Empty")
	return c
}

// groupDescription is a group with members and what it has committed.
type groupDescription struct {
	Group        string           `json:"group"`
	State        string           `json:"state"`
	ProtocolType string           `json:"protocol_type"`
	Assignor     string           `json:"assignor"`
	Coordinator  int32            `json:"coordinator"`
	Lag          int64            `json:"lag"` // of all partitions whose lag is known
	Partitions   []groupPartition `json:"partitions"`
	Members      []groupMember    `json:"members"`
}

// groupPartition is one partition that a group has committed or reads. Numbers are -1 where there is none.
type groupPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"`
	LogEnd    int64  `json:"log_end"`
	Lag       int64  `json:"lag"`
	Metadata  string `json:"metadata"`
	MemberID  string `json:"member_id"`
	ClientID  string `json:"client_id"`
	Host      string `json:"host"`
	Error     string `json:"error,omitempty"`
}

type groupMember struct {
	MemberID   string             `json:"member_id"`
	InstanceID *string            `json:"instance_id"`
	ClientID   string             `json:"client_id"`
	Host       string             `json:"host"`
	Assigned   map[string][]int32 `json:"assigned"`
}

func groupDescribeCommand(cl *client) *cobra.Command {
	var members bool
	c := &cobra.Command{
		Use:   "describe GROUP...",
		Short: "Show what groups have committed, how far they lag and who their members are",
		Long: `Show what groups have committed and how far they lag: LAG is END less COMMITTED. A partition
without a commit shows -. With --members one line a member.`,
		Example: `  strata group describe audit
  strata group describe audit --members
  strata group describe audit --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				lags, err := adm.Lag(cmd.Context(), names...)
				if err != nil {
					return explain(err, "")
				}
				out := []groupDescription{}
				for _, name := range names {
					g, ok := lags[name]
					if err := g.Error(); err != nil {
						return fmt.Errorf("group %s: %w", name, explain(err, ""))
					}
					if !ok || g.State == "Dead" && len(g.Lag) == 0 {
						return fmt.Errorf("group %s: %w", name, explain(kerr.GroupIDNotFound, ""))
					}
					out = append(out, describeGroup(g))
				}
				return answer(cmd, map[string]any{"groups": out}, func(w io.Writer) error {
					for i, g := range out {
						if i > 0 {
							_, _ = fmt.Fprintln(w)
						}
						if err := g.text(w, members); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
	}
	c.Flags().BoolVar(&members, "members", false, "show members, not partitions")
	return c
}

func describeGroup(g kadm.DescribedGroupLag) groupDescription {
	d := groupDescription{
		Group: g.Group, State: g.State, ProtocolType: g.ProtocolType, Assignor: g.Protocol, Coordinator: g.Coordinator.NodeID,
		Partitions: []groupPartition{}, Members: []groupMember{},
	}
	for _, l := range g.Lag.Sorted() {
		p := groupPartition{Topic: l.Topic, Partition: l.Partition, Committed: l.Commit.At, LogEnd: l.End.Offset, Lag: l.Lag, Metadata: l.Commit.Metadata}
		if p.Committed < 0 {
			p.Lag = -1 // nobody knows where it will begin
		}
		if l.Member != nil {
			p.MemberID, p.ClientID, p.Host = l.Member.MemberID, l.Member.ClientID, l.Member.ClientHost
		}
		if l.Err != nil {
			p.Error, p.LogEnd, p.Lag = l.Err.Error(), -1, -1
		}
		d.Lag += max(0, p.Lag)
		d.Partitions = append(d.Partitions, p)
	}
	for _, m := range g.Members {
		member := groupMember{m.MemberID, m.InstanceID, m.ClientID, m.ClientHost, map[string][]int32{}}
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				member.Assigned[t.Topic] = slices.Sorted(slices.Values(t.Partitions))
			}
		}
		d.Members = append(d.Members, member)
	}
	return d
}

func (d *groupDescription) text(w io.Writer, members bool) error {
	_, err := fmt.Fprintf(w, "%s  state %s, %d members, assignor %s, coordinator %d, lag %d\n", d.Group, d.State, len(d.Members), orDash(d.Assignor), d.Coordinator, d.Lag)
	if err != nil {
		return err
	}
	if members {
		return table(w, "MEMBER\tINSTANCE\tCLIENT\tHOST\tASSIGNED", func(row func(format string, args ...any)) {
			for _, m := range d.Members {
				var assigned []string
				for topic, partitions := range m.Assigned {
					assigned = append(assigned, topic+":"+join(partitions))
				}
				slices.Sort(assigned)
				row("%s\t%s\t%s\t%s\t%s", m.MemberID, orDash(deref(m.InstanceID)), orDash(m.ClientID), orDash(m.Host), orDash(strings.Join(assigned, " ")))
			}
		})
	}
	return table(w, "TOPIC\tPARTITION\tCOMMITTED\tEND\tLAG\tMEMBER\tCLIENT\tHOST", func(row func(format string, args ...any)) {
		for _, p := range d.Partitions {
			row("%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s", p.Topic, p.Partition, offsetText(p.Committed), offsetText(p.LogEnd), offsetText(p.Lag),
				orDash(p.MemberID), orDash(p.ClientID), orDash(p.Host))
		}
	})
}

// offsetText is an offset in a table, - for none.
func offsetText(o int64) string {
	if o < 0 {
		return "-"
	}
	return strconv.FormatInt(o, 10)
}

func groupDeleteCommand(cl *client) *cobra.Command {
	return &cobra.Command{
		Use:     "delete GROUP...",
		Short:   "Delete groups that have no members, with all they have committed",
		Example: "  strata group delete audit",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				deleted, err := adm.DeleteGroups(cmd.Context(), names...)
				if err != nil {
					return explain(err, "")
				}
				return eachNamed(cmd, "group", "deleted", names, func(name string) (string, error) {
					return "deleted", explain(deleted[name].Err, deleted[name].ErrMessage)
				})
			})
		},
	}
}

func groupDeleteOffsetsCommand(cl *client) *cobra.Command {
	var topics []string
	c := &cobra.Command{
		Use:   "delete-offsets GROUP --topic TOPIC[:PARTITION,...]",
		Short: "Forget what a group has committed of topics",
		Long: `Forget what a group has committed of topics that no member of it reads: it would begin there as a new
group does. A topic alone means all its partitions.`,
		Example: `  strata group delete-offsets audit --topic clicks
  strata group delete-offsets audit --topic clicks:0,3 --topic views`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(topics) == 0 {
				return usage("--topic TOPIC is needed")
			}
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				wanted, err := chosenPartitions(cmd, adm, topics)
				if err != nil {
					return err
				}
				return deleteOffsets(cmd, adm, names[0], wanted)
			})
		},
	}
	c.Flags().StringArrayVar(&topics, "topic", nil, "`TOPIC[:PARTITION,...]`; may be given often")
	return c
}

func deleteOffsets(cmd *cobra.Command, adm *kadm.Client, group string, wanted kadm.TopicsSet) error {
	deleted, err := adm.DeleteOffsets(cmd.Context(), group, wanted)
	if err != nil {
		return fmt.Errorf("group %s: %w", group, explain(err, ""))
	}
	type result struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		Result    string `json:"result"`
		Error     string `json:"error,omitempty"`
	}
	rows := []result{}
	var failed error
	for _, t := range wanted.Sorted() {
		for _, p := range t.Partitions {
			row := result{Topic: t.Topic, Partition: p, Result: "deleted"}
			if err, _ := deleted.Lookup(t.Topic, p); err != nil {
				failed = fmt.Errorf("%s partition %d: %w", t.Topic, p, explain(err, ""))
				row.Result, row.Error = "failed", failed.Error()
			}
			rows = append(rows, row)
		}
	}
	err = answer(cmd, map[string]any{"group": group, "partitions": rows}, func(w io.Writer) error {
		for _, r := range rows {
			if r.Error == "" {
				if _, err := fmt.Fprintf(w, "deleted %s partition %d\n", r.Topic, r.Partition); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// chosenPartitions reads TOPIC and TOPIC:0,1 and sees that they are there.
func chosenPartitions(cmd *cobra.Command, adm *kadm.Client, texts []string) (kadm.TopicsSet, error) {
	set := kadm.TopicsSet{}
	var names []string
	chosen := map[string][]int32{}
	for _, text := range texts {
		name, list, some := strings.Cut(text, ":")
		if name == "" || some && list == "" {
			return nil, usage("--topic %s: want TOPIC or TOPIC:0,1", text)
		}
		names = append(names, name)
		if !some {
			continue
		}
		for number := range strings.SplitSeq(list, ",") {
			n, err := strconv.ParseInt(number, 10, 32)
			if err != nil || n < 0 {
				return nil, usage("--topic %s: want TOPIC or TOPIC:0,1", text)
			}
			chosen[name] = append(chosen[name], int32(n))
		}
	}
	topics, err := topicDetails(cmd, adm, names)
	if err != nil {
		return nil, err
	}
	for _, t := range topics {
		for _, n := range chosen[t.Topic] {
			if _, ok := t.Partitions[n]; !ok {
				return nil, fmt.Errorf("%s has no partition %d", t.Topic, n)
			}
			set.Add(t.Topic, n)
		}
		if chosen[t.Topic] == nil {
			set.Add(t.Topic, t.Partitions.Numbers()...)
		}
	}
	return set, nil
}
