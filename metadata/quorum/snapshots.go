package quorum

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const snapshotsKept = 2

// openSnapshots opens Raft's snapshot files and removes those that a crash left half written.
func openSnapshots(dir string, logger hclog.Logger) (raft.SnapshotStore, error) {
	unfinished, err := filepath.Glob(filepath.Join(dir, "snapshots", "*.tmp"))
	if err != nil {
		return nil, fmt.Errorf("list metadata snapshots: %w", err)
	}
	for _, name := range unfinished {
		if err := os.RemoveAll(name); err != nil {
			return nil, fmt.Errorf("remove unfinished metadata snapshot: %w", err)
		}
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, logger)
	if err != nil {
		return nil, fmt.Errorf("open metadata snapshots: %w", err)
	}
	return snapshots, nil
}

// checkWhole finds out whether entries are missing between the newest snapshot
// that can be read and the log. Where the newest one is damaged Raft takes an
// older one, and panics at the first entry that is no longer there.
func (n *Node) checkWhole(snapshots raft.SnapshotStore) error {
	kept, err := snapshots.List()
	if err != nil {
		return fmt.Errorf("list metadata snapshots: %w", err)
	}
	var covered uint64 // the log need not hold what is up to here
	for _, s := range kept {
		_, r, err := snapshots.Open(s.ID) // checks the CRC
		if err == nil {
			covered = s.Index
			if err := r.Close(); err != nil {
				return fmt.Errorf("close metadata snapshot: %w", err)
			}
			break
		}
		n.config.Logger.Error("metadata snapshot cannot be read", "id", s.ID, "error", err)
	}
	first, err := n.store.FirstIndex()
	if err != nil {
		return err
	}
	if first > covered+1 || first == 0 && len(kept) > 0 && covered < kept[0].Index {
		return fmt.Errorf("%w: %s: of %d snapshots the newest that can be read ends at %d, the log begins at %d",
			ErrDamaged, n.config.Dir, len(kept), covered, first)
	}
	return nil
}
