package integration_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
)

const (
	topicType  = kmsg.ConfigResourceTypeTopic
	brokerType = kmsg.ConfigResourceTypeBroker
	loggerType = kmsg.ConfigResourceTypeBrokerLogger
	clientType = kmsg.ConfigResourceType(16)
	groupType  = kmsg.ConfigResourceType(32)
)

// furnishConfigs makes the topics that the changes are made to.
func furnishConfigs(t *testing.T, addr string) *odd {
	t.Helper()
	o := &odd{wire: dialWire(t, addr), addr: addr, prefix: fmt.Sprintf("cfg%x-", rand.Uint32())}
	for name, configs := range map[string][]kmsg.CreateTopicsRequestTopicConfig{
		"bare": nil, "plain": nil, "list": nil, "spaces": nil, "legacy": nil,
		"set": {{Name: "retention.ms", Value: ptr("7200000")}, {Name: "cleanup.policy", Value: ptr("compact,delete")}},
	} {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor, topic.Configs = o.prefix+name, 1, 1, configs
		if got := o.create(topic); got != "NONE" {
			t.Fatal(got)
		}
	}
	harness.Eventually(t, wireLimit, "the topics are there", func() error {
		for _, name := range []string{"bare", "set"} {
			if got := o.configsOf(topicType, "~"+name).Resources[0].ErrorCode; got != 0 {
				return errors.New(code(got))
			}
		}
		return nil
	})
	return o
}

func outcome(code16 int16, message *string) string {
	if message == nil || *message == "" {
		return code(code16)
	}
	return code(code16) + " " + *message
}

type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

func topicOf(name string) resource  { return resource{topicType, name} }
func brokerOf(name string) resource { return resource{brokerType, name} }

// configChanges are requests that alter settings, and ones that a tool may get wrong.
func configChanges() []oddity {
	out := incrementalChanges()
	out = append(out, valueChanges()...)
	out = append(out, legacyChanges()...)
	out = append(out, listings()...)
	return append(out, featureChanges()...)
}

type change = kmsg.IncrementalAlterConfigsRequestResourceConfig

const (
	opSet      = kmsg.IncrementalAlterConfigOpSet
	opDelete   = kmsg.IncrementalAlterConfigOpDelete
	opAppend   = kmsg.IncrementalAlterConfigOpAppend
	opSubtract = kmsg.IncrementalAlterConfigOpSubtract
)

func (o *odd) incremental(version int16, validate bool, resources ...kmsg.IncrementalAlterConfigsRequestResource) string {
	req := at(version, kmsg.NewPtrIncrementalAlterConfigsRequest())
	req.Resources, req.ValidateOnly = resources, validate
	return answer(o, req, func(resp *kmsg.IncrementalAlterConfigsResponse) string {
		return each(resp.Resources, func(r kmsg.IncrementalAlterConfigsResponseResource) string {
			return outcome(r.ErrorCode, r.ErrorMessage)
		})
	})
}

func altering(r resource, cs ...change) func(*odd) string {
	return func(o *odd) string { return o.incremental(1, false, o.resource(r, cs...)) }
}

func (o *odd) resource(r resource, cs ...change) kmsg.IncrementalAlterConfigsRequestResource {
	return kmsg.IncrementalAlterConfigsRequestResource{ResourceType: r.kind, ResourceName: o.prefixed(r.name), Configs: cs}
}

func set(name, value string) change      { return change{Name: name, Op: opSet, Value: &value} }
func remove(name string) change          { return change{Name: name, Op: opDelete} }
func add(name, value string) change      { return change{Name: name, Op: opAppend, Value: &value} }
func subtract(name, value string) change { return change{Name: name, Op: opSubtract, Value: &value} }

// then shows what a change has led to.
func then(r resource, name string, ask func(*odd) string) func(*odd) string {
	return func(o *odd) string {
		out := ask(o) + " -> "
		if *measure != "" {
			time.Sleep(300 * time.Millisecond) // Kafka answers before its own broker has the change
		}
		for _, c := range o.configsOf(r.kind, r.name, name).Resources[0].Configs {
			out += ofTopic(c)
		}
		return out
	}
}

func incrementalChanges() []oddity {
	plain, list, one, all := topicOf("~plain"), topicOf("~list"), brokerOf("1"), brokerOf("")
	return []oddity{
		{"alter an unknown topic", altering(topicOf("unknown"), set("retention.ms", "1"))},
		{"alter a topic without a name", altering(topicOf(""), set("retention.ms", "1"))},
		{"alter a topic of a bad name", altering(topicOf("a/b"), set("retention.ms", "1"))},
		{"alter a setting that is none", altering(plain, set("no.such.config", "1"))},
		{"alter a setting that is nearly one", altering(plain, set("retention.mss", "1"))},
		{"alter one that is none and one that is", altering(plain, set("retention.ms", "1000000"), set("no.such.config", "1"))},
		{"alter to null", altering(plain, change{Name: "retention.ms", Op: opSet})},
		{"alter to null and append null", altering(plain, change{Name: "retention.ms", Op: opSet}, change{Name: "cleanup.policy", Op: opAppend})},
		{"alter a setting without a name", altering(plain, set("", "1"))},
		{"remove a setting", then(plain, "retention.ms", altering(plain, remove("retention.ms")))},
		{"remove a setting that is none", altering(plain, remove("no.such.config"))},
		{"remove with a value", altering(plain, change{Name: "retention.ms", Op: opDelete, Value: ptr("1")})},
		{"append to what is no list", altering(plain, add("retention.ms", "1"))},
		{"subtract from what is no list", altering(plain, subtract("retention.ms", "1"))},
		{"append to what is none", altering(plain, add("no.such.config", "1"))},
		{"append to a list", then(list, "cleanup.policy", altering(list, add("cleanup.policy", "compact")))},
		{"append what is there", then(list, "cleanup.policy", altering(list, add("cleanup.policy", "compact")))},
		{"append two with spaces", then(topicOf("~spaces"), "cleanup.policy", altering(topicOf("~spaces"), add("cleanup.policy", " delete , compact")))},
		{"append nothing", then(list, "cleanup.policy", altering(list, add("cleanup.policy", "")))},
		{"append a bad value", altering(list, add("cleanup.policy", "foo"))},
		{"subtract from a list", then(list, "cleanup.policy", altering(list, subtract("cleanup.policy", "delete")))},
		{"subtract what is not there", then(list, "cleanup.policy", altering(list, subtract("cleanup.policy", "delete")))},
		{"subtract the last", then(list, "cleanup.policy", altering(list, subtract("cleanup.policy", "compact")))},
		{"append to an empty list", then(list, "cleanup.policy", altering(list, add("cleanup.policy", "compact")))},
		{"append after the default", then(plain, "cleanup.policy", altering(plain, add("cleanup.policy", "compact")))},
		{"alter with operation 9", altering(plain, change{Name: "retention.ms", Op: 9, Value: ptr("1")})},
		{"alter a setting twice", altering(plain, set("retention.ms", "1000"), set("retention.ms", "2000"))},
		{"alter two settings twice", altering(plain, set("retention.ms", "1000"), set("retention.ms", "2000"), set("segment.ms", "1"), set("segment.ms", "2"))},
		{"alter nothing", altering(plain)},
		{"alter a topic twice", func(o *odd) string {
			r := o.resource(plain, set("retention.ms", "1000"))
			return o.incremental(1, false, r, r)
		}},
		{"alter a topic twice and another", func(o *odd) string {
			r := o.resource(plain, set("retention.ms", "1000"))
			return o.incremental(1, false, r, o.resource(list, set("retention.ms", "1000")), r)
		}},
		{"alter, only to validate", then(plain, "flush.ms", func(o *odd) string {
			return o.incremental(1, true, o.resource(plain, set("flush.ms", "77")))
		})},
		{"alter in version 0", then(plain, "flush.ms", func(o *odd) string {
			return o.incremental(0, false, o.resource(plain, set("flush.ms", "78")))
		})},
		{"validate a bad value", func(o *odd) string { return o.incremental(1, true, o.resource(plain, set("flush.ms", "x"))) }},
		{"alter broker 99", altering(brokerOf("99"), set("log.retention.ms", "1000"))},
		{"alter broker abc", altering(brokerOf("abc"), set("log.retention.ms", "1000"))},
		{"alter broker -1", altering(brokerOf("-1"), set("log.retention.ms", "1000"))},
		{"alter a fixed setting of a broker", altering(one, set("log.dirs", "/"))},
		{"alter two fixed settings of a broker", altering(one, set("log.dirs", "/"), set("node.id", "2"))},
		{"alter a fixed setting of all brokers", altering(all, set("log.dirs", "/"))},
		{"alter a broker's setting that is none", altering(one, set("no.such.config", "1"))},
		{"alter a broker's setting to a bad value", altering(one, set("log.retention.ms", "soon"))},
		{"alter all brokers' setting to a bad value", altering(all, set("log.retention.ms", "soon"))},
		{"alter a broker's setting beyond its range", altering(one, set("message.max.bytes", "-1"))},
		{"alter a broker's setting to null", altering(one, change{Name: "log.retention.ms", Op: opSet})},
		{"alter a broker's setting", then(plain, "flush.messages", altering(one, set("log.flush.interval.messages", "5000")))},
		{"alter all brokers' setting", then(plain, "flush.messages", altering(all, set("log.flush.interval.messages", "6000")))},
		{"both are told of the broker", then(one, "log.flush.interval.messages", altering(one))},
		{"all brokers' is told of all brokers", then(all, "log.flush.interval.messages", altering(all))},
		{"remove a broker's setting", then(plain, "flush.messages", altering(one, remove("log.flush.interval.messages")))},
		{"remove all brokers' setting", then(plain, "flush.messages", altering(all, remove("log.flush.interval.messages")))},
		{"remove a broker's setting that is not set", altering(one, remove("log.flush.interval.messages"))},
		{"remove a fixed setting of a broker", altering(one, remove("log.dirs"))},
		{"a broker's milliseconds go before its hours", then(plain, "retention.ms", altering(one, set("log.retention.ms", "3600000")))},
		{"and no more", then(plain, "retention.ms", altering(one, remove("log.retention.ms")))},
		{"alter a broker's hours", altering(one, set("log.retention.hours", "5"))},
		{"append to a broker's list", then(one, "log.cleanup.policy", altering(one, add("log.cleanup.policy", "compact")))},
		{"subtract from a broker's list", then(one, "log.cleanup.policy", altering(one, subtract("log.cleanup.policy", "compact")))},
		{"a broker's list is its default again", then(one, "log.cleanup.policy", altering(one, remove("log.cleanup.policy")))},
		{"append to a broker's setting that is no list", altering(one, add("log.retention.ms", "1"))},
		{"alter a broker twice", func(o *odd) string {
			r := o.resource(one, set("log.retention.ms", "1000000"))
			return o.incremental(1, false, r, r)
		}},
		{"alter a broker's listeners", altering(one, set("listeners", "PLAINTEXT://127.0.0.1:1"))},
		{"alter all brokers' listeners", altering(all, set("listeners", "PLAINTEXT://127.0.0.1:1"))},
		{"alter configs of type 99", altering(resource{99, "x"}, set("retention.ms", "1"))},
		{"alter configs of type 0", altering(resource{0, "x"}, set("retention.ms", "1"))},
		{"alter a group", altering(resource{groupType, "g"}, set("consumer.session.timeout.ms", "50000"))},
		{"alter a group without a name", altering(resource{groupType, ""}, set("consumer.session.timeout.ms", "50000"))},
		{"alter a client subscription", altering(resource{clientType, "c"}, set("interval.ms", "1000"))},
		{"alter a client subscription without a name", altering(resource{clientType, ""}, set("interval.ms", "1000"))},
	}
}

// valueChanges set topic settings to what they take, and to what they do not.
func valueChanges() []oddity {
	var out []oddity
	for _, pair := range [][2]string{
		{"retention.ms", "soon"},
		{"retention.ms", "-2"},
		{"retention.ms", "-1"},
		{"retention.ms", " 7 "},
		{"retention.ms", "1.5"},
		{"retention.ms", "9223372036854775808"},
		{"retention.ms", ""},
		{"retention.ms", "+7"},
		{"retention.bytes", "-1"},
		{"segment.bytes", "1048575"},
		{"segment.bytes", "2147483648"},
		{"segment.index.bytes", "3"},
		{"segment.ms", "0"},
		{"segment.jitter.ms", "-1"},
		{"segment.jitter.ms", "5"},
		{"flush.ms", "-1"},
		{"flush.messages", "0"},
		{"index.interval.bytes", "-1"},
		{"max.message.bytes", "-1"},
		{"delete.retention.ms", "-1"},
		{"min.compaction.lag.ms", "-1"},
		{"max.compaction.lag.ms", "0"},
		{"file.delete.delay.ms", "-1"},
		{"file.delete.delay.ms", "1000"},
		{"min.cleanable.dirty.ratio", "1.5"},
		{"min.cleanable.dirty.ratio", "-0.1"},
		{"min.cleanable.dirty.ratio", "half"},
		{"min.cleanable.dirty.ratio", "0.25"},
		{"min.insync.replicas", "0"},
		{"cleanup.policy", "foo"},
		{"cleanup.policy", "compact,foo"},
		{"cleanup.policy", "compact,compact"},
		{"cleanup.policy", "none"},
		{"cleanup.policy", "Delete"},
		{"cleanup.policy", ""},
		{"cleanup.policy", ","},
		{"cleanup.policy", "delete"},
		{"compression.type", "brotli"},
		{"compression.type", "GZIP"},
		{"compression.gzip.level", "0"},
		{"compression.gzip.level", "10"},
		{"compression.lz4.level", "0"},
		{"compression.lz4.level", "18"},
		{"compression.zstd.level", "23"},
		{"compression.zstd.level", "-131073"},
		{"message.timestamp.type", "Never"},
		{"message.timestamp.before.max.ms", "-1"},
		{"message.timestamp.after.max.ms", "-1"},
		{"message.timestamp.after.max.ms", "9223372036854775807"},
		{"preallocate", "maybe"},
		{"preallocate", "false"},
		{"unclean.leader.election.enable", "yes"},
		{"unclean.leader.election.enable", "FALSE"},
		{"leader.replication.throttled.replicas", "bad"},
		{"leader.replication.throttled.replicas", "*"},
		{"leader.replication.throttled.replicas", "0:1"},
		{"leader.replication.throttled.replicas", ""},
		{"follower.replication.throttled.replicas", "0:1,1:x"},
		{"local.retention.ms", "-3"},
		{"local.retention.bytes", "-3"},
		{"local.retention.ms", "-2"},
		{"remote.log.copy.disable", "x"},
		{"remote.log.copy.disable", "true"},
		{"remote.log.copy.disable", "false"},
		{"remote.log.delete.on.disable", "true"},
		{"remote.log.delete.on.disable", "false"},
	} {
		name := pair[0]
		out = append(out, oddity{fmt.Sprintf("set %s to %q", name, pair[1]), func(o *odd) string {
			return then(topicOf("~plain"), name, altering(topicOf("~plain"), set(name, pair[1])))(o)
		}})
	}
	plain := topicOf("~plain")
	return append(out, oddity{"set min.compaction.lag.ms above max.compaction.lag.ms", altering(plain, set("min.compaction.lag.ms", "9"), set("max.compaction.lag.ms", "8"))},
		oddity{"set two bad values", altering(plain, set("flush.ms", "x"), set("retention.ms", "y"))})
}

func (o *odd) legacy(version int16, validate bool, resources ...kmsg.AlterConfigsRequestResource) string {
	req := at(version, kmsg.NewPtrAlterConfigsRequest())
	req.Resources, req.ValidateOnly = resources, validate
	return answer(o, req, func(resp *kmsg.AlterConfigsResponse) string {
		return each(resp.Resources, func(r kmsg.AlterConfigsResponseResource) string {
			return outcome(r.ErrorCode, r.ErrorMessage)
		})
	})
}

func (o *odd) whole(r resource, pairs ...string) kmsg.AlterConfigsRequestResource {
	out := kmsg.AlterConfigsRequestResource{ResourceType: r.kind, ResourceName: o.prefixed(r.name)}
	for i := 0; i < len(pairs); i += 2 {
		out.Configs = append(out.Configs, kmsg.AlterConfigsRequestResourceConfig{Name: pairs[i], Value: &pairs[i+1]})
	}
	return out
}

func replacing(r resource, pairs ...string) func(*odd) string {
	return func(o *odd) string { return o.legacy(2, false, o.whole(r, pairs...)) }
}

func legacyChanges() []oddity {
	topic, one, all := topicOf("~legacy"), brokerOf("1"), brokerOf("")
	return []oddity{
		{"replace an unknown topic's", replacing(topicOf("unknown"), "retention.ms", "1000")},
		{"replace a topic's without a name", replacing(topicOf(""), "retention.ms", "1000")},
		{"replace with two settings", then(topic, "flush.ms", replacing(topic, "retention.ms", "4000000", "flush.ms", "5"))},
		{"replace with another, the first is gone", then(topic, "flush.ms", replacing(topic, "segment.ms", "4000000"))},
		{"replace in version 0", then(topic, "segment.ms", func(o *odd) string { return o.legacy(0, false, o.whole(topic, "segment.ms", "5000000")) })},
		{"replace, only to validate", then(topic, "segment.ms", func(o *odd) string { return o.legacy(1, true, o.whole(topic, "flush.ms", "9")) })},
		{"replace with a bad value", then(topic, "segment.ms", replacing(topic, "flush.ms", "x"))},
		{"replace with what is none", replacing(topic, "no.such.config", "1")},
		{"replace with null", func(o *odd) string {
			r := o.whole(topic, "flush.ms", "x")
			r.Configs[0].Value = nil
			return o.legacy(2, false, r)
		}},
		{"replace with one twice", replacing(topic, "flush.ms", "1", "flush.ms", "2")},
		{"replace with nothing", then(topic, "segment.ms", replacing(topic))},
		{"replace a topic's twice", func(o *odd) string {
			r := o.whole(topic, "flush.ms", "1")
			return o.legacy(2, false, r, r)
		}},
		{"replace broker 99's", replacing(brokerOf("99"), "log.retention.ms", "1000")},
		{"replace broker abc's", replacing(brokerOf("abc"), "log.retention.ms", "1000")},
		{"replace a broker's", then(topic, "flush.messages", replacing(one, "log.flush.interval.messages", "7000"))},
		{"replace a broker's fixed", replacing(one, "log.dirs", "/")},
		{"replace a broker's with a bad value", replacing(one, "log.retention.ms", "soon")},
		{"replace a broker's with nothing", then(topic, "flush.messages", replacing(one))},
		{"replace all brokers'", then(topic, "flush.messages", replacing(all, "log.flush.interval.messages", "8000"))},
		{"replace all brokers' with nothing", then(topic, "flush.messages", replacing(all))},
		{"replace loggers'", replacing(resource{loggerType, "1"}, "kafka.server.KafkaApis", "DEBUG")},
		{"replace configs of type 99", replacing(resource{99, "x"}, "retention.ms", "1")},
		{"replace configs of type 0", replacing(resource{0, "x"}, "retention.ms", "1")},
		{"replace a group's", replacing(resource{groupType, "g"}, "consumer.session.timeout.ms", "50000")},
		{"replace a client subscription's", replacing(resource{clientType, "c"}, "interval.ms", "1000")},
	}
}

// listings are what ListConfigResources and DescribeConfigs say of resources that are none or others than topics and brokers.
func listings() []oddity {
	list := func(version int16, types ...int8) func(*odd) string {
		return func(o *odd) string {
			req := at(version, kmsg.NewPtrListConfigResourcesRequest())
			req.ResourceTypes = types
			return answer(o, req, func(resp *kmsg.ListConfigResourcesResponse) string {
				seen := map[int8]bool{}
				slices.SortFunc(resp.ConfigResources, func(a, b kmsg.ListConfigResourcesResponseConfigResource) int { return int(a.Type) - int(b.Type) })
				out := code(resp.ErrorCode)
				for _, r := range resp.ConfigResources {
					if !seen[r.Type] {
						seen[r.Type] = true
						out += fmt.Sprintf(" type %d", r.Type)
						if r.Type == int8(brokerType) || r.Type == int8(loggerType) {
							out += " " + r.Name
						}
					}
				}
				return out
			})
		}
	}
	describing := func(r resource, keys ...string) func(*odd) string {
		return func(o *odd) string {
			return each(o.configsOf(r.kind, r.name, keys...).Resources, func(r kmsg.DescribeConfigsResponseResource) string {
				return fmt.Sprintf("%s, %d settings", outcome(r.ErrorCode, r.ErrorMessage), len(r.Configs))
			})
		}
	}
	return []oddity{
		{"list in version 0", list(0)},
		{"list all", list(1)},
		{"list brokers", list(1, int8(brokerType))},
		{"list loggers", list(1, int8(loggerType))},
		{"list topics", list(1, int8(topicType))},
		{"list brokers and topics", list(1, int8(brokerType), int8(topicType))},
		{"list client subscriptions", list(1, int8(clientType))},
		{"list type 99", list(1, 99)},
		{"list type 0", list(1, 0)},
		{"list topics and type 99", list(1, int8(topicType), 99)},
		{"describe an unknown topic", describing(topicOf("unknown"))},
		{"describe a topic without a name", describing(topicOf(""))},
		{"describe a topic of a bad name", describing(topicOf("a/b"))},
		{"describe a topic's setting that is none", describing(topicOf("~bare"), "no.such.config")},
		{"describe none of a topic's settings", func(o *odd) string {
			configs := o.configsOf(topicType, "~bare", []string{}...).Resources[0].Configs
			return fmt.Sprint(len(configs) > 0)
		}},
		{"describe a topic's setting twice", describing(topicOf("~bare"), "flush.ms", "flush.ms")},
		{"describe broker 99", describing(brokerOf("99"))},
		{"describe broker abc", describing(brokerOf("abc"))},
		{"describe all brokers", describing(brokerOf(""))},
		{"describe a broker's setting that is none", describing(brokerOf("1"), "no.such.config")},
		{"describe the loggers of broker 99", describing(resource{loggerType, "99"})},
		{"describe the loggers of all brokers", describing(resource{loggerType, ""})},
		{"describe the loggers of broker abc", describing(resource{loggerType, "abc"})},
		{"describe a logger that is none", describing(resource{loggerType, "1"}, "no.such.logger")},
		{"describe a group that is none", describing(resource{groupType, "g"}, "x")},
		{"describe a group without a name", describing(resource{groupType, ""})},
		{"describe a client subscription that is none", describing(resource{clientType, "c"}, "x")},
		{"describe a client subscription without a name", describing(resource{clientType, ""})},
		{"describe type 99", describing(resource{99, "x"})},
		{"describe type 0", describing(resource{0, "x"})},
		{"alter the loggers of broker 99", altering(resource{loggerType, "99"}, set("ROOT", "INFO"))},
		{"alter the loggers of all brokers", altering(resource{loggerType, ""}, set("ROOT", "INFO"))},
		{"alter a logger that is none", altering(resource{loggerType, "1"}, set("no.such.logger", "INFO"))},
		{"alter a logger to a level that is none", altering(resource{loggerType, "1"}, set("root", "LOUD"))},
		{"alter a logger's level in lower case", altering(resource{loggerType, "1"}, set("root", "info"))},
		{"alter the root logger", then(resource{loggerType, "1"}, "root", altering(resource{loggerType, "1"}, set("root", "WARN")))},
		{"alter the root logger, in capitals", then(resource{loggerType, "1"}, "root", altering(resource{loggerType, "1"}, set("ROOT", "INFO")))},
		{"alter the root logger to null", altering(resource{loggerType, "1"}, change{Name: "root", Op: opSet})},
		{"remove the root logger's level", altering(resource{loggerType, "1"}, remove("root"))},
		{"append to a logger's level", altering(resource{loggerType, "1"}, add("root", "INFO"))},
		{"subtract from a logger's level", altering(resource{loggerType, "1"}, subtract("root", "INFO"))},
		{"remove the level of a logger that is none", altering(resource{loggerType, "1"}, remove("no.such.logger"))},
		{"validate a logger's level", func(o *odd) string {
			return o.incremental(1, true, o.resource(resource{loggerType, "1"}, set("root", "INFO")))
		}},
		{"alter a logger twice", altering(resource{loggerType, "1"}, set("root", "INFO"), set("root", "WARN"))},
	}
}

// feature is one that the broker has finalised at the highest level that it supports: Kafka's group.version, or strata.version.
func (o *odd) feature() (name string, level int16) {
	o.t.Helper()
	req := at(4, kmsg.NewPtrApiVersionsRequest())
	req.ClientSoftwareName, req.ClientSoftwareVersion = "odd", "1"
	resp := must[*kmsg.ApiVersionsResponse](o.wire, req)
	for _, name := range []string{"group.version", "strata.version"} {
		for _, f := range resp.FinalizedFeatures {
			for _, s := range resp.SupportedFeatures {
				if f.Name == name && s.Name == name && f.MaxVersionLevel == s.MaxVersion {
					return name, f.MaxVersionLevel
				}
			}
		}
	}
	o.t.Fatal("no feature is finalised at the level supported")
	return "", 0
}

// featureChanges are changes of a feature that the broker has, and of one that no broker has.
func featureChanges() []oddity {
	update := func(version int16, validate bool, updates ...kmsg.UpdateFeaturesRequestFeatureUpdate) func(*odd) string {
		return func(o *odd) string {
			req := at(version, kmsg.NewPtrUpdateFeaturesRequest())
			req.FeatureUpdates, req.ValidateOnly, req.TimeoutMillis = updates, validate, 10_000
			return answer(o, req, func(resp *kmsg.UpdateFeaturesResponse) string {
				return outcome(resp.ErrorCode, resp.ErrorMessage) + " [" + each(resp.Results, func(r kmsg.UpdateFeaturesResponseResult) string {
					return r.Feature + " " + outcome(r.ErrorCode, r.ErrorMessage)
				}) + "]"
			})
		}
	}
	own := func(version int16, validate bool, step int16, kind int8) func(*odd) string {
		return func(o *odd) string {
			name, level := o.feature()
			f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
			f.Feature, f.MaxVersionLevel, f.UpgradeType, f.AllowDowngrade = name, level+step, kind, kind > 1
			return strings.NewReplacer(name, "FEATURE", fmt.Sprintf("version %d ", level+step), "version N ", fmt.Sprintf("0-%d", level), "MIN-MAX", fmt.Sprintf("1-%d", level), "MIN-MAX").Replace(update(version, validate, f)(o))
		}
	}
	feature := func(name string, level int16, kind int8) kmsg.UpdateFeaturesRequestFeatureUpdate {
		f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		f.Feature, f.MaxVersionLevel, f.UpgradeType, f.AllowDowngrade = name, level, kind, kind > 1
		return f
	}
	return []oddity{
		{"upgrade a feature to the level it has", own(1, false, 0, 1)},
		{"upgrade a feature to the level it has in version 0", own(0, false, 0, 1)},
		{"upgrade a feature to the level it has in version 2", own(2, false, 0, 1)},
		{"validate an upgrade of a feature to the level it has", own(1, true, 0, 1)},
		{"downgrade a feature to the level it has", own(1, false, 0, 2)},
		{"upgrade a feature beyond what is supported", own(1, false, 1, 1)},
		{"downgrade a feature beyond what is supported", own(1, false, 1, 2)},
		{"update no feature", update(2, false)},
		{"update no feature in version 0", update(0, false)},
		{"upgrade a feature that is none", update(1, false, feature("no.such.version", 1, 1))},
		{"upgrade a feature that is none in version 0", update(0, false, feature("no.such.version", 1, 1))},
		{"upgrade a feature that is none in version 2", update(2, false, feature("no.such.version", 1, 1))},
		{"validate a feature that is none", update(1, true, feature("no.such.version", 1, 1))},
		{"downgrade a feature that is none", update(1, false, feature("no.such.version", 0, 2))},
		{"downgrade a feature that is none, unsafely", update(1, false, feature("no.such.version", 0, 3))},
		{"a feature without a name", update(1, false, feature("", 1, 1))},
		{"a feature of kind 0", update(1, false, feature("no.such.version", 1, 0))},
		{"a feature of kind 9", update(1, false, feature("no.such.version", 1, 9))},
		{"a feature of level -1", update(1, false, feature("no.such.version", -1, 1))},
		{"remove a feature that is none by an upgrade", update(1, false, feature("no.such.version", 0, 1))},
		{"a feature twice", update(1, false, feature("no.such.version", 1, 1), feature("no.such.version", 1, 1))},
	}
}
