package integration_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// named gives a topic of the odd ones its prefix.
func (o *odd) named(topic string) string { return strings.ReplaceAll(topic, "~", o.prefix) }

// oddDescribed are DescribeTopicPartitions and DescribeLogDirs.
func oddDescribed() []oddity {
	type cursor = kmsg.DescribeTopicPartitionsRequestCursor
	topics := func(name string, limit int32, from *cursor, topics ...string) oddity {
		return told("topic partitions, "+name, 0, func(o *odd) kmsg.Request {
			req := kmsg.NewPtrDescribeTopicPartitionsRequest()
			req.ResponsePartitionLimit = limit
			for _, t := range topics {
				req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: o.named(t)})
			}
			if from != nil {
				c := *from
				c.Topic = o.named(c.Topic)
				req.Cursor = &c
			}
			return req
		})
	}
	return []oddity{
		{"topic partitions, the topics of the next ones", func(o *odd) string {
			o.make("d1", 3)
			o.make("d2", 2, "cleanup.policy", "compact")
			o.led("d1", 1, batchAt(1_000_000))
			return "there"
		}},
		topics("one", 2000, nil, "~d1"),
		topics("not in order", 2000, nil, "~d2", "~d1"),
		topics("one twice", 2000, nil, "~d2", "~d2"),
		topics("unknown", 2000, nil, "unknown"),
		topics("invalid name", 2000, nil, "a/b"),
		topics("no name", 2000, nil, ""),
		topics("known and unknown", 2000, nil, "~zzz", "~d1", "~aaa"),
		topics("limit 2", 2, nil, "~d1", "~d2"),
		topics("limit 3", 3, nil, "~d1", "~d2"),
		topics("limit 4", 4, nil, "~d1", "~d2"),
		topics("limit 1 and an unknown one", 1, nil, "~d1", "~zzz"),
		topics("limit 0", 0, nil, "~d1"),
		topics("limit -1", -1, nil, "~d1"),
		topics("limit 100000", 100_000, nil, "~d1"),
		topics("from a cursor", 2000, &cursor{Topic: "~d1", Partition: 2}, "~d1", "~d2"),
		topics("from a cursor with limit 1", 1, &cursor{Topic: "~d1", Partition: 1}, "~d1", "~d2"),
		topics("from a cursor at the end", 2000, &cursor{Topic: "~d1", Partition: 3}, "~d1", "~d2"),
		topics("from a cursor beyond the end", 2000, &cursor{Topic: "~d1", Partition: 9}, "~d1", "~d2"),
		topics("from a cursor of a topic not asked for", 2000, &cursor{Topic: "~d1a", Partition: 1}, "~d1", "~d2"),
		topics("from a cursor behind all", 2000, &cursor{Topic: "~d3"}, "~d1", "~d2"),
		topics("from a cursor of partition -1", 2000, &cursor{Topic: "~d1", Partition: -1}, "~d1"),
		topics("from a cursor of an unknown topic", 2000, &cursor{Topic: "~gone"}, "~gone", "~d2"),
		topics("internal", 1, nil, "__consumer_offsets"),
		describeAll("topic partitions, all", nil),
		describeAll("topic partitions, all from a cursor", &cursor{Topic: "~d1", Partition: 1}),
		describeAll("topic partitions, all from a cursor of no topic", &cursor{Topic: "~d1a", Partition: 1}),
	}
}

func describeAll(name string, from *kmsg.DescribeTopicPartitionsRequestCursor) oddity {
	return oddity{name, func(o *odd) string {
		req := at(0, kmsg.NewPtrDescribeTopicPartitionsRequest())
		req.ResponsePartitionLimit = 2000
		if from != nil {
			c := *from
			c.Topic = o.named(c.Topic)
			req.Cursor = &c
		}
		return answer(o, req, func(resp *kmsg.DescribeTopicPartitionsResponse) string {
			resp.Topics = slices.DeleteFunc(resp.Topics, func(t kmsg.DescribeTopicPartitionsResponseTopic) bool {
				return !strings.HasPrefix(*t.Topic, o.prefix+"d")
			})
			return tell(resp)
		})
	}}
}

// oddLogDirs are DescribeLogDirs and AlterReplicaLogDirs.
func oddLogDirs() []oddity {
	type topic = kmsg.DescribeLogDirsRequestTopic
	dirs := func(name string, version int16, topics ...topic) oddity {
		return oddity{"log dirs, " + name, func(o *odd) string {
			req := at(version, kmsg.NewPtrDescribeLogDirsRequest())
			for _, t := range topics {
				t.Topic = o.named(t.Topic)
				req.Topics = append(req.Topics, t)
			}
			return answer(o, req, o.tellLogDirs)
		}}
	}
	of := func(name string, partitions ...int32) topic { return topic{Topic: name, Partitions: partitions} }
	out := []oddity{
		dirs("all", 4),
		dirs("all in version 1", 1),
		dirs("all in version 2", 2),
		dirs("all in version 3", 3),
		dirs("all in version 5", 5),
		dirs("one", 4, of("~d1", 0, 1, 2)),
		dirs("one partition", 4, of("~d1", 1)),
		dirs("two", 4, of("~d1", 1), of("~d2", 0)),
		dirs("a partition twice", 4, of("~d1", 1, 1)),
		dirs("a topic twice", 4, of("~d1", 1), of("~d1", 0)),
		dirs("an unknown topic", 4, of("unknown", 0, 1, 2)),
		dirs("an unknown partition", 4, of("~d1", 99)),
		dirs("no partitions", 4, of("~d1")),
		{"log dirs, no topics", func(o *odd) string {
			req := at(4, kmsg.NewPtrDescribeLogDirsRequest())
			req.Topics = []topic{}
			return answer(o, req, o.tellLogDirs)
		}},
	}
	move := func(name, dir string, topics ...string) oddity {
		return told("move, "+name, 2, func(o *odd) kmsg.Request {
			req := kmsg.NewPtrAlterReplicaLogDirsRequest()
			d := kmsg.NewAlterReplicaLogDirsRequestDir()
			if d.Dir = dir; dir == "" {
				d.Dir = must[*kmsg.DescribeLogDirsResponse](o.wire, at(4, kmsg.NewPtrDescribeLogDirsRequest())).Dirs[0].Dir
			}
			for _, t := range topics {
				d.Topics = append(d.Topics, kmsg.AlterReplicaLogDirsRequestDirTopic{Topic: o.named(t), Partitions: []int32{0}})
			}
			req.Dirs = append(req.Dirs, d)
			return req
		})
	}
	return append(
		out,
		move("to where it is", "", "~d1"),
		move("to an unknown directory", "/no/such/directory", "~d1"),
		move("to a path that is not absolute", "d", "~d1"),
		move("an unknown topic to the directory", "", "unknown"),
		move("an unknown topic to an unknown directory", "/no/such/directory", "unknown"),
		move("nothing", ""),
		move("two", "", "~d1", "~d2"),
	)
}

// tellLogDirs tells the odd ones' own partitions only, in order.
func (o *odd) tellLogDirs(resp *kmsg.DescribeLogDirsResponse) string {
	for i := range resp.Dirs {
		d := &resp.Dirs[i]
		d.Topics = slices.DeleteFunc(d.Topics, func(t kmsg.DescribeLogDirsResponseDirTopic) bool { return !strings.HasPrefix(t.Topic, o.prefix+"d") })
		slices.SortFunc(d.Topics, func(a, b kmsg.DescribeLogDirsResponseDirTopic) int { return strings.Compare(a.Topic, b.Topic) })
		for _, t := range d.Topics {
			slices.SortFunc(t.Partitions, func(a, b kmsg.DescribeLogDirsResponseDirTopicPartition) int { return int(a.Partition - b.Partition) })
		}
	}
	return tell(resp)
}

// oddProducers are DescribeProducers.
func oddProducers() []oddity {
	ask := func(name, topic string, partitions ...int32) oddity {
		return told("producers, "+name, 0, func(o *odd) kmsg.Request {
			req := kmsg.NewPtrDescribeProducersRequest()
			t := kmsg.NewDescribeProducersRequestTopic()
			t.Topic, t.Partitions = o.named(topic), partitions
			req.Topics = append(req.Topics, t)
			return req
		})
	}
	return []oddity{
		{"producers, the topic of the next ones", func(o *odd) string {
			o.make("producers", 3)
			o.led("producers", 0, sequenced(7001, 3, 0))
			o.led("producers", 0, sequenced(7001, 3, 1))
			o.led("producers", 1, sequenced(7002, 0, 5))
			o.led("producers", 2, batchAt(1_000_000))
			return "there"
		}},
		ask("one", "~producers", 0),
		ask("one that began at sequence 5", "~producers", 1),
		ask("none", "~producers", 2),
		ask("of all partitions", "~producers", 0, 1, 2),
		ask("of a partition twice", "~producers", 0, 0),
		ask("of an unknown topic", "unknown", 0),
		ask("of an unknown partition", "~producers", 99),
		ask("of partition -1", "~producers", -1),
		ask("of no partition", "~producers"),
		told("producers, of no topic", 0, func(*odd) kmsg.Request { return kmsg.NewPtrDescribeProducersRequest() }),
	}
}

// oddElections are ElectLeaders.
func oddElections() []oddity {
	type topic = kmsg.ElectLeadersRequestTopic
	elect := func(name string, version int16, kind int8, topics ...topic) oddity {
		return told("elect, "+name, version, func(o *odd) kmsg.Request {
			req := kmsg.NewPtrElectLeadersRequest()
			req.ElectionType, req.TimeoutMillis = kind, 10_000
			for _, t := range topics {
				t.Topic = o.named(t.Topic)
				req.Topics = append(req.Topics, t)
			}
			return req
		})
	}
	of := func(name string, partitions ...int32) topic { return topic{Topic: name, Partitions: partitions} }
	const preferred, unclean = 0, 1
	one := of("~d1", 0)
	return []oddity{
		elect("preferred", 2, preferred, one),
		elect("preferred in version 0", 0, preferred, one),
		elect("preferred in version 1", 1, preferred, one),
		elect("unclean", 2, unclean, one),
		elect("unclean in version 1", 1, unclean, one),
		elect("type 9", 2, 9, one),
		elect("two", 2, preferred, of("~d1", 0, 2), of("~d2", 1)),
		elect("a partition twice", 2, preferred, of("~d1", 0, 0)),
		elect("an unknown topic", 2, preferred, of("unknown", 0)),
		elect("an unknown topic, unclean", 2, unclean, of("unknown", 0)),
		elect("an unknown partition", 2, preferred, of("~d1", 99)),
		elect("partition -1", 2, preferred, of("~d1", -1)),
		elect("no partition", 2, preferred, of("~d1")),
		electAll("all preferred", preferred),
		electAll("all unclean", unclean),
		told("elect, no topics", 2, func(*odd) kmsg.Request {
			req := kmsg.NewPtrElectLeadersRequest()
			req.Topics = []topic{}
			return req
		}),
	}
}

// electAll tells of the odd ones' own topics only.
func electAll(name string, kind int8) oddity {
	return oddity{"elect, " + name, func(o *odd) string {
		req := at(2, kmsg.NewPtrElectLeadersRequest())
		req.ElectionType, req.TimeoutMillis = kind, 10_000
		return answer(o, req, func(resp *kmsg.ElectLeadersResponse) string {
			resp.Topics = slices.DeleteFunc(resp.Topics, func(t kmsg.ElectLeadersResponseTopic) bool { return !strings.HasPrefix(t.Topic, o.prefix+"d") })
			return tell(resp)
		})
	}}
}

// oddReassignments are AlterPartitionReassignments and ListPartitionReassignments.
func oddReassignments() []oddity {
	type partition = kmsg.AlterPartitionAssignmentsRequestTopicPartition
	reassign := func(name string, version int16, topic string, partitions ...partition) oddity {
		return told("reassign, "+name, version, func(o *odd) kmsg.Request {
			req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
			req.TimeoutMillis, req.AllowReplicationFactorChange = 10_000, true
			t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
			t.Topic, t.Partitions = o.named(topic), partitions
			req.Topics = append(req.Topics, t)
			return req
		})
	}
	to := func(p int32, replicas ...int32) partition {
		if replicas == nil {
			replicas = []int32{}
		}
		return partition{Partition: p, Replicas: replicas}
	}
	out := []oddity{
		reassign("to where it is", 1, "~d1", to(0, 1)),
		reassign("to where it is in version 0", 0, "~d1", to(0, 1)),
		reassign("all to where they are", 1, "~d1", to(0, 1), to(1, 1), to(2, 1)),
		reassign("to an unknown broker", 1, "~d1", to(0, 77)),
		reassign("to one more broker, unknown", 1, "~d1", to(0, 1, 77)),
		reassign("to a broker twice", 1, "~d1", to(0, 1, 1)),
		reassign("to no broker", 1, "~d1", to(0)),
		reassign("to broker -1", 1, "~d1", to(0, -1)),
		reassign("cancel", 1, "~d1", partition{Partition: 0}),
		reassign("an unknown topic", 1, "unknown", to(0, 1)),
		reassign("cancel an unknown topic", 1, "unknown", partition{Partition: 0}),
		reassign("an unknown partition", 1, "~d1", to(99, 1)),
		reassign("cancel an unknown partition", 1, "~d1", partition{Partition: 99}),
		reassign("partition -1", 1, "~d1", to(-1, 1)),
		reassign("a partition twice", 1, "~d1", to(0, 1), to(0, 1)),
		reassign("no partition", 1, "~d1"),
		told("reassign, no topic", 1, func(*odd) kmsg.Request { return kmsg.NewPtrAlterPartitionAssignmentsRequest() }),
		told("reassign, a change of the replication factor that is not allowed", 1, func(o *odd) kmsg.Request {
			req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
			t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
			t.Topic, t.Partitions = o.named("~d1"), []partition{to(0, 1, 77), to(1, 1)}
			req.TimeoutMillis, req.AllowReplicationFactorChange, req.Topics = 10_000, false, append(req.Topics, t)
			return req
		}),
	}
	ask := func(name string, topics []kmsg.ListPartitionReassignmentsRequestTopic) oddity {
		return told("reassignments, "+name, 0, func(o *odd) kmsg.Request {
			req := kmsg.NewPtrListPartitionReassignmentsRequest()
			for _, t := range topics {
				t.Topic = o.named(t.Topic)
				req.Topics = append(req.Topics, t)
			}
			return req
		})
	}
	return append(
		out,
		ask("all", nil),
		ask("of one", []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: "~d1", Partitions: []int32{0, 1}}}),
		ask("of an unknown topic", []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: "unknown", Partitions: []int32{0}}}),
		ask("of an unknown partition", []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: "~d1", Partitions: []int32{99}}}),
	)
}

// oddQuorum are DescribeQuorum and UnregisterBroker.
func oddQuorum() []oddity {
	ask := func(name string, version int16, topics ...string) oddity {
		return oddity{"quorum, " + name, func(o *odd) string {
			req := at(version, kmsg.NewPtrDescribeQuorumRequest())
			for _, t := range topics {
				name, p := t, int32(0)
				if before, ok := strings.CutSuffix(t, "-5"); ok {
					name, p = before, 5
				}
				rt := kmsg.NewDescribeQuorumRequestTopic()
				rt.Topic, rt.Partitions = name, []kmsg.DescribeQuorumRequestTopicPartition{{Partition: p}}
				req.Topics = append(req.Topics, rt)
			}
			return answer(o, req, tellQuorum)
		}}
	}
	const log = "__cluster_metadata"
	out := []oddity{
		ask("describe", 2, log),
		ask("describe in version 0", 0, log),
		ask("describe in version 1", 1, log),
		ask("another topic", 2, "other"),
		ask("another topic in version 0", 0, "other"),
		ask("another partition", 2, log+"-5"),
		ask("twice", 2, log, log),
		ask("no topic", 2),
	}
	for _, id := range []int32{99, -1} {
		out = append(out, told(fmt.Sprintf("unregister broker %d", id), 0, func(*odd) kmsg.Request {
			req := kmsg.NewPtrUnregisterBrokerRequest()
			req.BrokerID = id
			return req
		}))
	}
	return out
}

// tellQuorum: that offsets are above 0 is what two logs have in common.
func tellQuorum(resp *kmsg.DescribeQuorumResponse) string {
	above := func(n int64) int64 { return min(n, 1) }
	for _, t := range resp.Topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			p.HighWatermark = above(p.HighWatermark)
			for _, states := range [][]kmsg.DescribeQuorumResponseTopicPartitionReplicaState{p.CurrentVoters, p.Observers} {
				for j := range states {
					states[j].LogEndOffset = above(states[j].LogEndOffset)
				}
			}
		}
	}
	return tell(resp)
}
