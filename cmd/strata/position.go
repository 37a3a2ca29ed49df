package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// position is a place in a partition as a command line names it: the same words
// in every command.
type position struct {
	word   string // beginning, end, or one of moreWords; "" for an offset or a time
	offset int64
	when   time.Time // zero for an offset
}

// moreWords are places that only topic offsets asks for.
var moreWords = []string{"local", "tiered-end", "stable", "max-timestamp"}

const positionHelp = "beginning, end, an offset, or a time as in 2006-01-02T15:04:05Z"

// parsePosition reads a place; more are the words that are allowed besides.
func parsePosition(flag, text string, more ...string) (position, error) {
	for _, word := range append([]string{"beginning", "end"}, more...) {
		if text == word {
			return position{word: word}, nil
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return position{offset: n}, nil
	}
	if when, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return position{when: when}, nil
	}
	want := positionHelp
	if more != nil {
		want = strings.Join(more, ", ") + ", " + want
	}
	return position{}, usage("--%s %s: want %s", flag, text, want)
}

// kgo is the place for a consumer.
func (p position) kgo() kgo.Offset {
	switch {
	case p.word == "beginning":
		return kgo.NewOffset().AtStart()
	case p.word == "end":
		return kgo.NewOffset().AtEnd()
	case !p.when.IsZero():
		return kgo.NewOffset().AfterMilli(p.when.UnixMilli())
	}
	return kgo.NewOffset().At(p.offset)
}

// list asks a broker which offset the place is in each partition. An offset is
// taken as it is, but not beyond the partition's ends; a time after all records is the end.
func (p position) list(ctx context.Context, adm *kadm.Client, topics ...string) (kadm.ListedOffsets, error) {
	ask := map[string]func(context.Context, ...string) (kadm.ListedOffsets, error){
		"beginning": adm.ListStartOffsets, "end": adm.ListEndOffsets, "stable": adm.ListCommittedOffsets,
		"local": adm.ListLocalLogStartOffsets, "tiered-end": adm.ListLatestRemoteOffsets, "max-timestamp": adm.ListMaxTimestampOffsets,
	}
	switch {
	case p.word != "":
		listed, err := checkListed(ask[p.word](ctx, topics...))
		if p.word == "tiered-end" { // Kafka's answer is the last record's offset, -1 for none (KIP-1005)
			listed = mapped(listed, func(o int64) int64 { return o + 1 })
		}
		return listed, err
	case !p.when.IsZero():
		return checkListed(adm.ListOffsetsAfterMilli(ctx, p.when.UnixMilli(), topics...))
	}
	starts, err := checkListed(adm.ListStartOffsets(ctx, topics...))
	if err != nil {
		return nil, err
	}
	ends, err := checkListed(adm.ListEndOffsets(ctx, topics...))
	if err != nil {
		return nil, err
	}
	for topic, partitions := range starts {
		for partition, start := range partitions {
			end, ok := ends.Lookup(topic, partition)
			if !ok {
				return nil, fmt.Errorf("%s partition %d: no end offset", topic, partition)
			}
			start.Offset = max(start.Offset, min(p.offset, end.Offset))
			partitions[partition] = start
		}
	}
	return starts, nil
}

// checkListed makes an error of any partition's.
func checkListed(offsets kadm.ListedOffsets, err error) (kadm.ListedOffsets, error) {
	if err != nil {
		return nil, explain(err, "")
	}
	for topic, partitions := range offsets {
		for partition, o := range partitions {
			switch {
			case o.Err != nil && partition < 0:
				return nil, fmt.Errorf("topic %s: %w", topic, explain(o.Err, ""))
			case o.Err != nil:
				return nil, fmt.Errorf("%s partition %d: %w", topic, partition, explain(o.Err, ""))
			}
		}
	}
	return offsets, nil
}

// mapped changes every offset.
func mapped(offsets kadm.ListedOffsets, change func(int64) int64) kadm.ListedOffsets {
	for _, partitions := range offsets {
		for partition, o := range partitions {
			o.Offset = change(o.Offset)
			partitions[partition] = o
		}
	}
	return offsets
}
