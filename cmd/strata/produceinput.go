package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

func (p *producer) run(cmd *cobra.Command, topic string) error {
	opts, err := p.options(topic)
	if err != nil {
		return err
	}
	parse, err := p.parser(cmd)
	if err != nil {
		return err
	}
	in := cmd.InOrStdin()
	if p.file != "" {
		file, err := os.Open(p.file)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }() // only read
		in = file
	}
	cl, err := p.connect(cmd.Context(), opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	written, err := produceLines(cmd.Context(), cl, in, parse)
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d records written to %s\n", written, topic)
	if wantsJSON(cmd) {
		err = errors.Join(err, printJSON(cmd.OutOrStdout(), map[string]any{"topic": topic, "written": written}))
	}
	return err
}

// parser makes records of lines as the flags say.
func (p *producer) parser(cmd *cobra.Command) (func(string) (*kgo.Record, error), error) {
	var headers []kgo.RecordHeader
	for _, pair := range p.headers {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usage("--header %s: want key=value", pair)
		}
		headers = append(headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	nulls := cmd.Flags().Changed("null-value")
	line := func(text string) (*kgo.Record, error) { return p.record(text, nulls) }
	switch {
	case p.input == "json" && (nulls || p.keySeparator != "" || p.timeSeparator != ""):
		return nil, usage("--input json excludes --key-separator, --timestamp-separator and --null-value: a line says it all")
	case p.input == "json":
		line = p.jsonRecord
	case p.input != "text":
		return nil, usage("--input %s: want text or json", p.input)
	case p.keepPartition:
		return nil, usage("--keep-partition goes with --input json")
	}
	if p.keepPartition && p.partition >= 0 {
		return nil, usage("--partition and --keep-partition exclude each other")
	}
	return func(text string) (*kgo.Record, error) {
		r, err := line(text)
		if err == nil {
			r.Headers = append(r.Headers, headers...)
		}
		return r, err
	}, nil
}

// record reads one line of text.
func (p *producer) record(line string, nulls bool) (*kgo.Record, error) {
	r := &kgo.Record{Partition: p.partition}
	if p.timeSeparator != "" {
		text, rest, ok := strings.Cut(line, p.timeSeparator)
		when, err := parseTime(text)
		if !ok || err != nil {
			return nil, fmt.Errorf("want a time, then %q", p.timeSeparator)
		}
		r.Timestamp, line = when, rest
	}
	if p.keySeparator != "" {
		key, value, ok := strings.Cut(line, p.keySeparator)
		if !ok {
			return nil, fmt.Errorf("want a key, then %q", p.keySeparator)
		}
		r.Key, line = []byte(key), value
	}
	if !nulls || line != p.nullValue {
		r.Value = []byte(line)
	}
	return r, nil
}

// jsonRecord reads one line of JSON. A field that means nothing is refused: it may be a misspelt one.
func (p *producer) jsonRecord(line string) (*kgo.Record, error) {
	var in recordJSON
	d := json.NewDecoder(strings.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return nil, fmt.Errorf("want a JSON object with key, value, headers and timestamp: %w", err)
	}
	if d.More() {
		return nil, errors.New("want one JSON object, there is more")
	}
	if in.Key != nil && in.KeyBase64 != nil || in.Value != nil && in.ValueBase64 != nil {
		return nil, errors.New("a field and its base64 form exclude each other")
	}
	r := &kgo.Record{Partition: p.partition, Key: bytesOf(in.Key, in.KeyBase64), Value: bytesOf(in.Value, in.ValueBase64)}
	if p.keepPartition {
		if in.Partition == nil || *in.Partition < 0 {
			return nil, errors.New("--keep-partition needs a partition in each line")
		}
		r.Partition = *in.Partition
	}
	if in.Timestamp != nil {
		r.Timestamp = time.UnixMilli(*in.Timestamp)
	}
	for _, h := range in.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: bytesOf(h.Value, h.ValueBase64)})
	}
	return r, nil
}
