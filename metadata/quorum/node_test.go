package quorum_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/metadata/quorum"
)

func open(t *testing.T, dir string, change ...func(*quorum.Config)) *quorum.Node {
	t.Helper()
	config := quorum.Config{Dir: dir, NodeID: 1, DirectoryID: metadata.DirectoryID{1}, Bootstrap: true}
	for _, c := range change {
		c(&config)
	}
	n, err := quorum.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.WaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func propose(t *testing.T, n *quorum.Node, cmd *metadata.Command) metadata.Result {
	t.Helper()
	r, err := n.Propose(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func initCluster() *metadata.Command {
	return &metadata.Command{Kind: &metadatapb.Command_InitCluster{InitCluster: &metadatapb.InitCluster{ClusterId: "c", StrataVersion: 1}}}
}

func setConfig(name, value string) *metadata.Command {
	return &metadata.Command{Kind: &metadatapb.Command_AlterConfigs{AlterConfigs: &metadatapb.AlterConfigs{
		Type: 4, Changes: []*metadatapb.Config{{Name: name, Value: &value}},
	}}}
}

func closeNode(t *testing.T, n *quorum.Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLoneVoterLeadsAtOnceAndKeepsItsImage(t *testing.T) {
	dir := t.TempDir()
	var hash [32]byte
	for i := range 4 {
		began := time.Now()
		n := open(t, dir)
		up := time.Since(began)
		if i == 0 {
			propose(t, n, initCluster())
		} else if n.Image().Hash() != hash {
			t.Fatalf("restart %d: the image differs", i)
		}
		propose(t, n, setConfig(fmt.Sprint("k", i), "v"))
		hash = n.Image().Hash()
		closing := time.Now()
		closeNode(t, n)
		t.Logf("start %d: leader after %v, closed in %v", i, up, time.Since(closing))
		if up > time.Second {
			t.Errorf("leader after %v", up)
		}
	}
	_ = context.Background
}
