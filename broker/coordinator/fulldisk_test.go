package coordinator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/protocol"
)

// TestFullDiskGroupsAreReadAndNotChanged: heartbeats and reads go on, what would be written is refused with an error
// that is tried again, also after a load; once there is room everything goes on without one.
func TestFullDiskGroupsAreReadAndNotChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(1)
		log.delay = time.Millisecond
		r := newRig(t, log, 0)
		r.OnLeadership(0, 1, true)
		time.Sleep(time.Second)
		joined := r.join("g", "", 3)
		time.Sleep(time.Second)
		j := *joined.get(t)
		synced := r.sync("g", j.MemberID, j.Generation)
		first := r.commit("h", 0, 5)
		gone := r.commit("h", 1, 6)
		time.Sleep(time.Second)
		if j.ErrorCode != 0 || (*synced.get(t)).ErrorCode != 0 || r.committed(first) != 0 || r.committed(gone) != 0 {
			t.Fatal("the group is not stable")
		}
		log.setFull(true)
		before := log.appended(0)
		refused := func(when string) {
			t.Helper()
			beat, read := r.heartbeat("g", j.MemberID, j.Generation), r.fetch(7, "h")
			commit, join, leave, deleted := r.commit("h", 0, 6), r.join("i", "", 3), r.sync("g", j.MemberID, j.Generation), r.remove("h")
			synctest.Wait()
			if code := (*beat.get(t)).ErrorCode; code != 0 || r.fetched(read) != 5 {
				t.Errorf("%s: heartbeat %d, offset %d", when, code, r.fetched(read))
			}
			for what, code := range map[string]int16{
				"commit": r.committed(commit), "join": (*join.get(t)).ErrorCode,
				"sync": (*leave.get(t)).ErrorCode, "delete": (*deleted.get(t)).Groups[0].ErrorCode,
			} {
				if code != kerr.CoordinatorNotAvailable.Code {
					t.Errorf("%s: %s %d", when, what, code)
				}
			}
		}
		refused("at first")
		r.TopicDeleted([]string{"foo"}) // and made anew, with another id
		r.setTopics(topics{"foo": {Name: "foo", ID: protocol.TopicID{2}, Partitions: 100}})
		time.Sleep(time.Minute) // the session of the member ends meanwhile
		r.setTopics(topics{"foo": {Name: "foo", ID: protocol.TopicID{1}, Partitions: 100}})
		refused("after a minute")
		r.OnLeadership(0, 2, false)
		r.OnLeadership(0, 3, true)
		time.Sleep(5 * time.Second)
		refused("after a load")
		if n := log.appended(0); n != before {
			t.Errorf("%d batches were written to a full disk", n-before)
		}
		r.setTopics(topics{})
		r.TopicDeleted([]string{"foo"})
		time.Sleep(time.Minute)
		log.setFull(false)
		time.Sleep(5 * time.Second)
		late, read := r.heartbeat("g", j.MemberID, j.Generation), r.fetch(7, "h")
		synctest.Wait()
		if code := (*late.get(t)).ErrorCode; code != kerr.UnknownMemberID.Code {
			t.Errorf("the member whose session ended: %d", code)
		}
		if got := r.fetched(read); got != -1 {
			t.Errorf("offset %d of a deleted topic", got)
		}
		r.setTopics(topics{"foo": {Name: "foo", ID: protocol.TopicID{3}, Partitions: 100}})
		after := r.commit("h", 0, 7)
		time.Sleep(time.Second)
		if got := r.committed(after); got != 0 {
			t.Errorf("commit once there is room: %d", got)
		}
	})
}
