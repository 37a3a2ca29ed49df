package integration_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/tiering/format"
)

const (
	killGrace    = 600 * time.Millisecond
	killInterval = 300 * time.Millisecond
	readyLimit   = time.Minute // from the start of the process after kill -9, on however busy a machine; what it took is reported
	longestLife  = 900 * time.Millisecond
	shortPause   = 400 * time.Millisecond
	longPause    = 12 * time.Second // beyond broker.session.timeout.ms
)

// numberOf is a count or seed from the environment.
func numberOf(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: want a number", variable, text)
	}
	return n
}

// report tells what a long test counted: in its log, and for those who run all
// tests in the file that STRATA_TEST_REPORT names.
func report(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf(format, args...)
	name := os.Getenv("STRATA_TEST_REPORT")
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, t.Name()+": "+format+"\n", args...)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// killStreams are a topic whose whole history stays, mostly in the bucket, and
// one whose log start moves on.
func killStreams() []stream {
	small := map[string]string{"segment.bytes": "1048576", "local.retention.bytes": "1", "retention.ms": "-1"}
	short := map[string]string{"segment.bytes": "1048576", "local.retention.bytes": "1", "retention.ms": "-1", "retention.bytes": "3000000"}
	return []stream{{"archive", 4, small}, {"short", 2, short}}
}

// TestKillsAtRandomMomentsLoseNothing kills the broker with -9 at random moments,
// and stops it with SIGSTOP for a while, under an idempotent acks=all load with
// tiering on. STRATA_TEST_KILLS says how often, and lets one of ten pauses be
// longer than a session; STRATA_TEST_SEED repeats the moments.
func TestKillsAtRandomMomentsLoseNothing(t *testing.T) {
	kills := int(numberOf(t, "STRATA_TEST_KILLS", 50))
	seed := numberOf(t, "STRATA_TEST_SEED", rand.Uint64())
	harness.OnEachStore(t, func(t *testing.T, bucket *harness.Bucket) {
		t.Helper()
		begun := time.Now()
		broker := harness.Start(t, harness.Options{Bucket: bucket.URL, Env: bucket.Env, Set: map[string]string{
			"strata.sweep.grace.ms":                   strconv.FormatInt(killGrace.Milliseconds(), 10),
			"strata.sweep.interval.ms":                strconv.FormatInt(killInterval.Milliseconds(), 10),
			"offsets.topic.num.partitions":            "4",
			"log.retention.check.interval.ms":         "100",
			"log.flush.offset.checkpoint.interval.ms": "150",
			"remote.log.manager.task.interval.ms":     "200",
		}})
		tr := newTraffic(t, broker.Addr, killStreams()...)
		tr.start(2, seed, 4<<20)
		k := &killer{t: t, broker: broker, rng: rand.New(rand.NewPCG(seed, 0)), long: os.Getenv("STRATA_TEST_KILLS") != ""}
		for k.kills < kills && !t.Failed() {
			k.kill()
		}
		if t.Failed() {
			t.FailNow()
		}
		tr.unloaded()
		tr.finish()
		awaitRest(t, broker.Metrics)
		oldest, many := awaitNoOrphans(t, bucket.Store, 2*killGrace+2*killInterval)
		bucket.VerifyClean()
		tr.replay("after the kills")
		report(t, "%d kills (seed %d, %d of them before the broker was ready) and %d pauses (%d longer than a session) in %s: ready again in %s at most, %s in the middle; %s; %d MiB in %d segment objects; of %d orphans none was there for longer than %s",
			k.kills, seed, k.early, k.pauses, k.longPauses, time.Since(begun).Round(time.Second), slices.Max(k.ready).Round(time.Millisecond), median(k.ready).Round(time.Millisecond),
			tr, tr.bytes.Load()>>20, len(bucket.Keys(format.SegmentObject)), many, oldest.Round(time.Millisecond))
		broker.Stop()
		broker.Again()
		tr.replay("after a clean restart")
		bucket.VerifyClean()
	})
}

// killer kills a broker and starts it again.
type killer struct {
	t          *testing.T
	broker     *harness.Broker
	rng        *rand.Rand
	long       bool // some pauses are longer than a session
	kills      int
	early      int             // of a broker that was not ready
	pauses     int             // by SIGSTOP
	longPauses int             // of them
	ready      []time.Duration // from the start of a process that lived until it was ready
}

// kill lets the broker live for a random time, kills it, and starts it again; in
// one of four cases it is paused before, in half of those it dies while it is. In
// one of four cases the start is killed as well.
func (k *killer) kill() {
	<-time.After(time.Duration(k.rng.Int64N(int64(longestLife))))
	if k.rng.IntN(4) == 0 {
		k.pause()
	}
	k.broker.Kill9()
	k.kills++
	if k.rng.IntN(4) == 0 {
		k.killStart()
	}
	k.broker.Again()
	k.ready = append(k.ready, k.broker.ReadyIn)
	if k.broker.ReadyIn > readyLimit {
		k.t.Errorf("after kill %d the broker was ready in %s, the limit is %s", k.kills, k.broker.ReadyIn, readyLimit)
	}
}

// pause stops the process for a while; half of the times it goes on and lives for another while.
func (k *killer) pause() {
	k.broker.Pause()
	k.pauses++
	length := time.Duration(k.rng.Int64N(int64(shortPause)))
	if k.long && k.rng.IntN(10) == 0 {
		length = longPause
		k.longPauses++
	}
	<-time.After(length)
	if k.rng.IntN(2) == 0 {
		return
	}
	k.broker.Resume()
	<-time.After(time.Duration(k.rng.Int64N(int64(longestLife))))
}

// killStart starts a process in the broker's place and kills it on its way.
func (k *killer) killStart() {
	o := k.broker.Options
	o.Args = append(slices.Clone(o.Args), "--listen", k.broker.Addr, "--http", k.broker.HTTP)
	start := harness.Launch(k.t, o)
	<-time.After(time.Duration(k.rng.Int64N(int64(150 * time.Millisecond))))
	start.Kill9()
	k.kills++
	k.early++
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
