package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/stratabroker/strata/integration/harness"
)

// groupKills is a broker whose groups are deleted and which is killed.
type groupKills struct {
	t      *testing.T
	broker *harness.Broker
	live   map[string]int64 // what was committed and acknowledged
	gone   map[string]bool  // deleted and acknowledged
}

func (g *groupKills) admin() *kadm.Client { return kadm.NewClient(g.broker.Client()) }

func (g *groupKills) commit(id string, at int64) {
	g.t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset("t", 0, at, -1)
	admin := g.admin()
	harness.Eventually(g.t, 2*time.Minute, "commit of "+id, func() error {
		return admin.CommitAllOffsets(g.t.Context(), id, offsets)
	})
	g.live[id] = at
	delete(g.gone, id)
}

// kill ends the broker while the deletion of doomed is under way, whose outcome is therefore open.
func (g *groupKills) kill(doomed string, after time.Duration) {
	g.t.Helper()
	admin, asked := g.admin(), make(chan bool, 1)
	ctx, cancel := context.WithCancel(g.t.Context())
	go func() {
		got, err := admin.DeleteGroup(ctx, doomed)
		asked <- err == nil && got.Err == nil
	}()
	<-time.After(after)
	g.broker.Kill9()
	cancel()
	delete(g.live, doomed)
	if <-asked {
		g.gone[doomed] = true
	}
	g.broker.Again()
}

// look compares all groups with what was acknowledged; those of unclear may be there or not, but only whole.
func (g *groupKills) look(when string, unclear map[string]int64) {
	g.t.Helper()
	admin := g.admin()
	var fetched kadm.FetchOffsetsResponses
	ids := []string{}
	for _, set := range []map[string]int64{g.live, unclear} {
		for id := range set {
			ids = append(ids, id)
		}
	}
	for id := range g.gone {
		ids = append(ids, id)
	}
	harness.Eventually(g.t, 2*time.Minute, "offsets "+when, func() error {
		fetched = admin.FetchManyOffsets(g.t.Context(), ids...)
		return errors.Join(fetched.Error())
	})
	for _, id := range ids {
		o, there := fetched[id].Fetched.Lookup("t", 0)
		there = there && o.At >= 0
		want, lives := g.live[id]
		maybe, open := unclear[id]
		switch {
		case lives && (!there || o.At != want):
			g.t.Errorf("%s: %s is at %d (there: %v), acknowledged was %d", when, id, o.At, there, want)
		case g.gone[id] && there:
			g.t.Errorf("%s: %s was deleted and is back at %d", when, id, o.At)
		case open && there && o.At != maybe:
			g.t.Errorf("%s: %s is at %d, committed was %d", when, id, o.At, maybe)
		}
	}
}

// TestDeletedGroupsStayDeletedUnderKills: a group whose deletion was acknowledged is gone after kill -9, with all that
// it committed; acknowledged commits are there.
func TestDeletedGroupsStayDeletedUnderKills(t *testing.T) {
	t.Parallel()
	kills, seed := int(numberOf(t, "STRATA_TEST_KILLS", 4)), numberOf(t, "STRATA_TEST_SEED", rand.Uint64())
	rng := rand.New(rand.NewPCG(seed, 6))
	broker := harness.Start(t, harness.Options{Set: map[string]string{"offsets.topic.num.partitions": "4"}})
	createTopic(t, broker.Client(), "t", 1)
	g := &groupKills{t: t, broker: broker, live: map[string]int64{}, gone: map[string]bool{}}
	unclear := map[string]int64{}
	for round := range kills {
		keep, drop, doomed := fmt.Sprintf("keep-%d", round%3), fmt.Sprintf("drop-%d", round), fmt.Sprintf("doomed-%d", round)
		for _, id := range []string{keep, drop, doomed} {
			g.commit(id, int64(round+1))
		}
		got, err := g.admin().DeleteGroup(t.Context(), drop)
		if err := errors.Join(err, got.Err); err != nil {
			t.Fatalf("seed %d: delete %s: %v", seed, drop, err)
		}
		delete(g.live, drop)
		g.gone[drop] = true
		unclear[doomed] = int64(round + 1)
		g.kill(doomed, time.Duration(rng.Int64N(int64(4*time.Millisecond))))
		if g.gone[doomed] {
			delete(unclear, doomed)
		}
		g.look(fmt.Sprintf("seed %d, after kill %d", seed, round+1), unclear)
	}
	g.commit("drop-0", 99) // a name may be used again
	g.broker.Kill9()
	g.broker.Again()
	g.look(fmt.Sprintf("seed %d, at the end", seed), unclear)
}
