package integration_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

const nibbles = 60 // fetches by hand around the seam between the tiers

// nibble fetches with small limits, from all partitions at once, most of them near the seam:
// a reader must not see where the bucket ends, and no answer may be larger than was asked for.
func (j *journey) nibble() {
	j.t.Helper()
	client := j.broker.Client()
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(j.t.Context(), changes)
	if err != nil {
		j.t.Fatal(err)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range nibbles {
		request := j.bite(random, topics[changes].ID)
		// A bucket that is slow to answer leaves an answer empty; then a client asks again.
		harness.Eventually(j.t, clientLimit, "a fetch is served", func() error {
			response, err := client.Broker(1).Request(j.t.Context(), request)
			if err != nil {
				return err
			}
			return j.chew(request, response.(*kmsg.FetchResponse))
		})
		if j.t.Failed() {
			j.t.Fatalf("seed %d, request %+v", seed, request)
		}
	}
}

func (j *journey) bite(random *rand.Rand, id kadm.TopicID) *kmsg.FetchRequest {
	limits := []int32{1, 20 << 10, 100 << 10, 300 << 10, 2 << 20}
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = changes, id
	for _, p := range random.Perm(partitions) {
		partition := kmsg.NewFetchRequestTopicPartition()
		partition.Partition, partition.PartitionMaxBytes = int32(p), limits[random.IntN(len(limits))]
		partition.FetchOffset = random.Int64N(int64(len(j.acked[p])))
		if random.IntN(4) > 0 {
			partition.FetchOffset = min(max(0, j.hotStart[p]-900+random.Int64N(1000)), int64(len(j.acked[p]))-1)
		}
		topic.Partitions = append(topic.Partitions, partition)
	}
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = 5000, 1, limits[random.IntN(len(limits))]
	request.Topics = append(request.Topics, topic)
	return request
}

// chew checks one answer. The first partition asked for gets at least a batch, which alone
// may be larger than the limits (KIP-74); so none starves whose turn comes.
func (j *journey) chew(request *kmsg.FetchRequest, response *kmsg.FetchResponse) error {
	j.t.Helper()
	if response.ErrorCode != 0 || len(response.Topics) != 1 || len(response.Topics[0].Partitions) != partitions {
		return fmt.Errorf("answer %+v", response)
	}
	total := 0
	for i, p := range response.Topics[0].Partitions {
		asked := request.Topics[0].Partitions[i]
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil || p.Partition != asked.Partition {
			return fmt.Errorf("partition %d at %d: %w", p.Partition, asked.FetchOffset, err)
		}
		batches := j.taste(p.Partition, asked.FetchOffset, p.RecordBatches)
		size := len(p.RecordBatches)
		if i == 0 && size == 0 {
			return fmt.Errorf("partition %d is the first asked for, and gets nothing", p.Partition)
		}
		if size > int(asked.PartitionMaxBytes) && (total > 0 || batches > 1) {
			j.t.Errorf("partition %d: %d batches of %d bytes where %d are allowed", p.Partition, batches, size, asked.PartitionMaxBytes)
		}
		if total > 0 && size > 0 && total+size > int(request.MaxBytes) {
			j.t.Errorf("partition %d: %d bytes after %d, %d are allowed in all", p.Partition, size, total, request.MaxBytes)
		}
		total += size
	}
	return nil
}

// taste checks that the bytes are whole batches without a gap from an offset on,
// and every record in them; it counts the batches.
func (j *journey) taste(p int32, from int64, raw []byte) (batches int) {
	j.t.Helper()
	next := protocol.NoOffset
	for len(raw) > 0 {
		batch, rest, err := record.Split(raw)
		if err == nil {
			err = batch.Check()
		}
		if err != nil {
			j.t.Errorf("partition %d from %d, batch %d: %v", p, from, batches, err)
			return batches
		}
		first := batches == 0 && int64(batch.BaseOffset()) <= from && from < int64(batch.NextOffset())
		if !first && batch.BaseOffset() != next {
			j.t.Errorf("partition %d from %d: batch %d is at %d, want %d", p, from, batches, batch.BaseOffset(), next)
		}
		for r, err := range batch.Records(1 << 20) {
			if err != nil {
				j.t.Errorf("partition %d, batch at %d: %v", p, batch.BaseOffset(), err)
				break
			}
			want := &j.data.events[j.acked[p][r.Offset]]
			if string(r.Key) != want.key || !bytes.Equal(r.Value, want.value) || int64(r.Timestamp) != want.ms {
				j.t.Errorf("partition %d, offset %d: %q=%q at %d, want %q=%q at %d", p, r.Offset, r.Key, r.Value, r.Timestamp, want.key, want.value, want.ms)
			}
		}
		next, raw = batch.NextOffset(), rest
		batches++
	}
	return batches
}
