package integration_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/tiering/format"
)

// deleter deletes records of partition 0 of one topic and looks at what is left.
type deleter struct {
	t      *testing.T
	broker *harness.Broker
	topic  string
	start  int64 // as it was last told
}

// cut deletes what lies below an offset.
func (d *deleter) cut(before int64) {
	d.t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(d.topic, 0, before, -1)
	got, err := kadm.NewClient(d.broker.Client()).DeleteRecords(d.t.Context(), offsets)
	if err := errors.Join(err, got.Error()); err != nil {
		d.t.Fatal(err)
	}
	answer, _ := got.Lookup(d.topic, 0)
	if answer.LowWatermark < max(before, d.start) {
		d.t.Fatalf("deleted below %d: the partition starts at %d, before at %d", before, answer.LowWatermark, d.start)
	}
	d.start = answer.LowWatermark
}

// look checks that the log start is what was told, that nothing below it is served, and that all above it is.
func (d *deleter) look(when string, end int) {
	d.t.Helper()
	client := d.broker.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{d.topic: {0: kgo.NewOffset().AtStart()}}))
	starts, err := kadm.NewClient(client).ListStartOffsets(d.t.Context(), d.topic)
	if err := errors.Join(err, starts.Error()); err != nil {
		d.t.Fatal(err)
	}
	if at, _ := starts.Lookup(d.topic, 0); at.Offset != d.start {
		d.t.Errorf("%s: the partition starts at %d, want %d", when, at.Offset, d.start)
	}
	o := &odd{wire: dialWire(d.t, d.broker.Addr), addr: d.broker.Addr}
	if d.start > 0 {
		if got := fetch(d.topic, fetchFrom(d.start-1))(o); !strings.HasPrefix(got, "OFFSET_OUT_OF_RANGE") {
			d.t.Errorf("%s: a fetch of what is deleted: %s", when, got)
		}
	}
	for i, r := range consume(d.t, client, end-int(d.start)) {
		if want := d.start + int64(i); r.Offset != want || string(r.Key) != strconv.FormatInt(want, 10) {
			d.t.Fatalf("%s: record %q at %d, want %d", when, r.Key, r.Offset, want)
		}
	}
	client.Close()
}

// TestDeletedRecordsStayDeletedInBothTiers deletes inside the bucket's part, past objects of it, inside the
// disk's part and all, each time with a kill -9 after the answer, while uploads go on. The log start never
// goes back, what lies above it stays, and disk and bucket are freed.
func TestDeletedRecordsStayDeletedInBothTiers(t *testing.T) {
	t.Parallel()
	bucket := harness.DirBucket(t)
	broker := harness.Start(t, harness.Options{Bucket: bucket.URL, Set: map[string]string{
		"strata.sweep.grace.ms": strconv.FormatInt(killGrace.Milliseconds(), 10), "strata.sweep.interval.ms": strconv.FormatInt(killInterval.Milliseconds(), 10),
		"log.retention.check.interval.ms": "100", "remote.log.manager.task.interval.ms": "200",
	}})
	client := broker.Client(kgo.DefaultProduceTopic("cut"), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(64<<10))
	createTopic(t, client, "cut", 1)
	d, end := &deleter{t: t, broker: broker, topic: "cut"}, 0
	write := func(n int) {
		t.Helper()
		var records []*kgo.Record
		for range n {
			records = append(records, &kgo.Record{Key: []byte(strconv.Itoa(end)), Value: []byte(strings.Repeat("v", 1000))})
			end++
		}
		if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	crash := func(when string) {
		t.Helper()
		d.look(when, end)
		broker.Kill9()
		broker.Again()
		d.look(when+", after kill -9", end)
	}
	write(4000)
	var local int64
	harness.Eventually(t, settleLimit, "the sealed segments leave the disk", func() error {
		ends, err := uploaded(t, broker, "cut", 1)
		if err == nil && ends[0] == 0 {
			err = errors.New("nothing is in the bucket")
		}
		if err == nil {
			local = ends[0]
		}
		return err
	})
	d.cut(100)
	crash("inside the first object")
	d.cut(local - 10)
	crash("inside the last object")
	awaitObjects(t, bucket, 1)
	d.cut(local + 10)
	crash("inside the disk's part")
	awaitObjects(t, bucket, 0)
	for round := range 5 {
		write(1500) // more than a segment: an upload is under way
		d.cut(int64(end - 10*round))
		crash(fmt.Sprintf("round %d", round))
	}
	d.cut(-1)
	crash("all")
	awaitRest(t, broker.Metrics)
	awaitObjects(t, bucket, 0)
	awaitNoOrphans(t, bucket.Store, 2*killGrace+2*killInterval)
	bucket.VerifyClean()
	harness.Eventually(t, settleLimit, "the disk is freed", func() error {
		dirs, err := kadm.NewClient(client).DescribeBrokerLogDirs(t.Context(), 1, nil)
		if err != nil {
			return err
		}
		if p, ok := dirs.LookupPartition("cut", 0); !ok || p.Size != 0 {
			return fmt.Errorf("partition %+v", p)
		}
		return nil
	})
	write(1)
	d.look("what was written after all", end)
}

// awaitObjects waits until the bucket holds so many segment objects.
func awaitObjects(t *testing.T, bucket *harness.Bucket, want int) {
	t.Helper()
	harness.Eventually(t, orphanLimit, fmt.Sprintf("%d segment objects are left", want), func() error {
		if n := len(bucket.Keys(format.SegmentObject)); n != want {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}
