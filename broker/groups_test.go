package broker_test

import (
	"bufio"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/tiering/object/mem"
)

// scrape gives the metrics without labels.
func (n node) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.HTTP()+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	out := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 16<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			out[name] = v
		}
	}
	return out
}

// consumer is a member of a group g that has consumed a record and committed that.
func (n node) consumer(t *testing.T) *kgo.Client {
	t.Helper()
	if err := n.client(t).ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	c := n.client(t, kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.DisableAutoCommit())
	var records []*kgo.Record
	for len(records) == 0 && t.Context().Err() == nil {
		records = c.PollFetches(t.Context()).Records()
	}
	if err := c.CommitRecords(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMetricsOfGroups: what groups are and hold is told over HTTP, and goes with them.
func TestMetricsOfGroups(t *testing.T) {
	n, err := start(t, filepath.Join(t.TempDir(), "d"), mem.New(), "offsets.topic.num.partitions", "2")
	if err != nil {
		t.Fatal(err)
	}
	defer n.stop()
	c := n.consumer(t)
	m := n.scrape(t)
	const manager, metrics = "kafka_coordinator_group_groupmetadatamanager_", "kafka_server_group_coordinator_metrics_"
	for name, want := range map[string]float64{
		manager + "numgroups": 1, manager + "numgroupsstable": 1, manager + "numgroupsempty": 0, manager + "numoffsets": 1,
		metrics + "offset_expiration_count": 0,
	} {
		if got, ok := m[name]; !ok || got != want {
			t.Errorf("%s is %v (told: %v), want %v", name, got, ok, want)
		}
	}
	if m[metrics+"group_completed_rebalance_count"] < 1 || m[metrics+"offset_commit_count"] < 1 {
		t.Error("no rebalance or no commit was counted")
	}
	if used, limit := m["strata_group_memory_bytes"], m["strata_group_memory_limit_bytes"]; used <= 0 || used > limit {
		t.Errorf("%v of %v bytes", used, limit)
	}
	c.Close() // leaves the group
	admin := n.client(t)
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Groups = []string{"g"}
	for {
		resp, err := del.RequestWith(t.Context(), admin)
		if err != nil {
			t.Fatal(err)
		}
		if code := resp.Groups[0].ErrorCode; code == 0 {
			break
		} else if code != kerr.NonEmptyGroup.Code {
			t.Fatalf("delete the group: %v", kerr.ErrorForCode(code))
		}
		time.Sleep(50 * time.Millisecond) // its member is leaving
	}
	m = n.scrape(t)
	for _, name := range []string{manager + "numgroups", manager + "numoffsets", "strata_group_memory_bytes"} {
		if m[name] != 0 {
			t.Errorf("%s is %v after the deletion", name, m[name])
		}
	}
}

// TestTheOffsetsTopicIsTheGroupsAlone: a client can neither write to it nor change its number of partitions, by
// which groups find their offsets.
func TestTheOffsetsTopicIsTheGroupsAlone(t *testing.T) {
	n, err := start(t, filepath.Join(t.TempDir(), "d"), mem.New(), "offsets.topic.num.partitions", "2")
	if err != nil {
		t.Fatal(err)
	}
	defer n.stop()
	n.consumer(t) // a group, so that the topic exists
	writer := n.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	err = writer.ProduceSync(t.Context(), &kgo.Record{Topic: "__consumer_offsets", Value: []byte("x")}).FirstErr()
	if err == nil || kerr.TypedErrorForCode(kerr.InvalidTopicException.Code).Error() != err.Error() {
		t.Errorf("produce to __consumer_offsets: %v", err)
	}
	more := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = "__consumer_offsets", 3
	more.TimeoutMillis, more.Topics = 30_000, []kmsg.CreatePartitionsRequestTopic{topic}
	resp, err := more.RequestWith(t.Context(), writer)
	if err != nil || resp.Topics[0].ErrorCode != kerr.InvalidPartitions.Code {
		t.Errorf("add partitions to __consumer_offsets: %v %+v", err, resp)
	}
}
