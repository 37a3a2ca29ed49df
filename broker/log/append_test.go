package log_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// TestJitterSealsEachSegmentEarlierByItsOwnShare shows that segments begun together are not
// sealed together, none after segment.ms, and that the share outlives a restart.
func TestJitterSealsEachSegmentEarlierByItsOwnShare(t *testing.T) {
	cfg := log.Config{SegmentAge: time.Hour, SegmentJitter: 30 * time.Minute}
	ages := map[time.Duration]bool{}
	for range 2 {
		p := start(t, vfs.NewMem()).open(cfg)
		var of []time.Duration
		for range 8 {
			p.add(0, "a")
			p.flush()
			begun := p.w.clock.Load()
			for !must(p.MaybeRoll(p.w.now()))(t) {
				p.w.clock.Add(10_000)
			}
			of = append(of, time.Duration(p.w.clock.Load()-begun)*time.Millisecond)
		}
		for _, age := range of {
			if age <= 30*time.Minute-10*time.Second || age > time.Hour {
				t.Errorf("sealed after %s", age)
			}
			ages[age] = true
		}
	}
	if len(ages) < 5 || len(ages) > 8 {
		t.Errorf("%d different ages of 8 segments of one partition, opened twice: %v", len(ages), ages)
	}
}

func TestRolling(t *testing.T) {
	ms := func(d time.Duration) protocol.Timestamp { return protocol.Timestamp(d.Milliseconds()) }
	kb := strings.Repeat("x", 1000)
	for _, c := range []struct {
		name string
		cfg  log.Config
		do   func(p *part)
		want int
	}{
		{"size", log.Config{SegmentBytes: 2500}, func(p *part) { p.add(1, kb); p.add(1, kb); p.add(1, kb) }, 2},
		{"one batch larger than a segment", log.Config{SegmentBytes: 500}, func(p *part) { p.add(1, kb) }, 1},
		{"record time, Kafka's rule", log.Config{SegmentAge: time.Hour}, func(p *part) { p.add(0, "a"); p.add(ms(2*time.Hour), "b") }, 2},
		{
			"record time not before the least size",
			log.Config{SegmentAge: time.Hour, SegmentMinBytes: 1000},
			func(p *part) { p.add(0, "a"); p.add(ms(2*time.Hour), "b") }, 1,
		},
		{
			"record time once the least size is there",
			log.Config{SegmentAge: time.Hour, SegmentMinBytes: 1000},
			func(p *part) { p.add(0, kb); p.add(ms(2*time.Hour), "b") }, 2,
		},
		{
			"wall clock whatever the size",
			log.Config{SegmentAge: time.Hour, SegmentMinBytes: 1000},
			func(p *part) { p.add(0, "a"); p.w.clock.Add(3_600_000); p.add(0, "b") }, 2,
		},
		{"wall clock without an append", log.Config{SegmentAge: time.Hour, SegmentMinBytes: 1000}, func(p *part) {
			p.add(0, "a")
			p.flush()
			p.w.clock.Add(3_599_999)
			must(p.MaybeRoll(p.w.now()))(t)
			p.w.clock.Add(1)
			if !must(p.MaybeRoll(p.w.now()))(t) || must(p.MaybeRoll(p.w.now().Add(time.Hour)))(t) {
				t.Error("the sweep must roll once, and never an empty segment")
			}
		}, 2},
		{"index full", log.Config{IndexMaxBytes: 24, IndexIntervalBytes: 1}, func(p *part) {
			for range 4 {
				p.add(1, "a")
			}
		}, 2},
		{"asked for", log.Config{}, func(p *part) { check(t, p.Roll()); p.add(1, "a"); check(t, p.Roll()); check(t, p.Roll()) }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := start(t, vfs.NewMem())
			p := w.open(c.cfg)
			p.add(0) // the first segment is there and committed
			check(t, p.Truncate(0))
			p.flush()
			c.do(p)
			if p.Segments() != c.want {
				t.Errorf("%d segments, want %d", p.Segments(), c.want)
			}
		})
	}
}

func TestRelativeOffsetsNeverOverflow(t *testing.T) {
	w := start(t, vfs.NewMem())
	p := w.open(log.Config{})
	p.add(1, "a")
	p.flush()
	far := func(o protocol.Offset) []byte {
		b := record.NewBuilder(o)
		b.LeaderEpoch = 1
		b.Add(record.Record{Value: []byte("far")})
		return b.Bytes()
	}
	follower := log.AppendOptions{Follower: true}
	must(p.Append(far(1<<31-1), 1, follower))(t)
	if p.Segments() != 1 {
		t.Fatalf("%d segments before the limit", p.Segments())
	}
	must(p.Append(far(1<<31), 1, follower))(t)
	if p.Segments() != 2 || p.LEO() != 1<<31+1 {
		t.Fatalf("%d segments, log end %d", p.Segments(), p.LEO())
	}
	_, err := p.Append(far(1<<33), 1, follower)
	wantErr(t, err, record.ErrInvalid)
	want := []entry{{0, "a"}, {1<<31 - 1, "far"}, {1 << 31, "far"}}
	if got := p.readAll(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("read %v", got)
	}
	check(t, w.dir.Close(true))
	if got := start(t, w.fs).open(log.Config{}).readAll(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("read %v after the restart", got)
	}
}

func TestBatchesArePatchedInPlace(t *testing.T) {
	w := start(t, vfs.NewMem())
	p := w.open(small)
	p.add(1, "a", "b")
	b := plain(5, "c")
	info := must(p.Append(b, 3, log.AppendOptions{LogAppendTime: true, Now: 77}))(t)
	if b.BaseOffset() != 2 || b.LeaderEpoch() != 3 || b.MaxTimestamp() != 77 || b.Check() != nil || info.AppendTime != 77 {
		t.Fatalf("batch at %d of epoch %d, time %d; %+v", b.BaseOffset(), b.LeaderEpoch(), b.MaxTimestamp(), info)
	}
	if info := must(p.Append(plain(9, "d"), 3, log.AppendOptions{Client: true}))(t); info.AppendTime != protocol.NoTimestamp || info.First != 3 || info.Next != 4 {
		t.Fatalf("%+v", info)
	}
	_, err := p.Append(plain(1, "old leader"), 0, log.AppendOptions{})
	wantErr(t, err, record.ErrInvalid)
	_, err = p.Append(nil, 3, log.AppendOptions{})
	wantErr(t, err, record.ErrInvalid)
	_, err = p.Append(plain(1, "x")[:65], 3, log.AppendOptions{})
	wantErr(t, err, record.ErrShort)
	if p.LEO() != 4 {
		t.Fatalf("log end %d", p.LEO())
	}
}

func TestAFollowerKeepsOffsetsAndEpochs(t *testing.T) {
	leader := start(t, vfs.NewMem()).open(small)
	for i := range 50 {
		must(leader.Append(plain(1, fmt.Sprint(i), strings.Repeat("x", 100)), protocol.Epoch(i/20), log.AppendOptions{}))(t)
	}
	follower := start(t, vfs.NewMem()).open(small)
	for follower.LEO() < leader.LEO() {
		s := must(leader.Read(follower.LEO(), leader.LEO(), 700, true))(t)
		must(follower.Append(must(s.Bytes())(t), 0, log.AppendOptions{Follower: true}))(t)
		s.Release()
	}
	if fmt.Sprint(follower.readAll()) != fmt.Sprint(leader.readAll()) || fmt.Sprint(follower.Epochs()) != fmt.Sprint(leader.Epochs()) {
		t.Fatalf("follower differs: epochs %v, %v", follower.Epochs(), leader.Epochs())
	}
	b := plain(1, "again")
	_, err := follower.Append(b, 0, log.AppendOptions{Follower: true})
	wantErr(t, err, record.ErrInvalid)
}

func TestADuplicateGivesTheFirstAnswer(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	p.add(1, "other")
	client := log.AppendOptions{Client: true, Now: 9, LogAppendTime: true}
	first := must(p.Append(idempotent(4, 0, 0, "a", "b"), 1, client))(t)
	again := must(p.Append(idempotent(4, 0, 0, "a", "b"), 1, client))(t)
	if !again.Duplicate || again.First != first.First || again.Next != first.Next || again.AppendTime != 9 || p.LEO() != 3 {
		t.Fatalf("%+v after %+v", again, first)
	}
	_, err := p.Append(idempotent(4, 0, 5, "gap"), 1, client)
	wantErr(t, err, producer.ErrOutOfOrderSequence)
	_, err = p.Append(append(idempotent(4, 0, 2, "c"), idempotent(4, 0, 3, "d")...), 1, client)
	wantErr(t, err, record.ErrInvalid)
	must(p.Append(idempotent(4, 1, 0, "new life"), 1, client))(t)
	_, err = p.Append(idempotent(4, 0, 2, "zombie"), 1, client)
	wantErr(t, err, producer.ErrInvalidProducerEpoch)
}

func TestAFailedWriteIsTakenBack(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	p.add(1, "a")
	p.flush()
	fsys.SetSpace(4096 * 12)
	big := strings.Repeat("x", 60_000)
	_, err := p.Append(plain(1, big), 1, log.AppendOptions{})
	wantErr(t, err, vfs.ErrNoSpace)
	fsys.SetSpace(-1)
	p.add(1, "b")
	p.flush()
	if got := p.readAll(); fmt.Sprint(got) != fmt.Sprint([]entry{{0, "a"}, {1, "b"}}) {
		t.Fatalf("read %v", got)
	}
	q := start(t, fsys.Kill()).open(small)
	if q.LEO() != 2 || q.recovery.Torn {
		t.Fatalf("log end %d, recovery %+v", q.LEO(), q.recovery)
	}
}

func TestAWriteThatCannotBeTakenBackEndsTheLog(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	p.add(1, "a")
	p.flush()
	broken := errors.New("I/O error")
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpWrite || o.Kind == vfs.OpTruncate || o.Kind == vfs.OpSize {
			return broken
		}
		return nil
	})
	_, err := p.Append(plain(1, "b"), 1, log.AppendOptions{})
	wantErr(t, err, broken)
	fsys.Fail(nil)
	_, err = p.Append(plain(1, "b"), 1, log.AppendOptions{})
	wantErr(t, err, log.ErrOffline)
	if got := p.readAll(); len(got) != 1 {
		t.Fatalf("read %v", got)
	}
}

func TestBelowTheReserveOnlyClientsAreRefused(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys, func(c *log.DirConfig) { c.DiskReserve = 1 << 20 })
	p := w.open(small)
	p.add(1, "a")
	fsys.SetSpace(1 << 20)
	w.clock.Add(50)
	p.add(1, "b") // the last answer is still believed
	w.clock.Add(50)
	_, err := p.Append(plain(1, "c"), 1, log.AppendOptions{Client: true})
	wantErr(t, err, log.ErrDiskReserve)
	must(p.Append(plain(1, "c"), 1, log.AppendOptions{Coordinator: true}))(t)
	fsys.SetSpace(2 << 20)
	w.clock.Add(100)
	p.add(1, "d")
}

func TestInReplicatedModeDurableFollowsTheLogEnd(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys, replicated)
	p := w.open(log.Config{SegmentBytes: 1000, FlushMessages: 100, FlushInterval: time.Minute})
	p.add(1, "a")
	if p.Durable() != 1 || p.reported.Load() != 1 {
		t.Fatalf("durable %d, reported %d", p.Durable(), p.reported.Load())
	}
	p.flush()
	syncs := fsys.Counts()[vfs.OpSync]
	p.add(1, "b")
	if p.RecoveryPoint() != 1 || fsys.Counts()[vfs.OpSync] != syncs {
		t.Fatalf("recovery point %d after an append", p.RecoveryPoint())
	}
	w.clock.Add(60_000)
	must(p.MaybeRoll(w.now()))(t) // flush.ms
	p.flush()
	if p.RecoveryPoint() != 2 {
		t.Fatalf("recovery point %d", p.RecoveryPoint())
	}
	for p.Segments() < 2 {
		p.add(1, strings.Repeat("x", 400))
	}
	p.waitFor("a seal", func() bool { return p.seals.Load() > 0 }) // a seal is synced all the same
	if got := must(p.Sealed(0, p.LEO()))(t); len(got) != 1 {
		t.Fatalf("sealed %v", got)
	}
}
