package api_test

import (
	"bytes"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/api"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// setOf is a set of partitions that nobody leads.
func setOf(t *testing.T, partitions int) *replica.FetchSet {
	t.Helper()
	set := replica.NewManager(replica.Config{}).NewFetchSet(nil, func(replica.FetchKey) (*replica.Leader, error) {
		return nil, protocol.Errorf(kerr.UnknownTopicOrPartition, "none is led here")
	})
	grow(set, 0, partitions)
	return set
}

// grow adds partitions to a set.
func grow(set *replica.FetchSet, from, partitions int) {
	var put []replica.FetchPartition
	for i := range partitions {
		put = append(put, replica.FetchPartition{Key: replica.FetchKey{Partition: int32(from + i)}})
	}
	set.Fetch(replica.FetchRequest{Put: put, Full: from == 0, Reply: func([]replica.FetchResult) {}})
}

// cache is a session cache and its clock.
type cache struct {
	api.SessionCache
	t   *testing.T
	now time.Time
}

func newCache(t *testing.T, slots int, memory int64) *cache {
	t.Helper()
	c := &cache{t: t, now: time.UnixMilli(1)}
	c.SessionCache = api.NewSessionCache(slots, memory, func() time.Time { return c.now })
	return c
}

// add makes a session whose id is not 0 if it is to be made.
func (c *cache) add(partitions int, privileged, made bool) int32 {
	c.t.Helper()
	id, _ := c.Add(setOf(c.t, partitions), privileged)
	if (id != 0) != made {
		c.t.Errorf("a session of %d partitions: id %d", partitions, id)
	}
	return id
}

// left checks which sessions are there.
func (c *cache) left(want map[int32]bool) {
	c.t.Helper()
	for id, there := range want {
		if c.Has(id) != there {
			c.t.Errorf("session %d is there: %t", id, c.Has(id))
		}
	}
}

const plenty = 1 << 30

func TestASessionThatIsNotUsedMakesRoom(t *testing.T) {
	c := newCache(t, 2, plenty)
	a, b := c.add(100, false, true), c.add(100, false, true)
	c.add(200, false, false) // both are young
	c.now = c.now.Add(2 * time.Minute)
	c.Answered(a)
	c.add(1, false, false) // exactly two minutes are not more
	c.now = c.now.Add(time.Millisecond)
	d := c.add(1, false, true)
	c.left(map[int32]bool{a: true, b: false, d: true})
}

func TestAnOldSessionMakesRoomForALargerOne(t *testing.T) {
	c := newCache(t, 2, plenty)
	a, b := c.add(10, false, true), c.add(20, false, true)
	for range 3 {
		c.now = c.now.Add(time.Minute)
		c.Answered(a)
		c.Answered(b)
	}
	c.add(10, false, false) // not larger than the smallest
	d := c.add(11, false, true)
	c.left(map[int32]bool{a: false, b: true, d: true})
	e := c.add(500, false, true)
	c.left(map[int32]bool{b: false, d: true, e: true})
	c.add(1000, false, false) // both are young
}

func TestAReplicasSessionTakesThePlaceOfAClients(t *testing.T) {
	c := newCache(t, 2, plenty)
	a := c.add(1000, false, true)
	b := c.add(1, true, true)
	d := c.add(1, true, true)
	c.left(map[int32]bool{a: false, b: true, d: true})
	c.add(5, true, false) // the others are replicas' and young
	for range 3 {
		c.now = c.now.Add(time.Minute)
		c.Answered(b)
		c.Answered(d)
	}
	c.add(1000, false, false) // a client's never takes a replica's
	e := c.add(2, true, true)
	if c.Has(b) == c.Has(d) || !c.Has(e) {
		t.Error("not one of the replicas' old sessions went")
	}
}

func TestThereAreNoSessionsWithoutSlots(t *testing.T) {
	newCache(t, 0, plenty).add(1, false, false)
}

func TestSessionsStayWithinTheirMemory(t *testing.T) {
	c := newCache(t, 1000, api.SessionCost(100)+api.SessionCost(50))
	a := c.add(100, false, true)
	c.add(51, false, false)
	set := setOf(t, 50)
	b, _ := c.Add(set, false)
	grow(set, 50, 1)
	if gone := c.Answered(b); gone != 1 || c.Has(b) {
		t.Errorf("%d sessions went for one that grew", gone)
	}
	c.now = c.now.Add(3 * time.Minute)
	set = setOf(t, 50)
	b, _ = c.Add(set, false)
	grow(set, 50, 90)
	c.Answered(b)
	c.left(map[int32]bool{a: false, b: true})
	if got := c.Charged(); got != api.SessionCost(140) {
		t.Errorf("charged %d", got)
	}
	set.Fetch(replica.FetchRequest{Forget: []replica.FetchKey{{Partition: 3}}, Reply: func([]replica.FetchResult) {}})
	c.Answered(b)
	if got := c.Charged(); got != api.SessionCost(140) {
		t.Errorf("charged %d: what it once had may still be held", got)
	}
	c.Remove(b)
	if got := c.Charged(); got != 0 {
		t.Errorf("charged %d for none", got)
	}
}

// fixture is a Handler on a broker without topics.
type fixture struct {
	t *testing.T
	h *api.Handler
}

type noTopics struct{ admin.Metadata }

func (noTopics) Image() *metadata.Image { return metadata.EmptyImage() }

func newFixture(t *testing.T, settings ...string) *fixture {
	t.Helper()
	values := map[string]string{"node.id": "1"}
	for i := 0; i < len(settings); i += 2 {
		values[settings[i]] = settings[i+1]
	}
	static, _, err := metadata.NewStatic(values)
	if err != nil {
		t.Fatal(err)
	}
	h := api.New(api.Config{
		Self: 1, Admin: admin.New(admin.Config{Static: static, Metadata: noTopics{}}), Replicas: replica.NewManager(replica.Config{Self: 1}),
		Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(h.Close)
	return &fixture{t: t, h: h}
}

// fetch asks for partitions of a topic that is unknown.
func (f *fixture) fetch(version int16, session, epoch, partitions int32) *kmsg.FetchResponse {
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(version)
	req.SessionID, req.SessionEpoch, req.MaxBytes, req.MaxWaitMillis, req.MinBytes = session, epoch, 1<<20, 60_000, 1
	if partitions > 0 {
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID = "t", protocol.TopicID{1}
		for i := range partitions {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition = i
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	got := make(chan server.Response, 1)
	header := protocol.RequestHeader{Key: protocol.KeyFetch, Version: version}
	f.h.Handle(server.NewRequest(&server.Conn{}, header, req.AppendTo(nil), nil, func(r server.Response) { got <- r }))
	var body bytes.Buffer
	for _, p := range (<-got).Parts {
		_, _ = p.WriteTo(&body) // a buffer takes all
	}
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(version)
	if err := resp.ReadFrom(body.Bytes()); err != nil {
		f.t.Error(err)
	}
	return resp
}

func TestSessionsOfEachVersion(t *testing.T) {
	f := newFixture(t)
	for version := int16(4); version <= 18; version++ {
		resp := f.fetch(version, 0, 0, 2)
		if made := resp.SessionID != 0; made != (version >= 7) || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 2 {
			t.Errorf("version %d: %+v", version, resp)
		}
		if version < 7 {
			continue
		}
		for epoch := range int32(3) {
			next := f.fetch(version, resp.SessionID, epoch+1, 0)
			if next.ErrorCode != 0 || next.SessionID != resp.SessionID || len(next.Topics) != 1 {
				t.Errorf("version %d, epoch %d: %+v", version, epoch+1, next)
			}
		}
		if closed := f.fetch(version, resp.SessionID, -1, 0); closed.ErrorCode != 0 || closed.SessionID != 0 {
			t.Errorf("version %d: %+v", version, closed)
		}
	}
	if s := f.h.FetchSessions(); s.Sessions != 0 || s.Partitions != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTheEpochAfterTheLargestIsOne(t *testing.T) {
	f := newFixture(t)
	id := f.fetch(12, 0, 0, 1).SessionID
	f.h.SetSessionEpoch(id, math.MaxInt32)
	for _, epoch := range []int32{math.MaxInt32, 1, 2} {
		if resp := f.fetch(12, id, epoch, 0); resp.ErrorCode != 0 {
			t.Errorf("epoch %d: %v", epoch, kerr.ErrorForCode(resp.ErrorCode))
		}
	}
}

func TestOneOfManyRequestsOfAnEpochIsTaken(t *testing.T) {
	f := newFixture(t)
	id := f.fetch(12, 0, 0, 3).SessionID
	for epoch := int32(1); epoch < 50; epoch++ {
		var all sync.WaitGroup
		codes := make([]int16, 8)
		for i := range codes {
			all.Go(func() { codes[i] = f.fetch(12, id, epoch, 0).ErrorCode })
		}
		all.Wait()
		taken := 0
		for _, code := range codes {
			switch code {
			case 0:
				taken++
			case kerr.InvalidFetchSessionEpoch.Code:
			default:
				t.Fatal(kerr.ErrorForCode(code))
			}
		}
		if taken != 1 {
			t.Fatalf("epoch %d was taken %d times", epoch, taken)
		}
	}
}

func TestAClientWithoutASessionGetsFullAnswers(t *testing.T) {
	f := newFixture(t, "max.incremental.fetch.session.cache.slots", "0")
	for range 2 {
		if resp := f.fetch(12, 0, 0, 3); resp.ErrorCode != 0 || resp.SessionID != 0 || len(resp.Topics[0].Partitions) != 3 {
			t.Errorf("%+v", resp)
		}
	}
}
