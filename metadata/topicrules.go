package metadata

import (
	"errors"
	"fmt"
	"strings"
)

// configError is a refusal in Kafka's own words, which users look up.
type configError string

// Error implements error.
func (t configError) Error() string { return string(t) }

const (
	errNoTiering configError = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
	errDisable   configError = "It is invalid to disable remote storage without deleting remote data. " +
		"If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. " +
		"If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`."
	errCopyDisabled = "When `remote.log.copy.disable` is set to true, the `local.retention.%[1]s` " +
		"and `retention.%[1]s` must be set to the identical value because there will be no more logs copied to the remote storage."
	errLags = "conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)"
)

// CheckTopicConfig tells whether a topic may have these overrides, with was
// being those before the change (nil for a new topic). The error's text is
// Kafka's where Kafka has one.
func (s *Static) CheckTopicConfig(img *Image, was, next map[string]string) error {
	for _, setting := range TopicSettings() { // the first in the order of names is told
		if value, ok := next[setting.Name]; ok {
			if err := setting.Check(value); err != nil {
				return err
			}
		}
	}
	for name := range next {
		if err := CheckTopicSettingName(name); err != nil {
			return err
		}
	}
	const any = "x" // whose overrides next stands for; the name is not asked for elsewhere
	c, values := s.topicConfig(overrides(img.Config).with(Resource{TopicResource, any}, next), any)
	if c.RemoteStorage && s.String("strata.bucket.url") == "" && next["remote.storage.enable"] != "" {
		return errNoTiering
	}
	disabled := was != nil && s.tiered(img, was) && !c.RemoteStorage
	if disabled && !strings.EqualFold(strings.TrimSpace(next["remote.log.delete.on.disable"]), "true") {
		return errDisable
	}
	return checkTogether(c, values)
}

// CheckTopicSettingName refuses a name that is no topic setting, and tells which may be meant.
func CheckTopicSettingName(name string) error {
	if _, ok := TopicSetting(name); !ok {
		return configError("Unknown topic config name: " + name + didYouMeanTopic(name))
	}
	return nil
}

// CheckBrokerConfig tells whether a broker, or with an empty name all of them,
// may have these overrides: topics that set nothing must be right with them.
func (s *Static) CheckBrokerConfig(img *Image, broker string, next map[string]string) error {
	c, values := s.topicConfig(overrides(img.Config).with(Resource{BrokerResource, broker}, next), "")
	err := checkTogether(c, values)
	var of *SettingError
	if errors.As(err, &of) { // of a topic setting; a broker's is called otherwise
		if topic, ok := TopicSetting(of.Name); ok && len(topic.Synonyms) > 0 {
			return &SettingError{Name: topic.Synonyms[0], Value: of.Value, Want: of.Want}
		}
	}
	return err
}

// NotDynamic tells why a broker setting cannot be altered while the broker runs; ok
// where it can. why is empty for one that takes a restart.
func NotDynamic(name string) (why string, ok bool) {
	setting, known := BrokerSetting(name)
	switch {
	case !known:
		return name + " is no broker setting of Kafka 4.3 or strata" + didYouMean(name), false
	case setting.Ignored:
		return name + " has no effect here: " + setting.Doc, false
	}
	return "", setting.Update == Dynamic
}

// tiered tells whether a topic with these overrides goes to the bucket.
func (s *Static) tiered(img *Image, own map[string]string) bool {
	if v, ok := own["remote.storage.enable"]; ok {
		return strings.EqualFold(strings.TrimSpace(v), "true")
	}
	return s.Topic(img, "").RemoteStorage
}

// checkTogether holds the rules that settings have with each other.
func checkTogether(c TopicConfig, values map[string]string) error {
	if c.MinCompactionLagMs > c.MaxCompactionLagMs {
		return configError(fmt.Sprintf(errLags, c.MinCompactionLagMs, c.MaxCompactionLagMs))
	}
	if !c.RemoteStorage || c.Compact { // Kafka tiers no compacted topic; here all of one stays local
		return nil
	}
	for _, check := range []func(TopicConfig, map[string]string) error{checkLocalRetention, checkCopyLag, checkCopyDisabled} {
		if err := check(c, values); err != nil {
			return err
		}
	}
	return nil
}

// checkLocalRetention: what is kept locally is part of what is kept.
func checkLocalRetention(c TopicConfig, values map[string]string) error {
	check := func(unit string, local, total int64) error {
		name, of := "local.retention."+unit, "retention."+unit
		switch {
		case total == -1 || values[name] == "-2":
			return nil
		case local == -1:
			return &SettingError{Name: name, Value: values[name], Want: fmt.Sprintf("Value must not be -1 as %s value is set as %d.", of, total)}
		case local > total:
			return &SettingError{Name: name, Value: values[name], Want: fmt.Sprintf("Value must not be more than %s property value: %d", of, total)}
		}
		return nil
	}
	if err := check("bytes", c.LocalRetentionBytes, c.RetentionBytes); err != nil {
		return err
	}
	return check("ms", c.LocalRetentionMs, c.RetentionMs)
}

// checkCopyLag: a segment must be in the bucket before local retention lets it go (KIP-1241).
func checkCopyLag(c TopicConfig, values map[string]string) error {
	check := func(unit string, lag, local int64) error {
		if name := "remote.copy.lag." + unit; local >= 0 && lag > local {
			return &SettingError{Name: name, Value: values[name], Want: fmt.Sprintf("Value must not exceed local.retention.%s (effective value: %d)", unit, local)}
		}
		return nil
	}
	if err := check("bytes", c.RemoteCopyLagBytes, c.LocalRetentionBytes); err != nil {
		return err
	}
	return check("ms", c.RemoteCopyLagMs, c.LocalRetentionMs)
}

// checkCopyDisabled: what is no longer copied must stay local as long as it is kept (KIP-950).
func checkCopyDisabled(c TopicConfig, _ map[string]string) error {
	switch {
	case !c.RemoteCopyDisable:
	case c.LocalRetentionBytes != c.RetentionBytes:
		return configError(fmt.Sprintf(errCopyDisabled, "bytes"))
	case c.LocalRetentionMs != c.RetentionMs:
		return configError(fmt.Sprintf(errCopyDisabled, "ms"))
	}
	return nil
}
