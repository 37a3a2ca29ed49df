package log

import "context"

// passing is a cleaning pass that is under way. It works on files by their names, and a partition that is made anew
// has the same: so who closes or deletes a log ends its pass first and waits for it.
type passing struct {
	end  context.CancelFunc
	done chan struct{}
}

// beginPass makes the log's one pass; ctx ends when the log is to be closed or deleted. ended must be called.
func (l *Log) beginPass() (ctx context.Context, ended func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.leaving:
		return nil, nil, ErrClosed
	case l.passing != nil:
		return nil, nil, errMoved
	}
	ctx, end := context.WithCancel(context.Background())
	p := &passing{end, make(chan struct{})}
	l.passing = p
	return ctx, func() {
		l.mu.Lock()
		l.passing = nil
		l.mu.Unlock()
		end()
		close(p.done)
	}, nil
}

// endPass waits until no pass is under way and lets none begin any more. It needs no lock of the log: a pass takes them.
func (l *Log) endPass() {
	l.mu.Lock()
	l.leaving = true
	p := l.passing
	l.mu.Unlock()
	if p != nil {
		p.end()
		<-p.done
	}
}
