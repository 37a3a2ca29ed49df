package integration_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
)

// Short times, so that what is promised after some of them can be waited for.
const (
	sweepGrace    = time.Second
	sweepInterval = 500 * time.Millisecond
	// slack is what a busy machine may take beyond a promised time.
	slack = time.Second
)

// quickSweeps are the settings of these times.
func quickSweeps() map[string]string {
	return map[string]string{
		"strata.sweep.grace.ms":    strconv.FormatInt(sweepGrace.Milliseconds(), 10),
		"strata.sweep.interval.ms": strconv.FormatInt(sweepInterval.Milliseconds(), 10),
	}
}

// stop stops the broker as a person does, who was promised that it takes no more than a second.
func stop(t *testing.T, broker *harness.Broker) {
	t.Helper()
	took := broker.Stop()
	t.Logf("stopped in %s", took)
	if took > time.Second {
		t.Errorf("SIGTERM took %s", took)
	}
}

// TestYearsOfEventsRollIntoTheBucketAndBack is the whole journey: fifteen years of
// real events by a client that knows nothing of strata, onto disk, into a bucket,
// and back out, with every byte and the known answer.
func TestYearsOfEventsRollIntoTheBucketAndBack(t *testing.T) {
	for name, open := range harness.EachStore {
		t.Run(name, func(t *testing.T) {
			bucket := open(t)
			options := harness.Options{Bucket: bucket.URL, Env: bucket.Env, Set: quickSweeps()}
			options.Server = len(bucket.Env) > 0 // one of each
			j := &journey{t: t, bucket: bucket, data: realEvents(t), broker: harness.Start(t, options)}

			begun := time.Now()
			j.produce()
			produced := time.Since(begun)
			j.settle()
			t.Logf("produced in %s, at rest after %s", produced, time.Since(begun))
			j.check("first life")

			stop(t, j.broker)
			j.broker.Again()
			j.settle()
			j.check("after a clean restart")

			j.broker.Kill9()
			j.broker.Again()
			j.settle()
			j.check("after kill -9, with an empty cache")

			stop(t, j.broker)
			const least = 1 << 20
			j.broker.Set["strata.cache.bytes"] = strconv.Itoa(least)
			j.broker.Again()
			j.settle()
			j.check("with the least cache")
			if held := j.broker.Metrics().Sum(t, "strata_cache_bytes"); held > least {
				t.Errorf("the cache of %d bytes holds %.0f", least, held)
			}

			j.deleteTopic(2*sweepGrace + 2*sweepInterval + slack)
			bucket.VerifyClean()
		})
	}
}
