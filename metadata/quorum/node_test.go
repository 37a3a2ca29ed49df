package quorum_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/metadata/quorum"
	"github.com/stratabroker/strata/protocol"
)

func config(dir string) quorum.Config {
	return quorum.Config{Dir: dir, NodeID: 1, DirectoryID: metadata.DirectoryID{1}, Bootstrap: true}
}

func open(t *testing.T, c quorum.Config) *quorum.Node {
	t.Helper()
	n, err := quorum.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.WaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// founded is a node with a new cluster.
func founded(t *testing.T, c quorum.Config) *quorum.Node {
	t.Helper()
	n := open(t, c)
	propose(t, n, initCluster())
	return n
}

func propose(t *testing.T, n *quorum.Node, cmd *metadata.Command) metadata.Result {
	t.Helper()
	r, err := n.Propose(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func initCluster() *metadata.Command {
	return &metadata.Command{Kind: &metadatapb.Command_InitCluster{InitCluster: &metadatapb.InitCluster{ClusterId: "c", StrataVersion: 1}}}
}

func setConfig(name, value string) *metadata.Command {
	return &metadata.Command{Kind: &metadatapb.Command_AlterConfigs{AlterConfigs: &metadatapb.AlterConfigs{
		Type: 4, Changes: []*metadatapb.Config{{Name: name, Value: &value}},
	}}}
}

func configOf(img *metadata.Image, name string) string {
	v, _ := img.Config(metadata.Resource{Type: metadata.BrokerResource}, name)
	return v
}

func closeNode(t *testing.T, n *quorum.Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLoneVoterLeadsAtOnceAndKeepsItsImage(t *testing.T) {
	c := config(t.TempDir())
	var hash [32]byte
	for i := range 5 {
		began := time.Now()
		n := open(t, c)
		up := time.Since(began)
		if up > time.Second {
			t.Errorf("start %d: leader after %v", i, up)
		}
		if i == 0 {
			propose(t, n, initCluster())
		} else if n.Image().Hash() != hash {
			t.Fatalf("start %d: the image differs", i)
		}
		if !n.IsLeader() || n.Leader() != 1 {
			t.Fatalf("leader is %d", n.Leader())
		}
		propose(t, n, setConfig(fmt.Sprint("k", i), "v"))
		hash = n.Image().Hash()
		closing := time.Now()
		closeNode(t, n)
		t.Logf("start %d: leader after %v, closed in %v", i, up, time.Since(closing))
	}
}

func TestRefusalsReachTheProposer(t *testing.T) {
	n := open(t, config(t.TempDir()))
	defer closeNode(t, n)
	for want, cmd := range map[error]*metadata.Command{
		metadata.ErrUnsupportedVersion: setConfig("k", "v"), // nothing is finalised yet
		metadata.ErrUnknownCommand:     new(metadata.Command),
	} {
		if _, err := n.Propose(t.Context(), cmd); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	propose(t, n, initCluster())
	index := n.Image().Index()
	for want, cmd := range map[error]*metadata.Command{
		metadata.ErrClusterExists:  initCluster(),
		metadata.ErrInvalidCommand: setConfig("", "v"),
	} {
		if _, err := n.Propose(t.Context(), cmd); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if got := n.Image().Index(); got != index+2 {
		t.Errorf("image at %d after two refusals at %d", got, index)
	}
	if _, err := n.Propose(t.Context(), setConfig("k", string(make([]byte, quorum.MaxCommandBytes)))); !errors.Is(err, metadata.ErrInvalidCommand) {
		t.Errorf("too large: %v", err)
	}
	if r := propose(t, n, setConfig("k", string(make([]byte, quorum.MaxCommandBytes-100)))); r.Index != n.Image().Index() {
		t.Errorf("%+v, image at %d", r, n.Image().Index())
	}
}

func TestSubscribersSeeEveryDeltaInOrderBeforeTheProposer(t *testing.T) {
	n := founded(t, config(t.TempDir()))
	defer closeNode(t, n)
	propose(t, n, setConfig("first", "v"))
	var mu sync.Mutex
	var indexes []uint64
	var resources []metadata.Resource
	n.Subscribe(func(d metadata.Delta, img *metadata.Image) {
		mu.Lock()
		defer mu.Unlock()
		indexes, resources = append(indexes, img.Index()), append(resources, d.Configs...)
	})
	if len(indexes) != 1 || len(resources) != 1 {
		t.Fatalf("a subscriber was given %v %v at first", indexes, resources)
	}
	const proposals, workers = 1000, 50
	var work sync.WaitGroup
	for w := range workers {
		work.Go(func() {
			for i := range proposals / workers {
				name := fmt.Sprintf("k%d.%d", w, i)
				r, err := n.Propose(t.Context(), setConfig(name, "v"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen := indexes[len(indexes)-1] >= r.Index
				mu.Unlock()
				if !seen || n.Image().Index() < r.Index || configOf(n.Image(), name) != "v" {
					t.Errorf("index %d came back before it was published", r.Index)
				}
			}
		})
	}
	work.Wait()
	mu.Lock()
	defer mu.Unlock()
	if !slices.IsSorted(indexes) || len(indexes) != proposals+1 || len(resources) != proposals+1 {
		t.Fatalf("%d images, %d deltas", len(indexes), len(resources))
	}
}

func TestSnapshotCutsTheLogAndIsRestored(t *testing.T) {
	for name, change := range map[string]func(*quorum.Config){
		"by entries": func(c *quorum.Config) { c.SnapshotEntries = 100 },
		"by bytes":   func(c *quorum.Config) { c.SnapshotBytes = 10_000 },
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t.TempDir())
			c.TrailingEntries = 10
			change(&c)
			n := founded(t, c)
			for first, _ := n.LogBounds(); first < 300; first, _ = n.LogBounds() {
				i := n.Image().Index()
				propose(t, n, setConfig(fmt.Sprint("k", i%7), fmt.Sprint("value ", i, string(make([]byte, 100)))))
			}
			if err := n.Snapshot(); err != nil {
				t.Fatal(err)
			}
			if first, last := n.LogBounds(); last-first > 20 {
				t.Fatalf("the log is still [%d, %d]", first, last)
			}
			propose(t, n, setConfig("last", "v"))
			want := n.Image()
			closeNode(t, n)
			n = open(t, c)
			defer closeNode(t, n)
			if n.Image().Hash() != want.Hash() {
				t.Fatal("the image differs after a restart from a snapshot")
			}
			all := 0
			n.Subscribe(func(d metadata.Delta, img *metadata.Image) { all = len(d.Configs) })
			if all != 1 {
				t.Fatalf("a subscriber was given %d resources of a restored image", all)
			}
		})
	}
}

func TestDamagedSnapshotIsSaidAtOpen(t *testing.T) {
	snapshotted := func(t *testing.T, trailing uint64) (quorum.Config, [32]byte, []string) {
		t.Helper()
		c := config(t.TempDir())
		c.TrailingEntries = trailing
		n := founded(t, c)
		for range 2 {
			for i := range 50 {
				propose(t, n, setConfig(fmt.Sprint("k", i), fmt.Sprint(n.Image().Index())))
			}
			if err := n.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		hash := n.Image().Hash()
		closeNode(t, n)
		files, err := filepath.Glob(filepath.Join(c.Dir, "snapshots", "*", "state.bin"))
		if err != nil || len(files) != 2 {
			t.Fatal(files, err)
		}
		slices.SortFunc(files, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }) // the newest last
		return c, hash, files
	}
	damage := func(t *testing.T, name string) {
		t.Helper()
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 1
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("the log does not reach back", func(t *testing.T) {
		c, _, files := snapshotted(t, 10)
		damage(t, files[1])
		if n, err := quorum.Open(t.Context(), c); !errors.Is(err, quorum.ErrDamaged) {
			t.Fatal(n, err)
		}
	})
	t.Run("the log reaches back", func(t *testing.T) {
		c, hash, files := snapshotted(t, 80)
		damage(t, files[1])
		n := open(t, c)
		defer closeNode(t, n)
		if n.Image().Hash() != hash {
			t.Fatal("the image differs")
		}
	})
	t.Run("all are gone", func(t *testing.T) {
		c, _, _ := snapshotted(t, 10)
		if err := os.RemoveAll(filepath.Join(c.Dir, "snapshots")); err != nil {
			t.Fatal(err)
		}
		if n, err := quorum.Open(t.Context(), c); !errors.Is(err, quorum.ErrDamaged) {
			t.Fatal(n, err)
		}
	})
	t.Run("both", func(t *testing.T) {
		c, _, files := snapshotted(t, 10)
		damage(t, files[0])
		damage(t, files[1])
		if n, err := quorum.Open(t.Context(), c); !errors.Is(err, quorum.ErrDamaged) {
			t.Fatal(n, err)
		}
	})
}

func TestCancelledProposalHasAnUnknownOutcome(t *testing.T) {
	n := founded(t, config(t.TempDir()))
	defer closeNode(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	released, entered, calls := make(chan struct{}), make(chan struct{}), 0
	n.Subscribe(func(metadata.Delta, *metadata.Image) {
		if calls++; calls == 2 { // the first delta after what there is
			close(entered)
			<-released
		}
	})
	go func() {
		<-entered
		cancel()
	}()
	_, err := n.Propose(ctx, setConfig("k", "v"))
	if !errors.Is(err, quorum.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(released)
	propose(t, n, setConfig("after", "v"))
	if configOf(n.Image(), "k") != "v" {
		t.Fatal("the command was not applied after all")
	}
	if _, err := n.Propose(ctx, setConfig("k2", "v")); !errors.Is(err, context.Canceled) || errors.Is(err, quorum.ErrUnknownOutcome) {
		t.Fatal(err)
	}
}

func TestFailedDiskStopsTheNode(t *testing.T) {
	n := founded(t, config(t.TempDir()))
	n.BreakDisk()
	_, err := n.Propose(t.Context(), setConfig("k", "v"))
	if !errors.Is(err, quorum.ErrUnknownOutcome) || !errors.Is(err, quorum.ErrFailed) {
		t.Fatal(err)
	}
	<-n.Failed()
	if _, err := n.Propose(t.Context(), setConfig("k", "v")); !errors.Is(err, quorum.ErrFailed) || errors.Is(err, quorum.ErrUnknownOutcome) {
		t.Fatal(err)
	}
	if err := n.WaitLeader(t.Context()); err != nil && !errors.Is(err, quorum.ErrFailed) {
		t.Fatal(err)
	}
	closeNode(t, n)
}

func TestUnknownCommandStopsTheNodeAndIsNeverSkipped(t *testing.T) {
	c := config(t.TempDir())
	n := founded(t, c)
	propose(t, n, setConfig("k", "v"))
	index := n.Image().Index()
	const field500 = "\xa2\x1f\x00" // a kind that only a newer binary knows
	if err := n.ApplyRaw([]byte(field500)); !errors.Is(err, metadata.ErrUnknownCommand) {
		t.Fatal(err)
	}
	<-n.Failed()
	if err := n.Err(); !errors.Is(err, quorum.ErrFailed) || !errors.Is(err, metadata.ErrUnknownCommand) {
		t.Fatal(err)
	}
	if err := n.Snapshot(); err == nil {
		t.Fatal("a snapshot was taken over a hole")
	}
	closeNode(t, n)
	n, err := quorum.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	<-n.Failed()
	if got := n.Image().Index(); got != index {
		t.Fatalf("image at %d, the last known command is at %d", got, index)
	}
	closeNode(t, n)
}

func TestFinalisedVersionOfANewerBinaryStopsTheNode(t *testing.T) {
	n := open(t, config(t.TempDir()))
	cmd := initCluster()
	cmd.GetInitCluster().StrataVersion = metadata.MaxVersion + 1
	if _, err := n.Propose(t.Context(), cmd); !errors.Is(err, metadata.ErrUnsupportedVersion) {
		t.Fatal(err)
	}
	<-n.Failed()
	closeNode(t, n)
}

func TestFoldersThatAreRefused(t *testing.T) {
	refused := func(t *testing.T, want error, c quorum.Config) {
		t.Helper()
		n, err := quorum.Open(t.Context(), c)
		if err == nil {
			closeNode(t, n)
		}
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	write := func(t *testing.T, dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("newer format", func(t *testing.T) {
		c := config(t.TempDir())
		write(t, c.Dir, "format", quorum.FormatLine(2))
		refused(t, quorum.ErrNewerFormat, c)
	})
	t.Run("damaged format", func(t *testing.T) {
		c := config(t.TempDir())
		write(t, c.Dir, "format", quorum.FormatLine(1)[1:])
		refused(t, quorum.ErrForeignFolder, c)
	})
	t.Run("something else", func(t *testing.T) {
		c := config(t.TempDir())
		write(t, c.Dir, "diary.txt", "")
		refused(t, quorum.ErrForeignFolder, c)
	})
	t.Run("in use", func(t *testing.T) {
		c := config(t.TempDir())
		defer closeNode(t, founded(t, c))
		refused(t, quorum.ErrInUse, c)
	})
	t.Run("other broker", func(t *testing.T) {
		c := config(t.TempDir())
		closeNode(t, founded(t, c))
		c.NodeID = 2
		refused(t, quorum.ErrForeignFolder, c)
	})
	t.Run("other disk", func(t *testing.T) {
		c := config(t.TempDir())
		closeNode(t, founded(t, c))
		c.DirectoryID[5]++
		refused(t, quorum.ErrForeignFolder, c)
	})
	t.Run("nothing to join", func(t *testing.T) {
		c := config(t.TempDir())
		c.Bootstrap = false
		refused(t, quorum.ErrForeignFolder, c)
	})
}

func TestGoldenFormatLine(t *testing.T) {
	if got := quorum.FormatLine(1); got != "strata metadata 1 crc32c:b3ec4c2d\n" {
		t.Fatalf("%q", got)
	}
}

func TestNodeThatDoesNotLeadRefuses(t *testing.T) {
	c := config(t.TempDir())
	_, c.Transport = raft.NewInmemTransport("b")
	c.Bootstrap = false
	n, err := quorum.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Propose(t.Context(), initCluster()); !errors.Is(err, quorum.ErrNotLeader) {
		t.Fatal(err)
	}
	if n.IsLeader() || n.Leader() != protocol.NoBroker {
		t.Fatal("it leads")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := n.WaitLeader(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	closeNode(t, n)
	if err := n.WaitLeader(t.Context()); !errors.Is(err, quorum.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := n.Propose(t.Context(), initCluster()); !errors.Is(err, quorum.ErrClosed) {
		t.Fatal(err)
	}
	if err := n.Close(); !errors.Is(err, quorum.ErrClosed) {
		t.Fatal(err)
	}
}

func TestProposalsUnderWayAtCloseEnd(t *testing.T) {
	c := config(t.TempDir())
	n := founded(t, c)
	acked := make(chan string, 10_000)
	var work sync.WaitGroup
	for w := range 20 {
		work.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("k%d.%d", w, i)
				_, err := n.Propose(t.Context(), setConfig(name, "v"))
				if errors.Is(err, quorum.ErrClosed) || errors.Is(err, quorum.ErrUnknownOutcome) {
					return
				}
				if err != nil && !errors.Is(err, quorum.ErrNotLeader) {
					t.Error(err)
					return
				}
				if err == nil {
					acked <- name
				}
			}
		})
	}
	for range 100 {
		<-acked
	}
	closeNode(t, n)
	work.Wait()
	close(acked)
	n = open(t, c)
	defer closeNode(t, n)
	for name := range acked {
		if configOf(n.Image(), name) != "v" {
			t.Fatalf("%s was acknowledged and is lost", name)
		}
	}
}

func TestHeapOfAnIdleNode(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	n := founded(t, config(t.TempDir()))
	defer closeNode(t, n)
	propose(t, n, setConfig("k", "v"))
	used := int64(heap()) - int64(before)
	t.Logf("an idle node holds %.1f MB of heap", float64(used)/1e6)
	if used > 32<<20 {
		t.Errorf("an idle node holds %d MiB of heap", used>>20)
	}
}
