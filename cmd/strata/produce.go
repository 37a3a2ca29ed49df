package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// maxLine is the longest line that becomes a record.
	maxLine = 64 << 20
	// flushGrace is how long unacknowledged records may take after ctrl-C.
	flushGrace = 500 * time.Millisecond
	// produceRetries make about a minute, by the client's backoff.
	produceRetries = 25
)

var errInterrupted = errors.New("interrupted")

// producer is the command line of strata produce.
type producer struct {
	client
	keySeparator, timeSeparator string
	nullValue                   string
	acks, compression           string
	partition                   int32
	headers                     []string
	input, file                 string
	keepPartition               bool
}

func produceCommand() *cobra.Command {
	var p producer
	c := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Write lines as records",
		Long: `Write each line of standard input, or of --file, as one record. The command succeeds when every record was
acknowledged. With --timestamp-separator a line begins with the record's time, in milliseconds
since 1970 or as in 2006-01-02T15:04:05Z; with --key-separator the key comes next.

With --input json each line is an object with key, value, headers and timestamp (ms), as strata
consume --json prints it: "value":null or no value is a tombstone, key_base64 and value_base64 hold what is no text,
topic and offset are not looked at, partition only with --keep-partition.`,
		Example: `  seq 1 100 | strata produce numbers
  echo 'user-7:signed in' | strata produce clicks --key-separator :
  echo '2011-06-14T09:00:00Z user-7:signed in' | strata produce clicks --timestamp-separator ' ' --key-separator :
  echo 'user-7:' | strata produce clicks --key-separator : --null-value ''    a tombstone
  strata produce clicks --file events.txt --partition 2 --acks 1
  echo '{"key":"user-7","value":"signed in","timestamp":1308042000000}' | strata produce clicks --input json
  strata consume clicks --until-end --json | strata produce copy --input json --keep-partition
  cat events.json | strata produce clicks --compression zstd --header source=web`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.run(cmd, args[0])
		},
	}
	p.flags(c)
	c.Flags().StringVar(&p.keySeparator, "key-separator", "", "the key is what comes before the first `TEXT`")
	c.Flags().StringVar(&p.timeSeparator, "timestamp-separator", "", "the line begins with a time that ends at the first `TEXT`")
	c.Flags().StringVar(&p.nullValue, "null-value", "", "a value that is `TEXT` is sent as null, a tombstone")
	c.Flags().StringVar(&p.acks, "acks", "all", "what to wait for, `all`, 1 or 0")
	c.Flags().StringVar(&p.compression, "compression", "none", "`CODEC`: none, gzip, snappy, lz4 or zstd")
	c.Flags().Int32Var(&p.partition, "partition", -1, "write to partition `N` (default: by key, else spread)")
	c.Flags().StringArrayVar(&p.headers, "header", nil, "header of every record, `key=value`; may be given often")
	c.Flags().StringVar(&p.input, "input", "text", "what a line is, `text` or json")
	c.Flags().StringVar(&p.file, "file", "", "read `FILE` instead of standard input")
	c.Flags().BoolVar(&p.keepPartition, "keep-partition", false, "write to the partition that a line of --input json names")
	noDefaults(c, "partition")
	return c
}

func (p *producer) options(topic string) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchMaxBytes(1 << 20),
		kgo.ProducerLinger(5 * time.Millisecond),
		// Not RecordDeliveryTimeout, which counts from the record's own time.
		kgo.RecordRetries(produceRetries),
	}
	switch p.acks {
	case "all", "-1":
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, usage("--acks %s: want all, 1 or 0", p.acks)
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[p.compression]
	if !ok {
		return nil, usage("--compression %s: want none, gzip, snappy, lz4 or zstd", p.compression)
	}
	opts = append(opts, kgo.ProducerBatchCompression(codec))
	if p.partition >= 0 || p.keepPartition {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts, nil
}

// parseTime reads milliseconds since 1970 or RFC 3339.
func parseTime(text string) (time.Time, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms), nil
	}
	return time.Parse(time.RFC3339Nano, text)
}

// produceLines sends each line of in and waits until all are acknowledged. The
// first failure ends it; written counts what was acknowledged.
func produceLines(ctx context.Context, cl *kgo.Client, in io.Reader, parse func(string) (*kgo.Record, error)) (written int64, err error) {
	// After ctrl-C what was read still goes out, for a moment.
	sending, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(flushGrace, func() { fail(errInterrupted) })
	})()

	var acknowledged atomic.Int64
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			fail(err) // the first cause stays
			return
		}
		acknowledged.Add(1)
	}
	readErr := eachLine(ctx, sending, in, func(line string) error {
		r, err := parse(line)
		if err == nil {
			cl.Produce(sending, r, promise)
		}
		return err
	})
	err = cl.Flush(sending)
	if cause := context.Cause(sending); cause != nil {
		err = cause
	}
	if err == nil {
		err = readErr
	}
	return acknowledged.Load(), err
}

// eachLine calls fn for every line of in, until fn fails or ctx or sending ends.
// It reads on a goroutine of its own: a terminal may never send one more line.
func eachLine(ctx, sending context.Context, in io.Reader, fn func(string) error) error {
	lines, done := make(chan string), make(chan error, 1)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		scanner := bufio.NewScanner(in)
		scanner.Buffer(make([]byte, 0, 1<<16), maxLine)
		for scanner.Scan() {
			select {
			case lines <- scanner.Text():
			case <-stop:
				return
			}
		}
		done <- scanner.Err()
	}()
	for number := 1; ; number++ {
		select {
		case line := <-lines:
			if err := fn(line); err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
		case err := <-done:
			return err
		case <-sending.Done():
			return nil // its cause is told
		case <-ctx.Done():
			return errInterrupted
		}
	}
}
