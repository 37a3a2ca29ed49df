package integration_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/broker"
	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/recovery"
)

const (
	lateTopic    = "late"
	lateGrace    = 500 * time.Millisecond
	lateInterval = 250 * time.Millisecond
	lateLimit    = 30 * time.Second // for each thing that must come true
	// lateSegment is a value's size; so many fill a bit more than one segment.
	lateValue, lateValues = 16 << 10, 80
	longUpload            = "60000" // strata.upload.timeout.ms: an upload outlasts all that is held here
	shortUpload           = "100"   // one is given up after that and the second that its size is given
)

// lateSettings are a broker's with quick sweeps.
func lateSettings(uploadTimeout string) map[string]string {
	return map[string]string{
		"strata.sweep.grace.ms":               strconv.FormatInt(lateGrace.Milliseconds(), 10),
		"strata.sweep.interval.ms":            strconv.FormatInt(lateInterval.Milliseconds(), 10),
		"strata.upload.timeout.ms":            uploadTimeout,
		"log.retention.check.interval.ms":     "100",
		"remote.log.manager.task.interval.ms": "200",
	}
}

// late is a broker whose upload is held back, and what must be true of it in the end.
type late struct {
	t       *testing.T
	tr      *traffic
	client  *kgo.Client
	store   object.Store
	metrics func() harness.Metrics
	sent    int
}

func newLate(t *testing.T, addr string, store object.Store, metrics func() harness.Metrics) *late {
	t.Helper()
	tr := newTraffic(t, addr, stream{lateTopic, 1, map[string]string{"segment.bytes": "1048576", "local.retention.bytes": "1", "retention.ms": "-1"}})
	return &late{t: t, tr: tr, client: tr.producer(), store: store, metrics: metrics}
}

// fill writes more than one segment and waits until it is acknowledged.
func (l *late) fill() {
	l.t.Helper()
	for range lateValues {
		l.tr.send(l.client, 0, lateTopic, 0, fmt.Sprint("value-", l.sent), lateValue)
		l.sent++
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), lateLimit)
	defer cancel()
	if err := l.client.Flush(ctx); err != nil {
		l.t.Fatal(err)
	}
}

// nameOfPut is the segment object that a PUT is for.
func nameOfPut(t *testing.T, path string) (key string, name format.Name) {
	t.Helper()
	_, rest, found := strings.Cut(path, "/"+format.DataPrefix)
	key = format.DataPrefix + rest
	name, err := format.ParseKey(key)
	if !found || err != nil || name.Kind != format.SegmentObject {
		t.Fatalf("held %s, which is no segment object: %v", path, err)
	}
	return key, name
}

// awaitFloorAbove waits until sweep rounds have gone by and refuse what began with the attempt.
func (l *late) awaitFloorAbove(attempt metadata.Attempt) {
	l.t.Helper()
	harness.Eventually(l.t, lateLimit, "the sweep floor is above the held attempt", func() error {
		opened, err := recovery.Open(l.t.Context(), l.store)
		if err != nil {
			return err
		}
		if floor := opened.Image.Bucket().Floor; floor.Compare(attempt) <= 0 {
			return fmt.Errorf("it is %s, the attempt %s", floor, attempt)
		}
		return nil
	})
	rounds := l.metrics().Sum(l.t, "strata_sweeper_rounds_total")
	l.awaitMetric("strata_sweeper_rounds_total", rounds+2)
}

func (l *late) awaitMetric(name string, least float64) {
	l.t.Helper()
	harness.Eventually(l.t, lateLimit, name, func() error {
		if is := l.metrics().Sum(l.t, name); is < least {
			return fmt.Errorf("it is %.0f, want %.0f", is, least)
		}
		return nil
	})
}

func (l *late) refused() float64 {
	l.t.Helper()
	return l.metrics().Sum(l.t, "strata_archiver_refused_attempts_total")
}

// awaitTiered waits until all below end is in the bucket, by whatever attempt.
func (l *late) awaitTiered(end protocol.Offset) {
	l.t.Helper()
	l.awaitMetric("strata_log_tiered_end_offset", float64(end))
}

// check says what must be true once the late upload has arrived: it is in no
// manifest, another object holds what it holds, it goes in the time promised,
// the bucket verifies, and all that was acknowledged comes back.
func (l *late) check(lateKey string, name format.Name) {
	l.t.Helper()
	l.awaitTiered(name.End)
	l.fill()
	awaitRest(l.t, l.metrics)
	l.notNamed(lateKey, name)
	longest, many := awaitNoOrphans(l.t, l.store, 2*lateGrace+2*lateInterval)
	for info, err := range l.store.List(l.t.Context(), "", "") {
		if err != nil {
			l.t.Fatal(err)
		}
		if info.Key == lateKey {
			l.t.Errorf("the late object is still there: %s", lateKey)
		}
	}
	l.settled()
	l.t.Logf("of %d orphans none was there for longer than %s; refused %.0f; %s", many, longest.Round(time.Millisecond), l.refused(), l.tr)
}

// settled is what must be true after anything.
func (l *late) settled() {
	l.t.Helper()
	var found []string
	report, err := recovery.Verify(l.t.Context(), l.store, recovery.Options{Found: func(a recovery.Anomaly) { found = append(found, a.String()) }})
	if err != nil || !report.Clean() {
		l.t.Errorf("the bucket does not verify: %v, %s", err, strings.Join(found, "\n"))
	}
	l.tr.replay("in the end")
}

func (l *late) notNamed(lateKey string, name format.Name) {
	l.t.Helper()
	opened, err := recovery.Open(l.t.Context(), l.store)
	if err != nil {
		l.t.Fatal(err)
	}
	covered := false
	for s, err := range opened.Segments(l.t.Context(), lateTopic) {
		if err != nil {
			l.t.Fatal(err)
		}
		if s.ObjectKey == lateKey {
			l.t.Errorf("a manifest names the late object: %s", s)
		}
		covered = covered || s.Base <= name.Base && name.End <= s.End
	}
	if !covered {
		l.t.Errorf("no object holds [%d, %d)", name.Base, name.End)
	}
}

// proxied is a broker of its own process, with a proxy before its MinIO.
type proxied struct {
	*late
	broker *harness.Broker
	bucket *harness.Bucket
	proxy  *harness.Proxy
}

func startProxied(t *testing.T, uploadTimeout string) *proxied {
	t.Helper()
	bucket := harness.MinIOBucket(t)
	proxy := harness.NewProxy(t, bucket.Endpoint())
	b := harness.Start(t, harness.Options{Bucket: bucket.Through(proxy), Env: bucket.Env, Set: lateSettings(uploadTimeout)})
	return &proxied{late: newLate(t, b.Addr, bucket.Store, b.Metrics), broker: b, bucket: bucket, proxy: proxy}
}

// hold holds back the next upload of a segment, and no other.
func (p *proxied) hold() (key string, name format.Name) {
	p.t.Helper()
	first := ""
	p.proxy.HoldPuts(func(path string) bool {
		if first == "" && strings.HasSuffix(path, ".seg") {
			first = path
		}
		return path == first
	})
	p.fill()
	p.proxy.AwaitHeld(1, lateLimit)
	return nameOfPut(p.t, p.proxy.Held()[0].Path)
}

// letThrough releases what is held, and waits until the store has it.
func (p *proxied) letThrough() harness.HeldPut {
	p.t.Helper()
	p.proxy.Release()
	p.proxy.AwaitAnswered(lateLimit)
	held := p.proxy.Held()[0]
	if held.Status != http.StatusOK {
		p.t.Fatalf("the store answered the late PUT with %d", held.Status)
	}
	return held
}

// pausedFor waits until a pause that began at since is longer than so many graces.
func (p *proxied) pausedFor(since time.Time, graces int) {
	p.t.Helper()
	harness.Eventually(p.t, lateLimit, "the broker was paused long enough", func() error {
		if is := time.Since(since); is < time.Duration(graces)*lateGrace {
			return fmt.Errorf("for %s", is)
		}
		return nil
	})
}

func TestAnUploadHeldBackByTheNetworkIsRefusedAndDoneAgain(t *testing.T) {
	p := startProxied(t, longUpload)
	key, name := p.hold()
	p.awaitFloorAbove(name.Attempt)
	if held := p.letThrough(); held.Gone {
		t.Fatal("the upload was given up: nothing is tested here")
	}
	p.awaitMetric("strata_archiver_refused_attempts_total", 1)
	p.check(key, name)
	p.bucket.VerifyClean()
}

func TestAnUploadGivenUpAndArrivingLateIsSweptAndNeverNamed(t *testing.T) {
	p := startProxied(t, shortUpload)
	key, name := p.hold()
	p.awaitMetric("kafka_server_brokertopicmetrics_remotecopyerrors_total", 1)
	p.awaitTiered(name.End) // by the next attempt
	p.awaitFloorAbove(name.Attempt)
	if held := p.letThrough(); !held.Gone {
		t.Fatal("the upload was not given up: nothing is tested here")
	}
	p.check(key, name)
	p.bucket.VerifyClean()
}

func TestAnUploadThatArrivesWhileTheBrokerIsStoppedIsRefusedAndDoneAgain(t *testing.T) {
	p := startProxied(t, longUpload)
	key, name := p.hold()
	p.awaitFloorAbove(name.Attempt)
	p.broker.Pause()
	since := time.Now()
	p.letThrough()
	p.pausedFor(since, 3)
	p.broker.Resume()
	p.awaitMetric("strata_archiver_refused_attempts_total", 1)
	p.check(key, name)
	p.bucket.VerifyClean()
}

// The broker sleeps through the grace with an attempt that no floor refuses yet.
// When it wakes, the commit and the sweep are in a race that either may win.
func TestAnAttemptThatSleptThroughTheGraceIsTakenWholeOrRefused(t *testing.T) {
	for _, uploadTimeout := range []string{longUpload, shortUpload} {
		t.Run("upload timeout "+uploadTimeout, func(t *testing.T) {
			p := startProxied(t, uploadTimeout)
			key, name := p.hold()
			p.broker.Pause()
			since := time.Now()
			p.pausedFor(since, 2)
			p.letThrough()
			p.pausedFor(since, 5)
			p.broker.Resume()
			p.awaitTiered(name.End)
			p.fill()
			awaitRest(t, p.metrics)
			longest, many := awaitNoOrphans(t, p.store, 2*lateGrace+2*lateInterval)
			p.settled()
			p.bucket.VerifyClean()
			t.Logf("%s: refused %.0f; of %d orphans none was there for longer than %s", key, p.refused(), many, longest.Round(time.Millisecond))
		})
	}
}

// namingStore remembers the first segment object that was to be put.
type namingStore struct {
	*objecttest.Faulty
	mu    sync.Mutex
	first string // guarded by mu
}

// Put implements object.Store.
func (s *namingStore) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	s.mu.Lock()
	if s.first == "" && strings.HasSuffix(key, ".seg") {
		s.first = key
	}
	s.mu.Unlock()
	return s.Faulty.Put(ctx, key, body, size)
}

func (s *namingStore) firstSegment() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// inProcess is a broker in the test's own process over a store that can hold.
func inProcess(t *testing.T, uploadTimeout string) (*late, *namingStore) {
	t.Helper()
	settings := lateSettings(uploadTimeout)
	for name, value := range map[string]string{
		"node.id": "1", "process.roles": "broker,controller", "listeners": "PLAINTEXT://" + harness.FreeAddress(t), "log.dirs": t.TempDir(),
		"offsets.topic.replication.factor": "1", "strata.http.listen": harness.FreeAddress(t), "strata.bucket.url": "dir:///in-memory",
	} {
		settings[name] = value
	}
	static, _, err := metadata.NewStatic(settings)
	if err == nil {
		err = static.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	store := &namingStore{Faulty: objecttest.NewFaulty(mem.New())}
	fatal := func(err error) { panic(err) }
	b, err := broker.New(t.Context(), broker.Config{Static: static, Logger: slog.New(slog.DiscardHandler), Store: store, Fatal: fatal})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}))
	harness.Eventually(t, lateLimit, "the broker is ready", func() error {
		if !b.Ready() {
			return errors.New("not yet")
		}
		return nil
	})
	_, addr, _ := strings.Cut(b.Listeners()[0], "://")
	return newLate(t, addr, store, func() harness.Metrics { return scrape(t, b.HTTP()) }), store
}

// scrape reads the metrics of a broker that the harness did not start.
func scrape(t *testing.T, addr string) harness.Metrics {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	out := harness.Metrics{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		sample, value, found := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); found && err == nil && sample != "#" {
			out[sample] = n
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnUploadHeldBackByTheStoreIsRefusedAndDoneAgain(t *testing.T) {
	for _, c := range []struct {
		name, uploadTimeout string
		givenUp             bool
	}{{"waited for", longUpload, false}, {"given up", shortUpload, true}} {
		t.Run(c.name, func(t *testing.T) {
			l, store := inProcess(t, c.uploadTimeout)
			gate := objecttest.NewHold()
			store.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: `\.seg$`, Times: 1, Hold: gate})
			l.fill()
			ctx, cancel := context.WithTimeout(t.Context(), lateLimit)
			defer cancel()
			if err := gate.Held(ctx, 1); err != nil {
				t.Fatal(err)
			}
			key := store.firstSegment()
			name, err := format.ParseKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if c.givenUp {
				l.awaitMetric("kafka_server_brokertopicmetrics_remotecopyerrors_total", 1)
				l.awaitTiered(name.End)
			}
			l.awaitFloorAbove(name.Attempt)
			gate.Release()
			if err := gate.Finished(ctx, 1); err != nil {
				t.Fatal(err)
			}
			if !c.givenUp {
				l.awaitMetric("strata_archiver_refused_attempts_total", 1)
			}
			l.check(key, name)
		})
	}
}
