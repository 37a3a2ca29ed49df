package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/protocol"
)

// maxFetchWait bounds how long a fetch is held, and with it what a client that
// went away leaves behind. One that would wait longer asks again.
const maxFetchWait = 30 * time.Second

// Fetch, versions 4 to 18 (sessions from 7 on, topic ids from 13 on). Records go
// from the log to the connection without passing here.
func (h *Handler) fetch(r *server.Request) {
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(r.Header.Version)
	if err := req.ReadFrom(r.Body); err != nil {
		r.Reply(server.Response{NoReply: true, Close: err})
		return
	}
	q := replica.FetchRequest{FetchOptions: h.fetchOptions(req), Put: fetchPartitions(req)}
	if req.Version < 7 || req.SessionEpoch == newSession || req.SessionEpoch == noSession {
		h.fetchAll(r, req, q)
		return
	}
	q.Forget = forgotten(req)
	s := h.sessions.find(req.SessionID)
	if s == nil {
		h.refuseFetch(r, kerr.FetchSessionIDNotFound)
		return
	}
	q.Reply = func(results []replica.FetchResult) {
		id := s.id
		closeSessions(h.sessions.answered(s))
		if s.set.Len() == 0 {
			id = 0 // as Kafka ends a session
		}
		h.sendFetch(r, id, results)
	}
	if err := s.begin(req.SessionEpoch, usesIDs(req), q); err != nil {
		h.refuseFetch(r, err)
		return
	}
	s.set.Advance()
}

// fetchAll reads all that the request names, and nothing else; it ends the
// session that it names, and may begin another.
func (h *Handler) fetchAll(r *server.Request, req *kmsg.FetchRequest, q replica.FetchRequest) {
	if req.Version >= 7 && req.SessionID != 0 {
		if s := h.sessions.remove(req.SessionID); s != nil {
			s.set.Close()
		}
	}
	wanted, ids, replicaID := req.Version >= 7 && req.SessionEpoch == newSession, usesIDs(req), max(req.ReplicaID, req.ReplicaState.ID)
	set := h.cfg.Replicas.NewFetchSet(h.cfg.Cold, func(key replica.FetchKey) (*replica.Leader, error) { return h.fetchable(key, replicaID) })
	q.Full = true
	q.Reply = func(results []replica.FetchResult) {
		id := int32(0)
		if wanted {
			s, out := h.sessions.add(set, ids, replicaID >= 0)
			closeSessions(out)
			if s != nil {
				id = s.id
				set.Keep()
			}
		}
		if id == 0 {
			set.Close()
		}
		h.sendFetch(r, id, results)
	}
	set.Fetch(q)
}

func closeSessions(all []*fetchSession) {
	for _, s := range all {
		s.set.Close()
	}
}

// refuseFetch answers a fetch that fits no session.
func (h *Handler) refuseFetch(r *server.Request, err *kerr.Error) {
	resp := protocol.FetchResponse{ErrorCode: err.Code}
	r.Reply(server.Response{Parts: []server.Part{server.Bytes(resp.Encode(r.Header.Version)[0].Bytes)}})
}

func usesIDs(req *kmsg.FetchRequest) bool { return req.Version >= 13 }

func (h *Handler) fetchOptions(req *kmsg.FetchRequest) replica.FetchOptions {
	static := h.cfg.Admin.Static()
	maxBytes := int(min(int64(max(req.MaxBytes, 0)), static.Int("fetch.max.bytes")))
	return replica.FetchOptions{
		MinBytes: min(int(req.MinBytes), maxBytes), MaxBytes: maxBytes,
		MaxWait:   min(time.Duration(max(req.MaxWaitMillis, 0))*time.Millisecond, maxFetchWait),
		ColdWait:  time.Duration(static.BrokerInt(h.cfg.Admin.Image(), "remote.fetch.max.wait.ms")) * time.Millisecond,
		Committed: req.IsolationLevel == 1,
	}
}

func fetchPartitions(req *kmsg.FetchRequest) []replica.FetchPartition {
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	if n == 0 {
		return nil
	}
	out := make([]replica.FetchPartition, 0, n)
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			part := replica.FetchPartition{
				Key:  replica.FetchKey{Name: t.Topic, Topic: t.TopicID, Partition: p.Partition},
				From: protocol.Offset(p.FetchOffset), MaxBytes: int(max(p.PartitionMaxBytes, 0)),
				CurrentEpoch: protocol.NoEpoch, LastFetchedEpoch: protocol.NoEpoch,
			}
			if req.Version >= 9 {
				part.CurrentEpoch = max(protocol.NoEpoch, protocol.Epoch(p.CurrentLeaderEpoch)) // any below 0 is none, as in Kafka
			}
			if req.Version >= 12 {
				part.LastFetchedEpoch = max(protocol.NoEpoch, protocol.Epoch(p.LastFetchedEpoch))
			}
			out = append(out, part)
		}
	}
	return out
}

func forgotten(req *kmsg.FetchRequest) (out []replica.FetchKey) {
	for i := range req.ForgottenTopics {
		t := &req.ForgottenTopics[i]
		for _, p := range t.Partitions {
			out = append(out, replica.FetchKey{Name: t.Topic, Topic: t.TopicID, Partition: p})
		}
	}
	return out
}

// fetchable finds the partition that a client, or the replica of a broker, may read.
func (h *Handler) fetchable(key replica.FetchKey, replicaID int32) (*replica.Leader, error) {
	t, err := findTopic(h.cfg.Admin.Image(), key.Name, key.Topic)
	switch {
	case err != nil:
		return nil, err
	case replicaID >= 0:
		// A broker that is not a replica of the partition has nothing to fetch as one.
		return nil, protocol.Errorf(kerr.NotLeaderForPartition, "broker %d is no replica of this partition", replicaID)
	case key.Partition < 0 || key.Partition >= t.Partitions:
		return nil, unknownPartition(t.Name, key.Partition)
	}
	return h.cfg.Replicas.Get(protocol.PartitionKey{Topic: t.ID, Partition: key.Partition})
}

// sendFetch joins the encoded answer and the records to the parts of one
// response. Partitions of one topic that follow each other are told together.
func (h *Handler) sendFetch(r *server.Request, session int32, results []replica.FetchResult) {
	partitions := make([]protocol.FetchPartition, len(results))
	resp := &protocol.FetchResponse{SessionID: session}
	for i := range results {
		res := &results[i]
		fillFetch(&partitions[i], res)
		if i > 0 && res.Key.Topic == results[i-1].Key.Topic && res.Key.Name == results[i-1].Key.Name {
			last := &resp.Topics[len(resp.Topics)-1]
			last.Partitions = last.Partitions[:len(last.Partitions)+1]
			continue
		}
		resp.Topics = append(resp.Topics, protocol.FetchTopic{Name: res.Key.Name, ID: res.Key.Topic, Partitions: partitions[i : i+1]})
	}
	encoded := resp.Encode(r.Header.Version)
	parts := make([]server.Part, 0, 2*len(encoded))
	next := 0 // of the results
	for _, p := range encoded {
		parts = append(parts, server.Bytes(p.Bytes))
		if p.Partition < 0 {
			continue
		}
		for results[next].Records == nil {
			next++
		}
		parts = append(parts, results[next].Records)
		next++
	}
	r.Reply(server.Response{Parts: parts})
}

func fillFetch(out *protocol.FetchPartition, res *replica.FetchResult) {
	*out = protocol.FetchPartition{
		Index: res.Key.Partition, ErrorCode: protocol.CodeOf(res.Err), HighWatermark: res.HighWatermark, LastStable: res.LastStable,
		LogStart: res.LogStart, Aborted: res.Aborted, PreferredReplica: protocol.NoBroker, Diverging: res.Diverging,
	}
	if res.Records != nil {
		out.RecordsLen = res.Records.Len()
	}
	if res.Leader == nil {
		return
	}
	stats := res.Leader.Stats()
	stats.FetchRequests.Add(1)
	stats.BytesOut.Add(int64(out.RecordsLen))
	if res.Err != nil {
		stats.FailedFetch.Add(1)
	}
}
