package tiering_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/plan"
)

var (
	simSeeds = flag.Uint64("sim.seeds", 12, "seeds of the simulation")
	simFirst = flag.Uint64("sim.first", 0, "the first of them")
)

// sim is one run: random work under random faults, with checkers all along.
type sim struct {
	*world
	rnd      *rand.Rand
	topics   []protocol.TopicID
	archiver func() // stops it, as do the others
	zombies  []func()
	sweeper  func()
	roots    func()
	reader   *tiering.Reader
	gates    []*objecttest.Hold
	starts   map[protocol.PartitionKey]protocol.Offset // log starts seen
	births   byte
	created  int
	ends     map[protocol.PartitionKey]protocol.Offset // tiered ends seen
}

func TestSimulation(t *testing.T) {
	for seed := *simFirst; seed < *simFirst+*simSeeds; seed++ {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runSim(t, seed) })
		})
	}
}

func runSim(t *testing.T, seed uint64) {
	t.Helper()
	s := &sim{
		world: newWorld(t, 2), rnd: rand.New(rand.NewPCG(seed, 3)), births: 1,
		starts: map[protocol.PartitionKey]protocol.Offset{}, ends: map[protocol.PartitionKey]protocol.Offset{},
	}
	s.topics = []protocol.TopicID{s.topic}
	s.archiver, s.sweeper = s.start(s.world.archiver().Run), s.start(s.world.sweeper().Run)
	s.roots, s.reader = s.start(s.rootWriter().Run), s.world.reader()
	for range 150 {
		s.step()
		s.check()
	}
	s.heal()
}

func (s *sim) step() {
	switch n := s.rnd.IntN(100); {
	case n < 35:
		k := s.any()
		s.sealRandom(k, s.rnd, 1000)
	case n < 50:
		s.fault()
	case n < 55:
		s.faulty.Reset()
	case n < 62:
		s.openGate()
	case n < 66:
		s.restartArchiver()
	case n < 69:
		s.failover()
	case n < 72:
		s.sweeper()
		s.sweeper = s.start(s.world.sweeper().Run)
	case n < 75:
		s.roots()
		s.roots = s.start(s.rootWriter().Run)
	case n < 79:
		s.judgeProposals()
	case n < 82:
		s.log.applyLate()
	case n < 86:
		s.moveLogStart()
	case n < 89:
		s.setPolicy(s.any(), plan.Policy{RetentionMs: -1, RetentionBytes: int64(s.rnd.IntN(40_000))})
	case n < 91:
		s.setPolicy(s.any(), plan.Policy{RetentionMs: -1, RetentionBytes: -1})
	case n < 94 && len(s.topics) > 1:
		i := s.rnd.IntN(len(s.topics))
		s.deleteTopic(s.topics[i])
		s.topics = append(s.topics[:i], s.topics[i+1:]...)
	case n < 97 && len(s.topics) < 4:
		s.created++
		s.topics = append(s.topics, s.createTopic(fmt.Sprint("topic", s.created), 1+s.rnd.IntN(2)))
	}
	time.Sleep(time.Duration(s.rnd.IntN(20)) * time.Second * time.Duration(1+s.rnd.IntN(2)*s.rnd.IntN(5)))
}

// any picks a partition.
func (s *sim) any() protocol.PartitionKey {
	id := s.topics[s.rnd.IntN(len(s.topics))]
	topic, _ := s.log.Image().TopicByID(id)
	return protocol.PartitionKey{Topic: id, Partition: int32(s.rnd.IntN(int(topic.Partitions)))}
}

func (s *sim) fault() {
	r := objecttest.Rule{Skip: s.rnd.IntN(5), Times: 1 + s.rnd.IntN(6), Ops: []objecttest.Op{objecttest.Op(s.rnd.IntN(6))}}
	switch s.rnd.IntN(8) {
	case 0:
		r.Err = objecttest.ErrInjected
	case 1:
		r.Err = object.ErrThrottled
	case 2:
		r.LoseAck = true
	case 3:
		r.Delay = time.Duration(s.rnd.IntN(60)) * time.Second
	case 4:
		r.Short = true
	case 5:
		r.Corrupt = true
	default:
		r.Ops, r.Hold = []objecttest.Op{objecttest.OpPut}, objecttest.NewHold()
		s.gates = append(s.gates, r.Hold)
	}
	if r.Short || r.Corrupt {
		// A store that lies twice in a row is a damaged one, and a short listing hides garbage: no fault of the room.
		r.Ops, r.Times = []objecttest.Op{objecttest.OpGet}, 1
	}
	s.faulty.Add(r)
}

func (s *sim) openGate() {
	if len(s.gates) > 0 {
		s.gates[0].Release()
		s.gates = s.gates[1:]
	}
}

func (s *sim) restartArchiver() {
	s.archiver()
	s.archiver = s.start(s.world.archiver().Run)
}

// failover starts the broker anew with higher leader epochs, while the old archiver goes on in the old ones.
func (s *sim) failover() {
	s.zombies = append(s.zombies, s.archiver)
	next := &fakeHot{logs: map[protocol.PartitionKey]*hotLog{}}
	s.births++
	s.register(s.births, true)
	s.hot.mu.Lock()
	for k, l := range s.hot.logs {
		c := *l
		c.led.Epoch = s.row(k).LeaderEpoch
		next.logs[k] = &c
	}
	s.hot.mu.Unlock()
	s.hot = next
	s.archiver = s.start(s.world.archiver().Run)
}

func (s *sim) judgeProposals() {
	left, seed := s.rnd.IntN(4), s.rnd.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 4))
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.judge = func(c *metadata.Command) verdict {
		if c.GetCommitManifest() == nil && c.GetRetainRoot() == nil && c.GetSetSweepFloor() == nil && c.GetAdvanceLogStarts() == nil {
			return applied
		}
		if left--; left < 0 {
			return applied
		}
		return verdict(rnd.IntN(4))
	}
}

func (s *sim) moveLogStart() {
	k := s.any()
	s.hot.mu.Lock()
	hw := s.hot.logs[k].led.HW
	s.hot.mu.Unlock()
	s.log.mu.Lock()
	s.log.judge = nil
	s.log.mu.Unlock()
	if start := s.row(k).LogStart; hw > start {
		s.advance(k, start+protocol.Offset(s.rnd.IntN(int(hw-start))/2))
	}
}

// check holds at every moment: log starts and tiered ends never go back, what
// the current manifests and retained roots reach is there, and a read gives what was written or an honest error.
func (s *sim) check() {
	s.t.Helper()
	synctest.Wait()
	there := map[string]bool{}
	for _, key := range s.bucket.Keys() {
		there[key] = true
	}
	for key := range s.reachable() {
		if !there[key] {
			s.t.Fatalf("%s is reached and not there", key)
		}
	}
	for row := range s.log.Image().AllPartitions() {
		if row.LogStart < s.starts[row.Key] || row.Manifest.TieredEnd < s.ends[row.Key] {
			s.t.Fatalf("%s went back: %+v", row.Key, row)
		}
		s.starts[row.Key], s.ends[row.Key] = row.LogStart, row.Manifest.TieredEnd
	}
	k := s.any()
	row := s.row(k)
	if row.LogStart == row.Manifest.TieredEnd {
		return
	}
	from := row.LogStart + protocol.Offset(s.rnd.IntN(int(row.Manifest.TieredEnd-row.LogStart)))
	f, err := s.reader.Read(s.t.Context(), k, from, s.rnd.IntN(20_000), true)
	switch {
	case errors.Is(err, tiering.ErrCorrupt):
		s.t.Fatalf("read %s from %d: %v", k, from, err)
	case err != nil: // an outage, or the log start moved on meanwhile
	case len(f.Batches) == 0 || !bytes.Equal(f.Batches, s.written(k, from, f.Next)):
		s.t.Fatalf("read %s [%d, %d) gives %d bytes", k, from, f.Next, len(f.Batches))
	}
}

// heal ends all faults; then everything must come right in the time promised (P6, P7).
func (s *sim) heal() {
	s.t.Helper()
	s.faulty.Reset()
	for _, g := range s.gates {
		g.Release()
	}
	s.log.mu.Lock()
	s.log.judge = nil
	s.log.mu.Unlock()
	for _, stop := range s.zombies {
		stop()
	}
	time.Sleep(2 * time.Minute) // longest backoff, next look
	s.log.applyLate()
	time.Sleep(2*testGrace + 2*testInterval + 5*time.Second)
	s.check()
	s.checkBucket()
	for row := range s.log.Image().AllPartitions() {
		if l := s.hot.logs[row.Key]; row.Manifest.TieredEnd != l.led.HW {
			s.t.Errorf("%s is tiered up to %d, sealed is %d", row.Key, row.Manifest.TieredEnd, l.led.HW)
		}
		s.checkReplay(s.reader, row.Key)
	}
	for _, key := range s.orphans() {
		n, _ := format.ParseKey(key)
		s.t.Errorf("orphan %+v", n)
	}
}
