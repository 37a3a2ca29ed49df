package log_test

import (
	"fmt"
	"testing"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

func TestAppendedIsReadBackAcrossSegmentsAndRestarts(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	for i := range 200 {
		p.add(protocol.Timestamp(i), fmt.Sprint("value-", i), "second")
		if i == 0 {
			p.flush() // no roll before the first commit
		}
	}
	p.flush()
	if p.Durable() != 400 || p.Segments() < 3 {
		t.Fatalf("durable %d, %d segments", p.Durable(), p.Segments())
	}
	wantEntries(t, p, 400)
	check(t, w.dir.Close(true))

	for round := range 3 {
		w = start(t, fsys)
		if !w.dir.Clean() {
			t.Fatal("the start is not clean")
		}
		p = w.open(small)
		if !p.recovery.Clean || p.recovery.ScannedBytes > 0 {
			t.Fatalf("recovery %+v", p.recovery)
		}
		wantEntries(t, p, 400+2*round)
		p.add(5, fmt.Sprint("value-", 200+round), "second")
		check(t, w.dir.Close(true))
	}
	if n := fsys.OpenFiles(); n != 0 {
		t.Fatalf("%d files are open", n)
	}
}

func wantEntries(t *testing.T, p *part, n int) {
	t.Helper()
	all := p.readAll()
	if len(all) != n {
		t.Fatalf("%d records, want %d", len(all), n)
	}
	for i, e := range all {
		want := "second"
		if i%2 == 0 {
			want = fmt.Sprint("value-", i/2)
		}
		if e.offset != protocol.Offset(i) || e.value != want {
			t.Fatalf("record %d is %+v", i, e)
		}
	}
}

func TestNothingIsMadeBeforeTheFirstAppend(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := must(w.tryOpen("t", key, small, log.Init{Start: 70}))(t)
	if p.Start() != 70 || p.LEO() != 70 || p.Durable() != 70 {
		t.Fatalf("log is [%d, %d)", p.Start(), p.LEO())
	}
	check(t, w.dir.Checkpoint())
	if found := must(w.dir.Partitions())(t); len(found) != 0 {
		t.Fatalf("found %v", found)
	}
	p.add(1, "a")
	p.flush()
	found := must(w.dir.Partitions())(t)
	if len(found) != 1 || found[0] != (log.Found{Name: "t-0", Topic: "t", ID: topicID}) {
		t.Fatalf("found %v", found)
	}
	if got := p.readAll(); len(got) != 1 || got[0] != (entry{70, "a"}) {
		t.Fatalf("read %v", got)
	}
}
