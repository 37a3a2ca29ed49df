package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stratabroker/strata/broker/inspect"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// dumpBudget bounds one batch's decoded records, in bytes.
const dumpBudget = 256 << 20

func logCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "log",
		Short: "Look into the log files of a partition, no broker needed",
		Example: `  strata log dump strata-data/clicks-0
  strata log dump strata-data/clicks-0 --summary`,
	}
	parent(c)
	c.AddCommand(logDumpCommand())
	return c
}

func logDumpCommand() *cobra.Command {
	var d dump
	c := &cobra.Command{
		Use:   "dump PATH...",
		Short: "Print the batches of a partition's files and check them and their indexes",
		Long: `Print the batches of a partition's files, strata's or Kafka's, and check them: each CRC, that offsets
and epochs ascend, and that indexes, aborted transactions, snapshots and epochs say what the batches
say. A path is a partition's directory or one file of it. What is wrong begins with !, and the exit
status is then 1. -v shows records, index entries and producers too, --summary a line a file only.
Nothing is written; a broker may be running, whose last batch may then be half written.`,
		Example: `  strata log dump strata-data/clicks-0
  strata log dump strata-data/clicks-0/00000000000000000000.log -v
  strata log dump strata-data/clicks-* --summary
  strata log dump /var/lib/kafka/clicks-0 --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			return d.run(cmd, paths)
		},
	}
	c.Flags().BoolVarP(&d.verbose, "verbose", "v", false, "show records, index entries, producers and epochs too")
	c.Flags().BoolVar(&d.summary, "summary", false, "show a line a segment and what is wrong only")
	return c
}

// dump is the command line of strata log dump.
type dump struct {
	verbose, summary bool

	out  *bufio.Writer
	json bool
}

func (d *dump) run(cmd *cobra.Command, paths []string) error {
	if d.verbose && d.summary {
		return usage("-v and --summary exclude each other")
	}
	d.out, d.json = bufio.NewWriter(cmd.OutOrStdout()), wantsJSON(cmd)
	visitor := inspect.Visitor{File: d.file, Finding: d.finding}
	if !d.summary {
		visitor.Batch = func(file string, b inspect.Batch) error {
			if err := cmd.Context().Err(); err != nil {
				return errInterrupted
			}
			return d.batch(file, b)
		}
	}
	if d.verbose {
		visitor.Index, visitor.Aborted, visitor.Producer, visitor.Epoch = d.index, d.aborted, d.producer, d.epoch
	}
	total := int64(0)
	for _, path := range paths {
		found, err := inspect.Walk(path, visitor)
		if err != nil {
			return errors.Join(d.out.Flush(), err)
		}
		total += found
	}
	if err := d.out.Flush(); err != nil {
		return err
	}
	if total > 0 {
		return fmt.Errorf("%d things are wrong", total)
	}
	return nil
}

// line prints one line of text, or with --json an object with one field, kind.
func (d *dump) line(kind, file string, fields any, format string, args ...any) error {
	if d.json {
		return printJSON(d.out, map[string]any{"file": file, kind: fields})
	}
	_, err := fmt.Fprintf(d.out, format+"\n", args...)
	return err
}

// batchJSON is the header of a batch.
type batchJSON struct {
	Position      int64  `json:"position"`
	Bytes         int    `json:"bytes"`
	BaseOffset    int64  `json:"base_offset"`
	LastOffset    int64  `json:"last_offset"`
	Count         int32  `json:"count"`
	LeaderEpoch   int32  `json:"leader_epoch"`
	Codec         string `json:"codec"`
	CRC           string `json:"crc"`
	Valid         bool   `json:"valid"`
	BaseTimestamp int64  `json:"base_timestamp"`
	MaxTimestamp  int64  `json:"max_timestamp"`
	LogAppendTime bool   `json:"log_append_time"`
	ProducerID    int64  `json:"producer_id"`
	ProducerEpoch int16  `json:"producer_epoch"`
	BaseSequence  int32  `json:"base_sequence"`
	Transactional bool   `json:"transactional"`
	Control       bool   `json:"control"`
	DeleteHorizon bool   `json:"delete_horizon"`
}

func (d *dump) batch(file string, b inspect.Batch) error {
	fields := batchJSON{
		b.Position, len(b.Batch), int64(b.BaseOffset()), int64(b.LastOffset()), b.Count(), int32(b.LeaderEpoch()), b.Codec().String(),
		fmt.Sprintf("%08x", b.StoredCRC()), b.Bad == nil, int64(b.BaseTimestamp()), int64(b.MaxTimestamp()), b.LogAppendTime(),
		int64(b.ProducerID()), int16(b.ProducerEpoch()), b.BaseSequence(), b.Transactional(), b.Control(), b.HasDeleteHorizon(),
	}
	if err := d.line("batch", file, fields, "%s", batchText(fields)); err != nil || !d.verbose || b.Bad != nil {
		return err
	}
	for r, err := range b.Records(dumpBudget) {
		if err != nil { // a broker keeps such a batch and serves it as it is
			return d.line("undecodable", file, err.Error(), "  records cannot be decoded: %v", err)
		}
		if err := d.record(file, b, r); err != nil {
			return err
		}
	}
	return nil
}

func batchText(b batchJSON) string {
	valid := "ok"
	if !b.Valid {
		valid = "BAD"
	}
	text := fmt.Sprintf("position=%d offsets=%d..%d count=%d bytes=%d codec=%s crc=%s:%s epoch=%d max-timestamp=%s",
		b.Position, b.BaseOffset, b.LastOffset, b.Count, b.Bytes, b.Codec, b.CRC, valid, b.LeaderEpoch, timeText(b.MaxTimestamp))
	if b.ProducerID >= 0 {
		text += fmt.Sprintf(" producer=%d:%d sequence=%d", b.ProducerID, b.ProducerEpoch, b.BaseSequence)
	}
	for _, flag := range []struct {
		on   bool
		name string
	}{{b.LogAppendTime, "log-append-time"}, {b.Transactional, "transactional"}, {b.Control, "control"}, {b.DeleteHorizon, "delete-horizon"}} {
		if flag.on {
			text += " " + flag.name
		}
	}
	return text
}

func (d *dump) record(file string, b inspect.Batch, r record.Record) error {
	if b.Control() {
		kind := markerName(r.Key)
		return d.line("marker", file, map[string]any{"offset": r.Offset, "timestamp": r.Timestamp, "type": kind},
			"  offset=%d timestamp=%s marker=%s", r.Offset, timeText(int64(r.Timestamp)), kind)
	}
	fields := recordToJSON(toKgo("", 0, r))
	fields.Partition = nil
	text := fmt.Sprintf("  offset=%d timestamp=%s key=%s value=%s", r.Offset, timeText(int64(r.Timestamp)), bytesText(r.Key), bytesText(r.Value))
	for _, h := range r.Headers {
		text += fmt.Sprintf(" %s=%s", strconv.Quote(h.Key), bytesText(h.Value))
	}
	return d.line("record", file, fields, "%s", text)
}

// markerName is what a control record says (KIP-98).
func markerName(key []byte) string {
	if len(key) < 4 {
		return "unknown"
	}
	switch kind := binary.BigEndian.Uint16(key[2:]); kind {
	case 0:
		return "abort"
	case 1:
		return "commit"
	default:
		return fmt.Sprintf("type-%d", kind)
	}
}

func bytesText(b []byte) string {
	if b == nil {
		return "null"
	}
	return strconv.Quote(string(b))
}

func (d *dump) index(file string, e inspect.IndexEntry) error {
	if e.Position < 0 {
		return d.line("time_entry", file, map[string]any{"timestamp": e.Timestamp, "offset": e.Offset},
			"%s timestamp=%s offset=%d", filepath.Base(file), timeText(int64(e.Timestamp)), e.Offset)
	}
	return d.line("index_entry", file, map[string]any{"offset": e.Offset, "position": e.Position},
		"%s offset=%d position=%d", filepath.Base(file), e.Offset, e.Position)
}

func (d *dump) aborted(file string, t protocol.AbortedTxn) error {
	return d.line("aborted_transaction", file,
		map[string]any{"producer_id": t.Producer, "first_offset": t.First, "last_offset": t.Last, "last_stable_offset": t.LastStable},
		"%s aborted producer=%d offsets=%d..%d last-stable=%d", filepath.Base(file), t.Producer, t.First, t.Last, t.LastStable)
}

func (d *dump) producer(file string, p inspect.Producer) error {
	return d.line("producer", file, map[string]any{
		"producer_id": p.ID, "epoch": p.Epoch, "last_sequence": p.LastSequence, "last_offset": p.LastOffset, "offset_delta": p.OffsetDelta,
		"timestamp": p.Timestamp, "coordinator_epoch": p.CoordinatorEpoch, "open_transaction_offset": p.TxnFirst,
	}, "%s producer=%d:%d last-sequence=%d last-offset=%d offset-delta=%d timestamp=%s coordinator-epoch=%d open-transaction=%s",
		filepath.Base(file), p.ID, p.Epoch, p.LastSequence, p.LastOffset, p.OffsetDelta, timeText(int64(p.Timestamp)), p.CoordinatorEpoch, offsetText(int64(p.TxnFirst)))
}

func (d *dump) epoch(file string, e protocol.EpochStart) error {
	return d.line("epoch", file, map[string]any{"epoch": e.Epoch, "start": e.Start}, "%s epoch=%d start=%d", filepath.Base(file), e.Epoch, e.Start)
}

func (d *dump) finding(f inspect.Finding) error {
	return d.line("finding", f.File, map[string]any{"position": f.Position, "offset": f.Offset, "text": f.Text}, "! %s", strings.TrimSpace(f.String()))
}

func (d *dump) file(s inspect.Summary) error {
	state := "good"
	if s.Findings > 0 {
		state = fmt.Sprintf("%d THINGS WRONG", s.Findings)
	}
	return d.line("summary", s.File, map[string]any{
		"base": s.Base, "next": s.Next, "batches": s.Batches, "records": s.Records, "bytes": s.Bytes, "max_timestamp": s.MaxTimestamp,
		"index_entries": s.IndexEntries, "time_entries": s.TimeEntries, "aborted_transactions": s.AbortedTxns, "findings": s.Findings,
	}, "%s: %s, offsets %d to %d, %d batches, %d records, %s, latest %s, index entries %d by offset, %d by time, %d aborted transactions",
		s.File, state, s.Base, s.Next, s.Batches, s.Records, sizeText(s.Bytes), timeText(int64(s.MaxTimestamp)), s.IndexEntries, s.TimeEntries, s.AbortedTxns)
}
