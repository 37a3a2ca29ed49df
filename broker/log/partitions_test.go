package log_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// put writes files, with the folders they lie in.
func put(t *testing.T, fsys vfs.FS, files map[string]string) {
	t.Helper()
	for name, content := range files {
		check(t, fsys.MkdirAll(name[:strings.LastIndexByte(name, '/')]))
		f := must(fsys.Open(name, true))(t)
		_, err := f.WriteAt([]byte(content), 0)
		check(t, err)
		check(t, f.Close())
	}
}

// foreign are folders that only look like partitions.
var foreign = map[string]string{
	dataDir + "/archive-1/cluster.json":                "{}",
	dataDir + "/archive-1/data/00/x.seg":               "bucket",
	dataDir + "/backup-2026/00000000000000000000.log":  "kept",
	dataDir + "/backup-2026/notes.txt":                 "by hand",
	dataDir + "/logs-7/app.log":                        "not a segment",
	dataDir + "/nested-3/orders-0/partition.metadata":  "version: 0\ntopic_id: AQIDAAAAAAAAAAAAAAAAAA",
	dataDir + "/strata-metadata/000001.vlog":           "raft",
	dataDir + "/to-delete/precious":                    "an operator's",
	dataDir + "/t-0.deadbeef-delete/precious":          "an operator's",
	dataDir + "/old-1.tar-delete/00000000000000000.gz": "an operator's",
}

func TestAFolderThatOnlyLooksLikeAPartitionIsLeftAlone(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, foreign)
	put(t, fsys, map[string]string{
		dataDir + "/torn-0/partition.metadata":                     "",
		dataDir + "/torn-0/00000000000000000000.log":               "",
		dataDir + "/torn-0/00000000000000000000.index.deleted":     "",
		dataDir + "/torn-0/leader-epoch-checkpoint.tmp":            "",
		dataDir + "/ours-1/partition.metadata":                     "version: 0\ntopic_id: AQIDAAAAAAAAAAAAAAAAAA",
		dataDir + "/ours-1/what-kafka-adds-some-day":               "",
		dataDir + "/a-0." + strings.Repeat("0f", 16) + "-delete/x": "",
	})
	check(t, fsys.MkdirAll(dataDir+"/empty-4"))
	var lines bytes.Buffer
	logged := func(c *log.DirConfig) { c.Logger = slog.New(slog.NewTextHandler(&lines, nil)) }
	w := start(t, fsys, logged)
	for range 2 {
		var found []string
		for _, f := range must(w.dir.Partitions())(t) {
			found = append(found, f.Name)
		}
		if got := strings.Join(found, " "); got != "ours-1 torn-0" {
			t.Fatalf("partitions are %s", got)
		}
	}
	for _, name := range []string{"archive-1", "backup-2026", "logs-7", "nested-3"} {
		if n := strings.Count(lines.String(), "/"+name+" "); n != 1 {
			t.Errorf("%s was spoken of %d times:\n%s", name, n, &lines)
		}
		if w.dir.SetAside(name) == nil {
			t.Errorf("%s was set aside", name)
		}
	}
	if strings.Contains(lines.String(), "empty-4") {
		t.Errorf("an empty folder was spoken of:\n%s", &lines)
	}
	for _, name := range []string{"ours-1", "torn-0"} {
		check(t, w.dir.SetAside(name))
	}
	check(t, w.dir.Checkpoint())
	check(t, w.dir.Close(true))
	for name, content := range foreign {
		if got := string(must(vfs.ReadFile(fsys, name))(t)); got != content {
			t.Errorf("%s holds %q", name, got)
		}
	}
	got := names(t, fsys, dataDir)
	if strings.Contains(got, "torn-0") || strings.Contains(got, "a-0.") || !strings.Contains(got, "empty-4") {
		t.Errorf("left is %s", got)
	}
	if w = start(t, fsys); !w.dir.Clean() {
		t.Error("a stop beside foreign folders did not count as clean")
	}
}

func TestNoLogIsMadeInAFolderThatIsNotItsOwn(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, foreign)
	check(t, fsys.MkdirAll(dataDir+"/empty-4"))
	w := start(t, fsys)
	for topic, partition := range map[string]int32{"archive": 1, "backup": 2026, "logs": 7, "nested": 3} {
		_, err := w.tryOpen(topic, protocol.PartitionKey{Topic: topicID, Partition: partition}, small, log.Init{})
		wantErr(t, err, log.ErrOffline)
		if !strings.Contains(err.Error(), "move it away") {
			t.Errorf("error %v", err)
		}
	}
	p := must(w.tryOpen("empty", protocol.PartitionKey{Topic: topicID, Partition: 4}, small, log.Init{}))(t)
	p.add(1, "an empty folder is in nobody's way")
	check(t, w.dir.Close(true))
	for name, content := range foreign {
		if got := string(must(vfs.ReadFile(fsys, name))(t)); got != content {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

func TestADirectoryOfAnEarlierTopicGivesWay(t *testing.T) {
	anew := protocol.PartitionKey{Topic: protocol.TopicID{9}}
	corrupt := func(fsys vfs.FS) { damage(t, fsys, firstLog, 3*batchLen(t, fsys)+16, 9) }
	for _, c := range []struct {
		name  string
		harm  func(vfs.FS)
		first bool // the old one is tried first
	}{
		{"sound", func(vfs.FS) {}, false},
		{"corrupt, not tried", corrupt, false},
		{"found corrupt at the start", corrupt, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := written(t)
			c.harm(fsys)
			w := start(t, fsys)
			if c.first {
				_, err := w.tryOpen("t", key, small, log.Init{})
				wantErr(t, err, log.ErrCorrupt)
				check(t, w.dir.Checkpoint())
			}
			p := must(w.tryOpen("t", anew, small, log.Init{}))(t)
			if p.LEO() != 0 || p.recovery.Existed || p.recovery.HighWatermark != 0 {
				t.Fatalf("log end %d, recovery %+v", p.LEO(), p.recovery)
			}
			p.add(1, "new")
			p.flush()
			if got := p.readAll(); len(got) != 1 || got[0].value != "new" {
				t.Fatalf("read %v", got)
			}
			check(t, w.dir.Close(true))
			w = start(t, fsys)
			p = must(w.tryOpen("t", anew, small, log.Init{}))(t)
			if !w.dir.Clean() || !p.recovery.Clean || p.LEO() != 1 {
				t.Fatalf("log end %d, recovery %+v", p.LEO(), p.recovery)
			}
		})
	}
}

func TestALongTopicNameCanBeDeleted(t *testing.T) {
	dir := t.TempDir()
	w := start(t, vfs.OS(), func(c *log.DirConfig) { c.Path = dir })
	p := must(w.tryOpen(strings.Repeat("n", 249), key, small, log.Init{}))(t)
	p.add(1, "a")
	p.flush()
	check(t, p.Delete())
	if got := names(t, vfs.OS(), dir); strings.Contains(got, "nnn") {
		t.Fatalf("left is %s", got)
	}
}

func TestACleanStartReadsEachFileOfAPartitionOnce(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	for i := range int32(3) {
		p := w.open2(t, i)
		p.add(1, "a")
		p.flush()
	}
	check(t, w.dir.Close(true))
	var mu sync.Mutex
	counts := map[string]int{}
	fsys.Fail(func(o vfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if o.Kind == vfs.OpOpen || o.Kind == vfs.OpList {
			counts[o.Path]++
		}
		return nil
	})
	w = start(t, fsys)
	if found := must(w.dir.Partitions())(t); len(found) != 3 {
		t.Fatalf("found %v", found)
	}
	for i := range int32(3) {
		if p := w.open2(t, i); !p.recovery.Clean || p.LEO() != 1 {
			t.Fatalf("log end %d, recovery %+v", p.LEO(), p.recovery)
		}
	}
	fsys.Fail(nil)
	for name, n := range counts {
		if strings.Contains(name, "/t-") && n > 1 {
			t.Errorf("%s: %d times", name, n)
		}
	}
	if len(counts) < 12 {
		t.Errorf("only %v", counts)
	}
	check(t, w.dir.Close(true))
}

func TestAStartTellsOfEveryDirectoryThatCannotBeRead(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	const n = 100
	for i := range int32(n) {
		w.open2(t, i).add(1, "a")
	}
	check(t, w.dir.Close(true))
	broken := errors.New("I/O error")
	fsys.Fail(func(o vfs.Op) error {
		for _, bad := range []string{"/t-17/", "/t-4/", "/t-90/"} {
			if o.Kind == vfs.OpRead && strings.Contains(o.Path, bad+"partition.metadata") {
				return fmt.Errorf("%s: %w", o.Path, broken)
			}
		}
		return nil
	})
	_, err := tryStart(t, fsys)
	wantErr(t, err, broken)
	at := []int{strings.Index(err.Error(), "/t-17/"), strings.Index(err.Error(), "/t-4/"), strings.Index(err.Error(), "/t-90/")}
	if at[0] < 0 || at[1] < at[0] || at[2] < at[1] {
		t.Errorf("error %v", err)
	}
	fsys.Fail(nil)
	w = start(t, fsys)
	if found := must(w.dir.Partitions())(t); len(found) != n || !w.dir.Clean() {
		t.Errorf("%d partitions, clean %t", len(found), w.dir.Clean())
	}
	check(t, w.dir.Close(false))
}

// TestLogsOpenedTogetherFailAlone: one that is corrupt and one that cannot be read keep no other from being opened.
func TestLogsOpenedTogetherFailAlone(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	const n = 40
	for i := range int32(n) {
		p := w.open2(t, i)
		p.add(1, "a", "b")
		p.flush()
	}
	check(t, w.dir.Checkpoint())
	left := fsys.Kill()
	check(t, w.dir.Close(false))
	damage(t, left, dataDir+"/t-7/00000000000000000000.log", 16, 9)
	broken := errors.New("I/O error")
	left.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpRead && strings.Contains(o.Path, "/t-11/") && strings.HasSuffix(o.Path, ".log") {
			return broken
		}
		return nil
	})
	w = start(t, left)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range int32(n) {
		wg.Go(func() {
			p, err := w.tryOpen("t", protocol.PartitionKey{Topic: topicID, Partition: i}, small, log.Init{})
			if err == nil && p.LEO() != 2 {
				err = fmt.Errorf("log end %d", p.LEO())
			}
			errs[i] = err
		})
	}
	wg.Wait()
	wantErr(t, errs[7], log.ErrCorrupt)
	wantErr(t, errs[11], broken)
	for i, err := range errs {
		if i != 7 && i != 11 && err != nil {
			t.Errorf("log %d: %v", i, err)
		}
	}
	left.Fail(nil)
	if p := w.open2(t, 11); p.LEO() != 2 {
		t.Errorf("opened again: log end %d", p.LEO())
	}
	check(t, w.dir.Close(false))
}
