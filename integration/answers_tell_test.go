package integration_test

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// unalike are fields that two brokers fill alike only in whether there is
// something: ids, times, places and sizes. They are told as "?", and -1 as it is.
var unalike = map[string]bool{
	"TopicID": true, "ReplicaDirectoryID": true, "LastTimestamp": true, "LastFetchTimestamp": true, "LastCaughtUpTimestamp": true,
	"TotalBytes": true, "UsableBytes": true, "Port": true, "Dir": true,
}

// unsaid are fields of the wire, and leader epochs, which a broker that was slow for a moment raises.
var unsaid = map[string]bool{"Version": true, "UnknownTags": true, "ThrottleMillis": true, "LeaderEpoch": true}

// tell renders every field of an answer that is not zero, in order; topics are sorted
// where Kafka tells them in no order.
func tell(resp kmsg.Response) string {
	v := reflect.ValueOf(resp).Elem()
	if topics := v.FieldByName("Topics"); topics.IsValid() && resp.Key() != protocol.KeyDescribeTopicPartitions {
		sort.SliceStable(topics.Interface(), func(i, j int) bool {
			return topics.Index(i).FieldByName("Topic").String() < topics.Index(j).FieldByName("Topic").String()
		})
	}
	return strings.TrimSpace(tellStruct(v))
}

func tellStruct(v reflect.Value) string {
	var out []string
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		if unsaid[name] || f.IsZero() {
			continue
		}
		if unalike[name] {
			out = append(out, name+"="+unalikeValue(f))
			continue
		}
		out = append(out, tellField(name, f))
	}
	return strings.Join(out, " ")
}

func unalikeValue(f reflect.Value) string {
	if f.CanInt() && f.Int() == -1 {
		return "-1"
	}
	return "?"
}

func tellField(name string, f reflect.Value) string {
	switch f.Kind() {
	case reflect.Pointer:
		return tellField(name, f.Elem())
	case reflect.Struct:
		return name + "{" + tellStruct(f) + "}"
	case reflect.Slice:
		var elements []string
		for i := range f.Len() {
			if e := f.Index(i); e.Kind() == reflect.Struct {
				elements = append(elements, "{"+tellStruct(e)+"}")
			} else {
				elements = append(elements, fmt.Sprint(e))
			}
		}
		return name + "[" + strings.Join(elements, " ") + "]"
	default:
		if name == "ErrorCode" {
			return code(int16(f.Int()))
		}
		return fmt.Sprintf("%s=%v", name, f)
	}
}

// told is an oddity whose whole answer is compared.
func told(name string, version int16, request func(*odd) kmsg.Request) oddity {
	return oddity{name, func(o *odd) string {
		return answer(o, at(version, request(o)), tell)
	}}
}
