package integration_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/stratabroker/strata/integration/harness"
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// options are those of a producer.
func (v variant) options() []kgo.Opt {
	acks := map[int]kgo.Acks{0: kgo.NoAck(), 1: kgo.LeaderAck(), -1: kgo.AllISRAcks()}
	out := []kgo.Opt{kgo.ProducerBatchCompression(codecs[v.codec]), kgo.RequiredAcks(acks[v.acks])}
	if !v.idempotent {
		out = append(out, kgo.DisableIdempotentWrite())
	}
	return out
}

// labelled are records with all that a record can have; names begin with label.
func labelled(topic, label string, count int) (out []*kgo.Record) {
	for n := range count {
		r := &kgo.Record{
			Topic: topic, Key: fmt.Appendf(nil, "%s-%d", label, n), Value: fmt.Appendf(nil, "value of %s-%d", label, n),
			Timestamp: time.UnixMilli(1_600_000_000_000 + int64(n)),
			Headers:   []kgo.RecordHeader{{Key: "label", Value: []byte(label)}, {Key: "null"}, {Key: "label", Value: []byte{}}},
		}
		switch n {
		case 1:
			r.Key = nil
		case 2:
			r.Value = nil
		case 3:
			r.Value, r.Headers = []byte{}, nil
		}
		out = append(out, r)
	}
	return out
}

// rendered is all of a record but its place.
func rendered(r *kgo.Record) string {
	return fmt.Sprintf("%#v %#v %d %#v", r.Key, r.Value, r.Timestamp.UnixMilli(), r.Headers)
}

func sameRecords(t *testing.T, got, want []*kgo.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		if rendered(got[i]) != rendered(want[i]) || got[i].Offset != int64(i) {
			t.Fatalf("offset %d: %s, want %d: %s", got[i].Offset, rendered(got[i]), i, rendered(want[i]))
		}
	}
}

// TestFranzGo writes in every way and reads back exactly that, in order.
func TestFranzGo(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	admin := kadm.NewClient(broker.Client())
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "ways"); err != nil {
		t.Fatal(err)
	}
	var want []*kgo.Record
	for _, v := range variants() {
		records := labelled("ways", v.String(), 20)
		want = append(want, records...)
		if err := broker.Client(v.options()...).ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatalf("%s: %v", v, err)
		}
		harness.Eventually(t, wireLimit, "records without acks are there", func() error {
			ends, err := admin.ListEndOffsets(t.Context(), "ways")
			if end, _ := ends.Lookup("ways", 0); err == nil && end.Offset != int64(len(want)) {
				err = fmt.Errorf("end %d, want %d", end.Offset, len(want))
			}
			return err
		})
	}
	sameRecords(t, consume(t, broker.Client(kgo.ConsumeTopics("ways")), len(want)), want)
}

// TestFranzGoOfEachTime: what a client of an older Kafka speaks is served, groups included.
func TestFranzGoOfEachTime(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	for name, versions := range map[string]*kversion.Versions{
		"0.11": kversion.V0_11_0(), "1.0": kversion.V1_0_0(), "1.1": kversion.V1_1_0(), "2.0": kversion.V2_0_0(), "2.1": kversion.V2_1_0(),
		"2.2": kversion.V2_2_0(), "2.3": kversion.V2_3_0(), "2.4": kversion.V2_4_0(), "2.5": kversion.V2_5_0(), "2.6": kversion.V2_6_0(),
		"2.7": kversion.V2_7_0(), "2.8": kversion.V2_8_0(), "3.0": kversion.V3_0_0(), "3.1": kversion.V3_1_0(), "3.3": kversion.V3_3_0(),
		"3.5": kversion.V3_5_0(), "3.7": kversion.V3_7_0(), "3.9": kversion.V3_9_0(), "4.0": kversion.V4_0_0(), "newest": kversion.Stable(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic, pinned := "of-"+name, kgo.MaxVersions(versions)
			want := labelled(topic, name, 10)
			producer := broker.Client(pinned, kgo.AllowAutoTopicCreation())
			if err := producer.ProduceSync(t.Context(), want...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			var got []*kgo.Record
			for _, count := range []int{4, 6} {
				member := broker.Client(
					pinned, kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
				)
				records := consume(t, member, count)
				if err := member.CommitRecords(t.Context(), records...); err != nil {
					t.Fatal(err)
				}
				got = append(got, records...)
				member.Close()
			}
			sameRecords(t, got, want)
		})
	}
}

// TestStaticMemberComesBack: within its session it has the same partitions, in the same generation.
func TestStaticMemberComesBack(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	if _, err := kadm.NewClient(broker.Client()).CreateTopic(t.Context(), 4, 1, nil, "static"); err != nil {
		t.Fatal(err)
	}
	live := func(instance string) (generation int32, partitions []int32, leave func()) {
		assigned := make(chan []int32, 1)
		client := broker.Client(
			kgo.ConsumerGroup("static"), kgo.ConsumeTopics("static"), kgo.InstanceID(instance),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { assigned <- parts["static"] }),
		)
		select {
		case partitions = <-assigned:
		case <-time.After(toolLimit):
			t.Fatal("nothing is assigned")
		}
		_, generation = client.GroupMetadata()
		slices.Sort(partitions)
		return generation, partitions, client.Close
	}
	generation, partitions, leave := live("one")
	leave() // a static member does not leave its group by that
	again, same, leave := live("one")
	leave()
	if len(partitions) != 4 || !slices.Equal(partitions, same) || generation != again {
		t.Errorf("generation %d with %v, then %d with %v", generation, partitions, again, same)
	}
}

// TestCooperativeMembersShare: a second member takes half of the partitions, none is read by two, no record is lost.
func TestCooperativeMembersShare(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	const parts, perPartition = 6, 50
	producer := broker.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if _, err := kadm.NewClient(producer).CreateTopic(t.Context(), parts, 1, nil, "shared"); err != nil {
		t.Fatal(err)
	}
	write := func() {
		t.Helper()
		var records []*kgo.Record
		for n := range parts * perPartition {
			records = append(records, &kgo.Record{Topic: "shared", Partition: int32(n % parts), Value: []byte("v")})
		}
		if err := producer.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	held := make(chan [2]map[int32]bool, 1) // partitions of each member
	held <- [2]map[int32]bool{{}, {}}
	member := func(i int) *kgo.Client {
		change := func(has bool) func(context.Context, *kgo.Client, map[string][]int32) {
			return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
				all := <-held
				for _, p := range changed["shared"] {
					if has && all[1-i][p] {
						t.Errorf("partition %d has two members", p)
					}
					all[i][p] = has
				}
				held <- all
			}
		}
		return broker.Client(
			kgo.ConsumerGroup("shared"), kgo.ConsumeTopics("shared"), kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.HeartbeatInterval(100*time.Millisecond),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)),
		)
	}
	count := func(i int) (n int) {
		all := <-held
		for has := range maps.Values(all[i]) {
			if has {
				n++
			}
		}
		held <- all
		return n
	}
	write()
	first := member(0)
	read := consume(t, first, parts*perPartition)
	if err := first.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := member(1)
	harness.Eventually(t, toolLimit, "each has half", func() error {
		if a, b := count(0), count(1); a != parts/2 || b != parts/2 {
			return fmt.Errorf("%d and %d partitions", a, b)
		}
		return nil
	})
	write()
	read = append(read, consume(t, first, parts*perPartition/2)...)
	read = append(read, consume(t, second, parts*perPartition/2)...)
	seen := map[[2]int64]bool{}
	for _, r := range read {
		seen[[2]int64{int64(r.Partition), r.Offset}] = true
	}
	if len(seen) != 2*parts*perPartition || len(read) != len(seen) {
		t.Errorf("%d records, %d of them different, want %d", len(read), len(seen), 2*parts*perPartition)
	}
}

// TestFranzGoTransactionIsRefused: with the reason, and soon.
func TestFranzGoTransactionIsRefused(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	client := broker.Client(kgo.TransactionalID("t"), kgo.AllowAutoTopicCreation())
	ctx, cancel := context.WithTimeout(t.Context(), wireLimit)
	defer cancel()
	err := client.BeginTransaction() // it fails here, or with the first record
	if err == nil {
		err = client.ProduceSync(ctx, &kgo.Record{Topic: "refused", Value: []byte("v")}).FirstErr()
	}
	if err == nil || !strings.Contains(err.Error(), kerr.TransactionalIDAuthorizationFailed.Message) { // it is not wrapped
		t.Errorf("%v, want %v", err, kerr.TransactionalIDAuthorizationFailed)
	}
}
