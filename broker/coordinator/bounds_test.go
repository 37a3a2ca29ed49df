package coordinator_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
)

// TestMemoryOfGroupsIsBoundedAndGivenBack: beyond the bound new groups are refused with an error that is tried again,
// those that are there go on, and who deletes, or no longer leads, gives back.
func TestMemoryOfGroupsIsBoundedAndGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, memory := newFakeLog(1), group.NewMemory(100_000)
		r := newRigWith(t, log, 0, func(s *group.Settings) { s.Memory = memory })
		r.OnLeadership(0, 1, true)
		time.Sleep(time.Second)
		commit := func(id string) int16 {
			a := r.commit(id, 0, 1)
			time.Sleep(time.Second)
			return r.committed(a)
		}
		id := func(i int) string { return strings.Repeat(string(rune('a'+i)), 5000) }
		taken := 0
		for ; taken < 20 && commit(id(taken)) == 0; taken++ {
		}
		if taken == 0 || taken == 20 {
			t.Fatalf("%d groups taken", taken)
		}
		if got := commit(id(taken)); got != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("one more group: %d", got)
		}
		if got := commit(id(0)); got != 0 {
			t.Errorf("a group that is there commits again: %d", got)
		}
		join := r.join(id(taken), "", 4)
		synctest.Wait()
		if (*join.get(t)).ErrorCode != kerr.CoordinatorLoadInProgress.Code {
			t.Errorf("a member of a new group: %d", (*join.get(t)).ErrorCode)
		}
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = []string{id(1)}
		deleted := &answer[*kmsg.DeleteGroupsResponse]{}
		r.DeleteGroups(me, req, deleted.set)
		time.Sleep(time.Second)
		if got := commit(id(taken)); got != 0 {
			t.Errorf("a group in the place of a deleted one: %d", got)
		}
		before := memory.Used()
		r.OnLeadership(0, 2, false)
		synctest.Wait()
		if memory.Used() != 0 {
			t.Errorf("%d bytes are held for groups that are elsewhere", memory.Used())
		}
		r.OnLeadership(0, 3, true)
		time.Sleep(time.Second)
		if memory.Used() != before {
			t.Errorf("%d bytes after the load, %d before", memory.Used(), before)
		}
	})
}

// TestOffsetFetchAnswersOnce: however often a request names a group, a topic or a partition.
func TestOffsetFetchAnswersOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, 0, 0)
		a := r.commit("g", 0, 7)
		time.Sleep(time.Second)
		if got := r.committed(a); got != 0 {
			t.Fatal(got)
		}
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic, topic.Partitions = "foo", []int32{0, 1, 0, 0}
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.Topics = "g", []kmsg.OffsetFetchRequestGroupTopic{topic, topic}
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version, req.Groups = 8, []kmsg.OffsetFetchRequestGroup{g, g, g}
		got := &answer[*kmsg.OffsetFetchResponse]{}
		r.OffsetFetch(me, req, got.set)
		synctest.Wait()
		resp := *got.get(t)
		if len(resp.Groups) != 1 || len(resp.Groups[0].Topics) != 1 || len(resp.Groups[0].Topics[0].Partitions) != 2 {
			t.Fatalf("%+v", resp)
		}
		if p := resp.Groups[0].Topics[0].Partitions[0]; p.Offset != 7 {
			t.Errorf("offset %d", p.Offset)
		}
	})
}
