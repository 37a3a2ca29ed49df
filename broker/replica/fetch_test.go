package replica_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/protocol"
)

func part(l *replica.Leader, from protocol.Offset, maxBytes int) replica.FetchPartition {
	return replica.FetchPartition{
		Key: keyOf(l), From: from, MaxBytes: maxBytes, CurrentEpoch: protocol.NoEpoch, LastFetchedEpoch: protocol.NoEpoch,
	}
}

func keyOf(l *replica.Leader) replica.FetchKey {
	return replica.FetchKey{Topic: l.Key().Topic, Partition: l.Key().Partition}
}

func fill(t *testing.T, l *replica.Leader, batches, size int) {
	t.Helper()
	for range batches {
		if _, err := produce(t, l, batch(1, size)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAResponseStaysWithinWhatTheClientAllowed(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 3)
	for _, l := range leaders {
		fill(t, l, 20, 1000)
	}
	for _, tc := range []struct{ total, each int }{{5000, 100000}, {100000, 2500}, {1500, 1500}, {30000, 10000}} {
		parts := []replica.FetchPartition{part(leaders[0], 0, tc.each), part(leaders[1], 3, tc.each), part(leaders[2], 7, tc.each)}
		_, sizes := fetch(w, parts, replica.FetchOptions{MinBytes: 1, MaxBytes: tc.total, MaxWait: time.Second})
		sum := 0
		for i, n := range sizes {
			sum += n
			if n > tc.each {
				t.Errorf("%+v: partition %d got %d bytes", tc, i, n)
			}
		}
		if sum > tc.total || sum == 0 {
			t.Errorf("%+v: %d bytes in all", tc, sum)
		}
	}
}

func TestTheFirstBatchIsSentWholeHoweverLargeItIs(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 2)
	fill(t, leaders[0], 2, 5000)
	fill(t, leaders[1], 2, 5000)
	_, sizes := fetch(w, []replica.FetchPartition{part(leaders[0], 0, 100), part(leaders[1], 0, 100)},
		replica.FetchOptions{MinBytes: 1, MaxBytes: 100, MaxWait: time.Second})
	if sizes[0] < 5000 || sizes[0] > 6000 || sizes[1] != 0 {
		t.Errorf("sizes %v, want one batch of the first partition", sizes)
	}
}

func TestAFetchWaitsForWhatComes(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 3)
	parts := []replica.FetchPartition{part(leaders[0], 0, 1000), part(leaders[1], 0, 1000), part(leaders[2], 0, 1000)}
	done := make(chan []replica.FetchResult, 1)
	w.fetchAll(parts, replica.FetchOptions{MinBytes: 1, MaxBytes: 1000, MaxWait: time.Hour}, func(r []replica.FetchResult) { done <- r })
	select {
	case <-done:
		t.Fatal("answered with nothing there")
	default:
	}
	fill(t, leaders[2], 1, 10)
	r := <-done
	if r[2].Records == nil || r[0].Records != nil {
		t.Fatal("the answer is not what was written")
	}
	r[2].Records.Release()
}

func TestMinBytesAreWaitedForAcrossPartitions(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 2)
	done := make(chan []replica.FetchResult, 1)
	w.fetchAll([]replica.FetchPartition{part(leaders[0], 0, 1<<20), part(leaders[1], 0, 1<<20)},
		replica.FetchOptions{MinBytes: 2000, MaxBytes: 1 << 20, MaxWait: time.Hour}, func(r []replica.FetchResult) { done <- r })
	fill(t, leaders[0], 1, 1000)
	select {
	case <-done:
		t.Fatal("answered below MinBytes")
	default:
	}
	fill(t, leaders[1], 1, 1000)
	total := 0
	for _, r := range <-done {
		total += r.Records.Len()
		r.Records.Release()
	}
	if total < 2000 {
		t.Errorf("%d bytes", total)
	}
}

func TestMaxWaitEndsAFetchWithNothing(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	r, sizes := fetch(w, []replica.FetchPartition{part(l, 0, 1000)}, replica.FetchOptions{MinBytes: 1, MaxBytes: 1000, MaxWait: time.Millisecond})
	if sizes[0] != 0 || r[0].Err != nil || r[0].HighWatermark != 0 {
		t.Errorf("%+v", r[0])
	}
}

func TestOffsetsOutsideThePartitionAreRefusedAtOnce(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	fill(t, l, 3, 10)
	for _, from := range []protocol.Offset{-1, 4, 1 << 40} {
		r, _ := fetch(w, []replica.FetchPartition{part(l, from, 1000)}, replica.FetchOptions{MinBytes: 1, MaxBytes: 1000, MaxWait: time.Hour})
		if !errors.Is(r[0].Err, kerr.OffsetOutOfRange) || r[0].HighWatermark != 3 {
			t.Errorf("offset %d: %+v", from, r[0])
		}
	}
}

// coldTier serves offsets below end with batches of size bytes; Read may be slow.
type coldTier struct {
	noBucket
	size int
	wait time.Duration
}

func (c coldTier) Read(ctx context.Context, _ protocol.PartitionKey, from protocol.Offset, maxBytes int, minOne bool) (replica.ColdBatches, error) {
	if c.wait > 0 {
		<-ctx.Done()
		return replica.ColdBatches{}, ctx.Err()
	}
	n := maxBytes / c.size
	if n == 0 && minOne {
		n = 1
	}
	return replica.ColdBatches{Bytes: make([]byte, n*c.size), Next: from + protocol.Offset(n)}, nil
}

// tiered makes the hot tier of all partitions begin above offset 0.
func tiered(t *testing.T, w *world, partitions int) []*replica.Leader {
	t.Helper()
	leaders := w.topic("cold", int32(partitions))
	for _, l := range leaders {
		fill(t, l, 2, 100)
		if err := l.Log().Roll(); err != nil {
			t.Fatal(err)
		}
		fill(t, l, 2, 100)
		if err := l.Log().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, _, err := l.Log().Evict(2, 0, 0, time.Now()); err != nil || n != 1 {
			t.Fatalf("%d segments evicted: %v", n, err)
		}
	}
	return leaders
}

func TestHotAndColdPartitionsShareTheLimit(t *testing.T) {
	w := newWorld(t)
	w.cold = coldTier{size: 1000}
	leaders := tiered(t, w, 4)
	parts := []replica.FetchPartition{part(leaders[0], 2, 1<<20), part(leaders[1], 0, 1500), part(leaders[2], 0, 1<<20), part(leaders[3], 0, 1<<20)}
	_, sizes := fetch(w, parts, replica.FetchOptions{MinBytes: 1, MaxBytes: 6000, MaxWait: time.Hour, ColdWait: time.Minute})
	sum := 0
	for _, n := range sizes {
		sum += n
	}
	if sum > 6000 || sizes[0] == 0 || sizes[1] != 1000 || sizes[2] == 0 {
		t.Errorf("sizes %v", sizes)
	}
}

func TestSharesAreDealtInTheOrderAskedForWhicheverTier(t *testing.T) {
	w := newWorld(t)
	w.cold = coldTier{size: 50}
	leaders := tiered(t, w, 2)
	_, sizes := fetch(w, []replica.FetchPartition{part(leaders[0], 0, 1<<20), part(leaders[1], 2, 1<<20)},
		replica.FetchOptions{MinBytes: 1, MaxBytes: 60, MaxWait: time.Hour, ColdWait: time.Minute})
	if sizes[0] != 50 || sizes[1] != 0 {
		t.Errorf("sizes %v: the cold partition was asked for first", sizes)
	}
}

func TestHotPartitionsGetWhatAnOutageOfTheBucketLeaves(t *testing.T) {
	w := newWorld(t)
	w.cold = coldTier{size: 10, wait: time.Hour}
	leaders := tiered(t, w, 2)
	r, sizes := fetch(w, []replica.FetchPartition{part(leaders[0], 0, 1<<20), part(leaders[1], 2, 1<<20)},
		replica.FetchOptions{MinBytes: 1, MaxBytes: 1000, MaxWait: time.Hour, ColdWait: time.Millisecond})
	if sizes[0] != 0 || sizes[1] == 0 || r[0].Err != nil {
		t.Errorf("sizes %v", sizes)
	}
}

func TestAnOversizedColdBatchIsSentAlone(t *testing.T) {
	w := newWorld(t)
	w.cold = coldTier{size: 10000}
	leaders := tiered(t, w, 2)
	_, sizes := fetch(w, []replica.FetchPartition{part(leaders[0], 0, 500), part(leaders[1], 0, 500)},
		replica.FetchOptions{MinBytes: 1, MaxBytes: 700, MaxWait: time.Hour, ColdWait: time.Minute})
	if sizes[0] != 10000 || sizes[1] != 0 {
		t.Errorf("sizes %v", sizes)
	}
}

func TestASlowBucketEndsTheFetchWithoutAnError(t *testing.T) {
	w := newWorld(t)
	w.cold = coldTier{size: 10, wait: time.Hour}
	leaders := tiered(t, w, 1)
	r, sizes := fetch(w, []replica.FetchPartition{part(leaders[0], 0, 500)},
		replica.FetchOptions{MinBytes: 1, MaxBytes: 700, MaxWait: time.Hour, ColdWait: time.Millisecond})
	if sizes[0] != 0 || r[0].Err != nil {
		t.Errorf("%+v", r[0])
	}
}

func TestEpochsOfClientsAreChecked(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	if err := l.CheckEpoch(protocol.NoEpoch); err != nil {
		t.Error(err)
	}
	if err := l.CheckEpoch(l.Epoch() + 1); !errors.Is(err, kerr.UnknownLeaderEpoch) {
		t.Error(err)
	}
	before := l.Epoch()
	w.raiseEpochs()
	if l.Epoch() <= before {
		t.Fatalf("an unclean start left epoch %d", l.Epoch())
	}
	if err := l.CheckEpoch(before); !errors.Is(err, kerr.FencedLeaderEpoch) {
		t.Error(err)
	}
}

// oneIsStuck is a cold tier that gives nothing of one partition.
type oneIsStuck struct {
	coldTier
	stuck int32
}

func (c oneIsStuck) Read(ctx context.Context, key protocol.PartitionKey, from protocol.Offset, maxBytes int, minOne bool) (replica.ColdBatches, error) {
	if key.Partition == c.stuck {
		<-ctx.Done()
		return replica.ColdBatches{}, ctx.Err()
	}
	return c.coldTier.Read(ctx, key, from, maxBytes, minOne)
}

func TestAPartitionThatIsSlowInTheBucketHoldsUpNoOther(t *testing.T) {
	for _, tc := range []struct {
		minBytes int
		from     protocol.Offset // of partition 1
		waits    bool            // for ColdWait
	}{
		{1, 0, false}, {1000, 0, false}, {1001, 0, true}, // partition 1 has 1000 bytes in the bucket
		{1, 2, false}, // and some in the hot tier
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.cold = oneIsStuck{coldTier{size: 10}, 0}
			leaders := tiered(t, w, 2)
			begun := time.Now()
			r, sizes := fetch(w, []replica.FetchPartition{part(leaders[0], 0, 1000), part(leaders[1], tc.from, 1000)},
				replica.FetchOptions{MinBytes: tc.minBytes, MaxBytes: 10_000, MaxWait: time.Hour, ColdWait: time.Minute})
			took := time.Since(begun)
			if sizes[0] != 0 || sizes[1] == 0 || r[0].Err != nil || r[1].Err != nil || tc.waits != (took == time.Minute) || !tc.waits && took > time.Second {
				t.Errorf("%+v: sizes %v after %v", tc, sizes, took)
			}
		})
	}
}

func TestAPartitionThatWasSlowInTheBucketIsFirstInTheNextFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cold = oneIsStuck{coldTier{size: 10}, 0}
		leaders := tiered(t, w, 2)
		s := newSession(t, w, part(leaders[0], 4, enough), part(leaders[1], 4, enough))
		cold := replica.FetchOptions{MinBytes: 1, MaxBytes: 1000, MaxWait: time.Hour, ColdWait: time.Minute}
		put := []replica.FetchPartition{part(leaders[1], 0, 100), part(leaders[0], 0, 1000)}
		only(t, s.hear(s.ask(replica.FetchRequest{FetchOptions: cold, Put: put})), leaders[1])
		// It has its whole share again; the other one has what is left, nothing.
		only(t, s.hear(s.ask(replica.FetchRequest{FetchOptions: cold})))
	})
}
