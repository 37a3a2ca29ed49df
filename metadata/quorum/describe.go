package quorum

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Describe tells of the quorum as this member sees it. Raft does not tell how
// far others are: their log ends are not known.
func (n *Node) Describe() (metadata.Quorum, error) {
	configuration := n.raft.GetConfiguration()
	if err := n.settle(configuration); err != nil {
		return metadata.Quorum{}, fmt.Errorf("read the quorum's configuration: %w", err)
	}
	q := metadata.Quorum{
		Leader: n.Leader(), Term: n.raft.CurrentTerm(), HighWatermark: protocol.Offset(n.raft.CommitIndex() + 1),
	}
	for _, s := range configuration.Configuration().Servers {
		member := metadata.QuorumMember{Broker: brokerOf(s.ID), Directory: directoryOf(s.ID), LogEnd: protocol.NoOffset}
		if s.ID == n.id {
			member.LogEnd = protocol.Offset(n.raft.LastIndex() + 1)
		}
		if s.Suffrage == raft.Voter {
			q.Voters = append(q.Voters, member)
		} else {
			q.Observers = append(q.Observers, member)
		}
	}
	return q, nil
}

// directoryOf is the other half of serverID; zero where the id has none.
func directoryOf(id raft.ServerID) (dir metadata.DirectoryID) {
	_, digits, _ := strings.Cut(string(id), "-")
	raw, err := hex.DecodeString(digits)
	if err == nil && len(raw) == len(dir) {
		copy(dir[:], raw)
	}
	return dir
}
