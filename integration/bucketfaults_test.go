package integration_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/integration/harness"
)

const (
	faultLimit  = time.Minute
	faultBudget = 12 << 20
)

// TestProduceOutlivesABucketInTrouble gives a broker's bucket one kind of trouble after the other, by a proxy before the
// real MinIO, while a producer goes on. Produce goes on, the log names the cause once, the metrics show
// the lag, and when it is over tiering catches up by itself; every record is there, and the bucket verifies.
func TestProduceOutlivesABucketInTrouble(t *testing.T) {
	bucket := harness.MinIOBucket(t)
	proxy := harness.NewProxy(t, bucket.Endpoint())
	broker := harness.Start(t, harness.Options{Bucket: bucket.Through(proxy), Env: bucket.Env, Set: map[string]string{
		"strata.upload.timeout.ms": "700", "remote.log.manager.task.interval.ms": "200", "log.retention.check.interval.ms": "200",
		"strata.sweep.grace.ms": "1500", "strata.sweep.interval.ms": "700",
	}})
	tr := newTraffic(t, broker.Addr, stream{"archive", 2, map[string]string{"segment.bytes": "1048576", "local.retention.bytes": "1", "retention.ms": "-1"}})
	tr.start(1, rand.Uint64(), 3<<20)
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	always := func(f harness.Fault) func(*http.Request) harness.Fault {
		return func(*http.Request) harness.Fault { return f }
	}
	for _, c := range []struct {
		name  string
		fault func(*http.Request) harness.Fault
		cause string // that the log names; "" where uploads go on
	}{
		{"down", always(harness.Fault{Drop: true}), "does not answer"},
		{"slow", always(harness.Fault{Delay: 200 * time.Millisecond}), ""},
		{"every third request fails", func(*http.Request) harness.Fault {
			mu.Lock()
			defer mu.Unlock()
			if rng.IntN(10) < 3 {
				return harness.Fault{Status: http.StatusInternalServerError, Code: "InternalError"}
			}
			return harness.Fault{}
		}, ""},
		{"writes that land are answered too late", func(r *http.Request) harness.Fault { return harness.Fault{Late: r.Method == http.MethodPut} }, "deadline exceeded"},
		{"full", func(r *http.Request) harness.Fault {
			if r.Method == http.MethodPut {
				return harness.Fault{Status: http.StatusInsufficientStorage, Code: "XMinioStorageFull"}
			}
			return harness.Fault{}
		}, "store is full"},
		{"wrong keys", always(harness.Fault{Status: http.StatusForbidden, Code: "InvalidAccessKeyId"}), "access denied"},
		{"gone", always(harness.Fault{Status: http.StatusNotFound, Code: "NoSuchBucket"}), "bucket does not exist"},
	} {
		before, logged := tr.bytes.Load(), len(logOf(broker))
		proxy.SetFault(c.fault)
		harness.Eventually(t, faultLimit, c.name+": produce goes on", func() error {
			if n := tr.bytes.Load() - before; n < 4<<20 {
				return fmt.Errorf("%d bytes were acknowledged", n)
			}
			return nil
		})
		if c.cause != "" {
			harness.Eventually(t, faultLimit, c.name+": log and metrics tell", func() error {
				text := logOf(broker)[logged:]
				if !strings.Contains(text, c.cause) || !strings.Contains(text, "bucket=") {
					return fmt.Errorf("the log does not name %q and the bucket", c.cause)
				}
				m := broker.Metrics()
				if m.Sum(t, "kafka_server_brokertopicmetrics_remotecopylagbytes", `topic="archive"`) == 0 ||
					m.Sum(t, "kafka_server_brokertopicmetrics_remotecopylagsegments", `topic="archive"`) == 0 || m.Sum(t, "kafka_server_brokertopicmetrics_remotecopyerrors_total") == 0 && c.name == "down" {
					return errors.New("the metrics show no lag or no error")
				}
				return nil
			})
			if n := strings.Count(logOf(broker)[logged:], "tiering turn failed"); n > 6 {
				t.Errorf("%s: %d lines about failed uploads", c.name, n)
			}
		}
		proxy.SetFault(nil)
		reached := tr.bytes.Load()
		harness.Eventually(t, faultLimit, c.name+": tiering catches up by itself", func() error {
			m := broker.Metrics()
			if lag := m.Sum(t, "kafka_server_brokertopicmetrics_remotecopylagbytes", `topic="archive"`); lag > 4<<20 {
				return fmt.Errorf("%.0f bytes behind", lag)
			}
			return nil
		})
		t.Logf("%s: %d MiB were acknowledged meanwhile", c.name, (reached-before)>>20)
	}
	tr.unloaded()
	tr.finish()
	awaitRest(t, broker.Metrics)
	bucket.VerifyClean()
	tr.replay("after all the trouble")
}

// logOf is what the broker has logged so far.
func logOf(b *harness.Broker) string {
	_, text := b.Log()
	return text
}

// outageTime is how long the outage goes on once produce is refused.
func outageTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("STRATA_TEST_OUTAGE")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("STRATA_TEST_OUTAGE=%s: %v", text, err)
	}
	return d
}

// TestAnOutageStaysWithinTheDiskBudget lets the bucket be away until the logs have used up their budget: then
// produce is refused, reads go on, and all goes on by itself when the bucket is back. STRATA_TEST_OUTAGE makes it longer.
func TestAnOutageStaysWithinTheDiskBudget(t *testing.T) {
	bucket := harness.MinIOBucket(t)
	proxy := harness.NewProxy(t, bucket.Endpoint())
	broker := harness.Start(t, harness.Options{Bucket: bucket.Through(proxy), Env: bucket.Env, Set: map[string]string{
		"strata.upload.timeout.ms": "1000", "remote.log.manager.task.interval.ms": "200", "strata.disk.budget.bytes": fmt.Sprint(faultBudget),
	}})
	tr := newTraffic(t, broker.Addr, stream{"archive", 2, map[string]string{"segment.bytes": "1048576", "retention.ms": "-1"}})
	proxy.SetFault(func(*http.Request) harness.Fault { return harness.Fault{Drop: true} })
	tr.start(1, rand.Uint64(), 8<<20)
	used := func() float64 { return broker.Metrics().Sum(t, "kafka_log_log_size") }
	harness.Eventually(t, faultLimit, "produce is refused", func() error {
		if broker.Metrics().Sum(t, "strata_disk_over_budget") != 1 {
			return fmt.Errorf("%.0f bytes of logs", used())
		}
		return nil
	})
	c := broker.Client(kgo.ConsumeTopics("archive"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err := c.PollFetches(t.Context()).Err(); err != nil {
		t.Errorf("reads beside refused produce: %v", err)
	}
	// What is written between two looks at the logs may come on top.
	if n := used(); n > faultBudget+8<<20 {
		t.Errorf("%.0f bytes of logs, the budget is %d", n, faultBudget)
	}
	for end := time.Now().Add(outageTime(t)); time.Now().Before(end); time.Sleep(time.Second) {
		if n := used(); n > faultBudget+8<<20 {
			t.Fatalf("%.0f bytes of logs in the outage, the budget is %d", n, faultBudget)
		}
		if broker.Metrics().Sum(t, "kafka_server_brokertopicmetrics_remotecopylagbytes", `topic="archive"`) == 0 {
			t.Fatal("the metrics show no lag in the outage")
		}
	}
	if n, most := strings.Count(logOf(broker), "tiering turn failed"), 6+2*int(outageTime(t).Minutes()); n > most {
		t.Errorf("%d lines about failed uploads, want %d at most", n, most)
	}
	before := tr.bytes.Load()
	proxy.SetFault(nil)
	harness.Eventually(t, faultLimit, "produce and uploads go on", func() error {
		if n := tr.bytes.Load() - before; n < 8<<20 {
			return fmt.Errorf("%d more bytes were acknowledged", n)
		}
		return nil
	})
	tr.unloaded()
	tr.finish()
	harness.Eventually(t, faultLimit, "the logs are within their budget", func() error {
		if n := used(); n > faultBudget {
			return fmt.Errorf("%.0f bytes of logs", n)
		}
		return nil
	})
	tr.replay("after the outage")
	// The root may wait a while before it is tried again.
	harness.Eventually(t, faultLimit, "the bucket verifies", func() error {
		if r := bucket.Verify(); r.Code != 0 {
			return fmt.Errorf("exit status %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
}
