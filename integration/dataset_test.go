package integration_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// What testdata/README.md says is there.
const (
	eventCount  = 242_779
	answerCount = 10_291
)

// event is one line of the events, as it is produced.
type event struct {
	key   string
	value []byte // nil is a tombstone
	ms    int64  // timestamp
}

// dataset is the events of testdata and their answer.
type dataset struct {
	events []event
	answer map[string]string // blob by key
}

var loadDataset = sync.OnceValues(func() (*dataset, error) {
	d := &dataset{events: make([]event, 0, eventCount), answer: make(map[string]string, answerCount)}
	if err := eachLine("changes.jsonl.zst", d.addEvent); err != nil {
		return nil, err
	}
	if err := eachLine("tree.tsv.zst", d.addRow); err != nil {
		return nil, err
	}
	if len(d.events) != eventCount || len(d.answer) != answerCount {
		return nil, fmt.Errorf("testdata: %d events and %d rows", len(d.events), len(d.answer))
	}
	return d, nil
})

func realEvents(t *testing.T) *dataset {
	t.Helper()
	d, err := loadDataset()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *dataset) addEvent(line []byte) error {
	var fields struct {
		Time       int64
		Repo, Path string
		Blob       *string
	}
	if err := json.Unmarshal(line, &fields); err != nil {
		return err
	}
	e := event{key: fields.Repo + ":" + fields.Path, ms: fields.Time * 1000}
	if fields.Blob != nil {
		e.value = bytes.Clone(line)
	}
	d.events = append(d.events, e)
	return nil
}

func (d *dataset) addRow(line []byte) error {
	columns := strings.Split(string(line), "\t")
	if len(columns) != 3 {
		return fmt.Errorf("row %q", line)
	}
	d.answer[columns[0]+":"+columns[1]] = columns[2]
	return nil
}

// eachLine reads a compressed file of testdata.
func eachLine(name string, do func(line []byte) error) error {
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	decoder, err := zstd.NewReader(file)
	if err != nil {
		return err
	}
	defer decoder.Close()
	lines := bufio.NewReader(decoder)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := do(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// blobOf is the blob that an event's value names.
func blobOf(t *testing.T, value []byte) string {
	t.Helper()
	var fields struct{ Blob string }
	if err := json.Unmarshal(value, &fields); err != nil {
		t.Fatalf("value %q: %v", value, err)
	}
	return fields.Blob
}
