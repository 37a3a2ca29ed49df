package coordinator_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/protocol/record"
)

func (r *rig) describe(groups ...string) *answer[*kmsg.DescribeGroupsResponse] {
	a := &answer[*kmsg.DescribeGroupsResponse]{}
	r.DescribeGroups(me, &kmsg.DescribeGroupsRequest{Version: 6, Groups: groups}, a.set)
	return a
}

func (r *rig) list() *answer[*kmsg.ListGroupsResponse] {
	a := &answer[*kmsg.ListGroupsResponse]{}
	r.ListGroups(me, &kmsg.ListGroupsRequest{Version: 5}, a.set)
	return a
}

func (r *rig) remove(groups ...string) *answer[*kmsg.DeleteGroupsResponse] {
	a := &answer[*kmsg.DeleteGroupsResponse]{}
	r.DeleteGroups(me, &kmsg.DeleteGroupsRequest{Version: 3, Groups: groups}, a.set)
	return a
}

func (r *rig) forget(groupID string, partitions ...int32) *answer[*kmsg.OffsetDeleteResponse] {
	t := kmsg.OffsetDeleteRequestTopic{Topic: "foo"}
	for _, p := range partitions {
		t.Partitions = append(t.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: p})
	}
	a := &answer[*kmsg.OffsetDeleteResponse]{}
	r.OffsetDelete(me, &kmsg.OffsetDeleteRequest{Group: groupID, Topics: []kmsg.OffsetDeleteRequestTopic{t}}, a.set)
	return a
}

// names of the groups listed, sorted; the test fails on an error.
func (r *rig) names() []string {
	r.t.Helper()
	a := r.list()
	synctest.Wait()
	resp := *a.get(r.t)
	if resp.ErrorCode != 0 {
		r.t.Fatalf("list: code %d", resp.ErrorCode)
	}
	out := []string{}
	for _, g := range resp.Groups {
		out = append(out, g.Group)
	}
	slices.Sort(out)
	return out
}

// TestManyGroupsAskEachShardOnce: a request may name more groups than a mailbox holds.
func TestManyGroupsAskEachShardOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeLog(4), 8)
		for p := range int32(3) { // partition 3 is led elsewhere
			r.OnLeadership(p, 1, true)
		}
		synctest.Wait()
		var ids []string
		for i := range 400 {
			ids = append(ids, fmt.Sprintf("g%d", i))
		}
		commit := r.commit("g7", 0, 1)
		time.Sleep(time.Second)
		if r.committed(commit) != 0 {
			t.Fatal("commit failed")
		}
		described, deleted, fetched := r.describe(append(ids, ids...)...), r.remove(append(ids, ids...)...), r.fetch(8, append(ids, ids...)...)
		time.Sleep(time.Second)
		d, x, f := (*described.get(t)).Groups, (*deleted.get(t)).Groups, (*fetched.get(t)).Groups
		if len(d) != len(ids) || len(x) != len(ids) || len(f) != len(ids) {
			t.Fatalf("%d described, %d deleted, %d fetched of %d", len(d), len(x), len(f), len(ids))
		}
		for i, id := range ids {
			code, fetch := kerr.GroupIDNotFound.Code, int16(0)
			switch {
			case group.PartitionFor(id, 4) == 3:
				code, fetch = kerr.NotCoordinator.Code, kerr.NotCoordinator.Code
			case id == "g7":
				code = 0
			}
			if d[i].Group != id || d[i].ErrorCode != code || x[i].Group != id || x[i].ErrorCode != code || f[i].Group != id || f[i].ErrorCode != fetch {
				t.Errorf("%s: described %s code %d, deleted %s code %d, fetched %s code %d, want code %d and %d",
					id, d[i].Group, d[i].ErrorCode, x[i].Group, x[i].ErrorCode, f[i].Group, f[i].ErrorCode, code, fetch)
			}
		}
		for _, empty := range []int{len((*r.describe().get(t)).Groups), len((*r.remove().get(t)).Groups), len((*r.fetch(8).get(t)).Groups)} {
			if empty != 0 {
				t.Error("groups told that nobody asked about")
			}
		}
	})
}

func TestDeletionIsAnsweredOnceItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, -1, 0)
		for i, id := range []string{"a", "a", "b"} {
			a := r.commit(id, int32(i), 5)
			synctest.Wait()
			r.log.commit(0, 1)
			synctest.Wait()
			if r.committed(a) != 0 {
				t.Fatal("commit failed")
			}
		}
		deleted, forgotten := r.remove("a"), r.forget("b", 2)
		synctest.Wait()
		if deleted.get(t) != nil || forgotten.get(t) != nil {
			t.Fatal("answered before the tombstones are committed")
		}
		r.log.commit(0, 2)
		synctest.Wait()
		if (*deleted.get(t)).Groups[0].ErrorCode != 0 || (*forgotten.get(t)).Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("%+v, %+v", *deleted.get(t), *forgotten.get(t))
		}
		r.OnLeadership(0, 2, false)
		r.OnLeadership(0, 3, true)
		synctest.Wait()
		if got := r.names(); len(got) != 0 {
			t.Errorf("after a restart there are %q", got)
		}
	})
}

// TestDeletionThatWasNotWrittenDidNotHappen: what the log does not hold is there again, and the
// client is told so; a list that is asked for meanwhile is an error, never one with groups missing.
func TestDeletionThatWasNotWrittenDidNotHappen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, time.Millisecond, 0)
		a := r.commit("a", 0, 5)
		time.Sleep(time.Second)
		if r.committed(a) != 0 {
			t.Fatal("commit failed")
		}
		r.log.setRefuse(func(record.Batch) error { return errors.New("disk is full") })
		deleted := r.remove("a")
		listed, described := r.list(), r.describe("a")
		synctest.Wait()
		if got := (*deleted.get(t)).Groups[0].ErrorCode; got != kerr.NotCoordinator.Code {
			t.Errorf("deletion: code %d", got)
		}
		// It may have come before the failure was seen, or after.
		if got := (*described.get(t)).Groups[0].ErrorCode; got != kerr.NotCoordinator.Code && got != kerr.CoordinatorLoadInProgress.Code {
			t.Errorf("description: code %d", got)
		}
		if got := *listed.get(t); got.ErrorCode != kerr.CoordinatorLoadInProgress.Code || len(got.Groups) != 0 {
			t.Errorf("list: %+v", got)
		}
		r.log.setRefuse(nil)
		time.Sleep(time.Minute)
		if got := r.names(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("groups %q, want a", got)
		}
	})
}

// TestListTellsWhatIsLedHere: shards that load make it an error, those led elsewhere do not.
func TestListTellsWhatIsLedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(4)
		r := newRig(t, log, 0)
		if got := r.names(); len(got) != 0 {
			t.Errorf("a coordinator of nothing lists %q", got)
		}
		r.OnLeadership(0, 1, true)
		r.OnLeadership(1, 1, true)
		synctest.Wait()
		var want []string
		for i := range 40 {
			id := fmt.Sprintf("g%02d", i)
			a := r.commit(id, 0, 1)
			time.Sleep(time.Second)
			if r.committed(a) == 0 {
				want = append(want, id)
			}
		}
		if got := r.names(); !slices.Equal(got, want) || len(want) == 0 || len(want) == 40 {
			t.Errorf("listed %q, want %q", got, want)
		}
		log.setReadErr(errors.New("high watermark is not known yet"))
		r.OnLeadership(2, 1, true)
		synctest.Wait()
		refused := r.list()
		synctest.Wait()
		if got := *refused.get(t); got.ErrorCode != kerr.CoordinatorLoadInProgress.Code || len(got.Groups) != 0 {
			t.Errorf("while a shard loads: %+v", got)
		}
		r.OnLeadership(2, 2, false)
		if got := r.names(); !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
	})
}

// TestOffsetDeletionIsRefusedWhereTheGroupIsNot and without a name anywhere.
func TestOffsetDeletionIsRefusedWhereTheGroupIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeLog(1), 0)
		for id, want := range map[string]int16{"g": kerr.NotCoordinator.Code, "": kerr.InvalidGroupID.Code} {
			if got := (*r.forget(id, 0).get(t)).ErrorCode; got != want {
				t.Errorf("group %q: code %d, want %d", id, got, want)
			}
		}
	})
}

// TestLargeGroupIsDeletedInSeveralBatches: more tombstones than fit into one.
func TestLargeGroupIsDeletedInSeveralBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(1)
		r := newRigWith(t, log, 0, func(s *group.Settings) { s.MaxBatchBytes = 1000 })
		r.OnLeadership(0, 1, true)
		synctest.Wait()
		for p := range int32(100) {
			a := r.commit("g", p, 1)
			time.Sleep(time.Second)
			if r.committed(a) != 0 {
				t.Fatal("commit failed")
			}
		}
		before := log.appended(0)
		deleted := r.remove("g")
		time.Sleep(time.Second)
		if got := (*deleted.get(t)).Groups[0].ErrorCode; got != 0 {
			t.Fatalf("code %d", got)
		}
		if got := log.appended(0) - before; got < 3 {
			t.Fatalf("%d batches for 100 tombstones", got)
		}
		r.OnLeadership(0, 2, false)
		r.OnLeadership(0, 3, true)
		synctest.Wait()
		if got := r.names(); len(got) != 0 {
			t.Errorf("after a restart there are %q", got)
		}
	})
}
