package quorum

// FormatLine is what the file format holds.
var FormatLine = formatLine

// BreakDisk makes every write of the log fail from now on.
func (n *Node) BreakDisk() { _ = n.store.Close() }

// ApplyRaw puts bytes into the log as a newer binary might.
func (n *Node) ApplyRaw(data []byte) error { return n.await(n.raft.Apply(data, 0)).err }

// LogBounds are the first and last index that the log still holds.
func (n *Node) LogBounds() (first, last uint64) {
	first, _ = n.store.FirstIndex()
	last, _ = n.store.LastIndex()
	return first, last
}
