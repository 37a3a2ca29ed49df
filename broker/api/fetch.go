package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// maxFetchWait bounds how long a fetch is held, and with it what a client that
// went away leaves behind. One that would wait longer asks again.
const maxFetchWait = 30 * time.Second

// Fetch, versions 4 to 18 (topic ids from 13 on). Every fetch is a full one:
// session id 0 tells the client that no session was made (KIP-227). Records go
// from the log to the connection without passing here.
func (h *Handler) fetch(r *server.Request) {
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(r.Header.Version)
	if err := req.ReadFrom(r.Body); err != nil {
		r.Reply(server.Response{NoReply: true, Close: err})
		return
	}
	if code := checkSession(req); code != 0 {
		h.sendFetch(r, &protocol.FetchResponse{ErrorCode: code}, nil)
		return
	}
	static, img := h.cfg.Admin.Static(), h.cfg.Admin.Image()
	parts, limit := h.fetchPartitions(img, req), static.Int("fetch.max.bytes")
	options := replica.FetchOptions{
		MinBytes: int(min(int64(req.MinBytes), limit)), MaxBytes: int(min(int64(max(req.MaxBytes, 0)), limit)),
		MaxWait:   min(time.Duration(max(req.MaxWaitMillis, 0))*time.Millisecond, maxFetchWait),
		ColdWait:  time.Duration(static.BrokerInt(img, "remote.fetch.max.wait.ms")) * time.Millisecond,
		Committed: req.IsolationLevel == 1,
	}
	if len(parts) == 0 {
		options.MaxWait = 0
	}
	replica.Fetch(h.cfg.Cold, parts, options, func(results []replica.FetchResult) {
		h.answerFetch(r, req, parts, results)
	})
}

// checkSession refuses to go on with a session, since none is ever made.
func checkSession(req *kmsg.FetchRequest) int16 {
	if req.Version < 7 || req.SessionEpoch == -1 || req.SessionEpoch == 0 && req.SessionID == 0 {
		return 0
	}
	return kerr.FetchSessionIDNotFound.Code
}

func (h *Handler) fetchPartitions(img *metadata.Image, req *kmsg.FetchRequest) []replica.FetchPartition {
	var out []replica.FetchPartition
	for i := range req.Topics {
		t := &req.Topics[i]
		topic, topicErr := findTopic(img, t.Topic, t.TopicID)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			part := replica.FetchPartition{
				From: protocol.Offset(p.FetchOffset), MaxBytes: int(max(p.PartitionMaxBytes, 0)), LastFetchedEpoch: protocol.NoEpoch,
			}
			if req.Version >= 12 {
				part.LastFetchedEpoch = protocol.Epoch(p.LastFetchedEpoch)
			}
			part.Leader, part.Err = h.fetchable(req, topic, topicErr, p)
			out = append(out, part)
		}
	}
	return out
}

func (h *Handler) fetchable(req *kmsg.FetchRequest, t metadata.Topic, topicErr error, p *kmsg.FetchRequestTopicPartition) (*replica.Leader, error) {
	if topicErr != nil {
		return nil, topicErr
	}
	if req.ReplicaID >= 0 || req.ReplicaState.ID >= 0 {
		// A broker that is not a replica of the partition has nothing to fetch as one.
		return nil, protocol.Errorf(kerr.NotLeaderForPartition, "broker %d is no replica of this partition", max(req.ReplicaID, req.ReplicaState.ID))
	}
	if p.Partition < 0 || p.Partition >= t.Partitions {
		return nil, unknownPartition(t.Name, p.Partition)
	}
	l, err := h.cfg.Replicas.Get(protocol.PartitionKey{Topic: t.ID, Partition: p.Partition})
	if err != nil {
		return nil, err
	}
	if req.Version >= 9 {
		if err := l.CheckEpoch(protocol.Epoch(p.CurrentLeaderEpoch)); err != nil {
			return nil, err
		}
	}
	l.Stats().FetchRequests.Add(1)
	return l, nil
}

func (h *Handler) answerFetch(r *server.Request, req *kmsg.FetchRequest, parts []replica.FetchPartition, results []replica.FetchResult) {
	resp := &protocol.FetchResponse{Topics: make([]protocol.FetchTopic, len(req.Topics))}
	next := 0
	for i := range req.Topics {
		t := &req.Topics[i]
		out := &resp.Topics[i]
		out.Name, out.ID = t.Topic, t.TopicID
		out.Partitions = make([]protocol.FetchPartition, len(t.Partitions))
		for j := range t.Partitions {
			fillFetch(&out.Partitions[j], t.Partitions[j].Partition, &parts[next], &results[next])
			next++
		}
	}
	h.sendFetch(r, resp, results)
}

func fillFetch(out *protocol.FetchPartition, index int32, part *replica.FetchPartition, res *replica.FetchResult) {
	*out = protocol.FetchPartition{
		Index: index, ErrorCode: protocol.CodeOf(res.Err), HighWatermark: res.HighWatermark, LastStable: res.LastStable,
		LogStart: res.LogStart, Aborted: res.Aborted, PreferredReplica: protocol.NoBroker, Diverging: res.Diverging,
	}
	if res.Records != nil {
		out.RecordsLen = res.Records.Len()
	}
	if part.Leader == nil {
		return
	}
	stats := part.Leader.Stats()
	stats.BytesOut.Add(int64(out.RecordsLen))
	if res.Err != nil {
		stats.FailedFetch.Add(1)
	}
}

// sendFetch joins the encoded answer and the records to the parts of one response.
func (h *Handler) sendFetch(r *server.Request, resp *protocol.FetchResponse, results []replica.FetchResult) {
	first := make([]int, len(resp.Topics)) // index into results of a topic's first partition
	n := 0
	for i := range resp.Topics {
		first[i] = n
		n += len(resp.Topics[i].Partitions)
	}
	encoded := resp.Encode(r.Header.Version)
	parts := make([]server.Part, 0, 2*len(encoded))
	for _, p := range encoded {
		parts = append(parts, server.Bytes(p.Bytes))
		if p.Partition >= 0 {
			parts = append(parts, results[first[p.Topic]+p.Partition].Records)
		}
	}
	r.Reply(server.Response{Parts: parts})
}
