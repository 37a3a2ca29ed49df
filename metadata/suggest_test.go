package metadata_test

import (
	"strings"
	"testing"

	"github.com/stratabroker/strata/metadata"
)

func TestAnUnknownSettingTellsWhatIsRight(t *testing.T) {
	for name, want := range map[string]string{
		"segmnt.bytes":            "did you mean log.segment.bytes? segment.bytes is a setting of topics (strata topic create --config segment.bytes=...)",
		"segment.bytes":           "did you mean log.segment.bytes?",
		"retention.ms":            "did you mean log.retention.ms?",
		"remote.storage.enable":   "did you mean strata.remote.storage.enable?",
		"remote.log.copy.disable": "; remote.log.copy.disable is a setting of topics: strata topic create --config",
		"log.retention.hour":      "did you mean log.retention.hours?",
		"log.segment.byte":        "did you mean log.segment.bytes?",
		"log.segmnet.bytes":       "did you mean log.segment.bytes?",
		"num.partition":           "did you mean num.partitions?",
		"num.network.thread":      "did you mean num.network.threads?",
		"nodeid":                  "did you mean node.id?",
		"listner":                 "did you mean listeners?",
		"bucket.url":              "did you mean strata.bucket.url?",
		"strata.buckt.url":        "did you mean strata.bucket.url?",
		"strata.nonsense":         "strata settings lists them",
		"x":                       "strata settings lists them",
		"":                        "strata settings lists them",
	} {
		_, _, err := metadata.NewStatic(map[string]string{name: "1"})
		if err == nil || !strings.Contains(err.Error(), name+"=1") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", name, err, want)
		}
	}
}

func TestAnUnknownVariableTellsWhatIsRight(t *testing.T) {
	for variable, want := range map[string]string{
		"STRATA_LOG_SEGMNT_BYTES":        "did you mean STRATA_LOG_SEGMENT_BYTES?",
		"STRATA_SEGMENT_BYTES":           "did you mean STRATA_LOG_SEGMENT_BYTES?",
		"STRATA_STRATA_BUCKET_URL":       "did you mean STRATA_BUCKET_URL?",
		"STRATA_BUCKT_URL":               "did you mean STRATA_BUCKET_URL?",
		"STRATA_NODE_IDD":                "did you mean STRATA_NODE_ID?",
		"STRATA_REMOTE_LOG_COPY_DISABLE": "remote.log.copy.disable is a setting of topics",
		"STRATA_NONSENSE":                "want STRATA_ and a setting's name in upper case",
	} {
		_, err := metadata.Environment([]string{variable + "=1"})
		if err == nil || !strings.Contains(err.Error(), variable+" names no setting") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", variable, err, want)
		}
	}
}

func TestAnUnknownTopicSettingTellsWhatIsRight(t *testing.T) {
	s := static(t)
	for name, want := range map[string]string{
		"segment.byte":      "Unknown topic config name: segment.byte; did you mean segment.bytes?",
		"log.segment.bytes": "Unknown topic config name: log.segment.bytes; did you mean segment.bytes?",
		"retention.mss":     "Unknown topic config name: retention.mss; did you mean retention.ms?",
		"nonsense":          "Unknown topic config name: nonsense",
	} {
		err := s.CheckTopicConfig(metadata.EmptyImage(), nil, map[string]string{name: "1"})
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
}
