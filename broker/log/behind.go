package log

import "slices"

// follow has the files of logs synced behind the rounds of the journal, one at a time: so the
// disk is never busy for long when a round comes, and the rounds of the log go on meanwhile.
func (g *groupCommit) follow(logs []*Log) {
	if len(logs) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.behind = append(g.behind, logs...)
	if !g.syncing && !g.stopped {
		g.syncing = true
		g.wg.Go(g.syncBehind)
	}
}

func (g *groupCommit) syncBehind() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.behind) > 0 && !g.stopped {
		l := g.behind[0]
		g.behind = slices.Delete(g.behind, 0, 1)
		g.mu.Unlock()
		err := l.commit() // who waits learns of it from the log
		l.behind.Store(false)
		g.dir.journal.tidy()
		g.mu.Lock()
		g.note(l, err)
	}
	g.syncing = false
}
