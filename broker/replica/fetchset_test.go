package replica_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// enough is more than all that a test writes.
const enough = 1 << 20

// session is a client with a fetch session, which knows what it was told.
type session struct {
	set  *replica.FetchSet
	told map[replica.FetchKey]replica.FetchResult // last of each partition, records released
}

// newSession begins a session of partitions.
func newSession(tb testing.TB, w *world, parts ...replica.FetchPartition) *session {
	tb.Helper()
	s := &session{set: w.set(), told: map[replica.FetchKey]replica.FetchResult{}}
	tb.Cleanup(s.set.Close)
	s.hear(s.ask(replica.FetchRequest{FetchOptions: replica.FetchOptions{MaxBytes: enough}, Put: parts, Full: true}))
	s.set.Keep()
	return s
}

// ask begins a fetch.
func (s *session) ask(q replica.FetchRequest) <-chan []replica.FetchResult {
	got := make(chan []replica.FetchResult, 1)
	q.Reply = func(r []replica.FetchResult) { got <- r }
	s.set.Fetch(q)
	return got
}

// hear takes an answer and gives the bytes of each partition in it.
func (s *session) hear(got <-chan []replica.FetchResult) map[replica.FetchKey]int {
	sizes := map[replica.FetchKey]int{}
	for _, r := range <-got {
		sizes[r.Key] = 0
		if r.Records != nil {
			sizes[r.Key] = r.Records.Len()
			r.Records.Release()
		}
		s.told[r.Key] = r
	}
	return sizes
}

// poll asks without waiting.
func (s *session) poll(put ...replica.FetchPartition) map[replica.FetchKey]int {
	return s.hear(s.ask(replica.FetchRequest{FetchOptions: replica.FetchOptions{MaxBytes: enough}, Put: put}))
}

// wait asks for what comes.
func (s *session) wait(put ...replica.FetchPartition) <-chan []replica.FetchResult {
	return s.ask(replica.FetchRequest{FetchOptions: replica.FetchOptions{MinBytes: 1, MaxBytes: enough, MaxWait: time.Hour}, Put: put})
}

func starts(leaders []*replica.Leader) []replica.FetchPartition {
	var out []replica.FetchPartition
	for _, l := range leaders {
		out = append(out, part(l, 0, enough))
	}
	return out
}

func only(t *testing.T, got map[replica.FetchKey]int, want ...*replica.Leader) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("told of %v, want %d partitions", got, len(want))
	}
	for _, l := range want {
		if _, ok := got[keyOf(l)]; !ok {
			t.Fatalf("told of %v, not of partition %d", got, l.Key().Partition)
		}
	}
}

func waits(t *testing.T, got <-chan []replica.FetchResult) {
	t.Helper()
	select {
	case r := <-got:
		t.Fatalf("answered with %d partitions", len(r))
	default:
	}
}

func moveStart(w *world, l *replica.Leader, to protocol.Offset) {
	w.t.Helper()
	key := l.Key()
	w.do(&metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: &metadatapb.AdvanceLogStarts{Rows: []*metadatapb.LogStart{{
		TopicId: key.Topic[:], Partition: key.Partition, Offset: int64(to), LeaderEpoch: int32(l.Epoch()),
	}}}})
}

func TestASessionIsToldWhatChanged(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 3)
	fill(t, leaders[0], 1, 10)
	s := newSession(t, w, starts(leaders)...)
	if len(s.told) != 3 {
		t.Fatalf("the first answer has %d partitions", len(s.told))
	}
	only(t, s.poll(), leaders[0]) // its record was not taken yet
	only(t, s.poll(part(leaders[0], 1, enough)))
	only(t, s.poll())
	fill(t, leaders[1], 1, 10)
	only(t, s.poll(), leaders[1])
	only(t, s.poll(part(leaders[1], 1, enough)))
	fill(t, leaders[1], 3, 10)
	only(t, s.poll(part(leaders[1], 4, enough)), leaders[1]) // no records, but another high watermark
	moveStart(w, leaders[1], 2)
	only(t, s.poll(), leaders[1])
	if r := s.told[keyOf(leaders[1])]; r.LogStart != 2 || r.HighWatermark != 4 {
		t.Errorf("%+v", r)
	}
	only(t, s.poll())
}

func TestAPartitionThatWasForgottenIsTriedNoMore(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 2)
	s := newSession(t, w, starts(leaders)...)
	s.hear(s.ask(replica.FetchRequest{Put: []replica.FetchPartition{part(leaders[0], 0, 1)}, Forget: []replica.FetchKey{keyOf(leaders[0])}}))
	if s.set.Len() != 1 || leaders[0].Readers() != 0 || leaders[1].Readers() != 1 {
		t.Errorf("%d partitions, %d and %d readers", s.set.Len(), leaders[0].Readers(), leaders[1].Readers())
	}
	fill(t, leaders[0], 1, 10)
	only(t, s.poll())
	only(t, s.poll(part(leaders[0], 0, enough)), leaders[0])
}

func TestAPartitionOfASessionThatWasNamedTwiceIsInItOnce(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 2)
	fill(t, leaders[0], 2, 10)
	s := newSession(t, w, part(leaders[0], 0, enough), part(leaders[1], 0, enough), part(leaders[0], 2, enough))
	if s.set.Len() != 2 || leaders[0].Readers() != 1 {
		t.Errorf("%d partitions, %d readers", s.set.Len(), leaders[0].Readers())
	}
	only(t, s.poll()) // the last one counts, which is at the end
	fill(t, leaders[0], 1, 10)
	only(t, s.poll(), leaders[0])
}

func TestASessionWaitsForAnyOfItsPartitions(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 100)
	s := newSession(t, w, starts(leaders)...)
	next := make([]protocol.Offset, len(leaders))
	var put []replica.FetchPartition
	for range 200 {
		i := rand.IntN(len(leaders))
		got := s.wait(put...)
		waits(t, got)
		fill(t, leaders[i], 1, 10)
		only(t, s.hear(got), leaders[i])
		next[i]++
		put = []replica.FetchPartition{part(leaders[i], next[i], enough)}
	}
}

func TestASessionWaitsForItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		leaders := w.topic("t", 2)
		s := newSession(t, w, starts(leaders)...)
		began := time.Now()
		only(t, s.hear(s.ask(replica.FetchRequest{FetchOptions: replica.FetchOptions{MinBytes: 1, MaxBytes: enough, MaxWait: time.Minute}})))
		if got := time.Since(began); got != time.Minute {
			t.Errorf("it waited %s", got)
		}
		got := s.wait()
		synctest.Wait()
		waits(t, got)
		fill(t, leaders[0], 1, 10)
		only(t, s.hear(got), leaders[0])
	})
}

func TestMinBytesOfASessionGatherOverManyAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		leaders := w.topic("t", 3)
		s := newSession(t, w, starts(leaders)...)
		got := s.ask(replica.FetchRequest{FetchOptions: replica.FetchOptions{MinBytes: 2500, MaxBytes: enough, MaxWait: time.Hour}})
		for range 2 {
			for _, l := range leaders[:2] {
				synctest.Wait()
				waits(t, got)
				fill(t, l, 1, 550)
			}
		}
		only(t, s.hear(got), leaders[:2]...)
	})
}

func TestTheNextFetchOfASessionEndsTheWaitOfTheLast(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 2)
	s := newSession(t, w, starts(leaders)...)
	first := s.wait()
	second := s.wait()
	only(t, s.hear(first))
	waits(t, second)
	fill(t, leaders[1], 1, 10)
	only(t, s.hear(second), leaders[1])
}

func TestTheNextFetchOfASessionFollowsAReadOfTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cold = coldTier{size: 10, wait: time.Hour}
		leaders := tiered(t, w, 2)
		s := newSession(t, w, part(leaders[0], 4, enough), part(leaders[1], 4, enough))
		cold := replica.FetchOptions{MinBytes: 1, MaxBytes: enough, MaxWait: time.Hour, ColdWait: time.Minute}
		first := s.ask(replica.FetchRequest{FetchOptions: cold, Put: []replica.FetchPartition{part(leaders[0], 0, 100)}})
		second := s.ask(replica.FetchRequest{FetchOptions: cold, Put: []replica.FetchPartition{part(leaders[0], 2, enough)}})
		third := s.ask(replica.FetchRequest{FetchOptions: cold, Put: []replica.FetchPartition{part(leaders[0], 4, enough)}})
		synctest.Wait()
		waits(t, first)
		waits(t, second)
		only(t, s.hear(first)) // the bucket did not answer
		only(t, s.hear(second), leaders[0])
		synctest.Wait()
		waits(t, third)
		fill(t, leaders[1], 1, 10)
		only(t, s.hear(third), leaders[1])
	})
}

func TestAColdPartitionOfASessionIsReadUntilTheHotTier(t *testing.T) {
	w := newWorld(t)
	w.cold = coldTier{size: 10}
	leaders := tiered(t, w, 2)
	s := newSession(t, w, part(leaders[0], 0, 10), part(leaders[1], 4, enough))
	for range 3 {
		if got := s.poll(); len(got) != 1 || got[keyOf(leaders[0])] != 10 {
			t.Fatalf("%v", got)
		}
	}
	only(t, s.poll(part(leaders[0], 2, enough)), leaders[0])
	only(t, s.poll(part(leaders[0], 4, enough)))
}

func TestAClosedSessionAnswersAndLeavesNothing(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 50)
	s := newSession(t, w, starts(leaders)...)
	other := newSession(t, w, starts(leaders)...)
	got := s.wait()
	s.set.Close()
	only(t, s.hear(got))
	for _, l := range leaders {
		if n := l.Readers(); n != 1 {
			t.Errorf("partition %d has %d readers", l.Key().Partition, n)
		}
	}
	only(t, s.hear(s.wait())) // what was on its way does not wait
	other.set.Close()
	for _, l := range leaders {
		if n := l.Readers(); n != 0 {
			t.Errorf("partition %d has %d readers", l.Key().Partition, n)
		}
	}
}

func TestAFetchWithoutASessionLeavesNothing(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 5)
	fetch(w, starts(leaders), replica.FetchOptions{MinBytes: 1, MaxBytes: enough, MaxWait: time.Millisecond})
	for _, l := range leaders {
		if n := l.Readers(); n != 0 {
			t.Errorf("partition %d has %d readers", l.Key().Partition, n)
		}
	}
}

func TestASessionFollowsATopicThatIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	byName := replica.FetchPartition{Key: replica.FetchKey{Name: "t"}, MaxBytes: enough, CurrentEpoch: protocol.NoEpoch, LastFetchedEpoch: protocol.NoEpoch}
	s := &session{told: map[replica.FetchKey]replica.FetchResult{}, set: w.m.NewFetchSet(w.cold, func(k replica.FetchKey) (*replica.Leader, error) {
		w.mu.Lock()
		topic, ok := w.img.Topic(k.Name)
		w.mu.Unlock()
		if !ok {
			return nil, protocol.Errorf(kerr.UnknownTopicOrPartition, "no topic %q", k.Name)
		}
		return w.m.Get(protocol.PartitionKey{Topic: topic.ID, Partition: k.Partition})
	})}
	defer s.set.Close()
	s.hear(s.ask(replica.FetchRequest{Put: []replica.FetchPartition{byName}, Full: true}))
	s.set.Keep()
	got := s.wait()
	key := l.Key()
	w.do(&metadatapb.Command_DeleteTopic{DeleteTopic: &metadatapb.DeleteTopic{Id: key.Topic[:]}})
	for range 3 {
		s.hear(got)
		if err := s.told[byName.Key].Err; !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Fatalf("a topic that is gone: %v", err)
		}
		got = s.wait()
	}
	s.hear(got)
	anew := w.topic("t", 1)[0]
	if len(s.poll()) != 1 || s.told[byName.Key].Err != nil {
		t.Errorf("the end of an error is not told: %+v", s.told)
	}
	got = s.wait()
	waits(t, got)
	fill(t, anew, 1, 10)
	if sizes := s.hear(got); sizes[byName.Key] == 0 {
		t.Errorf("%v", sizes)
	}
}

func TestALaterLeaderEpochEndsTheWaitOfASession(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 2)
	p := part(leaders[0], 0, enough)
	p.CurrentEpoch = leaders[0].Epoch()
	s := newSession(t, w, p, part(leaders[1], 0, enough))
	got := s.wait()
	waits(t, got)
	w.raiseEpochs()
	only(t, s.hear(got), leaders[0])
	if err := s.told[p.Key].Err; !errors.Is(err, kerr.FencedLeaderEpoch) {
		t.Errorf("%v", err)
	}
	only(t, s.poll(), leaders[0])
	p.CurrentEpoch = leaders[0].Epoch()
	s.poll(p)
	if err := s.told[p.Key].Err; err != nil {
		t.Errorf("%v", err)
	}
	only(t, s.poll())
}

func TestNoPartitionOfASessionStarves(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 5)
	for _, l := range leaders {
		fill(t, l, 1, 1000)
	}
	s := newSession(t, w, starts(leaders)...)
	sent := map[replica.FetchKey]int{}
	for range 50 { // the client goes on with none
		got := s.hear(s.ask(replica.FetchRequest{FetchOptions: replica.FetchOptions{MaxBytes: 2500}}))
		for k, n := range got {
			sent[k] += n / 1000
		}
	}
	for k, n := range sent {
		if n != 20 {
			t.Errorf("partition %d was sent %d times, want 20", k.Partition, n)
		}
	}
}

// A client that polls whenever it likes knows in the end what there is, whatever
// happens between the polls and during them.
func TestASessionKnowsWhatThereIsAfterAnyHistory(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 5))
		w := newWorld(t)
		leaders := w.topic("t", 8)
		s := newSession(t, w, starts(leaders)...)
		asked, next := map[int]bool{}, map[int]protocol.Offset{}
		for i := range leaders {
			asked[i] = true
		}
		for range 150 {
			i := rng.IntN(len(leaders))
			l := leaders[i]
			switch rng.IntN(6) {
			case 0, 1:
				fill(t, l, 1, 10)
			case 2:
				moveStart(w, l, l.LogStart()+protocol.Offset(rng.Int64N(int64(l.HighWatermark()-l.LogStart())+1)))
			case 3:
				asked[i] = false
				s.hear(s.ask(replica.FetchRequest{FetchOptions: replica.FetchOptions{MaxBytes: 100}, Forget: []replica.FetchKey{keyOf(l)}}))
			case 4:
				asked[i] = true
				next[i] = l.LogStart() + protocol.Offset(rng.Int64N(int64(l.HighWatermark()-l.LogStart())+1))
				s.hear(s.ask(replica.FetchRequest{FetchOptions: replica.FetchOptions{MaxBytes: 100}, Put: []replica.FetchPartition{part(l, next[i], 100)}}))
			case 5:
				s.hear(s.ask(replica.FetchRequest{FetchOptions: replica.FetchOptions{MaxBytes: 100}}))
			}
		}
		sizes := s.poll()
		for i, l := range leaders {
			if !asked[i] {
				continue
			}
			r := s.told[keyOf(l)]
			behind := next[i] < l.LogStart()
			if (r.Err != nil) != behind || r.HighWatermark != l.HighWatermark() || r.LogStart != l.LogStart() {
				t.Errorf("seed %d, partition %d from %d: %+v, HW %d, start %d", seed, i, next[i], r, l.HighWatermark(), l.LogStart())
			}
			if more := next[i] < l.HighWatermark() && !behind; more != (sizes[keyOf(l)] > 0) {
				t.Errorf("seed %d, partition %d: %d bytes sent, there is more: %t", seed, i, sizes[keyOf(l)], more)
			}
		}
	}
}

func TestAnAppendBeforeASessionIsKeptIsToldOf(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 2)
	s := &session{set: w.set(), told: map[replica.FetchKey]replica.FetchResult{}}
	defer s.set.Close()
	s.hear(s.ask(replica.FetchRequest{Put: starts(leaders), Full: true}))
	fill(t, leaders[1], 1, 10)
	s.set.Keep()
	only(t, s.poll(), leaders[1])
}

func TestAnAppendDuringALookIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 2)
	s := &session{told: map[replica.FetchKey]replica.FetchResult{}}
	s.set = w.m.NewFetchSet(w.cold, func(k replica.FetchKey) (*replica.Leader, error) {
		if k.Partition == 1 {
			fill(t, leaders[0], 1, 10) // which was looked at and is registered
		}
		return leaders[k.Partition], nil
	})
	defer s.set.Close()
	s.hear(s.ask(replica.FetchRequest{Put: starts(leaders[:1]), Full: true}))
	s.set.Keep()
	only(t, s.hear(s.wait(part(leaders[1], 0, enough))), leaders[0], leaders[1])
}

func TestAnAppendBetweenTheFirstLookAndItsWaitIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	leaders := w.topic("t", 2)
	set := w.m.NewFetchSet(w.cold, func(k replica.FetchKey) (*replica.Leader, error) {
		if k.Partition == 1 {
			fill(t, leaders[0], 1, 10) // which was looked at and is not registered yet
		}
		return leaders[k.Partition], nil
	})
	s := &session{set: set, told: map[replica.FetchKey]replica.FetchResult{}}
	defer s.set.Close()
	q := replica.FetchOptions{MinBytes: 1, MaxBytes: enough, MaxWait: time.Hour}
	only(t, s.hear(s.ask(replica.FetchRequest{FetchOptions: q, Put: starts(leaders), Full: true})), leaders...)
}

// Appends that come between a look and its wait are lost by no one: every record
// reaches every session, none of which is ever woken by time.
func TestNoAppendIsMissed(t *testing.T) {
	const partitions, records, sessions = 4, 200, 3
	w := newWorld(t)
	leaders := w.topic("t", partitions)
	gone := w.topic("gone", 2)
	var all sync.WaitGroup
	for n := range sessions {
		s := newSession(t, w, append(starts(leaders), starts(gone)...)...)
		all.Go(func() {
			left := partitions * records
			next := map[replica.FetchKey]protocol.Offset{}
			var put []replica.FetchPartition
			for left > 0 {
				q := replica.FetchOptions{MinBytes: 1, MaxBytes: 300 * (n + 1), MaxWait: time.Hour}
				got := <-s.ask(replica.FetchRequest{FetchOptions: q, Put: put})
				put = nil
				for _, r := range got {
					if r.Records == nil {
						continue
					}
					sent := r.Records.(interface{ Next() protocol.Offset }).Next()
					r.Records.Release()
					left -= int(sent - next[r.Key])
					next[r.Key] = sent
					put = append(put, replica.FetchPartition{Key: r.Key, From: sent, MaxBytes: enough, CurrentEpoch: -1, LastFetchedEpoch: -1})
				}
			}
		})
	}
	for _, l := range leaders {
		all.Go(func() {
			for range records {
				if _, err := produce(t, l, batch(1, 10)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 30 {
			s := newSession(t, w, starts(leaders)...)
			got := s.wait()
			s.set.Close()
			s.hear(got)
		}
		key := gone[0].Key()
		w.do(&metadatapb.Command_DeleteTopic{DeleteTopic: &metadatapb.DeleteTopic{Id: key.Topic[:]}})
	})
	all.Wait()
}
