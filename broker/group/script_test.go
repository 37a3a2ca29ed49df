package group_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata with what the code does now")

// TestScripts runs testdata/*.txt: each block is a command, "----", and what it leads
// to, ended by an empty line. Lines that begin with # are comments.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sc := newScript()
			var out strings.Builder
			for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
				command, want, _ := strings.Cut(block+"\n", "----\n")
				got := sc.run(t, command)
				if want != got && !*rewrite {
					t.Errorf("%s\n got:\n%s\nwant:\n%s", command, got, want)
				}
				out.WriteString(command)
				if hasCommand(command) {
					out.WriteString("----\n" + got)
				}
				out.WriteString("\n")
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func hasCommand(block string) bool {
	for line := range strings.Lines(block) {
		if !strings.HasPrefix(line, "#") {
			return true
		}
	}
	return false
}

// topicTable is the topics of a test.
type topicTable map[string]metadata.Topic

func (t topicTable) Topic(name string) (metadata.Topic, bool) {
	topic, ok := t[name]
	return topic, ok
}

func (t topicTable) TopicByID(id protocol.TopicID) (metadata.Topic, bool) {
	for _, topic := range t {
		if topic.ID == id {
			return topic, true
		}
	}
	return metadata.Topic{}, false
}

type script struct {
	settings group.Settings
	shard    *group.Shard
	now      time.Time
	topics   topicTable
	names    map[group.Token]string
	last     group.Token
	log      []group.Record
}

var begin = time.UnixMilli(1_700_000_000_000)

func testSettings() group.Settings {
	return group.Settings{
		MinSessionTimeout: 6 * time.Second, MaxSessionTimeout: 30 * time.Minute,
		OffsetMetadataMaxBytes: 16, OffsetsRetention: 24 * time.Hour, ExpiryInterval: 10 * time.Minute,
		MaxBatchBytes: 4096,
	}
}

func newScript() *script {
	sc := &script{settings: testSettings(), now: begin, topics: topicTable{}, names: map[group.Token]string{}}
	sc.shard = group.NewShard(sc.settings)
	return sc
}

// args are the key=value words of a command.
type args map[string]string

func (a args) str(key, def string) string {
	if v, ok := a[key]; ok {
		return v
	}
	return def
}

func (a args) opt(key string) *string {
	if v, ok := a[key]; ok {
		return &v
	}
	return nil
}

func (a args) num(t *testing.T, key string, def int) int {
	t.Helper()
	v, ok := a[key]
	if !ok {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (a args) dur(t *testing.T, key string, def time.Duration) time.Duration {
	t.Helper()
	v, ok := a[key]
	if !ok {
		return def
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (sc *script) run(t *testing.T, block string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		a := args{}
		for _, w := range words[1:] {
			key, value, found := strings.Cut(w, "=")
			if !found {
				key, value = "", w
			}
			a[key] = value
		}
		out.WriteString(sc.command(t, words[0], a))
		if err := sc.shard.Invariants(); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return out.String()
}

func (sc *script) command(t *testing.T, name string, a args) string {
	t.Helper()
	switch name {
	case "settings":
		sc.settings.InitialRebalanceDelay = a.dur(t, "delay", sc.settings.InitialRebalanceDelay)
		sc.settings.OffsetsRetention = a.dur(t, "retention", sc.settings.OffsetsRetention)
		sc.settings.MaxSize = int32(a.num(t, "maxsize", int(sc.settings.MaxSize)))
		if n := a.num(t, "memory", 0); n > 0 {
			sc.settings.Memory = group.NewMemory(int64(n))
		}
		sc.settings.MaxBatchBytes = a.num(t, "batchbytes", sc.settings.MaxBatchBytes)
		sc.shard.Release()
		sc.shard = group.NewShard(sc.settings)
		return ""
	case "topic":
		id := protocol.TopicID{byte(a.num(t, "id", 1))}
		sc.topics[a[""]] = metadata.Topic{Name: a[""], ID: id, Partitions: int32(a.num(t, "partitions", 2))}
		return ""
	case "deltopic":
		delete(sc.topics, a[""])
		return sc.show(sc.shard.TopicsDeleted(sc.now, sc.topics, map[string]struct{}{a[""]: {}}))
	case "advance":
		return sc.advance(a.dur(t, "", 0))
	case "reload":
		sc.shard.Release()
		sc.shard = group.NewShard(sc.settings)
		clear(sc.names)
		for _, r := range sc.log {
			if err := sc.shard.Replay(r); err != nil {
				t.Fatal(err)
			}
		}
		return sc.show(sc.shard.Loaded(sc.now, sc.topics))
	case "dump":
		return sc.shard.Dump()
	}
	sc.last++
	sc.names[sc.last] = a[""]
	return sc.show(sc.request(t, name, a))
}

// advance moves the clock, stopping at each deadline.
func (sc *script) advance(d time.Duration) string {
	var out strings.Builder
	end := sc.now.Add(d)
	for {
		at, ok := sc.shard.Deadline()
		if !ok || at.After(end) {
			sc.now = end
			return out.String()
		}
		sc.now = at
		if s := sc.show(sc.shard.Expire(at)); s != "" {
			fmt.Fprintf(&out, "at %v:\n%s", at.Sub(begin), s)
		}
	}
}

func (sc *script) request(t *testing.T, name string, a args) group.Output {
	t.Helper()
	version, gen := int16(a.num(t, "v", 9)), int32(a.num(t, "gen", 1))
	groupID, memberID := a.str("group", "g"), a.str("member", "")
	switch name {
	case "join":
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = version, groupID, memberID, a.opt("instance")
		req.SessionTimeoutMillis = int32(a.dur(t, "session", 10*time.Second).Milliseconds())
		req.RebalanceTimeoutMillis = int32(a.dur(t, "rebalance", time.Minute).Milliseconds())
		req.ProtocolType = a.str("type", "consumer")
		for p := range strings.SplitSeq(a.str("protocols", "range:foo"), ",") {
			if p == "" {
				continue
			}
			protocolName, topics, _ := strings.Cut(p, ":")
			q := kmsg.NewJoinGroupRequestProtocol()
			q.Name, q.Metadata = protocolName, subscription(strings.Split(topics, "+")...)
			req.Protocols = append(req.Protocols, q)
		}
		client := group.Client{ID: a.str("client", "c"), Host: "/10.0.0.1"}
		return sc.shard.Join(sc.now, sc.last, client, a[""], req)
	case "sync":
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = int16(a.num(t, "v", 4)), groupID, memberID, a.opt("instance")
		req.Generation, req.ProtocolType, req.Protocol = gen, a.opt("type"), a.opt("protocol")
		for one := range strings.SplitSeq(a["assign"], ",") {
			if id, assignment, ok := strings.Cut(one, ":"); ok {
				req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{
					MemberID: id, MemberAssignment: []byte(assignment),
				})
			}
		}
		return sc.shard.Sync(sc.now, sc.last, req)
	case "heartbeat":
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, groupID, memberID, a.opt("instance"), gen
		return sc.shard.Heartbeat(sc.now, sc.last, req)
	case "leave":
		return sc.shard.Leave(sc.now, sc.last, leaveRequest(t, a))
	case "commit":
		return sc.shard.OffsetCommit(sc.now, sc.last, sc.topics, commitRequest(t, a))
	case "fetch":
		req := kmsg.NewOffsetFetchRequestGroup()
		req.Group = groupID
		if topic, ok := a["topic"]; ok {
			q := kmsg.NewOffsetFetchRequestGroupTopic()
			q.Topic, q.TopicID = topic, protocol.TopicID{byte(a.num(t, "id", 0))}
			q.Partitions = []int32{int32(a.num(t, "p", 0))}
			req.Topics = append(req.Topics, q)
		}
		return sc.shard.OffsetFetch(sc.now, sc.last, sc.topics, version, req)
	}
	return sc.manage(t, name, a)
}

// manage sends what those who look after groups ask for; group= takes several.
func (sc *script) manage(t *testing.T, name string, a args) group.Output {
	t.Helper()
	groups := strings.Split(a.str("group", "g"), ",")
	switch name {
	case "describe":
		return sc.shard.Describe(sc.now, sc.last, int16(a.num(t, "v", 6)), groups)
	case "list":
		req := kmsg.NewPtrListGroupsRequest()
		if states, ok := a["states"]; ok {
			req.StatesFilter = strings.Split(states, ",")
		}
		if types, ok := a["types"]; ok {
			req.TypesFilter = strings.Split(types, ",")
		}
		return sc.shard.List(sc.now, sc.last, req)
	case "delete":
		return sc.shard.Delete(sc.now, sc.last, 3, groups)
	case "forget":
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = groups[0]
		q := kmsg.NewOffsetDeleteRequestTopic()
		q.Topic = a.str("topic", "foo")
		q.Partitions = []kmsg.OffsetDeleteRequestTopicPartition{{Partition: int32(a.num(t, "p", 0))}}
		req.Topics = append(req.Topics, q)
		return sc.shard.OffsetDelete(sc.now, sc.last, sc.topics, req)
	}
	t.Fatalf("no command %q", name)
	return group.Output{}
}

func leaveRequest(t *testing.T, a args) *kmsg.LeaveGroupRequest {
	t.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = int16(a.num(t, "v", 5)), a.str("group", "g")
	if req.Version < 3 {
		req.MemberID = a["member"]
		return req
	}
	for one := range strings.SplitSeq(a["member"], ",") {
		m := kmsg.NewLeaveGroupRequestMember()
		id, instance, static := strings.Cut(one, "@")
		if m.MemberID = id; static {
			m.InstanceID = &instance
		}
		req.Members = append(req.Members, m)
	}
	return req
}

func commitRequest(t *testing.T, a args) *kmsg.OffsetCommitRequest {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID = int16(a.num(t, "v", 9)), a.str("group", "g"), a["member"]
	req.Generation, req.InstanceID = int32(a.num(t, "gen", -1)), a.opt("instance")
	req.RetentionTimeMillis = int64(a.num(t, "retention", -1))
	q := kmsg.NewOffsetCommitRequestTopic()
	q.Topic, q.TopicID = a.str("topic", "foo"), protocol.TopicID{byte(a.num(t, "id", 0))}
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.Metadata = int32(a.num(t, "p", 0)), int64(a.num(t, "offset", 0)), a.opt("metadata")
	p.LeaderEpoch = int32(a.num(t, "epoch", -1))
	q.Partitions = append(q.Partitions, p)
	req.Topics = append(req.Topics, q)
	return req
}

// subscription is a consumer's metadata.
func subscription(topics ...string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Topics = topics
	return m.AppendTo(nil)
}

func (sc *script) show(out group.Output) string {
	sc.log = append(sc.log, out.Records...)
	var b strings.Builder
	for _, r := range out.Records {
		b.WriteString(showRecord(r))
	}
	for _, r := range out.Replies {
		name, ok := sc.names[r.Token]
		if !ok {
			name = "UNKNOWN TOKEN"
		}
		delete(sc.names, r.Token)
		fmt.Fprintf(&b, "%s: %s\n", name, showReply(r.Response))
	}
	return b.String()
}

func showRecord(r group.Record) string {
	if r.Key[1] < 2 {
		var k kmsg.OffsetCommitKey
		_ = k.ReadFrom(r.Key)
		if r.Value == nil {
			return fmt.Sprintf("record v%d offset %s %s-%d gone\n", k.Version, k.Group, k.Topic, k.Partition)
		}
		var v kmsg.OffsetCommitValue
		_ = v.ReadFrom(r.Value)
		return fmt.Sprintf("record v%d/v%d offset %s %s-%d %d\n", k.Version, v.Version, k.Group, k.Topic, k.Partition, v.Offset)
	}
	var k kmsg.GroupMetadataKey
	_ = k.ReadFrom(r.Key)
	if r.Value == nil {
		return fmt.Sprintf("record v%d group %s gone\n", k.Version, k.Group)
	}
	var v kmsg.GroupMetadataValue
	_ = v.ReadFrom(r.Value)
	var members []string
	for _, m := range v.Members {
		members = append(members, fmt.Sprintf("%s=%q", m.MemberID, m.Assignment))
	}
	return fmt.Sprintf("record v%d/v%d group %s gen=%d %s %s leader=%s %v\n", k.Version, v.Version, k.Group,
		v.Generation, v.ProtocolType, str(v.Protocol), str(v.Leader), members)
}

func str(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func code(c int16) string {
	if c == 0 {
		return "ok"
	}
	return kerr.TypedErrorForCode(c).Message
}

func showReply(r kmsg.Response) string {
	switch r := r.(type) {
	case *kmsg.JoinGroupResponse:
		s := fmt.Sprintf("joined %s member=%s", code(r.ErrorCode), r.MemberID)
		if r.ErrorCode == 0 {
			s += fmt.Sprintf(" gen=%d protocol=%s leader=%s", r.Generation, str(r.Protocol), r.LeaderID)
		}
		if r.SkipAssignment {
			s += " skip"
		}
		for _, m := range r.Members {
			s += " +" + m.MemberID
		}
		return s
	case *kmsg.SyncGroupResponse:
		return fmt.Sprintf("synced %s protocol=%s %q", code(r.ErrorCode), str(r.Protocol), r.MemberAssignment)
	case *kmsg.HeartbeatResponse:
		return "heartbeat " + code(r.ErrorCode)
	case *kmsg.LeaveGroupResponse:
		s := "left " + code(r.ErrorCode)
		for _, m := range r.Members {
			s += fmt.Sprintf(" %s@%s:%s", m.MemberID, str(m.InstanceID), code(m.ErrorCode))
		}
		return s
	case *kmsg.OffsetCommitResponse:
		p := r.Topics[0].Partitions[0]
		return fmt.Sprintf("committed %s-%d %s", r.Topics[0].Topic, p.Partition, code(p.ErrorCode))
	case *kmsg.OffsetFetchResponse:
		g := r.Groups[0]
		s := "fetched " + code(g.ErrorCode)
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				s += fmt.Sprintf(" %s/%d-%d:%d epoch=%d %q %s", t.Topic, t.TopicID[0], p.Partition, p.Offset,
					p.LeaderEpoch, str(p.Metadata), code(p.ErrorCode))
			}
		}
		return s
	}
	return showManaged(r)
}

func showManaged(r kmsg.Response) string {
	s := ""
	switch r := r.(type) {
	case *kmsg.DescribeGroupsResponse:
		for _, g := range r.Groups {
			s += fmt.Sprintf("\n  %s %s %s type=%q protocol=%q", g.Group, code(g.ErrorCode), g.State, g.ProtocolType, g.Protocol)
			for _, m := range g.Members {
				s += fmt.Sprintf("\n    %s instance=%s %s %s metadata=%d %q", m.MemberID, str(m.InstanceID), m.ClientID, m.ClientHost,
					len(m.ProtocolMetadata), m.MemberAssignment)
			}
		}
		return "described" + s
	case *kmsg.ListGroupsResponse:
		for _, g := range r.Groups {
			s += fmt.Sprintf(" %s/%s/%s/%s", g.Group, g.ProtocolType, g.GroupState, g.GroupType)
		}
		return "listed" + s
	case *kmsg.DeleteGroupsResponse:
		for _, g := range r.Groups {
			s += fmt.Sprintf(" %s:%s", g.Group, code(g.ErrorCode))
		}
		return "deleted" + s
	case *kmsg.OffsetDeleteResponse:
		for _, t := range r.Topics {
			s += fmt.Sprintf(" %s-%d:%s", t.Topic, t.Partitions[0].Partition, code(t.Partitions[0].ErrorCode))
		}
		return "forgot " + code(r.ErrorCode) + s
	}
	return fmt.Sprintf("%T", r)
}

// TestPartitionForIsJavasHash guards the place of a group: Kafka's tools look there.
func TestPartitionForIsJavasHash(t *testing.T) {
	for id, want := range map[string]int32{
		"":                          0,
		"a":                         97 % 50,
		"console-consumer-1":        group.PartitionFor("console-consumer-1", 50),
		"polygenelubricants":        0, // hash is Integer.MIN_VALUE
		"hello":                     99162322 % 50,
		"\U0001F600":                1772899 % 50, // a surrogate pair: 0xd83d * 31 + 0xde00
		strings.Repeat("z", 40_000): group.PartitionFor(strings.Repeat("z", 40_000), 50),
	} {
		if got := group.PartitionFor(id, 50); got != want {
			t.Errorf("%.20q: partition %d, want %d", id, got, want)
		}
	}
	if !slices.Contains([]int32{0, 1, 2}, group.PartitionFor("x", 3)) {
		t.Error("partition beyond the count")
	}
}
