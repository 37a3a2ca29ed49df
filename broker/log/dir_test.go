package log_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

func names(t *testing.T, fsys vfs.FS, dir string) string {
	t.Helper()
	var out []string
	for _, e := range must(fsys.List(dir))(t) {
		out = append(out, e.Name)
	}
	return strings.Join(out, " ")
}

func TestTheLayoutIsKafkas(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	w.dir.SetBrokerEpoch(41)
	p := w.open(log.Config{IndexIntervalBytes: 1})
	for i := range 3 {
		must(p.Append(transactional(1, int32(2*i), "a", "b"), 3, log.AppendOptions{Client: true}))(t)
	}
	must(p.Append(marker(1, false), 3, log.AppendOptions{}))(t)
	check(t, p.Roll())
	p.add2(t, 4, "c")
	p.SetHighWatermark(5)
	check(t, w.dir.Close(true))
	for name, want := range map[string]string{
		dataDir:          ".kafka_cleanshutdown log-start-offset-checkpoint recovery-point-offset-checkpoint replication-offset-checkpoint strata-boot strata-segment-age-checkpoint t-0",
		dataDir + "/t-0": "00000000000000000000.index 00000000000000000000.log 00000000000000000000.timeindex 00000000000000000000.txnindex 00000000000000000007.index 00000000000000000007.log 00000000000000000007.snapshot 00000000000000000007.timeindex 00000000000000000008.snapshot leader-epoch-checkpoint partition.metadata",
	} {
		if got := names(t, fsys, name); got != want {
			t.Errorf("%s holds\n%s, want\n%s", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"recovery-point-offset-checkpoint":   "0\n1\nt 0 8\n",
		"replication-offset-checkpoint":      "0\n1\nt 0 5\n",
		"log-start-offset-checkpoint":        "0\n1\nt 0 0\n",
		".kafka_cleanshutdown":               `{"version":0,"brokerEpoch":41}`,
		"strata-boot":                        "strata-boot 1\nboot-1\ncrc32c 800e984f\n",
		"t-0/leader-epoch-checkpoint":        "0\n2\n3 0\n4 7\n",
		"t-0/partition.metadata":             "version: 0\ntopic_id: AQIDAAAAAAAAAAAAAAAAAA",
		"t-0/00000000000000000000.index":     "\x00\x00\x00\x03\x00\x00\x00\x4d\x00\x00\x00\x05\x00\x00\x00\x9a\x00\x00\x00\x06\x00\x00\x00\xe7",
		"t-0/00000000000000000000.timeindex": "\x00\x00\x01\x8b\xcf\xe5\x68\x00\x00\x00\x00\x01",
		"t-0/00000000000000000000.txnindex":  "\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x06" + "\x00\x00\x00\x00\x00\x00\x00\x07",
		"t-0/00000000000000000007.index":     "",
		"t-0/00000000000000000007.timeindex": "\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00",
	} {
		if got := string(must(vfs.ReadFile(fsys, dataDir+"/"+name))(t)); got != want {
			t.Errorf("%s is\n%q, want\n%q", name, got, want)
		}
	}
	w = start(t, fsys)
	if w.dir.CleanBrokerEpoch() != 41 || w.open(log.Config{}).recovery.HighWatermark != 5 {
		t.Error("broker epoch or high watermark is lost")
	}
}

func (p *part) add2(t *testing.T, epoch protocol.Epoch, value string) {
	t.Helper()
	must(p.Append(plain(5, value), epoch, log.AppendOptions{}))(t)
}

func TestTheOrderOfEffects(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(log.Config{})
	var lines []string
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind.Durable() || o.Kind == vfs.OpWrite {
			lines = append(lines, strings.NewReplacer(dataDir+"/", "", "0000000000000000000", "..").Replace(o.String()))
		}
		return nil
	})
	var out strings.Builder
	for _, phase := range []struct {
		name string
		do   func()
	}{
		{"first append", func() { p.add(1, "a"); p.flush() }},
		{"append", func() { p.add(1, "b"); p.flush() }},
		{"roll", func() { check(t, p.Roll()); p.flush() }},
		{"append after the roll", func() { p.add(1, "c"); p.flush() }},
		{"evict", func() { must2(p.Evict(2, 0, -1, w.now()))(t) }},
		{"truncate", func() { check(t, p.Truncate(2)); p.flush() }},
		{"clean stop", func() { check(t, w.dir.Close(true)) }},
	} {
		lines = nil
		phase.do()
		w.dir.AwaitPoints()
		fmt.Fprintf(&out, "%s\n  %s\n", phase.name, strings.Join(lines, "\n  "))
	}
	const golden = "testdata/effects.txt"
	if os.Getenv("REWRITE") != "" {
		check(t, os.WriteFile(golden, []byte(out.String()), 0o644))
	}
	if want := string(must(os.ReadFile(golden))(t)); out.String() != want {
		t.Errorf("effects are (REWRITE=1 renews %s):\n%s", golden, out.String())
	}
}

func must2[A, B any](_ A, _ B, err error) func(testing.TB) {
	return func(tb testing.TB) { tb.Helper(); check(tb, err) }
}

func TestDeletionIsDurableAndLeftoversGo(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	p.add(1, "a")
	p.flush()
	check(t, w.dir.Checkpoint())
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpRemove {
			return vfs.ErrCrashed
		}
		return nil
	})
	wantErr(t, p.Delete(), vfs.ErrCrashed)
	_, err := p.Append(plain(1, "b"), 1, log.AppendOptions{})
	wantErr(t, err, log.ErrClosed)
	left := fsys.Crash(vfs.DropAll)
	if got := names(t, left, dataDir); !strings.Contains(got, "-delete") || strings.Contains(got, "t-0 ") {
		t.Fatalf("after the crash there is %s", got)
	}
	w = start(t, left, boot("boot-2"))
	if got := names(t, left, dataDir); strings.Contains(got, "-delete") {
		t.Fatalf("after the start there is %s", got)
	}
	// The name comes back as another topic's: nothing of the old one may show.
	other := protocol.PartitionKey{Topic: protocol.TopicID{9}}
	q := must(w.tryOpen("t", other, small, log.Init{}))(t)
	must(q.Append(plain(1, "new"), 0, log.AppendOptions{}))(t)
	q.flush()
	check(t, w.dir.Close(false))
	w = start(t, left, boot("boot-2"))
	if found := must(w.dir.Partitions())(t); len(found) != 1 || found[0].ID != other.Topic {
		t.Fatalf("found %v", found)
	}
}

func TestABootCountsAsOverOnlyWhenEveryLogWasRecovered(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	w.open(small).add(1, "a")
	q := w.open2(t, 1)
	q.add(1, "b")
	q.flush()
	check(t, w.dir.Close(false))
	next := func(id string, open bool) bool {
		w := start(t, fsys, boot(id))
		same := w.dir.SameBoot()
		if open {
			w.open(small)
			w.open2(t, 1)
		}
		check(t, w.dir.Checkpoint())
		check(t, w.dir.Close(false))
		return same
	}
	for _, c := range []struct {
		boot string
		open bool
		same bool
	}{{"boot-1", false, true}, {"boot-2", false, false}, {"boot-2", true, false}, {"boot-2", true, true}, {"boot-3", true, false}, {"boot-3", false, true}} {
		if got := next(c.boot, c.open); got != c.same {
			t.Fatalf("%+v: same boot is %t", c, got)
		}
	}
}

func TestAnIdlePartitionCostsLittle(t *testing.T) {
	const n = 10_000
	fsys := vfs.NewMem()
	w := start(t, fsys)
	measure := func(what string, open func(i int)) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range n {
			open(i)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
		t.Logf("%s: %d bytes each", what, each)
		if each > 4096 || runtime.NumGoroutine() > 10 {
			t.Errorf("%s: %d bytes each, %d goroutines", what, each, runtime.NumGoroutine())
		}
	}
	at := func(i int) protocol.PartitionKey { return protocol.PartitionKey{Topic: topicID, Partition: int32(i)} }
	logs := make([]*log.Log, n)
	lazy := func(i int) {
		l, _, err := w.dir.OpenLog("topic", at(i), small, log.Init{}, log.Events{})
		check(t, err)
		logs[i] = l
	}
	measure("never written", lazy)
	must(logs[0].Append(idempotent(1, 0, 0, "a"), 0, log.AppendOptions{Client: true}))(t)
	check(t, w.dir.Close(true))
	points := map[string]int64{}
	for i := range n {
		name := fmt.Sprintf("%s/topic-%d", dataDir, i)
		points[fmt.Sprintf("topic-%d", i)] = 1
		check(t, fsys.MkdirAll(name))
		for _, e := range must(fsys.List(dataDir + "/topic-0"))(t) {
			f := must(fsys.Open(name+"/"+e.Name, true))(t)
			_, err := f.WriteAt(must(vfs.ReadFile(fsys, dataDir+"/topic-0/"+e.Name))(t), 0)
			check(t, err)
			check(t, f.Close())
		}
	}
	check(t, vfs.WriteFileAtomic(fsys, dataDir+"/recovery-point-offset-checkpoint", log.EncodeOffsets(points)))
	clear(logs)
	w = start(t, fsys, func(c *log.DirConfig) { c.MaxOpenFiles = 100 })
	measure("recovered", lazy)
	if logs[n-1].LEO() != 1 || w.dir.OpenFiles() > 100 || fsys.OpenFiles() > 100 {
		t.Errorf("%d files are open", fsys.OpenFiles())
	}
	runtime.KeepAlive(logs)
}

func TestOnTheOperatingSystemsFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(c *log.DirConfig) { c.Path = dir }
	w := start(t, vfs.OS(), at)
	p := w.open(small)
	for i := range 100 {
		p.add(1, fmt.Sprint("value-", i), "second")
		p.waitFor("the append", func() bool { return p.reported.Load() == int64(2*i+2) })
	}
	s := must(p.Read(0, 200, 1000, true))(t)
	if f, off, n, ok := s.File(); !ok || f == nil || off != 0 || n != int64(s.Len()) {
		t.Errorf("no file to send: %d+%d, %t", off, n, ok)
	}
	s.Release()
	check(t, p.SetStart(120))
	check(t, p.Truncate(150))
	check(t, w.dir.Close(true))
	w = start(t, vfs.OS(), at)
	p = w.open(small)
	if !p.recovery.Clean || p.LEO() != 150 || len(p.readAll()) != 150-int(p.Start()) || p.Start() == 0 {
		t.Fatalf("[%d, %d), recovery %+v", p.Start(), p.LEO(), p.recovery)
	}
	p.add(1, "x")
	p.flush()
	check(t, w.dir.Close(false))
	w = start(t, vfs.OS(), at)
	p = w.open(small)
	if p.LEO() != 151 || p.recovery.ScannedBytes == 0 {
		t.Fatalf("log end %d, recovery %+v", p.LEO(), p.recovery)
	}
	check(t, p.Delete())
	if got := names(t, vfs.OS(), dir); strings.Contains(got, "t-0") {
		t.Fatalf("left is %s", got)
	}
}
