package metadata

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/stratabroker/strata/protocol/record"
)

// Source says where a setting's value came from, by Kafka's number in DescribeConfigs.
type Source int8

// Sources, strongest first but for the default.
const (
	SourceTopic          Source = 1
	SourceDynamicBroker  Source = 2
	SourceDynamicDefault Source = 3
	SourceStatic         Source = 4
	SourceDefault        Source = 5
)

// Value is one setting's value with where it came from.
type Value struct {
	Name   string
	Value  string
	Null   bool
	Source Source
}

// TopicConfig is what a topic's settings amount to on one broker.
type TopicConfig struct {
	Compact, Delete                        bool
	Compression                            string // producer, uncompressed, gzip, snappy, lz4 or zstd
	GzipLevel, LZ4Level, ZstdLevel         int
	SegmentBytes, SegmentMinBytes          int64
	IndexIntervalBytes, IndexMaxBytes      int64
	SegmentMs                              int64
	FlushMessages, FlushMs                 int64
	RetentionMs, RetentionBytes            int64 // -1: no limit
	LocalRetentionMs, LocalRetentionBytes  int64 // effective; -1: no limit
	DeleteRetentionMs                      int64
	MinCompactionLagMs, MaxCompactionLagMs int64
	MinCleanableDirtyRatio                 float64 // 0 to 1
	// RemoteCopyLagMs and RemoteCopyLagBytes: a sealed segment is due for upload once it
	// satisfies one of them (KIP-1241). Effective, never negative: -1 has been resolved to
	// local retention, which for ever means 0, at once.
	RemoteCopyLagMs, RemoteCopyLagBytes       int64
	TimestampBeforeMaxMs, TimestampAfterMaxMs int64
	MaxMessageBytes, MinISR                   int32
	LogAppendTime                             bool
	// RemoteDelete: this topic itself says remote.storage.enable=false and
	// remote.log.delete.on.disable=true, so its objects are to go. A default never says so.
	RemoteDelete                     bool
	RemoteStorage, RemoteCopyDisable bool
	UncleanElection                  bool
}

// BrokerValues gives every candidate for a broker setting's value, strongest first.
func (s *Static) BrokerValues(img *Image, broker string, setting *Setting) []Value {
	var out []Value
	if setting.Update == Dynamic {
		if v, ok := img.Config(Resource{BrokerResource, broker}, setting.Name); ok {
			out = append(out, Value{Name: setting.Name, Value: v, Source: SourceDynamicBroker})
		}
		if v, ok := img.Config(Resource{BrokerResource, ""}, setting.Name); ok {
			out = append(out, Value{Name: setting.Name, Value: v, Source: SourceDynamicDefault})
		}
	}
	if v, ok := s.Lookup(setting.Name); ok {
		out = append(out, Value{Name: setting.Name, Value: v, Source: SourceStatic})
	}
	if !setting.Null {
		out = append(out, Value{Name: setting.Name, Value: setting.Default, Source: SourceDefault})
	}
	return out
}

// TopicValues gives every candidate for a topic setting's value, strongest first, converted to the topic setting's unit.
func (s *Static) TopicValues(img *Image, topic string, setting *Setting) []Value {
	var out []Value
	if v, ok := img.Config(Resource{TopicResource, topic}, setting.Name); ok && topic != "" {
		out = append(out, Value{Name: setting.Name, Value: v, Source: SourceTopic})
	}
	broker := s.String("node.id")
	for _, synonym := range setting.Synonyms {
		bs, ok := BrokerSetting(synonym)
		if !ok || bs.Ignored {
			continue
		}
		for _, v := range s.BrokerValues(img, broker, bs) {
			v.Value = convertUnit(synonym, v.Value)
			out = append(out, v)
		}
	}
	// A default that came from a synonym ranks below every explicit value.
	slices.SortStableFunc(out, func(a, b Value) int { return int(a.Source) - int(b.Source) })
	if setting.Name == "remote.storage.enable" && s.String("strata.bucket.url") != "" {
		out = append(out, Value{Name: "strata.remote.storage.enable", Value: "true", Source: SourceDefault})
	}
	return append(out, Value{Name: setting.Name, Value: setting.Default, Source: SourceDefault})
}

func convertUnit(synonym, value string) string {
	unit := int64(1)
	switch {
	case strings.HasSuffix(synonym, ".hours"):
		unit = 60 * 60 * 1000
	case strings.HasSuffix(synonym, ".minutes"):
		unit = 60 * 1000
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if unit == 1 || err != nil || n < 0 {
		return value
	}
	return strconv.FormatInt(n*unit, 10)
}

// Topic resolves a topic's settings: override, dynamic broker, dynamic default,
// file, default. topic "" gives what a topic without overrides has.
func (s *Static) Topic(img *Image, topic string) TopicConfig {
	values := map[string]string{}
	for name, setting := range topicIndex() {
		values[name] = s.TopicValues(img, topic, setting)[0].Value
	}
	c := topicConfig(values)
	own, _ := img.Config(Resource{TopicResource, topic}, "remote.storage.enable")
	c.RemoteDelete = strings.EqualFold(own, "false") && strings.EqualFold(values["remote.log.delete.on.disable"], "true")
	return c
}

func topicConfig(values map[string]string) TopicConfig {
	long := func(name string) int64 {
		n, _ := strconv.ParseInt(strings.TrimSpace(values[name]), 10, 64)
		return n
	}
	isTrue := func(name string) bool { return strings.EqualFold(strings.TrimSpace(values[name]), "true") }
	policy := SplitList(values["cleanup.policy"])
	ratio, _ := strconv.ParseFloat(strings.TrimSpace(values["min.cleanable.dirty.ratio"]), 64)
	c := TopicConfig{
		Compact: slices.Contains(policy, "compact"), Delete: slices.Contains(policy, "delete"),
		Compression: values["compression.type"],
		GzipLevel:   int(long("compression.gzip.level")), LZ4Level: int(long("compression.lz4.level")), ZstdLevel: int(long("compression.zstd.level")),
		SegmentBytes: long("segment.bytes"), SegmentMinBytes: long("strata.segment.min.bytes"),
		IndexIntervalBytes: long("index.interval.bytes"), IndexMaxBytes: long("segment.index.bytes"),
		SegmentMs: long("segment.ms"), FlushMessages: long("flush.messages"), FlushMs: long("flush.ms"),
		RetentionMs: long("retention.ms"), RetentionBytes: long("retention.bytes"),
		LocalRetentionMs: long("local.retention.ms"), LocalRetentionBytes: long("local.retention.bytes"),
		DeleteRetentionMs:  long("delete.retention.ms"),
		MinCompactionLagMs: long("min.compaction.lag.ms"), MaxCompactionLagMs: long("max.compaction.lag.ms"),
		MinCleanableDirtyRatio: ratio,
		RemoteCopyLagMs:        long("remote.copy.lag.ms"), RemoteCopyLagBytes: long("remote.copy.lag.bytes"),
		TimestampBeforeMaxMs: long("message.timestamp.before.max.ms"), TimestampAfterMaxMs: long("message.timestamp.after.max.ms"),
		MaxMessageBytes: int32(min(long("max.message.bytes"), math.MaxInt32)), MinISR: int32(min(long("min.insync.replicas"), math.MaxInt32)),
		LogAppendTime: values["message.timestamp.type"] == "LogAppendTime",
		RemoteStorage: isTrue("remote.storage.enable"), RemoteCopyDisable: isTrue("remote.log.copy.disable"),
		UncleanElection: isTrue("unclean.leader.election.enable"),
	}
	if c.LocalRetentionMs == -2 {
		c.LocalRetentionMs = c.RetentionMs
	}
	if c.LocalRetentionBytes == -2 {
		c.LocalRetentionBytes = c.RetentionBytes
	}
	if c.RemoteCopyLagMs == -1 {
		c.RemoteCopyLagMs = max(c.LocalRetentionMs, 0)
	}
	if c.RemoteCopyLagBytes == -1 {
		c.RemoteCopyLagBytes = max(c.LocalRetentionBytes, 0)
	}
	return c
}

// configError is a refusal in Kafka's own words, which users look up.
type configError string

// Error implements error.
func (t configError) Error() string { return string(t) }

const (
	errNoTiering configError = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
	errDisable   configError = "It is invalid to disable remote storage without deleting remote data. " +
		"If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. " +
		"If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`."
)

// CheckTopicConfig tells whether a topic may have these overrides, with was
// being those before the change (nil for a new topic). The error's text is
// Kafka's where Kafka has one.
func (s *Static) CheckTopicConfig(img *Image, was, overrides map[string]string) error {
	values := map[string]string{}
	for name, setting := range topicIndex() {
		values[name] = s.TopicValues(img, "", setting)[0].Value
	}
	for name, value := range overrides {
		setting, ok := TopicSetting(name)
		if !ok {
			return configError("Unknown topic config name: " + name + didYouMeanTopic(name))
		}
		if err := setting.Check(value); err != nil {
			return err
		}
		values[name] = value
	}
	c := topicConfig(values)
	if c.RemoteStorage && s.String("strata.bucket.url") == "" && overrides["remote.storage.enable"] != "" {
		return errNoTiering
	}
	disabled := was != nil && s.tiered(img, was) && !c.RemoteStorage
	if disabled && !strings.EqualFold(overrides["remote.log.delete.on.disable"], "true") {
		return errDisable
	}
	return checkLocalRetention(c, values)
}

// tiered tells whether a topic with these overrides goes to the bucket.
func (s *Static) tiered(img *Image, overrides map[string]string) bool {
	if v, ok := overrides["remote.storage.enable"]; ok {
		return strings.EqualFold(v, "true")
	}
	return s.Topic(img, "").RemoteStorage
}

func checkLocalRetention(c TopicConfig, values map[string]string) error {
	if !c.RemoteStorage || c.Compact {
		return nil
	}
	check := func(name string, local, total int64) error {
		switch {
		case local == -1 && total != -1:
			return &SettingError{Name: name, Value: values[name], Want: fmt.Sprintf("Value must not be -1 as %s value is set as %d.", strings.TrimPrefix(name, "local."), total)}
		case total != -1 && local > total:
			return &SettingError{Name: name, Value: values[name], Want: fmt.Sprintf("Value must not be more than %s property value: %d", strings.TrimPrefix(name, "local."), total)}
		}
		return nil
	}
	if c.RemoteCopyDisable && (c.LocalRetentionMs != c.RetentionMs || c.LocalRetentionBytes != c.RetentionBytes) {
		return &SettingError{
			Name: "remote.log.copy.disable", Value: "true",
			Want: "local.retention.ms and local.retention.bytes must be -2 or those of retention.ms and retention.bytes, since nothing more is copied",
		}
	}
	if err := check("local.retention.ms", c.LocalRetentionMs, c.RetentionMs); err != nil {
		return err
	}
	return check("local.retention.bytes", c.LocalRetentionBytes, c.RetentionBytes)
}

// Codec is the codec that the topic stores batches in, with its level; ok is
// false where they stay as the producer sent them.
func (c *TopicConfig) Codec() (codec record.Codec, level int, ok bool) {
	switch c.Compression {
	case "uncompressed":
		return record.None, 0, true
	case "gzip":
		return record.Gzip, c.GzipLevel, true
	case "snappy":
		return record.Snappy, 0, true
	case "lz4":
		return record.LZ4, c.LZ4Level, true
	case "zstd":
		return record.Zstd, c.ZstdLevel, true
	}
	return record.None, 0, false
}

// BrokerInt resolves a whole number among the broker settings, dynamic overrides included.
func (s *Static) BrokerInt(img *Image, name string) int64 {
	n, _ := strconv.ParseInt(s.brokerValue(img, name), 10, 64)
	return n
}

// BrokerFloat is BrokerInt of any number.
func (s *Static) BrokerFloat(img *Image, name string) float64 {
	f, _ := strconv.ParseFloat(s.brokerValue(img, name), 64)
	return f
}

func (s *Static) brokerValue(img *Image, name string) string {
	setting, ok := BrokerSetting(name)
	if !ok {
		panic("no such setting: " + name)
	}
	values := s.BrokerValues(img, s.String("node.id"), setting)
	if len(values) == 0 {
		return ""
	}
	return values[0].Value
}
