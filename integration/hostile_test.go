package integration_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
)

// maxGrowth is how much more memory the broker may ever have held after all hostile bytes.
const maxGrowth = 64 << 20

// framed prefixes a frame's length.
func framed(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// header is a request header of version 1, and version 2 where flexible.
func header(key, version int16, flexible bool) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(key))
	out = binary.BigEndian.AppendUint16(out, uint16(version))
	out = append(out, 0, 0, 0, 1, 0xff, 0xff) // correlation id 1, no client id
	if flexible {
		out = append(out, 0)
	}
	return out
}

// hostile are bytes that no client sends, by what they are.
func hostile() map[string][]byte {
	most := []byte{0x7f, 0xff, 0xff, 0xff}
	varintMost := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	filler := bytes.Repeat([]byte{0x7f}, 1000)
	body := func(key, version int16, flexible bool, parts ...[]byte) []byte {
		return framed(append(header(key, version, flexible), bytes.Join(parts, nil)...))
	}
	produce := kmsg.NewPtrProduceRequest()
	produce.Version, produce.Acks = 9, -1
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = batchAt(0)
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.Partitions = "canary", []kmsg.ProduceRequestTopicPartition{part}
	produce.Topics = []kmsg.ProduceRequestTopic{topic}
	produceBody := produce.AppendTo(nil)
	return map[string][]byte{
		"a frame of 2 GiB":                        append(bytes.Clone(most), header(0, 9, true)...),
		"a frame of 101 MiB":                      append(binary.BigEndian.AppendUint32(nil, 101<<20), header(0, 9, true)...),
		"a frame of 2 MiB that is no Produce":     append(binary.BigEndian.AppendUint32(nil, 2<<20), header(3, 9, true)...),
		"a frame of negative length":              {0xff, 0xff, 0xff, 0xff},
		"an empty frame":                          {0, 0, 0, 0},
		"a frame shorter than a header":           framed([]byte{0, 3}),
		"an API that is not served":               body(999, 0, false),
		"an API of brokers only":                  body(52, 0, true, filler),
		"a version that is not served":            body(3, 99, true, filler),
		"a client id beyond the frame":            framed([]byte{0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 'a'}),
		"HTTP":                                    []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
		"2^31 topics of Metadata":                 body(3, 1, false, most, filler),
		"-2 topics of Metadata":                   body(3, 1, false, []byte{0xff, 0xff, 0xff, 0xfe}),
		"2^31 topics of a flexible Metadata":      body(3, 12, true, varintMost, filler),
		"a varint without an end":                 body(3, 12, true, bytes.Repeat([]byte{0xff}, 20)),
		"a topic name beyond the frame":           body(3, 1, false, []byte{0, 0, 0, 1, 0x7f, 0xff}, filler),
		"2^31 topics of CreateTopics":             body(19, 4, false, most, filler),
		"2^31 topics of Fetch":                    body(1, 11, false, make([]byte, 25), most, filler),
		"2^31 protocols of JoinGroup":             body(11, 2, false, []byte{0, 1, 'g', 0, 0, 39, 16, 0, 0, 39, 16, 0, 0, 0, 1, 'c'}, most, filler),
		"metadata of 2^31 bytes in JoinGroup":     body(11, 2, false, []byte{0, 1, 'g', 0, 0, 39, 16, 0, 0, 39, 16, 0, 0, 0, 1, 'c', 0, 0, 0, 1, 0, 1, 'p'}, most, filler),
		"2^31 topics of OffsetCommit":             body(8, 2, false, []byte{0, 1, 'g', 0, 0, 0, 1, 0, 0}, make([]byte, 8), most, filler),
		"2^31 topics of Produce":                  body(0, 3, false, []byte{0xff, 0xff, 0, 1, 0, 0, 0, 1}, most, filler),
		"records beyond the frame in Produce":     body(0, 3, false, []byte{0xff, 0xff, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 0}, most, filler),
		"2^31 tagged fields":                      body(3, 12, true, []byte{1, 0, 0}, varintMost),
		"a tagged field beyond the frame":         body(3, 12, true, []byte{1, 0, 0, 1, 5}, varintMost),
		"a Produce that ends too soon":            body(0, 9, true, produceBody[:len(produceBody)-20]),
		"2^31 tagged fields in a header":          framed(append(append([]byte{0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff}, varintMost...), filler...)),
		"a Metadata of nothing":                   body(3, 9, true),
		"a name of negative length in Metadata 1": body(3, 1, false, []byte{0, 0, 0, 1, 0xff, 0xff}),
	}
}

// TestHostileBytesCloseTheirConnection: with a logged reason, in bounded memory, and nobody else notices.
func TestHostileBytesCloseTheirConnection(t *testing.T) {
	broker := harness.Start(t, harness.Options{})
	canary := broker.Client(kgo.DefaultProduceTopic("canary"), kgo.AllowAutoTopicCreation(), kgo.MaxConcurrentFetches(1))
	alive := func() {
		t.Helper()
		if err := canary.ProduceSync(t.Context(), kgo.StringRecord("alive")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	alive()
	before := peakMemory(t, broker.PID())
	for name, sent := range hostile() {
		// Only some lines a second are logged: again until one is.
		harness.Eventually(t, wireLimit, name+": the reason is logged", func() error {
			local := closes(t, broker, name, sent)
			_, log := broker.Log()
			for line := range strings.Lines(log) {
				if strings.Contains(line, local) && strings.Contains(line, "connection closed") {
					return nil
				}
			}
			return fmt.Errorf("nothing of %s", local)
		})
		alive()
	}
	for name, sent := range hostile() {
		for range 20 { // so that what each costs adds up
			closes(t, broker, name, sent)
		}
		alive()
	}
	if grown := peakMemory(t, broker.PID()) - before; grown > maxGrowth {
		t.Errorf("the broker's memory grew by %d MiB", grown>>20)
	}
}

// closes sends bytes on a connection of their own, which must end without an answer. It returns its address.
func closes(t *testing.T, broker *harness.Broker, name string, sent []byte) string {
	t.Helper()
	w := dialWire(t, broker.Addr)
	if _, err := w.conn.Write(sent); err != nil {
		t.Fatal(err)
	}
	if answer, err := w.receive(); !errors.Is(err, io.EOF) {
		t.Fatalf("%s: answered %x, %v", name, answer, err)
	}
	return w.conn.LocalAddr().String()
}

// peakMemory is the most that a process ever had in memory, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		t.Fatal("no VmHWM")
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
