package admin_test

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// second registers broker 2, fenced.
func (f *fixture) second(t *testing.T) {
	t.Helper()
	id := make([]byte, 16)
	id[0] = 2
	if _, err := f.q.Propose(t.Context(), &metadata.Command{Kind: &metadatapb.Command_RegisterBroker{RegisterBroker: &metadatapb.RegisterBroker{
		Broker: 2, Incarnation: id, Directories: [][]byte{id}, PreviousEpoch: -1, MinVersion: 1, MaxVersion: 1,
		Listeners: []*metadatapb.Listener{{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Host: "h", Port: 2}},
	}}}); err != nil {
		t.Fatal(err)
	}
}

func TestReassignmentsThatChangeNothingComplete(t *testing.T) {
	f := newFixture(t, nil)
	f.second(t)
	if _, _, err := f.CreateTopic(t.Context(), admin.NewTopic{Name: "t", Partitions: 1, Replication: 1}, false); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		replicas []protocol.BrokerID
		factor   bool
		want     error
	}{
		"to where it is":                    {[]protocol.BrokerID{1}, false, nil},
		"cancel":                            {nil, true, kerr.NoReassignmentInProgress},
		"to another broker":                 {[]protocol.BrokerID{2}, true, kerr.InvalidReplicaAssignment},
		"to one more":                       {[]protocol.BrokerID{1, 2}, true, kerr.InvalidReplicaAssignment},
		"to one more, not allowed":          {[]protocol.BrokerID{1, 2}, false, kerr.InvalidReplicationFactor},
		"to one more, unknown, not allowed": {[]protocol.BrokerID{1, 3}, false, kerr.InvalidReplicaAssignment},
	} {
		if err := f.Reassign("t", 0, c.replicas, c.factor); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestElectionOfALeaderThatIsGone(t *testing.T) {
	f := newFixture(t, nil)
	if _, _, err := f.CreateTopic(t.Context(), admin.NewTopic{Name: "t", Partitions: 1, Replication: 1}, false); err != nil {
		t.Fatal(err)
	}
	elect := func(want map[admin.Election]error) {
		t.Helper()
		for kind, want := range want {
			if err := f.ElectLeader("t", 0, kind); !errors.Is(err, want) {
				t.Errorf("election %d: %v, want %v", kind, err, want)
			}
		}
	}
	elect(map[admin.Election]error{admin.PreferredElection: kerr.ElectionNotNeeded, admin.UncleanElection: kerr.ElectionNotNeeded})
	b, _ := f.Image().Broker(1)
	if _, err := f.q.Propose(t.Context(), &metadata.Command{Kind: &metadatapb.Command_SetBrokerFencing{SetBrokerFencing: &metadatapb.SetBrokerFencing{
		Broker: 1, BrokerEpoch: int64(b.Epoch), Fenced: true,
	}}}); err != nil {
		t.Fatal(err)
	}
	elect(map[admin.Election]error{admin.PreferredElection: kerr.PreferredLeaderNotAvailable, admin.UncleanElection: kerr.EligibleLeadersNotAvailable})
}

func TestLogStartsMoveForwardOnly(t *testing.T) {
	f := newFixture(t, nil)
	topic, _, err := f.CreateTopic(t.Context(), admin.NewTopic{Name: "t", Partitions: 3, Replication: 1}, false)
	if err != nil {
		t.Fatal(err)
	}
	f.full = true // it frees space
	start := func(p int32, to protocol.Offset, epoch protocol.Epoch) admin.LogStart {
		return admin.LogStart{Key: protocol.PartitionKey{Topic: topic.ID, Partition: p}, Offset: to, Epoch: epoch}
	}
	row, _ := f.Image().Partition(protocol.PartitionKey{Topic: topic.ID})
	now := row.LeaderEpoch
	for i, err := range f.AdvanceLogStarts(t.Context(), []admin.LogStart{start(0, 5, now), start(1, 0, now), start(2, 9, now-1), start(7, 1, now)}) {
		want := []error{nil, nil, kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition}[i]
		if !errors.Is(err, want) {
			t.Errorf("row %d: %v, want %v", i, err, want)
		}
	}
	index := f.Image().Index()
	if errs := f.AdvanceLogStarts(t.Context(), []admin.LogStart{start(0, 3, now), start(0, 5, now)}); errs[0] != nil || errs[1] != nil || f.Image().Index() != index {
		t.Errorf("%v; %d commands were written for nothing", errs, f.Image().Index()-index)
	}
	f.q.lose = true
	if errs := f.AdvanceLogStarts(t.Context(), []admin.LogStart{start(0, 8, now)}); !errors.Is(errs[0], kerr.RequestTimedOut) {
		t.Errorf("an outcome that is not known: %v", errs)
	}
	if errs := f.AdvanceLogStarts(t.Context(), []admin.LogStart{start(0, 8, now)}); errs[0] != nil {
		t.Errorf("asked again: %v", errs)
	}
	for p, want := range []protocol.Offset{8, 0, 0} {
		if row, _ := f.Image().Partition(protocol.PartitionKey{Topic: topic.ID, Partition: int32(p)}); row.LogStart != want {
			t.Errorf("partition %d starts at %d, want %d", p, row.LogStart, want)
		}
	}
}
