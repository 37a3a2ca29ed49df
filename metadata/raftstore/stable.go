package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"
)

// Names under which hashicorp/raft keeps its term and vote.
const (
	currentTermKey = "CurrentTerm"
	voteTermKey    = "LastVoteTerm"
	voteCandKey    = "LastVoteCand"
)

// Set writes one value. The candidate of a vote is written together with the
// term that SetUint64 was given just before: Raft writes them one after the
// other, and a crash between the two would leave the candidate of an older
// term standing as the vote of the new one, to be granted again without a look
// at its log.
func (s *Store) Set(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := s.votePending && string(key) == voteCandKey
	err := s.write(func(txn *badger.Txn) error {
		if pending {
			if err := txn.Set(stableKey(voteTermKey), binary.BigEndian.AppendUint64(nil, s.voteTerm)); err != nil {
				return err
			}
		}
		return txn.Set(stableKey(string(key)), append([]byte(nil), value...))
	})
	if err != nil {
		return fmt.Errorf("write %s of the raft store: %w", key, err)
	}
	if pending {
		s.votePending = false
	}
	return nil
}

// Get reads one value; the error of a missing one has the text "not found",
// by which Raft knows it.
func (s *Store) Get(key []byte) (value []byte, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(stableKey(string(key)))
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, errNotFound
	}
	return value, err
}

// SetUint64 writes one number; the term of a vote waits for its candidate (see Set).
func (s *Store) SetUint64(key []byte, v uint64) error {
	if string(key) == voteTermKey {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.poison != nil {
			return s.poison
		}
		s.voteTerm, s.votePending = v, true
		return nil
	}
	return s.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 reads one number; see Get for a missing one.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %s of the raft store has %d bytes", ErrCorrupt, key, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// Bootstrap writes the first entry of a new log, which holds the cluster's
// configuration, and its term in one transaction. (raft.BootstrapCluster writes
// the term first; a crash between the two leaves a store that is neither new
// nor usable.) The store must be empty.
func (s *Store) Bootstrap(l *raft.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != 0 {
		return fmt.Errorf("bootstrap over a raft log that ends at %d", s.last)
	}
	err := s.write(func(txn *badger.Txn) error {
		if err := txn.Set(stableKey(currentTermKey), binary.BigEndian.AppendUint64(nil, l.Term)); err != nil {
			return err
		}
		return txn.Set(logKey(l.Index), encodeEntry(l))
	})
	if err != nil {
		return fmt.Errorf("bootstrap the raft store: %w", err)
	}
	s.first, s.last = l.Index, l.Index
	return nil
}

// SetTerm writes the term that a log begins in which has no entry of its own yet.
func (s *Store) SetTerm(term uint64) error { return s.SetUint64([]byte(currentTermKey), term) }

func stableKey(name string) []byte { return append([]byte{stablePrefix}, name...) }
