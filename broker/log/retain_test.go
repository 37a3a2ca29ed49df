package log_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// sixSegments has five sealed segments of one batch each and an active one, at
// offsets 0 to 5, a day apart, ending now.
func sixSegments(t *testing.T, w *world) *part {
	t.Helper()
	p := w.open(log.Config{})
	for i := range 6 {
		ts := day0.Add(time.Duration(i-5) * 24 * time.Hour)
		must(p.Append(plain(protocol.Timestamp(ts.UnixMilli()), strings.Repeat("x", 1000)), protocol.Epoch(i), log.AppendOptions{Now: w.ms()}))(t)
		if i < 5 {
			check(t, p.Roll())
		}
	}
	p.flush()
	return p
}

func TestRetentionStart(t *testing.T) {
	w := start(t, vfs.NewMem())
	p := sixSegments(t, w)
	one := p.Size() / 6
	days := func(n float64) time.Duration { return time.Duration(n * 24 * float64(time.Hour)) }
	for _, c := range []struct {
		age   time.Duration
		bytes int64
		below protocol.Offset
		want  protocol.Offset
	}{
		{-1, -1, 6, 0},
		{days(10), -1, 6, 0},
		{days(2.5), -1, 6, 3},
		{days(2.5), -1, 2, 2},
		{days(0.5), -1, 6, 5},
		{-1, 6 * one, 6, 0},
		{-1, 4*one + 1, 6, 1},
		{-1, 4 * one, 6, 2},
		{-1, 0, 6, 6},
		{-1, 0, 3, 3},
		{days(3.5), 2 * one, 6, 4},
	} {
		got, err := p.RetentionStart(w.now(), c.age, c.bytes, c.below)
		check(t, err)
		if got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	future := w.open2(t, 1)
	future.add(protocol.Timestamp(day0.Add(1000*24*time.Hour).UnixMilli()), "from the future")
	check(t, future.Roll())
	if got := must(future.RetentionStart(w.now().Add(days(8)), days(7), -1, 1))(t); got != 1 {
		t.Errorf("a record from the future is kept for ever: %d", got)
	}
}

func (w *world) open2(t *testing.T, partition int32) *part {
	t.Helper()
	return must(w.tryOpen("t", protocol.PartitionKey{Topic: topicID, Partition: partition}, log.Config{}, log.Init{}))(t)
}

func TestSetStartRemovesWhatLiesBelow(t *testing.T) {
	fsys := vfs.NewMem()
	p := sixSegments(t, start(t, fsys))
	check(t, p.SetStart(3))
	if p.Start() != 3 || p.Segments() != 3 {
		t.Fatalf("start %d, %d segments", p.Start(), p.Segments())
	}
	check(t, p.SetStart(1)) // never back
	if e, end, ok := p.EpochEnd(2); p.Start() != 3 || !ok || e != 2 || end != 3 {
		t.Fatalf("start %d; epoch 2 became %d, ends at %d", p.Start(), e, end)
	}
	wantErr(t, p.SetStart(7), log.ErrOffsetOutOfRange)
	check(t, p.SetStart(6)) // the active segment too
	if p.Start() != 6 || p.LEO() != 6 || p.Segments() != 1 || p.Size() != 0 {
		t.Fatalf("[%d, %d), %d segments", p.Start(), p.LEO(), p.Segments())
	}
	q := start(t, fsys.Kill()).open(log.Config{})
	if q.Start() != 6 || q.LEO() != 6 || q.LatestEpoch() != 5 {
		t.Fatalf("after a kill [%d, %d) in epoch %d", q.Start(), q.LEO(), q.LatestEpoch())
	}
}

func TestEvict(t *testing.T) {
	for _, c := range []struct {
		below protocol.Offset
		keep  int64 // segments' worth of bytes, or -1
		age   time.Duration
		want  int
	}{
		{6, -1, -1, 0}, {6, 0, -1, 5}, {3, 0, -1, 3}, {2, 0, -1, 2}, {6, 4, -1, 2}, {6, -1, 60 * time.Hour, 3}, {6, -1, 0, 5},
	} {
		w := start(t, vfs.NewMem())
		p := sixSegments(t, w)
		one := p.Size() / 6
		keep := c.keep
		if keep > 0 {
			keep *= one
		}
		n, bytes, err := p.Evict(c.below, keep, c.age, w.now())
		check(t, err)
		if n != c.want || bytes != int64(c.want)*one || p.Start() != protocol.Offset(c.want) {
			t.Errorf("%+v: %d segments, %d bytes, start %d", c, n, bytes, p.Start())
		}
		if e, end, _ := p.EpochEnd(0); e != 0 || end != 1 {
			t.Errorf("%+v: the epochs of what is gone are forgotten", c)
		}
		check(t, w.dir.Close(true))
		q := start(t, w.fs).open(log.Config{})
		if e, end, _ := q.EpochEnd(0); e != 0 || end != 1 || q.Start() != protocol.Offset(c.want) {
			t.Errorf("%+v: after a restart start %d, epoch 0 ends at %d", c, q.Start(), end)
		}
	}
}

func TestSealedRanges(t *testing.T) {
	w := start(t, vfs.NewMem())
	p := w.open(log.Config{})
	for i := range 3 {
		for j := range 3 {
			b := idempotent(5, 0, int32(6*i+2*j), "a", "b")
			must(p.Append(b, protocol.Epoch(i), log.AppendOptions{Client: true, Now: w.ms()}))(t)
		}
		check(t, p.Roll())
	}
	p.flush()
	all := must(vfs.ReadFile(w.fs, firstLog))(t)
	one := int64(len(all) / 3)
	for _, c := range []struct {
		from, below protocol.Offset
		want        string
	}{
		{0, 18, "[0,6)3 [6,12)3 [12,18)3"},
		{0, 17, "[0,6)3 [6,12)3"},
		{0, 5, ""},
		{2, 12, "[2,6)2 [6,12)3"},
		{4, 6, "[4,6)1"},
		{3, 6, "[2,6)2"},
		{6, 12, "[6,12)3"},
		{18, 18, ""},
	} {
		var got []string
		for _, r := range must(p.Sealed(c.from, c.below))(t) {
			got = append(got, fmt.Sprintf("[%d,%d)%d", r.Base, r.End, r.Bytes/one))
			if r.MaxTimestamp != protocol.Timestamp(day0.UnixMilli()) || r.Sealed != w.now() {
				t.Errorf("%+v", r)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	r := must(p.OpenSealed(must(p.Sealed(2, 6))(t)[0]))(t)
	check(t, p.SetStart(12))
	b := make([]byte, r.Range().Bytes)
	must(r.ReadAt(b, 0))(t)
	if !bytes.Equal(b, all[one:]) || fmt.Sprint(r.Epochs()) != "[{0 2}]" || len(r.Aborted()) != 0 {
		t.Errorf("epochs %v, aborted %v", r.Epochs(), r.Aborted())
	}
	state := must(producer.Decode(r.Producers()))(t)
	if dup, err := state.Check(idempotent(5, 0, 4, "a", "b"), true); dup == nil || err != nil || dup.First != 4 {
		t.Errorf("state at 6 gives %+v, %v", dup, err)
	}
	check(t, r.Close())
	check(t, r.Close())
	_, err := p.OpenSealed(r.Range())
	wantErr(t, err, log.ErrOffsetOutOfRange)
}

func TestTransactionsAcrossSegmentsRestartsAndTruncation(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(log.Config{})
	coordinator := log.AppendOptions{Coordinator: true}
	must(p.Append(transactional(1, 0, "a0", "a1"), 0, log.AppendOptions{Client: true}))(t) // 0, 1
	must(p.Append(transactional(2, 0, "b0"), 0, log.AppendOptions{Client: true}))(t)       // 2
	check(t, p.Roll())
	must(p.Append(marker(1, false), 0, coordinator))(t) // 3
	check(t, p.Roll())
	must(p.Append(marker(2, true), 0, coordinator))(t) // 4
	p.flush()
	want := protocol.AbortedTxn{Producer: 1, First: 0, Last: 3, LastStable: 2}
	examine := func(p *part) {
		t.Helper()
		if got := must(p.Aborted(0, 5))(t); len(got) != 1 || got[0] != want {
			t.Fatalf("aborted %+v", got)
		}
		if got := must(p.Aborted(4, 5))(t); len(got) != 0 {
			t.Fatalf("aborted from 4: %+v", got)
		}
		if got := must(p.Aborted(0, 1))(t); len(got) != 1 {
			t.Fatalf("aborted below 1: %+v", got)
		}
		for _, c := range [][2]protocol.Offset{{1, 0}, {3, 0}, {4, 2}, {5, 5}} {
			if got := p.LastStable(c[0]); got != c[1] && p.recovery.Existed == false {
				t.Fatalf("last stable below %d is %d, want %d", c[0], got, c[1])
			}
		}
	}
	examine(p)
	examine(start(t, fsys.Kill()).open(log.Config{}))
	check(t, w.dir.Close(true))
	q := start(t, fsys).open(log.Config{})
	examine(q)
	check(t, q.Truncate(4))
	if got := q.LastStable(4); got != 2 {
		t.Fatalf("after the truncation last stable is %d", got)
	}
	check(t, q.Truncate(3))
	if got := must(q.Aborted(0, 3))(t); len(got) != 0 || q.LastStable(3) != 0 {
		t.Fatalf("aborted %+v, last stable %d", got, q.LastStable(3))
	}
}

func TestTruncateFullyBeginsAnew(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := sixSegments(t, w)
	check(t, w.dir.Checkpoint())
	state := (&producer.State{}).Encode()
	check(t, p.TruncateFully(log.Init{Start: 1000, Epochs: []protocol.EpochStart{{Epoch: 3, Start: 500}}, Producers: state}))
	if p.Start() != 1000 || p.LEO() != 1000 || p.LatestEpoch() != 3 || p.Size() != 0 {
		t.Fatalf("[%d, %d) in epoch %d", p.Start(), p.LEO(), p.LatestEpoch())
	}
	must(p.Append(plain(1, "a"), 4, log.AppendOptions{}))(t)
	p.flush()
	check(t, w.dir.Checkpoint())
	q := start(t, fsys.Crash(vfs.DropAll), boot("boot-2")).open(log.Config{})
	if q.Start() != 1000 || q.LEO() != 1001 || fmt.Sprint(q.Epochs()) != "[{3 500} {4 1000}]" || q.recovery.ProducersUnknownBelow != 0 {
		t.Fatalf("[%d, %d), epochs %v, recovery %+v", q.Start(), q.LEO(), q.Epochs(), q.recovery)
	}
}

func TestACrashBetweenTwoRemovalsFindsTheProducers(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	for i := range int32(3) {
		must(p.Append(idempotent(7, 0, i, "v"), 1, log.AppendOptions{Client: true}))(t)
		check(t, p.Roll())
		p.flush()
	}
	check(t, w.dir.Close(false))
	check(t, fsys.Remove(dataDir+"/t-0/00000000000000000001.snapshot")) // a crash may take it
	check(t, fsys.SyncDir(dataDir+"/t-0"))
	w = start(t, fsys)
	p = w.open(small)
	var left *vfs.Mem
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpRename && strings.HasSuffix(o.Path, "/00000000000000000001.log") {
			left = fsys.Crash(vfs.DropAll)
		}
		return nil
	})
	check(t, p.SetStart(3))
	check(t, w.dir.Close(false))
	q := start(t, left, boot("boot-2")).open(small)
	if q.Start() != 1 || q.recovery.ProducersUnknownBelow != 0 {
		t.Fatalf("log start %d, %+v", q.Start(), q.recovery)
	}
	info := must(q.Append(idempotent(7, 0, 0, "v"), 1, log.AppendOptions{Client: true}))(t)
	if !info.Duplicate {
		t.Errorf("%+v", info)
	}
}
