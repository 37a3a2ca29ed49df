package integration_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/recovery"
)

const settleLimit = time.Minute

// createTopic creates a topic whose sealed segments live in the bucket only.
func createTopic(t *testing.T, client *kgo.Client, topic string, partitions int32) {
	t.Helper()
	settings := map[string]*string{
		"segment.bytes": kadm.StringPtr("1048576"), "retention.ms": kadm.StringPtr("-1"), "local.retention.bytes": kadm.StringPtr("1"),
	}
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, 1, settings, topic); err != nil {
		t.Fatal(err)
	}
}

// fill creates a topic and writes bytes of records to it that no two are alike.
func fill(t *testing.T, broker *harness.Broker, topic string, partitions int32, bytes int) {
	t.Helper()
	client := broker.Client(
		kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(64<<10),
	)
	defer client.Close()
	createTopic(t, client, topic, partitions)
	random := rand.NewChaCha8([32]byte{})
	var records []*kgo.Record
	const size = 1024
	for n := range bytes / size {
		value := make([]byte, size)
		_, _ = random.Read(value) // it has no error
		records = append(records, &kgo.Record{Key: []byte(strconv.Itoa(n)), Value: value})
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// settle waits until the broker is at rest: every sealed segment of the topic is in the bucket,
// there only, and named by the newest root, and the sweeper has removed all else.
// It returns the topic's segments and, by partition, the first offset that is not in the bucket.
func settle(t *testing.T, broker *harness.Broker, bucket *harness.Bucket, topic string, partitions int) (segments []recovery.SegmentInfo, hotStart []int64) {
	t.Helper()
	harness.Eventually(t, settleLimit, "the broker comes to rest", func() (err error) {
		if hotStart, err = uploaded(t, broker, topic, partitions); err != nil {
			return err
		}
		if segments, err = bucket.Segments(topic); err != nil {
			return err
		}
		if err := tiled(segments, hotStart); err != nil {
			return err
		}
		return swept(bucket, segments, hotStart)
	})
	return segments, hotStart
}

// uploaded tells from the metrics whether only the active segments are local.
func uploaded(t *testing.T, broker *harness.Broker, topic string, partitions int) (tieredEnds []int64, err error) {
	t.Helper()
	m := broker.Metrics()
	for p := range partitions {
		labels := []string{fmt.Sprintf(`topic="%s"`, topic), fmt.Sprintf(`partition="%d"`, p)}
		value := func(name string) int64 { return int64(m.Sum(t, name, labels...)) }
		if lag := value("kafka_server_brokertopicmetrics_remotecopylagsegments"); lag != 0 {
			return nil, fmt.Errorf("partition %d: %d segments to upload", p, lag)
		}
		if n := value("kafka_log_log_numlogsegments"); n != 1 {
			return nil, fmt.Errorf("partition %d: %d local segments", p, n)
		}
		end := value("strata_log_tiered_end_offset")
		if local := value("strata_log_local_start_offset"); local != end {
			return nil, fmt.Errorf("partition %d: local from %d, tiered to %d", p, local, end)
		}
		tieredEnds = append(tieredEnds, end)
	}
	return tieredEnds, nil
}

// tiled tells whether the segments cover each partition from 0 to its tiered end.
func tiled(segments []recovery.SegmentInfo, tieredEnds []int64) error {
	ends := make([]int64, len(tieredEnds))
	for _, s := range segments {
		if ends[s.Partition] != int64(s.Base) {
			return fmt.Errorf("partition %d: an entry from %d after one to %d", s.Partition, s.Base, ends[s.Partition])
		}
		ends[s.Partition] = int64(s.End)
	}
	if !slices.Equal(ends, tieredEnds) {
		return fmt.Errorf("the newest root covers %d, the tiered ends are %d", ends, tieredEnds)
	}
	return nil
}

// swept tells whether the bucket's only topic has no objects but these segments and one manifest for each partition.
func swept(bucket *harness.Bucket, segments []recovery.SegmentInfo, tieredEnds []int64) error {
	var reached []string
	for _, s := range segments {
		reached = append(reached, s.ObjectKey)
	}
	slices.Sort(reached)
	if listed := bucket.Keys(format.SegmentObject); !slices.Equal(listed, reached) {
		return fmt.Errorf("%d segment objects are listed, the newest root reaches %d", len(listed), len(reached))
	}
	manifests := 0
	for _, end := range tieredEnds {
		if end > 0 {
			manifests++
		}
	}
	if listed := bucket.Keys(format.ManifestObject); len(listed) != manifests {
		return fmt.Errorf("%d manifest objects are listed, %d partitions have one", len(listed), manifests)
	}
	return nil
}
