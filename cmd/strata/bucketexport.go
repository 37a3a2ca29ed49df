package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/export"
	"github.com/stratabroker/strata/tiering/recovery"
)

func bucketExportCommand() *cobra.Command {
	var o export.Options
	var layout string
	var told bool
	c := &cobra.Command{
		Use:   "export URL [TOPIC[/PARTITION]...] --to DIR",
		Short: "Write topics or partitions out of a bucket into files",
		Long: `Write what the bucket holds of topics or partitions into files below DIR; of all topics where
none is named, but those whose name begins with __. --format log makes a folder a partition with the
.log files that a broker would have had, every byte as the producers sent it: strata log dump and
kafka-dump-log read them. --format json makes one file a partition, DIR/TOPIC-PARTITION.jsonl, of its
committed records as strata consume --json prints them.

Everything is checked on the way. When it was interrupted, run it again: what is there and whole is
not read again, and what the bucket got meanwhile is added.`,
		Example: `  strata bucket export dir://$PWD/strata-data/bucket clicks --to /tmp/out
  strata bucket export s3://archive/prod clicks/0 views --to /tmp/out --format json
  strata bucket export s3://archive/prod --to /backup --parallel 16 --progress`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := exportOptions(&o, layout, args[1:]); err != nil {
				return err
			}
			bar := newProgress(cmd, told)
			o.Progress = func(p export.Progress) {
				bar.tell("exported %d of %d segments, %s of about %s", p.Segments, p.TotalSegments, sizeText(p.Bytes), sizeText(p.TotalBytes))
			}
			var done export.Progress
			err := withBucket(cmd.Context(), args[0], func(b *recovery.Bucket) (err error) {
				done, err = export.Run(cmd.Context(), b, o)
				return err
			})
			bar.end()
			if err != nil && cmd.Context().Err() != nil {
				err = errInterrupted
			}
			summary := fmt.Sprintf("%d partitions, %d segments, %s written to %s; %d were there", done.Partitions, done.Segments, sizeText(done.Bytes), o.Dir, done.Kept)
			if err != nil {
				if done.Segments > 0 || done.Bytes > 0 {
					err = fmt.Errorf("%w; %s: run it again to go on", err, summary)
				}
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), map[string]any{
					"partitions": done.Partitions, "segments": done.Segments, "records": done.Records, "bytes": done.Bytes, "kept": done.Kept, "to": o.Dir,
				})
			}
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), summary)
			return err
		},
	}
	progressFlag(c, &told)
	c.Flags().StringVar(&o.Dir, "to", "", "`DIR` to write to")
	c.Flags().StringVar(&layout, "format", "log", "`FORMAT`: log or json")
	c.Flags().IntVar(&o.Parallel, "parallel", 4, "`N` segments, or files of lines, at one time")
	return c
}

// exportOptions reads the command line.
func exportOptions(o *export.Options, layout string, chosen []string) error {
	switch {
	case o.Dir == "":
		return usage("--to DIR is needed")
	case o.Parallel < 1:
		return usage("--parallel %d: want 1 or more", o.Parallel)
	case layout == "json":
		o.Line, o.Offset, o.LineEnd = exportLine, exportedOffset, ".jsonl"
	case layout != "log":
		return usage("--format %s: want log or json", layout)
	}
	for _, text := range chosen {
		choice := export.Choice{Topic: text, Partition: -1}
		if strings.Contains(text, "/") {
			var err error
			if choice.Topic, choice.Partition, err = topicAndPartition(text); err != nil {
				return err
			}
		}
		o.Choices = append(o.Choices, choice)
	}
	return nil
}

func exportLine(dst []byte, topic string, partition int32, r record.Record) ([]byte, error) {
	return jsonLine(dst, recordToJSON(toKgo(topic, partition, r)))
}

// exportedOffset reads a line back, to go on after it.
func exportedOffset(line []byte) (protocol.Offset, error) {
	var r recordJSON
	if err := json.Unmarshal(line, &r); err != nil {
		return 0, err
	}
	if r.Offset == nil || *r.Offset < 0 {
		return 0, errors.New("it has no offset")
	}
	return protocol.Offset(*r.Offset), nil
}
