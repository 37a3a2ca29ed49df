package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// reset is the command line of strata group reset-offsets.
type reset struct {
	topics    []string
	allTopics bool
	to        string
	by        int64
	execute   bool
}

func groupResetCommand(cl *client) *cobra.Command {
	var r reset
	c := &cobra.Command{
		Use:   "reset-offsets GROUP",
		Short: "Move where a group goes on; shows what would change, does it with --execute",
		Long: `Move where a group goes on. Without --execute nothing is changed: it shows what would be. The
group must have no members. A place beyond an end of the log is taken as that end.`,
		Example: `  strata group reset-offsets audit --topic clicks --to beginning
  strata group reset-offsets audit --topic clicks --to beginning --execute
  strata group reset-offsets audit --topic clicks:0,3 --to 2016-02-29T12:00:00Z --execute
  strata group reset-offsets audit --all-topics --shift-by -100 --execute`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			byGiven := cmd.Flags().Changed("shift-by")
			switch {
			case r.allTopics == (len(r.topics) > 0):
				return usage("want --topic TOPIC, or --all-topics for those that the group has committed")
			case byGiven == (r.to != ""):
				return usage("want --to PLACE (%s) or --shift-by N", positionHelp)
			}
			var place position
			if !byGiven {
				var err error
				if place, err = parsePosition("to", r.to); err != nil {
					return err
				}
			}
			return cl.admin(cmd.Context(), func(adm *kadm.Client) error {
				moves, err := r.plan(cmd, adm, names[0], place, byGiven)
				if err != nil {
					return err
				}
				if r.execute {
					if err := r.commit(cmd.Context(), adm, names[0], moves); err != nil {
						return err
					}
				}
				return r.print(cmd, names[0], moves)
			})
		},
	}
	c.Flags().StringArrayVar(&r.topics, "topic", nil, "`TOPIC[:PARTITION,...]`; may be given often")
	c.Flags().BoolVar(&r.allTopics, "all-topics", false, "all partitions that the group has committed")
	c.Flags().StringVar(&r.to, "to", "", "`PLACE`: "+positionHelp)
	c.Flags().Int64Var(&r.by, "shift-by", 0, "`N` records on from what is committed, back where N is below 0")
	c.Flags().BoolVar(&r.execute, "execute", false, "do it")
	return c
}

// move is what a reset does to one partition.
type move struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"` // before, -1 for none
	New       int64  `json:"new"`
}

// plan finds where the group would go on.
func (r *reset) plan(cmd *cobra.Command, adm *kadm.Client, group string, place position, shift bool) ([]move, error) {
	ctx := cmd.Context()
	if err := mustBeIdle(ctx, adm, group); err != nil {
		return nil, err
	}
	committed, err := adm.FetchOffsets(ctx, group)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", group, explain(err, ""))
	}
	wanted := committed.Partitions()
	if !r.allTopics {
		if wanted, err = chosenPartitions(cmd, adm, r.topics); err != nil {
			return nil, err
		}
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("group %s has committed nothing: name its topics with --topic", group)
	}
	at := func(topic string, partition int32) int64 {
		if o, ok := committed.Lookup(topic, partition); ok {
			return o.At
		}
		return -1
	}
	if shift {
		return r.shifted(ctx, adm, wanted, at)
	}
	listed, err := place.list(ctx, adm, wanted.Topics()...)
	if err != nil {
		return nil, err
	}
	return moves(wanted, at, func(topic string, partition int32) (int64, error) {
		o, ok := listed.Lookup(topic, partition)
		if !ok {
			return 0, fmt.Errorf("%s partition %d: %w", topic, partition, explain(kerr.UnknownTopicOrPartition, ""))
		}
		return o.Offset, nil
	})
}

// shifted moves from what is committed, within the ends of the log.
func (r *reset) shifted(ctx context.Context, adm *kadm.Client, wanted kadm.TopicsSet, at func(string, int32) int64) ([]move, error) {
	starts, err := position{word: "beginning"}.list(ctx, adm, wanted.Topics()...)
	if err != nil {
		return nil, err
	}
	ends, err := position{word: "end"}.list(ctx, adm, wanted.Topics()...)
	if err != nil {
		return nil, err
	}
	return moves(wanted, at, func(topic string, partition int32) (int64, error) {
		from := at(topic, partition)
		if from < 0 {
			return 0, fmt.Errorf("%s partition %d: nothing is committed to shift from: use --to", topic, partition)
		}
		start, _ := starts.Lookup(topic, partition)
		end, _ := ends.Lookup(topic, partition)
		return max(start.Offset, min(from+r.by, end.Offset)), nil
	})
}

func moves(wanted kadm.TopicsSet, at func(string, int32) int64, to func(string, int32) (int64, error)) ([]move, error) {
	out := []move{}
	for _, t := range wanted.Sorted() {
		for _, p := range t.Partitions {
			offset, err := to(t.Topic, p)
			if err != nil {
				return nil, err
			}
			out = append(out, move{t.Topic, p, at(t.Topic, p), offset})
		}
	}
	return out, nil
}

// mustBeIdle refuses a group that has members: they would commit over the reset.
// A group that does not exist may be given offsets.
func mustBeIdle(ctx context.Context, adm *kadm.Client, group string) error {
	described, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		return explain(err, "")
	}
	if g := described[group]; len(g.Members) > 0 {
		return fmt.Errorf("group %s is %s with %d members: %w", group, g.State, len(g.Members), explain(kerr.NonEmptyGroup, ""))
	}
	return nil
}

func (r *reset) commit(ctx context.Context, adm *kadm.Client, group string, moves []move) error {
	var offsets kadm.Offsets
	for _, m := range moves {
		offsets.AddOffset(m.Topic, m.Partition, m.New, -1)
	}
	committed, err := adm.CommitOffsets(ctx, group, offsets)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return fmt.Errorf("group %s: %w", group, explain(err, ""))
	}
	return nil
}

func (r *reset) print(cmd *cobra.Command, group string, moves []move) error {
	return answer(cmd, map[string]any{"group": group, "executed": r.execute, "partitions": moves}, func(w io.Writer) error {
		err := table(w, "TOPIC\tPARTITION\tCOMMITTED\tNEW", func(row func(format string, args ...any)) {
			for _, m := range moves {
				row("%s\t%d\t%s\t%d", m.Topic, m.Partition, offsetText(m.Committed), m.New)
			}
		})
		if err == nil && !r.execute {
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), "nothing was changed: add --execute to do it")
		}
		return err
	})
}
