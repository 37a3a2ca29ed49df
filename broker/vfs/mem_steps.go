package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
)

// ErrCrashed is wrapped by all operations of a Mem after it was stopped.
var ErrCrashed = errors.New("file system has crashed")

// OpKind is a kind of operation.
type OpKind string

// The operations of FS and File, but for Close, which never fails for them.
const (
	OpOpen      OpKind = "open" // of a file that is there
	OpCreate    OpKind = "create"
	OpRead      OpKind = "read"
	OpWrite     OpKind = "write"
	OpTruncate  OpKind = "truncate"
	OpSync      OpKind = "sync"
	OpDropCache OpKind = "drop-cache"
	OpSize      OpKind = "size"
	OpRename    OpKind = "rename"
	OpRemove    OpKind = "remove"
	OpMkdir     OpKind = "mkdir"
	OpList      OpKind = "list"
	OpSyncDir   OpKind = "sync-dir"
	OpFree      OpKind = "free"
)

// Durable tells whether an operation of this kind is a durable step: it
// changes names or sizes or makes something durable. Plain writes are none, they are
// lost or torn at the next one.
func (k OpKind) Durable() bool {
	switch k {
	case OpCreate, OpTruncate, OpSync, OpRename, OpRemove, OpMkdir, OpSyncDir:
		return true
	default:
		return false
	}
}

// Op is one operation, as the hook of Fail sees it.
type Op struct {
	Kind    OpKind
	Path    string
	To      string // of a rename
	Offset  int64  // of a read or write; of a truncate the new size
	Length  int64  // of a read or write
	Step    int    // runs from 1 over all operations
	Durable int    // durable steps up to and with this one
}

// String is the operation in one line, for golden logs of effects.
func (o Op) String() string {
	switch o.Kind {
	case OpRead, OpWrite:
		return fmt.Sprintf("%s %s %d+%d", o.Kind, o.Path, o.Offset, o.Length)
	case OpTruncate:
		return fmt.Sprintf("%s %s %d", o.Kind, o.Path, o.Offset)
	case OpRename:
		return fmt.Sprintf("%s %s %s", o.Kind, o.Path, o.To)
	default:
		return fmt.Sprintf("%s %s", o.Kind, o.Path)
	}
}

// steps counts operations and decides which fail.
type steps struct {
	mu      sync.Mutex
	step    int
	durable int
	stopAt  int // durable step before which the world stops; 0 is never
	crashed bool
	counts  map[OpKind]int
	hook    func(Op) error
}

// Fail sets a hook that is called before each operation, with no lock held: it may
// block, and may call the file system. If it returns an error the
// operation does nothing and fails with it; if that wraps ErrCrashed, so do all
// later ones. After a Sync that failed so, what was written counts as clean but is
// not on the disk, as on Linux. nil removes the hook.
func (m *Mem) Fail(hook func(Op) error) {
	m.steps.mu.Lock()
	defer m.steps.mu.Unlock()
	m.steps.hook = hook
}

// StopAt stops the world just before the n-th durable step since NewMem, Crash
// or Kill: that operation and all later ones fail with ErrCrashed. 0 takes it back.
func (m *Mem) StopAt(n int) {
	m.steps.mu.Lock()
	defer m.steps.mu.Unlock()
	m.steps.stopAt = n
}

// Stop stops the world now.
func (m *Mem) Stop() {
	m.steps.mu.Lock()
	defer m.steps.mu.Unlock()
	m.steps.crashed = true
}

// Stopped tells whether the world has stopped.
func (m *Mem) Stopped() bool { return m.steps.stopped() }

// DurableSteps is the number of durable steps so far.
func (m *Mem) DurableSteps() int {
	m.steps.mu.Lock()
	defer m.steps.mu.Unlock()
	return m.steps.durable
}

// Counts is the number of operations so far, by kind.
func (m *Mem) Counts() map[OpKind]int {
	m.steps.mu.Lock()
	defer m.steps.mu.Unlock()
	return maps.Clone(m.steps.counts)
}

func (s *steps) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crashed
}

// begin numbers the operation and asks the hook.
func (s *steps) begin(op Op) error {
	s.mu.Lock()
	if s.crashed {
		s.mu.Unlock()
		return ErrCrashed
	}
	if op.Kind.Durable() {
		if s.durable+1 == s.stopAt {
			s.crashed = true
			s.mu.Unlock()
			return ErrCrashed
		}
		s.durable++
	}
	s.step++
	if s.counts == nil {
		s.counts = map[OpKind]int{}
	}
	s.counts[op.Kind]++
	op.Step, op.Durable = s.step, s.durable
	hook := s.hook
	s.mu.Unlock()
	if hook == nil {
		return nil
	}
	err := hook(op)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, ErrCrashed):
		s.crashed = true
	case err == nil && s.crashed: // stopped while the hook ran
		err = ErrCrashed
	}
	return err
}

// do runs one operation under the lock, unless it is to fail.
func (m *Mem) do(op Op, act func() error) error {
	err := m.steps.begin(op)
	if err == nil {
		m.mu.Lock()
		err = act()
		m.mu.Unlock()
	}
	if err != nil {
		return &fs.PathError{Op: string(op.Kind), Path: op.Path, Err: err}
	}
	return nil
}
