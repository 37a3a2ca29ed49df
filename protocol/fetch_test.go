package protocol_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// fetchPair makes one random response twice: ours, with its records aside, and kmsg's.
func fetchPair(rng *rand.Rand, version int16) (*protocol.FetchResponse, map[[2]int][]byte, *kmsg.FetchResponse) {
	ours := &protocol.FetchResponse{ThrottleMs: rng.Int32(), ErrorCode: int16(rng.IntN(100)), SessionID: rng.Int32()}
	theirs := kmsg.NewPtrFetchResponse()
	theirs.SetVersion(version)
	theirs.ThrottleMillis, theirs.ErrorCode, theirs.SessionID = ours.ThrottleMs, ours.ErrorCode, ours.SessionID
	records := map[[2]int][]byte{}
	for i := range rng.IntN(4) {
		t := protocol.FetchTopic{Name: string(randomBytes(rng, 200))}
		copy(t.ID[:], randomBytes(rng, 17))
		kt := kmsg.NewFetchResponseTopic()
		kt.Topic, kt.TopicID = t.Name, t.ID
		for j := range rng.IntN(4) {
			p, kp := partitionPair(rng)
			if rng.IntN(3) > 0 {
				kp.RecordBatches = append(kp.RecordBatches, randomBytes(rng, 300)...)
			}
			if len(kp.RecordBatches) > 0 {
				p.RecordsLen, records[[2]int{i, j}] = len(kp.RecordBatches), kp.RecordBatches
			}
			t.Partitions, kt.Partitions = append(t.Partitions, p), append(kt.Partitions, kp)
		}
		ours.Topics, theirs.Topics = append(ours.Topics, t), append(theirs.Topics, kt)
	}
	if version >= 16 {
		for range rng.IntN(3) {
			n := protocol.NodeEndpoint{ID: protocol.BrokerID(rng.Int32()), Host: string(randomBytes(rng, 30)), Port: rng.Int32()}
			if rng.IntN(2) == 0 {
				n.Rack = kmsg.StringPtr(string(randomBytes(rng, 300)))
			}
			b := kmsg.NewFetchResponseBroker()
			b.NodeID, b.Host, b.Port, b.Rack = int32(n.ID), n.Host, n.Port, n.Rack
			ours.NodeEndpoints, theirs.Brokers = append(ours.NodeEndpoints, n), append(theirs.Brokers, b)
		}
	}
	return ours, records, theirs
}

func partitionPair(rng *rand.Rand) (protocol.FetchPartition, kmsg.FetchResponseTopicPartition) {
	p := protocol.FetchPartition{
		Index: rng.Int32(), ErrorCode: int16(rng.IntN(100)), HighWatermark: protocol.Offset(rng.Int64()),
		LastStable: protocol.Offset(rng.Int64()), LogStart: protocol.Offset(rng.Int64()),
		PreferredReplica: protocol.BrokerID(rng.Int32()),
	}
	k := kmsg.NewFetchResponseTopicPartition()
	k.Partition, k.ErrorCode, k.HighWatermark = p.Index, p.ErrorCode, int64(p.HighWatermark)
	k.LastStableOffset, k.LogStartOffset = int64(p.LastStable), int64(p.LogStart)
	k.PreferredReadReplica, k.RecordBatches = int32(p.PreferredReplica), []byte{}
	if rng.IntN(2) == 0 {
		p.Aborted, k.AbortedTransactions = []protocol.AbortedTxn{}, []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
		for range rng.IntN(3) {
			a := protocol.AbortedTxn{Producer: protocol.ProducerID(rng.Int64()), First: protocol.Offset(rng.Int64()), Last: 7}
			ka := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
			ka.ProducerID, ka.FirstOffset = int64(a.Producer), int64(a.First)
			p.Aborted, k.AbortedTransactions = append(p.Aborted, a), append(k.AbortedTransactions, ka)
		}
	}
	if rng.IntN(3) == 0 {
		p.Diverging = &protocol.EpochEnd{Epoch: protocol.Epoch(rng.Int32()), End: protocol.Offset(rng.Int64())}
		k.DivergingEpoch.Epoch, k.DivergingEpoch.EndOffset = int32(p.Diverging.Epoch), int64(p.Diverging.End)
	}
	if rng.IntN(3) == 0 {
		p.Leader = &protocol.LeaderEpoch{Leader: protocol.BrokerID(rng.Int32()), Epoch: protocol.Epoch(rng.Int32())}
		k.CurrentLeader.LeaderID, k.CurrentLeader.LeaderEpoch = int32(p.Leader.Leader), int32(p.Leader.Epoch)
	}
	if rng.IntN(3) == 0 {
		p.Snapshot = &protocol.EpochEnd{Epoch: protocol.Epoch(rng.Int32()), End: protocol.Offset(rng.Int64())}
		k.SnapshotID.Epoch, k.SnapshotID.EndOffset = int32(p.Snapshot.Epoch), int64(p.Snapshot.End)
	}
	return p, k
}

// assemble puts records into the holes.
func assemble(parts []protocol.FetchPart, records map[[2]int][]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p.Bytes...)
		out = append(out, records[[2]int{p.Topic, p.Partition}]...)
	}
	return out
}

func TestFetchResponseIsWhatKmsgWrites(t *testing.T) {
	rng := newRand()
	for version := int16(4); version <= 18; version++ {
		for range 500 {
			ours, records, theirs := fetchPair(rng, version)
			parts := ours.Encode(version)
			got, want := assemble(parts, records), theirs.AppendTo(nil)
			if !bytes.Equal(got, want) {
				t.Fatalf("version %d:\nwant % x\ngot  % x", version, want, got)
			}
			if n := ours.Len(parts); n != len(want) {
				t.Fatalf("version %d: Len is %d of %d", version, n, len(want))
			}
			if len(parts) != len(records)+1 {
				t.Fatalf("version %d: %d parts for %d runs of records", version, len(parts), len(records))
			}
		}
	}
}

func FuzzFetchEncode(f *testing.F) {
	f.Add(uint64(1), uint8(0))
	f.Add(uint64(2), uint8(14))
	f.Fuzz(func(t *testing.T, seed uint64, v uint8) {
		version := 4 + int16(v%15)
		ours, records, theirs := fetchPair(rand.New(rand.NewPCG(seed, 0)), version)
		got := assemble(ours.Encode(version), records)
		if !bytes.Equal(got, theirs.AppendTo(nil)) {
			t.Fatalf("version %d differs from kmsg", version)
		}
		back := kmsg.NewPtrFetchResponse()
		back.SetVersion(version)
		if err := back.ReadFrom(got); err != nil || len(back.Topics) != len(ours.Topics) {
			t.Fatalf("version %d: %v", version, err)
		}
		if !reflect.DeepEqual(back.AppendTo(nil), got) {
			t.Fatalf("version %d does not come back", version)
		}
	})
}
