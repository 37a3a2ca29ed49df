package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"
)

// A transaction of ours stays well below badger's limits: 15 % of the memtable
// in bytes, and that over the size of a skip list node in entries.
const (
	batchBytes   = memtableBytes / 100 * 12
	batchEntries = 4096
	perEntry     = 64 // what badger adds to key and value
)

// FirstIndex is 0 when the log is empty.
func (s *Store) FirstIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, nil
}

// LastIndex is 0 when the log is empty.
func (s *Store) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, nil
}

// GetLog reads one entry; raft.ErrLogNotFound where there is none, ErrCorrupt
// where it is not what was written.
func (s *Store) GetLog(index uint64, l *raft.Log) error {
	return s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(logKey(index))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return raft.ErrLogNotFound
		}
		if err != nil {
			return fmt.Errorf("read raft log entry %d: %w", index, err)
		}
		return item.Value(func(b []byte) error { return decodeEntry(index, b, l) })
	})
}

// StoreLog writes one entry.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries in the order given, in as many transactions as they
// need: after a crash a prefix of them is there.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(logs) > 0 {
		n, err := s.storeSome(logs)
		if err != nil {
			return err
		}
		logs = logs[n:]
	}
	return nil
}

// storeSome writes as many of the entries as one transaction takes.
func (s *Store) storeSome(logs []*raft.Log) (n int, err error) {
	var values [][]byte
	size := 0
	for _, l := range logs {
		value := encodeEntry(l)
		if len(value) >= valueThreshold {
			if n == 0 {
				return 0, fmt.Errorf("%w: index %d has %d bytes, the limit is %d", ErrTooLarge, l.Index, len(value), valueThreshold)
			}
			break
		}
		cost := len(value) + perEntry
		if n == batchEntries || n > 0 && size+cost > batchBytes {
			break
		}
		values, size = append(values, value), size+cost
		n++
	}
	low, high := logs[0].Index, logs[n-1].Index
	err = s.write(func(txn *badger.Txn) error {
		if low < s.hint {
			if err := setHint(txn, low); err != nil {
				return err
			}
		}
		for i, value := range values {
			if err := txn.Set(logKey(logs[i].Index), value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("write raft log entries %d to %d: %w", low, high, err)
	}
	s.hint = min(s.hint, low)
	if s.first == 0 || low < s.first {
		s.first = low
	}
	s.last = max(s.last, high)
	return n, nil
}

func setHint(txn *badger.Txn, index uint64) error {
	return txn.Set([]byte(hintKey), binary.BigEndian.AppendUint64(nil, index))
}

// DeleteRange removes the entries from low to high, both included. A crash in
// its midst leaves no hole: a prefix goes from below, a suffix from above.
func (s *Store) DeleteRange(low, high uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == 0 || high < s.first || low > s.last {
		return nil
	}
	low, high = max(low, s.first), min(high, s.last)
	prefix := low == s.first
	if !prefix && high < s.last {
		return fmt.Errorf("delete raft log entries %d to %d of %d to %d: that leaves a hole", low, high, s.first, s.last)
	}
	for from, to := low, high; from <= to; {
		a, b := from, min(to, from+batchEntries-1)
		if !prefix {
			b, a = to, max(from, to-min(to, batchEntries-1))
		}
		if err := s.deleteSome(a, b, prefix); err != nil {
			return fmt.Errorf("delete raft log entries %d to %d: %w", low, high, err)
		}
		if prefix {
			from = b + 1
		} else {
			to = a - 1
		}
	}
	return nil
}

// deleteSome removes a run in one transaction and finds the new bounds.
func (s *Store) deleteSome(low, high uint64, prefix bool) error {
	err := s.write(func(txn *badger.Txn) error {
		for i := low; i <= high; i++ {
			if err := txn.Delete(logKey(i)); err != nil {
				return err
			}
		}
		if prefix {
			return setHint(txn, high+1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if prefix {
		s.hint = high + 1
		return s.db.View(func(txn *badger.Txn) error {
			if s.first = firstFrom(txn, s.hint); s.first == 0 {
				s.last = 0
			}
			return nil
		})
	}
	s.last = low - 1
	return nil
}
