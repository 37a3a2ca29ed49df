package integration_test

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// create asks for topics whose names are whole already.
func (o *odd) create(topics ...kmsg.CreateTopicsRequestTopic) string {
	return o.createWith(false, topics...)
}

func (o *odd) createWith(validate bool, topics ...kmsg.CreateTopicsRequestTopic) string {
	req := at(7, kmsg.NewPtrCreateTopicsRequest())
	req.Topics, req.ValidateOnly, req.TimeoutMillis = topics, validate, 10_000
	return answer(o, req, func(resp *kmsg.CreateTopicsResponse) string {
		return each(resp.Topics, func(t kmsg.CreateTopicsResponseTopic) string { return code(t.ErrorCode) })
	})
}

func oddTopics() []oddity {
	type topic = kmsg.CreateTopicsRequestTopic
	// A fresh name for each, so that none meets another.
	fresh := 0
	with := func(change func(*odd, *topic)) func(*odd) string {
		return func(o *odd) string {
			fresh++
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprintf("%snew-%d", o.prefix, fresh), 1, 1
			change(o, &t)
			return o.create(t)
		}
	}
	named := func(name string) func(*odd) string { return with(func(_ *odd, t *topic) { t.Topic = name }) }
	sized := func(partitions int32, factor int16) func(*odd) string {
		return with(func(_ *odd, t *topic) { t.NumPartitions, t.ReplicationFactor = partitions, factor })
	}
	assigned := func(partitions int32, rows map[int32][]int32) func(*odd) string {
		return with(func(_ *odd, t *topic) {
			t.NumPartitions, t.ReplicationFactor = partitions, int16(partitions)
			for p, replicas := range rows {
				t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: p, Replicas: replicas})
			}
		})
	}
	out := []oddity{
		{"create a topic that exists", with(func(o *odd, t *topic) { t.Topic = o.prefix + "plain" })},
		{"create a topic twice", func(o *odd) string {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = o.prefix+"twice", 1, 1
			return o.create(t, t)
		}},
		{"create, only to validate", func(o *odd) string {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = o.prefix+"validated", 1, 1
			return o.createWith(true, t) + ", " + o.createWith(true, t)
		}},
		{"create a name that collides", with(func(o *odd, t *topic) { t.Topic = o.prefix + "a_b" })},
		{"create the offsets topic", named("__consumer_offsets")},
		{"create a topic without a name", named("")},
		{"create the name .", named(".")},
		{"create the name ..", named("..")},
		{"create a name with a slash", named("a/b")},
		{"create a name with a space", named("a b")},
		{"create a name of 250 characters", named(strings.Repeat("a", 250))},
		{"create 0 partitions", sized(0, 1)},
		{"create -2 partitions", sized(-2, 1)},
		{"create with the defaults", sized(-1, -1)},
		{"create with replication factor 0", sized(1, 0)},
		{"create with replication factor -2", sized(1, -2)},
		{"create with replication factor 5", sized(1, 5)},
		{"create with an assignment and a count", assigned(1, map[int32][]int32{0: {1}})},
		{"create with an assignment", assigned(-1, map[int32][]int32{0: {1}, 1: {1}})},
		{"create with a gap in the assignment", assigned(-1, map[int32][]int32{0: {1}, 2: {1}})},
		{"create on an unknown broker", assigned(-1, map[int32][]int32{0: {77}})},
		{"create on no broker", assigned(-1, map[int32][]int32{0: {}})},
		{"create on a broker twice", assigned(-1, map[int32][]int32{0: {1, 1}})},
	}
	for _, config := range [][2]string{
		{"no.such.config", "1"},
		{"segment.bytes", "abc"},
		{"segment.bytes", "1"},
		{"segment.bytes", ""},
		{"segment.bytes", " 2097152 "},
		{"segment.bytes", "99999999999"},
		{"retention.ms", "-5"},
		{"retention.ms", "-1"},
		{"retention.bytes", "-7"},
		{"cleanup.policy", "foo"},
		{"cleanup.policy", "compact,delete"},
		{"cleanup.policy", ""},
		{"compression.type", "brotli"},
		{"compression.type", "GZIP"},
		{"min.insync.replicas", "0"},
		{"min.insync.replicas", "9"},
		{"max.message.bytes", "-1"},
		{"message.timestamp.type", "Never"},
		{"unclean.leader.election.enable", "maybe"},
		{"unclean.leader.election.enable", "TRUE"},
		{"min.cleanable.dirty.ratio", "1.5"},
		{"message.format.version", "2.8"},
		{"local.retention.ms", "-3"},
		{"compression.gzip.level", "10"},
		{"compression.zstd.level", "99"},
		{"leader.replication.throttled.replicas", "bad"},
	} {
		out = append(out, oddity{fmt.Sprintf("create with %s=%q", config[0], config[1]), with(func(_ *odd, t *topic) {
			t.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: config[0], Value: &config[1]}}
		})})
	}
	return append(out, oddity{"create with a null config", with(func(_ *odd, t *topic) {
		t.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "retention.ms"}}
	})})
}

func oddDeletions() []oddity {
	remove := func(topics func(*odd) []kmsg.DeleteTopicsRequestTopic) func(*odd) string {
		return func(o *odd) string {
			req := at(6, kmsg.NewPtrDeleteTopicsRequest())
			req.Topics, req.TimeoutMillis = topics(o), 10_000
			return answer(o, req, func(resp *kmsg.DeleteTopicsResponse) string {
				return each(resp.Topics, func(t kmsg.DeleteTopicsResponseTopic) string { return code(t.ErrorCode) })
			})
		}
	}
	one := func(name *string, id [16]byte) func(*odd) string {
		return remove(func(*odd) []kmsg.DeleteTopicsRequestTopic {
			return []kmsg.DeleteTopicsRequestTopic{{Topic: name, TopicID: id}}
		})
	}
	return []oddity{
		{"delete an unknown topic", one(ptr("unknown"), [16]byte{})},
		{"delete an unknown id", one(nil, [16]byte{1, 2, 3})},
		{"delete a name and an id", one(ptr("unknown"), [16]byte{1, 2, 3})},
		{"delete neither a name nor an id", one(nil, [16]byte{})},
		{"delete an invalid name", one(ptr("a/b"), [16]byte{})},
		{"delete a topic twice", remove(func(o *odd) []kmsg.DeleteTopicsRequestTopic {
			return []kmsg.DeleteTopicsRequestTopic{{Topic: ptr(o.prefix + "a.b")}, {Topic: ptr(o.prefix + "a.b")}}
		})},
		{"delete no topics", remove(func(*odd) []kmsg.DeleteTopicsRequestTopic { return nil })},
	}
}

func oddPartitions() []oddity {
	type topic = kmsg.CreatePartitionsRequestTopic
	grow := func(name string, count int32, brokers ...[]int32) func(*odd) string {
		return func(o *odd) string { return o.grow(false, o.partitions(name, count, brokers...)) }
	}
	return []oddity{
		{"grow an unknown topic", grow("unknown", 3)},
		{"grow to fewer partitions", grow("plain", 1)},
		{"grow to as many partitions", grow("plain", 2)},
		{"grow to 0 partitions", grow("plain", 0)},
		{"grow to -1 partitions", grow("plain", -1)},
		{"grow with too few assignments", grow("plain", 4, []int32{1})},
		{"grow with too many assignments", grow("plain", 3, []int32{1}, []int32{1})},
		{"grow on an unknown broker", grow("plain", 3, []int32{77})},
		{"grow with another replication factor", grow("plain", 3, []int32{1, 1})},
		{"grow on no broker", grow("plain", 3, []int32{})},
		{"grow a topic twice", func(o *odd) string { return o.grow(false, o.partitions("plain", 3), o.partitions("plain", 3)) }},
		{"grow, only to validate", func(o *odd) string { return o.grow(true, o.partitions("plain", 3)) }},
		{"grow a topic without a name", func(o *odd) string { return o.grow(true, topic{Count: 3}) }},
	}
}

func (o *odd) partitions(name string, count int32, brokers ...[]int32) kmsg.CreatePartitionsRequestTopic {
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = o.prefix+name, count
	for _, b := range brokers {
		t.Assignment = append(t.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: b})
	}
	return t
}

func (o *odd) grow(validate bool, topics ...kmsg.CreatePartitionsRequestTopic) string {
	req := at(3, kmsg.NewPtrCreatePartitionsRequest())
	req.Topics, req.ValidateOnly, req.TimeoutMillis = topics, validate, 10_000
	return answer(o, req, func(resp *kmsg.CreatePartitionsResponse) string {
		return each(resp.Topics, func(t kmsg.CreatePartitionsResponseTopic) string { return code(t.ErrorCode) })
	})
}

func oddConfigs() []oddity {
	return append(oddDescriptions(), oddAlterations()...)
}

func oddDescriptions() []oddity {
	describe := func(kind kmsg.ConfigResourceType, name string, keys ...string) func(*odd) string {
		return func(o *odd) string {
			req := at(4, kmsg.NewPtrDescribeConfigsRequest())
			req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: strings.ReplaceAll(name, "~", o.prefix), ConfigNames: keys}}
			return answer(o, req, func(resp *kmsg.DescribeConfigsResponse) string {
				return each(resp.Resources, func(r kmsg.DescribeConfigsResponseResource) string {
					out := code(r.ErrorCode)
					if len(keys) > 0 {
						out += fmt.Sprint(" ", each(r.Configs, func(c kmsg.DescribeConfigsResponseResourceConfig) string {
							return fmt.Sprintf("%s=%s from %s", c.Name, *c.Value, c.Source)
						}))
					}
					return out
				})
			})
		}
	}
	return []oddity{
		{"describe an unknown topic's configs", describe(2, "unknown")},
		{"describe the configs of a topic without a name", describe(2, "")},
		{"describe the configs of an invalid topic name", describe(2, "a/b")},
		{"describe broker 99's configs", describe(4, "99")},
		{"describe broker abc's configs", describe(4, "abc")},
		{"describe all brokers' configs", describe(4, "")},
		{"describe configs of type 99", describe(99, "x")},
		{"describe configs of type 0", describe(0, "x")},
		{"describe a config that is none", describe(2, "~plain", "no.such.config")},
		{"describe a topic's own config", describe(2, "~plain", "retention.ms")},
		{"describe a topic's default config", describe(2, "~plain", "segment.bytes")},
		{"describe a broker's config", describe(4, "1", "node.id")},
	}
}

func oddAlterations() []oddity {
	type change = kmsg.IncrementalAlterConfigsRequestResourceConfig
	const set, remove, add, subtract = kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete, kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract
	one := func(name string, op kmsg.IncrementalAlterConfigOp, value *string) change {
		return change{Name: name, Op: op, Value: value}
	}
	alter := func(kind kmsg.ConfigResourceType, name string, changes ...change) func(*odd) string {
		return func(o *odd) string {
			return o.alter(kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kind, ResourceName: strings.ReplaceAll(name, "~", o.prefix), Configs: changes})
		}
	}
	retention := one("retention.ms", set, ptr("5000000"))
	return []oddity{
		{"alter an unknown topic", alter(2, "unknown", retention)},
		{"alter a topic without a name", alter(2, "", retention)},
		{"alter a config that is none", alter(2, "~plain", one("no.such.config", set, ptr("1")))},
		{"alter to a bad value", alter(2, "~plain", one("retention.ms", set, ptr("soon")))},
		{"alter to null", alter(2, "~plain", one("retention.ms", set, nil))},
		{"remove a config that is not set", alter(2, "~plain", one("segment.ms", remove, nil))},
		{"remove a config that is none", alter(2, "~plain", one("no.such.config", remove, nil))},
		{"append to a config that is no list", alter(2, "~plain", one("retention.ms", add, ptr("1")))},
		{"subtract from a config that is no list", alter(2, "~plain", one("retention.ms", subtract, ptr("1")))},
		{"append to a list", alter(2, "~small", one("cleanup.policy", add, ptr("compact")))},
		{"append to a list what is in it", alter(2, "~small", one("cleanup.policy", add, ptr("delete")))},
		{"append a bad value", alter(2, "~plain", one("cleanup.policy", add, ptr("foo")))},
		{"append null", alter(2, "~plain", one("cleanup.policy", add, nil))},
		{"subtract what is not in a list", alter(2, "~plain", one("cleanup.policy", subtract, ptr("compact")))},
		{"subtract the last of a list", alter(2, "~plain", one("cleanup.policy", subtract, ptr("delete")))},
		{"alter with operation 9", alter(2, "~plain", one("retention.ms", 9, ptr("1")))},
		{"alter a config twice", alter(2, "~plain", retention, retention)},
		{"alter nothing", alter(2, "~plain")},
		{"alter a topic twice", func(o *odd) string {
			r := kmsg.IncrementalAlterConfigsRequestResource{ResourceType: 2, ResourceName: o.prefix + "plain", Configs: []change{retention}}
			return o.alter(r, r)
		}},
		{"alter broker 99", alter(4, "99", one("log.retention.ms", set, ptr("1000")))},
		{"alter broker abc", alter(4, "abc", one("log.retention.ms", set, ptr("1000")))},
		{"alter a broker's fixed config", alter(4, "1", one("log.dirs", set, ptr("/")))},
		{"alter a broker's config that is none", alter(4, "1", one("no.such.config", set, ptr("1")))},
		{"alter a broker's config to a bad value", alter(4, "1", one("log.retention.ms", set, ptr("soon")))},
		{"alter a broker's config", alter(4, "1", one("log.cleaner.backoff.ms", set, ptr("20000")))},
		{"alter all brokers' config", alter(4, "", one("log.cleaner.backoff.ms", set, ptr("20000")))},
		{"alter configs of type 99", alter(99, "x", retention)},
	}
}

func (o *odd) alter(resources ...kmsg.IncrementalAlterConfigsRequestResource) string {
	req := at(1, kmsg.NewPtrIncrementalAlterConfigsRequest())
	req.Resources = resources
	return answer(o, req, func(resp *kmsg.IncrementalAlterConfigsResponse) string {
		return each(resp.Resources, func(r kmsg.IncrementalAlterConfigsResponseResource) string { return code(r.ErrorCode) })
	})
}
