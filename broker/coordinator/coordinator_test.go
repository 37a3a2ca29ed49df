package coordinator_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// serving is a rig that leads its one partition in epoch 1.
func serving(t *testing.T, delay time.Duration, mailbox int) *rig {
	t.Helper()
	log := newFakeLog(1)
	log.delay = delay
	r := newRig(t, log, mailbox)
	r.OnLeadership(0, 1, true)
	synctest.Wait()
	return r
}

func TestRepliesWaitForCommitInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, -1, 0)
		one, two := r.commit("g", 0, 1), r.commit("g", 0, 2)
		read := r.fetch(7, "g")
		beat := r.heartbeat("g", "nobody", 1)
		synctest.Wait()
		if r.log.appended(0) != 2 {
			t.Fatalf("%d batches appended before the first is committed, want 2: appends are pipelined", r.log.appended(0))
		}
		if r.committed(one) != -1 || r.fetched(read) != -2 || beat.get(t) != nil {
			t.Fatal("a reply did not wait for the commit")
		}
		r.log.commit(0, 1)
		synctest.Wait()
		if r.committed(one) != 0 || r.committed(two) != -1 || r.fetched(read) != -2 {
			t.Fatal("after one commit exactly the first reply is due")
		}
		r.log.commit(0, 1)
		synctest.Wait()
		if r.committed(two) != 0 || r.fetched(read) != 2 || beat.get(t) == nil {
			t.Fatal("a reply is missing")
		}
		if again := r.fetch(7, "g"); func() bool { synctest.Wait(); return r.fetched(again) != 2 }() {
			t.Fatal("with nothing under way a read is answered at once")
		}
	})
}

func TestGroupSurvivesReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, time.Millisecond, 0)
		joined := r.join("g", "", 3)
		synctest.Wait()
		id := (*joined.get(t)).MemberID
		synced, committed := r.sync("g", id, 1), r.commit("simple", 0, 7)
		time.Sleep(time.Second)
		if got := *synced.get(t); got.ErrorCode != 0 || string(got.MemberAssignment) != "plan" || r.committed(committed) != 0 {
			t.Fatalf("sync %v", got)
		}
		r.OnLeadership(0, 2, false)
		gone := r.heartbeat("g", id, 1)
		if (*gone.get(t)).ErrorCode != kerr.NotCoordinator.Code {
			t.Error("a broker that does not lead the partition answers for it")
		}
		r.OnLeadership(0, 3, true)
		synctest.Wait()
		again, read := r.sync("g", id, 1), r.fetch(7, "simple")
		synctest.Wait()
		if got := *again.get(t); got.ErrorCode != 0 || string(got.MemberAssignment) != "plan" || r.fetched(read) != 7 {
			t.Errorf("after the load: sync %v, offset %d", got, r.fetched(read))
		}
		// Without heartbeats its session ends, by the shard's own timer.
		time.Sleep(11 * time.Second)
		late := r.heartbeat("g", id, 1)
		synctest.Wait()
		if (*late.get(t)).ErrorCode != kerr.UnknownMemberID.Code {
			t.Error("the session did not end")
		}
	})
}

func TestFailedAppendReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, -1, 0)
		first := r.commit("g", 0, 1)
		synctest.Wait()
		r.log.commit(0, 1)
		parked, second := r.join("h", "", 3), r.commit("g", 0, 2)
		waiting := r.join("h", "", 3)
		synctest.Wait()
		r.log.setRefuse(func(record.Batch) error { return errors.New("disk is full") })
		third := r.commit("g", 0, 3)
		read := r.fetch(7, "g")
		synctest.Wait()
		r.log.setRefuse(nil)
		if r.committed(first) != 0 || parked.get(t) != nil && (*parked.get(t)).ErrorCode != 0 {
			t.Fatal("what was committed is answered")
		}
		for name, code := range map[string]int16{
			"second": r.committed(second), "third": r.committed(third),
			"parked join": (*waiting.get(t)).ErrorCode,
		} {
			if code != kerr.NotCoordinator.Code {
				t.Errorf("%s: %v", name, code)
			}
		}
		// It may have come before the failure was seen, or after.
		if code := (*read.get(t)).ErrorCode; code != kerr.NotCoordinator.Code && code != kerr.CoordinatorLoadInProgress.Code {
			t.Errorf("read: %v", code)
		}
		// The second append is in the log and not committed: the load must wait for its end.
		time.Sleep(time.Minute)
		if busy := r.fetch(7, "g"); (*busy.get(t)).ErrorCode != kerr.CoordinatorLoadInProgress.Code {
			t.Error("served while an append is under way whose end is not known")
		}
		r.log.commit(0, 1)
		time.Sleep(time.Minute)
		after := r.fetch(7, "g")
		synctest.Wait()
		if got := r.fetched(after); got != 2 {
			t.Errorf("offset %d after the reload, want what the log has: 2", got)
		}
	})
}

func TestFencedTailFailsAllPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, -1, 0)
		var pending []int16
		answers := []func() int16{}
		for i := range 5 {
			a := r.commit("g", 0, int64(i))
			answers = append(answers, func() int16 { return r.committed(a) })
		}
		synctest.Wait()
		r.log.fence(0, 2)
		r.OnLeadership(0, 2, false)
		synctest.Wait()
		for _, a := range answers {
			pending = append(pending, a())
		}
		for i, code := range pending {
			if code != kerr.NotCoordinator.Code {
				t.Errorf("commit %d: %d", i, code)
			}
		}
		r.OnLeadership(0, 1, true) // late news of an older epoch
		r.OnLeadership(0, 3, true)
		synctest.Wait()
		read := r.fetch(7, "g")
		synctest.Wait()
		if r.fetched(read) != -1 {
			t.Errorf("offset %d, but nothing was committed", r.fetched(read))
		}
	})
}

func TestWhileLoadingRequestsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(1)
		log.setReadErr(errors.New("high watermark is not known yet"))
		r := newRig(t, log, 0)
		r.OnLeadership(0, 1, true)
		synctest.Wait()
		leave := &answer[*kmsg.LeaveGroupResponse]{}
		r.Leave(me, &kmsg.LeaveGroupRequest{Version: 4, Group: "g"}, leave.set)
		for name, got := range map[string][2]int16{
			"join":      {(*r.join("g", "", 9).get(t)).ErrorCode, kerr.CoordinatorLoadInProgress.Code},
			"sync":      {(*r.sync("g", "m", 1).get(t)).ErrorCode, kerr.RebalanceInProgress.Code},
			"heartbeat": {(*r.heartbeat("g", "m", 1).get(t)).ErrorCode, 0},
			"leave":     {(*leave.get(t)).ErrorCode, kerr.CoordinatorLoadInProgress.Code},
			"commit":    {r.committed(r.commit("g", 0, 1)), kerr.CoordinatorLoadInProgress.Code},
			"fetch":     {(*r.fetch(7, "g").get(t)).ErrorCode, kerr.CoordinatorLoadInProgress.Code},
			"fetch v1":  {(*r.fetch(1, "g").get(t)).Topics[0].Partitions[0].ErrorCode, kerr.CoordinatorLoadInProgress.Code},
			"fetch v9":  {(*r.fetch(9, "g").get(t)).Groups[0].ErrorCode, kerr.CoordinatorLoadInProgress.Code},
			"no group":  {(*r.join("", "", 9).get(t)).ErrorCode, kerr.InvalidGroupID.Code},
		} {
			if got[0] != got[1] {
				t.Errorf("%s: code %d, want %d", name, got[0], got[1])
			}
		}
		log.setReadErr(nil)
		time.Sleep(time.Minute) // the next try
		if got := r.committed(func() *answer[*kmsg.OffsetCommitResponse] {
			a := r.commit("g", 0, 1)
			time.Sleep(time.Second)
			return a
		}()); got != 0 {
			t.Errorf("commit after the load: %d", got)
		}
	})
}

// TestStrangeRecordsArePassedBy: what cannot be understood does not end the service of all others; a batch that is
// not what was written does.
func TestStrangeRecordsArePassedBy(t *testing.T) {
	offset := record.Record{
		Key:   (&kmsg.OffsetCommitKey{Version: 1, Group: "g", Topic: "foo"}).AppendTo(nil),
		Value: (&kmsg.OffsetCommitValue{Version: 3, Offset: 1, Metadata: "metadata"}).AppendTo(nil),
	}
	one := func(r record.Record) func() record.Batch {
		return func() record.Batch {
			b := record.NewBuilder(0)
			b.Add(r)
			return b.Bytes()
		}
	}
	for name, batch := range map[string]func() record.Batch{
		"newer value": one(record.Record{Key: offset.Key, Value: []byte{0, 9, 1}}),
		"cut value":   one(record.Record{Key: offset.Key, Value: offset.Value[:5]}),
		"no key":      one(record.Record{Value: []byte{1}}),
		"unknown kind": func() record.Batch {
			b := record.NewBuilder(0)
			b.Add(record.Record{Key: []byte{0, 9}, Value: []byte{1}})
			return b.Bytes()
		},
		"transaction": func() record.Batch {
			b := record.NewBuilder(0)
			b.Transactional = true
			b.Add(offset)
			return b.Bytes()
		},
		"flipped bit": func() record.Batch {
			b := record.NewBuilder(0)
			b.Add(offset)
			out := b.Bytes()
			out[len(out)-12] ^= 1 // in the metadata: it would be read
			return out
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newFakeLog(1)
				log.part(0).batches, log.part(0).hw = []record.Batch{batch()}, 1
				r := newRig(t, log, 0)
				r.OnLeadership(0, 1, true)
				synctest.Wait()
				a := r.commit("g", 0, 1)
				time.Sleep(time.Second)
				want, appended := int16(0), 2
				if name == "flipped bit" {
					want, appended = kerr.NotCoordinator.Code, 1
				}
				if got := r.committed(a); got != want {
					t.Errorf("commit: %d", got)
				}
				if got := log.appended(0); got != appended {
					t.Errorf("%d batches in the log, want %d", got, appended)
				}
			})
		})
	}
}

func TestCrowdedShardRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, -1, 4)
		var all []*answer[*kmsg.OffsetCommitResponse]
		for i := range 40 {
			all = append(all, r.commit("g", 0, int64(i)))
			if i%2 == 0 {
				r.heartbeat("g", "m", 1)
			}
			synctest.Wait()
		}
		if n := r.log.appended(0); n > 4 {
			t.Errorf("%d appends under way, the limit is 4", n)
		}
		refused := 0
		for _, a := range all {
			if r.committed(a) == kerr.CoordinatorLoadInProgress.Code {
				refused++
			}
		}
		if refused < 30 {
			t.Errorf("%d of 40 refused: the mailbox is not bounded", refused)
		}
		if got := (*r.heartbeat("g", "m", 1).get(t)).ErrorCode; got != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("heartbeat to a crowded shard: %d", got)
		}
		for range 20 {
			r.log.commit(0, 4)
			synctest.Wait()
		}
		for i, a := range all {
			if r.committed(a) == -1 {
				t.Errorf("commit %d has no reply", i)
			}
		}
	})
}

// TestHeldRepliesAreBounded: requests that write nothing pile up behind a stuck append, too.
func TestHeldRepliesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, -1, 4)
		r.commit("g", 0, 1)
		var beats []*answer[*kmsg.HeartbeatResponse]
		for range 20 {
			beats = append(beats, r.heartbeat("g", "m", 1))
			synctest.Wait()
		}
		refused := 0
		for _, b := range beats {
			if b.get(t) != nil {
				refused++
			}
		}
		if refused < 20-8 {
			t.Errorf("%d of 20 heartbeats refused: replies are held without bound", refused)
		}
		r.log.commit(0, 1)
		synctest.Wait()
		for i, b := range beats {
			if b.get(t) == nil {
				t.Errorf("heartbeat %d has no reply", i)
			}
		}
	})
}

func TestNewsOfOlderEpochsIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, 0, 0)
		r.OnLeadership(0, 5, true)
		r.OnLeadership(0, 5, true)
		r.OnLeadership(0, 4, false)
		synctest.Wait()
		a := r.commit("g", 0, 1)
		time.Sleep(time.Second)
		if got := r.committed(a); got != 0 {
			t.Errorf("commit: %d", got)
		}
		if epoch := r.log.part(0).batches[0].LeaderEpoch(); epoch != 5 {
			t.Errorf("appended in epoch %d", epoch)
		}
	})
}

func TestTopicIsMadeOnFirstUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeLog(0), 0)
		if got := r.committed(r.commit("g", 0, 1)); got != kerr.NotCoordinator.Code {
			t.Errorf("commit: %d", got)
		}
		for want := 1; want <= 2; want++ { // the first try fails
			if p := r.FindPartition("g"); p != -1 {
				t.Fatalf("partition %d of a topic that does not exist", p)
			}
			synctest.Wait()
			if r.log.ensures != want {
				t.Fatalf("asked %d times for the topic, want %d", r.log.ensures, want)
			}
		}
		if p := r.FindPartition("g"); p != group.PartitionFor("g", 4) {
			t.Errorf("partition %d", p)
		}
	})
}

func TestOffsetFetchOfManyShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeLog(4), 0)
		for p := range int32(3) { // the fourth is led elsewhere
			r.OnLeadership(p, 1, true)
		}
		synctest.Wait()
		var ids []string
		for i := range 8 {
			ids = append(ids, fmt.Sprint("group-", i))
			r.commit(ids[i], 0, int64(i))
		}
		time.Sleep(time.Second)
		a := r.fetch(9, ids...)
		synctest.Wait()
		got := *a.get(t)
		for i, g := range got.Groups {
			elsewhere := r.FindPartition(ids[i]) == 3
			switch {
			case g.Group != ids[i], elsewhere != (g.ErrorCode == kerr.NotCoordinator.Code):
				t.Errorf("group %d: %+v", i, g)
			case !elsewhere && g.Topics[0].Partitions[0].Offset != int64(i):
				t.Errorf("group %d: offset %d", i, g.Topics[0].Partitions[0].Offset)
			}
		}
		if none := r.fetch(9); none.get(t) == nil {
			t.Error("a request of no group is not answered")
		}
	})
}

func TestDeletedTopicLosesItsOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, 0, 0)
		for p := range int32(50) {
			r.commit("g", p, 5)
		}
		time.Sleep(time.Second)
		r.setTopics(topics{"foo": {Name: "foo", ID: protocol.TopicID{2}, Partitions: 100}})
		r.TopicDeleted([]string{"foo"})
		time.Sleep(time.Second)
		if n := r.log.appended(0); n != 51 {
			t.Errorf("%d batches, want 50 commits and one of tombstones", n)
		}
		read := r.fetch(7, "g")
		synctest.Wait()
		if r.fetched(read) != -1 {
			t.Errorf("offset %d of a deleted topic", r.fetched(read))
		}
	})
}

// TestRandomFailuresLoseNothing: appends fail and leaders change at random; what was
// acknowledged is there afterwards, and what is read is never older than that.
func TestRandomFailuresLoseNothing(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			r := serving(t, 5*time.Millisecond, 16)
			luck := rand.New(rand.NewPCG(seed, 4)) // used under the log's lock
			r.log.setRefuse(func(record.Batch) error {
				if luck.IntN(20) == 0 {
					return errors.New("refused")
				}
				return nil
			})
			acknowledged, sent, epoch := int64(-1), int64(0), protocol.Epoch(1)
			type try struct {
				offset int64
				a      *answer[*kmsg.OffsetCommitResponse]
			}
			var open []try
			for range 300 {
				sent++
				open = append(open, try{sent, r.commit("g", 0, sent)})
				floor := acknowledged
				read := r.fetch(7, "g")
				time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
				if rnd.IntN(40) == 0 {
					epoch++
					r.log.fence(0, epoch)
					r.OnLeadership(0, epoch, rnd.IntN(2) == 0)
				} else if rnd.IntN(20) == 0 {
					epoch++
					r.OnLeadership(0, epoch, true)
				}
				synctest.Wait()
				if p := read.get(t); p != nil && (*p).ErrorCode == 0 && r.fetched(read) < floor {
					t.Fatalf("seed %d: read %d after %d was acknowledged", seed, r.fetched(read), floor)
				}
				rest := open[:0]
				for _, o := range open {
					switch r.committed(o.a) {
					case -1:
						rest = append(rest, o)
					case 0:
						acknowledged = max(acknowledged, o.offset)
					}
				}
				open = rest
			}
			r.log.setRefuse(nil)
			r.OnLeadership(0, epoch+1, true)
			time.Sleep(time.Minute)
			read := r.fetch(7, "g")
			synctest.Wait()
			if r.fetched(read) < acknowledged || acknowledged < 10 {
				t.Errorf("seed %d: read %d, acknowledged %d", seed, r.fetched(read), acknowledged)
			}
			for _, o := range open {
				if r.committed(o.a) == -1 {
					t.Errorf("seed %d: commit %d has no reply", seed, o.offset)
				}
			}
		})
	}
}

func TestCloseAnswersWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serving(t, -1, 0)
		first := r.join("g", "", 3)
		commit := r.commit("other", 0, 1)
		parked := r.join("g", "", 3)
		synctest.Wait()
		r.Close()
		for name, a := range map[string]*answer[*kmsg.JoinGroupResponse]{"parked": parked} {
			if p := a.get(t); p == nil || (*p).ErrorCode != kerr.NotCoordinator.Code {
				t.Errorf("%s join: %v", name, p)
			}
		}
		if first.get(t) == nil || r.committed(commit) != kerr.NotCoordinator.Code {
			t.Error("a request was left without a reply")
		}
		if late := r.join("g", "", 3); (*late.get(t)).ErrorCode != kerr.NotCoordinator.Code {
			t.Error("a closed coordinator answers")
		}
		r.OnLeadership(0, 9, true) // starts nothing
		if r.FindPartition("g") != 0 {
			t.Error("partition")
		}
	})
}
