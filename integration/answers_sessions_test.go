package integration_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
)

// talk is a client with fetch sessions and a topic of its own, of two partitions.
type talk struct {
	o       *odd
	topic   string
	id      [16]byte
	version int16
	session int32 // as given last
	epoch   int32 // of the next request
	said    []string
}

// say is what one request of a talk has; the zero one asks for nothing new.
type say struct {
	put     []put
	forget  []int32
	maxByte int32 // of the whole answer; 0: enough
	change  func(*kmsg.FetchRequest)
}

// put names a partition and where to read it.
type put struct {
	partition int32
	from      int64
}

// session makes an oddity of a talk.
func session(name string, version int16, run func(*talk)) oddity {
	topic := strings.ReplaceAll(name, " ", "-")
	topic = strings.ReplaceAll(topic, ",", "")
	return oddity{name, func(o *odd) string {
		o.t.Helper()
		t := &talk{o: o, topic: topic, version: version}
		made := kmsg.NewCreateTopicsRequestTopic()
		made.Topic, made.NumPartitions, made.ReplicationFactor = o.prefix+topic, 2, 1
		if got := o.create(made); got != "NONE" {
			o.t.Fatal(got)
		}
		harness.Eventually(o.t, wireLimit, "the topic is there", func() error {
			req := at(12, kmsg.NewPtrMetadataRequest())
			req.Topics = []kmsg.MetadataRequestTopic{{Topic: ptr(o.prefix + topic)}}
			got := must[*kmsg.MetadataResponse](o.wire, req).Topics[0]
			if t.id = got.TopicID; got.ErrorCode != 0 {
				return errors.New(code(got.ErrorCode))
			}
			for partition := range int32(2) {
				if got := list(8, topic, -1, func(p *kmsg.ListOffsetsRequestTopicPartition) { p.Partition = partition })(o); !strings.HasPrefix(got, "NONE") {
					return errors.New(got)
				}
			}
			return nil
		})
		t.write(0)
		run(t)
		return strings.Join(t.said, " | ")
	}}
}

// write appends a record to a partition.
func (t *talk) write(partition int32) {
	t.o.t.Helper()
	harness.Eventually(t.o.t, wireLimit, "the partition is led", func() error {
		if got := t.o.produce(t.topic, partition, batchAt(1_000_000)); !strings.HasPrefix(got, "NONE") {
			return errors.New(got)
		}
		return nil
	})
}

// fetch asks in the session as it is, and goes on as the answer has it.
func (t *talk) fetch(s say) {
	t.o.t.Helper()
	req := at(t.version, kmsg.NewPtrFetchRequest())
	req.MaxBytes, req.MaxWaitMillis, req.SessionID, req.SessionEpoch = 1<<20, 10, t.session, t.epoch
	if s.maxByte > 0 {
		req.MaxBytes = s.maxByte
	}
	if len(s.put) > 0 {
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID = t.o.prefix+t.topic, t.id
		for _, p := range s.put {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = p.partition, p.from, 1<<20, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = []kmsg.FetchRequestTopic{rt}
	}
	if len(s.forget) > 0 {
		req.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: t.o.prefix + t.topic, TopicID: t.id, Partitions: s.forget}}
	}
	if s.change != nil {
		s.change(req)
	}
	t.said = append(t.said, answer(t.o, req, t.hear))
}

func (t *talk) hear(resp *kmsg.FetchResponse) string {
	which := "another session"
	switch resp.SessionID {
	case 0:
		which = "no session"
	case t.session:
		which = "same session"
	}
	if resp.ErrorCode != 0 {
		return code(resp.ErrorCode) + " " + which
	}
	t.session, t.epoch = resp.SessionID, t.epoch+1
	parts := each(resp.Topics, func(rt kmsg.FetchResponseTopic) string {
		return each(rt.Partitions, func(p kmsg.FetchResponseTopicPartition) string {
			return fmt.Sprintf("%d %s high watermark %d, %d bytes", p.Partition, code(p.ErrorCode), p.HighWatermark, len(p.RecordBatches))
		})
	})
	return strings.TrimSuffix(which+": "+parts, ": ")
}

func oddSessions() []oddity {
	both := []put{{0, 0}, {1, 0}}
	create := func(t *talk) { t.fetch(say{put: both}) }
	then := func(all ...func(*talk)) func(*talk) {
		return func(t *talk) {
			create(t)
			for _, f := range all {
				f(t)
			}
		}
	}
	asks := func(s say) func(*talk) { return func(t *talk) { t.fetch(s) } }
	as := func(session, epoch int32) func(*talk) {
		return func(t *talk) {
			s := *t
			t.session, t.epoch = session, epoch
			if session < 0 {
				t.session = s.session
			}
			t.fetch(say{})
			t.session, t.epoch = s.session, s.epoch
		}
	}
	none := asks(say{})
	return []oddity{
		session("session of two partitions", 12, then(none, none)),
		session("session by topic ids", 13, then(none, none)),
		session("session of no partitions", 12, func(t *talk) { t.fetch(say{}); t.fetch(say{}) }),
		session("session whose partition is read on", 12, then(asks(say{put: []put{{0, 1}}}), none, func(t *talk) { t.write(1) }, none, none)),
		session("session with a partition added", 12, func(t *talk) { t.fetch(say{put: both[:1]}); t.fetch(say{put: both[1:]}); t.write(1); t.fetch(say{}) }),
		session("session with a partition forgotten", 12, then(asks(say{forget: []int32{0}}), none, func(t *talk) { t.write(1) }, none)),
		session("session with all partitions forgotten", 12, then(asks(say{forget: []int32{0, 1}}), none)),
		session("session with a partition put and forgotten at once", 12, then(asks(say{put: both[:1], forget: []int32{0}}), none)),
		session("session with a partition forgotten that it has not", 12, then(asks(say{forget: []int32{7}}), none)),
		session("session with a partition twice", 12, func(t *talk) {
			t.fetch(say{put: []put{{0, 0}, {0, 1}}})
			t.fetch(say{put: []put{{0, 1}, {0, 0}}})
		}),
		session("session asked by a wrong epoch", 12, then(as(-1, 5), as(-1, -5), none)),
		session("session that is none", 12, as(12345, 1)),
		session("session 0 in epoch 1", 12, as(0, 1)),
		session("session that is closed", 12, then(as(-1, -1), none)),
		session("session begun in the place of another", 12, then(as(-1, 0), none)),
		session("session asked by ids after names", 12, then(func(t *talk) { t.version = 13; t.fetch(say{}); t.version = 12; t.fetch(say{}) })),
		session("session asked by names after ids", 13, then(func(t *talk) { t.version = 12; t.fetch(say{}); t.version = 13; t.fetch(say{}) })),
		session("session with an unknown partition", 12, func(t *talk) { t.fetch(say{put: []put{{0, 1}, {9, 0}}}); t.fetch(say{}); t.fetch(say{}) }),
		session("session with an unknown topic", 12, func(t *talk) { t.topic = "none"; create(t); t.fetch(say{}) }),
		session("session with an unknown topic id", 13, func(t *talk) { t.id = [16]byte{1, 2}; create(t); t.fetch(say{}) }),
		session("session with the zero topic id", 13, func(t *talk) { t.id = [16]byte{}; create(t); t.fetch(say{}) }),
		session("session with an offset out of range", 12, func(t *talk) {
			t.fetch(say{put: []put{{0, 9}}})
			t.write(0)
			t.fetch(say{put: []put{{0, 2}}})
			t.fetch(say{})
		}),
		session("session on another connection", 12, then(func(t *talk) { t.o.wire = dialWire(t.o.t, t.o.addr); t.fetch(say{}) })),
		session("session whose answers have room for one partition", 12, func(t *talk) {
			t.write(1)
			t.fetch(say{put: both, maxByte: 1})
			for range 3 {
				t.fetch(say{maxByte: 1})
			}
		}),
		session("session of a replica", 12, func(t *talk) {
			t.fetch(say{put: both, change: func(r *kmsg.FetchRequest) { r.ReplicaID = 42 }})
		}),
		session("fetch without a session", 12, func(t *talk) { t.epoch = -1; t.fetch(say{put: both}) }),
	}
}
