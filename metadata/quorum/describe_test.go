package quorum_test

import (
	"testing"

	"github.com/stratabroker/strata/protocol"
)

// TestALoneVoterDescribesItself: its log end is known, what it committed is below it, and both go up.
func TestALoneVoterDescribesItself(t *testing.T) {
	c := config(t.TempDir())
	n := founded(t, c)
	before, err := n.Describe()
	if err != nil {
		t.Fatal(err)
	}
	propose(t, n, setConfig("num.partitions", "7"))
	q, err := n.Describe()
	if err != nil {
		t.Fatal(err)
	}
	if q.Leader != c.NodeID || q.Term == 0 || len(q.Voters) != 1 || len(q.Observers) != 0 {
		t.Fatalf("%+v", q)
	}
	v := q.Voters[0]
	if v.Broker != c.NodeID || v.Directory != c.DirectoryID || v.LogEnd < q.HighWatermark || q.HighWatermark <= protocol.Offset(n.Image().Index()) {
		t.Errorf("%+v at index %d", q, n.Image().Index())
	}
	if q.HighWatermark <= before.HighWatermark || v.LogEnd <= before.Voters[0].LogEnd {
		t.Errorf("%+v, before %+v", q, before)
	}
	closeNode(t, n)
}
