package group_test

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// written gives the records of a group that joins, syncs, commits twice (once with
// a retention of its own), leaves and expires.
func written(t *testing.T) []group.Record {
	t.Helper()
	sc := newScript()
	sc.topics["foo"] = metadata.Topic{Name: "foo", ID: protocol.TopicID{1}, Partitions: 2}
	for _, line := range []string{
		"join i client=c instance=i1", "sync s member=i1-i instance=i1 gen=1 assign=i1-i:plan",
		"commit a member=i1-i instance=i1 gen=1 offset=258 epoch=3 metadata=m",
		"commit b v=4 member=i1-i instance=i1 gen=1 p=1 offset=1 retention=1000 metadata=n", "leave l member=@i1", "advance 30h",
	} {
		sc.run(t, line)
	}
	return sc.log
}

// TestRecordsAreKafkas pins the bytes: Kafka's tools and later versions read them.
func TestRecordsAreKafkas(t *testing.T) {
	want := [][2]string{
		{ // group metadata, key 2, value 3
			"0002" + "000167",
			"0003" + "0008636f6e73756d6572" + "00000001" + "000572616e6765" + "000469312d69" + "0000018bcfe56800" +
				"00000001" + "000469312d69" + "00026931" + "000163" + "00092f31302e302e302e31" + "0000ea60" + "00002710" +
				"0000000f" + "0000" + "00000001" + "0003666f6f" + "ffffffff" + "00000004" + "706c616e",
		},
		{ // offset, key 1, value 4 with the topic id
			"0001" + "000167" + "0003666f6f" + "00000000",
			"0004" + "0000000000000102" + "00000003" + "026d" + "0000018bcfe56800" + "01" + "0010" + "01000000000000000000000000000000",
		},
		{ // offset with an expiry, value 1
			"0001" + "000167" + "0003666f6f" + "00000001",
			"0001" + "0000000000000001" + "00016e" + "0000018bcfe56800" + "0000018bcfe56be8",
		},
		{"0002" + "000167", "0003" + "0008636f6e73756d6572" + "00000002" + "ffff" + "ffff" + "0000018bcfe56800" + "00000000"},
		{"0001" + "000167" + "0003666f6f" + "00000001", ""},
		{"0001" + "000167" + "0003666f6f" + "00000000", ""},
		{"0002" + "000167", ""},
	}
	got := written(t)
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i, r := range got {
		if k, v := hex.EncodeToString(r.Key), hex.EncodeToString(r.Value); k != want[i][0] || v != want[i][1] {
			t.Errorf("record %d:\n got %s = %s\nwant %s = %s", i, k, v, want[i][0], want[i][1])
		}
		if tombstone := r.Value == nil; tombstone != (want[i][1] == "") {
			t.Errorf("record %d: tombstone is %v", i, tombstone)
		}
	}
}

// TestOldRecordVersionsAreRead: a value may be of any version that Kafka ever wrote.
func TestOldRecordVersionsAreRead(t *testing.T) {
	s := group.NewShard(testSettings())
	for v := range int16(5) {
		k := kmsg.OffsetCommitKey{Version: v % 2, Group: "g", Topic: "foo", Partition: int32(v)}
		value := kmsg.OffsetCommitValue{
			Version: v, Offset: int64(v), LeaderEpoch: 7, Metadata: "m", CommitTimestamp: 5, ExpireTimestamp: 6,
		}
		if v == 4 {
			value.UnknownTags.Set(9, []byte("new"))
		}
		if err := s.Replay(group.Record{Key: k.AppendTo(nil), Value: value.AppendTo(nil)}); err != nil {
			t.Errorf("offset value %d: %v", v, err)
		}
	}
	protocolName, leader := "range", "gone"
	for v := range int16(4) {
		k := kmsg.GroupMetadataKey{Version: 2, Group: string(rune('h' + v))}
		value := kmsg.GroupMetadataValue{
			Version: v, ProtocolType: "consumer", Generation: 3, Protocol: &protocolName, Leader: &leader,
			Members: []kmsg.GroupMetadataValueMember{{
				MemberID: "m", SessionTimeoutMillis: 1, RebalanceTimeoutMillis: -1, Subscription: []byte("not a subscription"),
			}},
		}
		if err := s.Replay(group.Record{Key: k.AppendTo(nil), Value: value.AppendTo(nil)}); err != nil {
			t.Errorf("group value %d: %v", v, err)
		}
	}
	s.Loaded(begin, topicTable{"foo": {Name: "foo", Partitions: 5}})
	if err := s.Invariants(); err != nil {
		t.Error(err)
	}
	want := `g Empty gen=0
  offset foo-0 0 epoch=-1 "m" at=5 expires=-1 id=AAAAAAAAAAAAAAAAAAAAAA
  offset foo-1 1 epoch=-1 "m" at=5 expires=6 id=AAAAAAAAAAAAAAAAAAAAAA
  offset foo-2 2 epoch=-1 "m" at=5 expires=-1 id=AAAAAAAAAAAAAAAAAAAAAA
  offset foo-3 3 epoch=7 "m" at=5 expires=-1 id=AAAAAAAAAAAAAAAAAAAAAA
  offset foo-4 4 epoch=7 "m" at=5 expires=-1 id=AAAAAAAAAAAAAAAAAAAAAA
`
	for v := range 4 {
		want += string(rune('h'+v)) + " Stable gen=3\n  member m leader assignment=\"\"\n"
	}
	if got := s.Dump(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// TestStrangeRecordsStopTheLoad: what newer software wrote must not be dropped in silence.
func TestStrangeRecordsStopTheLoad(t *testing.T) {
	key := (&kmsg.GroupMetadataKey{Version: 2, Group: "g"}).AppendTo(nil)
	offsetKey := (&kmsg.OffsetCommitKey{Version: 1, Group: "g", Topic: "foo"}).AppendTo(nil)
	protocolName := "range"
	twice := (&kmsg.GroupMetadataValue{Version: 3, Protocol: &protocolName, Members: []kmsg.GroupMetadataValueMember{
		{MemberID: "m"}, {MemberID: "m"},
	}}).AppendTo(nil)
	headless := (&kmsg.GroupMetadataValue{Version: 3, Members: []kmsg.GroupMetadataValueMember{{MemberID: "m"}}}).AppendTo(nil)
	for name, c := range map[string]struct {
		record group.Record
		want   error
	}{
		"consumer group (KIP-848)":  {group.Record{Key: []byte{0, 3, 0, 1, 'g'}}, group.ErrUnknownRecord},
		"newer offset":              {group.Record{Key: offsetKey, Value: []byte{0, 5, 1}}, group.ErrUnknownRecord},
		"newer group":               {group.Record{Key: key, Value: []byte{0, 4, 1}}, group.ErrUnknownRecord},
		"no key":                    {group.Record{}, group.ErrCorruptRecord},
		"negative version":          {group.Record{Key: []byte{255, 255}}, group.ErrCorruptRecord},
		"short offset key":          {group.Record{Key: offsetKey[:6]}, group.ErrCorruptRecord},
		"short group key":           {group.Record{Key: key[:3]}, group.ErrCorruptRecord},
		"empty offset value":        {group.Record{Key: offsetKey, Value: []byte{}}, group.ErrCorruptRecord},
		"empty group value":         {group.Record{Key: key, Value: []byte{}}, group.ErrCorruptRecord},
		"cut offset value":          {group.Record{Key: offsetKey, Value: []byte{0, 3, 0, 0}}, group.ErrCorruptRecord},
		"cut group value":           {group.Record{Key: key, Value: twice[:9]}, group.ErrCorruptRecord},
		"two of one id":             {group.Record{Key: key, Value: twice}, group.ErrCorruptRecord},
		"members without protocol":  {group.Record{Key: key, Value: headless}, group.ErrCorruptRecord},
		"a tag count that is a lie": {group.Record{Key: offsetKey, Value: append(append([]byte{0, 4}, make([]byte, 12)...), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f)}, group.ErrCorruptRecord},
	} {
		if err := group.NewShard(testSettings()).Replay(c.record); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestJoinDoesNotAliasTheRequest: the frame is used anew after the reply.
func TestJoinDoesNotAliasTheRequest(t *testing.T) {
	s := group.NewShard(testSettings())
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.SessionTimeoutMillis, req.ProtocolType = 3, "g", 10_000, "consumer"
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("before")}}
	s.Join(begin, 1, group.Client{ID: "c"}, "u", req)
	copy(req.Protocols[0].Metadata, "AFTER!")
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.Generation, sync.MemberID = "g", 1, "c-u"
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: "c-u", MemberAssignment: []byte("plan")}}
	out := s.Sync(begin, 2, sync)
	copy(sync.GroupAssignment[0].MemberAssignment, "PLAN")
	var v kmsg.GroupMetadataValue
	if err := v.ReadFrom(out.Records[0].Value); err != nil || string(v.Members[0].Subscription) != "before" {
		t.Errorf("subscription %q, %v", v.Members[0].Subscription, err)
	}
	out = s.Sync(begin, 3, sync)
	if got := out.Replies[0].Response.(*kmsg.SyncGroupResponse).MemberAssignment; string(got) != "plan" {
		t.Errorf("assignment %q", got)
	}
}

// TestOverlongNamesAreRefused: a compact string may be longer than a record can hold.
func TestOverlongNamesAreRefused(t *testing.T) {
	long := string(make([]byte, 40_000))
	s := group.NewShard(testSettings())
	for name, change := range map[string]func(*kmsg.JoinGroupRequest){
		"group":    func(r *kmsg.JoinGroupRequest) { r.Group = long },
		"instance": func(r *kmsg.JoinGroupRequest) { r.InstanceID = &long },
		"type":     func(r *kmsg.JoinGroupRequest) { r.ProtocolType = long },
		"protocol": func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = long },
	} {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.SessionTimeoutMillis, req.ProtocolType = 9, "g", 10_000, "consumer"
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		change(req)
		out := s.Join(begin, 1, group.Client{}, "u", req)
		if code(out.Replies[0].Response.(*kmsg.JoinGroupResponse).ErrorCode) == "ok" || len(out.Records) > 0 {
			t.Errorf("%s: accepted", name)
		}
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 8, long, -1
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "foo", Partitions: make([]kmsg.OffsetCommitRequestTopicPartition, 1)}}
	out := s.OffsetCommit(begin, 2, topicTable{"foo": {Name: "foo", Partitions: 1}}, commit)
	if len(out.Records) > 0 {
		t.Error("commit: accepted")
	}
}

// FuzzReplay: any bytes give an error or a sound state.
func FuzzReplay(f *testing.F) {
	key := (&kmsg.GroupMetadataKey{Version: 2, Group: "g"}).AppendTo(nil)
	f.Add(key, []byte{0, 3})
	f.Add([]byte{0, 1, 0, 1, 'g', 0, 3, 'f', 'o', 'o', 0, 0, 0, 0}, append([]byte{0, 4}, make([]byte, 30)...))
	protocolName := "range"
	f.Add(key, (&kmsg.GroupMetadataValue{
		Version: 3, Protocol: &protocolName, Leader: &protocolName, ProtocolType: "consumer",
		Members: []kmsg.GroupMetadataValueMember{{MemberID: "m", Subscription: subscription("foo")}},
	}).AppendTo(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := group.NewShard(testSettings())
		if s.Replay(group.Record{Key: key, Value: value}) != nil {
			return
		}
		s.Loaded(begin, topicTable{})
		if err := s.Invariants(); err != nil {
			t.Fatal(err)
		}
		for {
			at, ok := s.Deadline()
			if !ok || at.After(begin.Add(100*365*24*time.Hour)) {
				break
			}
			s.Expire(at)
		}
		_ = s.Replay(group.Record{Key: key})
		if err := s.Invariants(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzReadTopics: a subscription comes from a client and may be anything.
func FuzzReadTopics(f *testing.F) {
	f.Add(subscription("foo", "bar"))
	b := make([]byte, 40)
	for i := range b {
		b[i] = byte(rand.N(256))
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		topics, ok := group.ReadTopics(b)
		if ok && len(topics) > len(b) {
			t.Fatal("more topics than bytes")
		}
	})
}
