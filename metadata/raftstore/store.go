// Package raftstore keeps the Raft log and the Raft votes of one broker in a
// badger database. It is the only importer of badger and knows nothing of what
// the entries mean. Only package metadata/quorum uses it.
package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Errors of a Store.
var (
	ErrPoisoned = errors.New("raft store is poisoned by a failed write: what the disk holds is not known until a restart")
	ErrInUse    = errors.New("raft store is in use by another process")
	ErrCorrupt  = errors.New("raft log entry is corrupt")
	ErrTooLarge = errors.New("raft log entry is too large")
)

// errNotFound is what hashicorp/raft knows a missing key by: it compares the text.
var errNotFound = errors.New("not found")

// Keys, each kind with its prefix. README.md has the layout.
const (
	logPrefix    = 'l' // 'l' index(8, big endian) -> entry
	stablePrefix = 's' // 's' name -> value of the stable store
	hintKey      = "h" // an index at or below the first entry: where to look for it
)

// MaxEntryBytes is the most that an entry may take, extensions included.
const MaxEntryBytes = valueThreshold - entryHeader - entryTrailer - 1

// Badger keeps 85 MB of heap at its defaults; a Raft log of some thousand
// entries needs little. All values stay below the threshold: those above it go to
// badger's value log, which frees the space of deleted ones only after
// compactions that a small log never sees, while the tree frees it by itself.
const (
	memtableBytes  = 8 << 20
	valueThreshold = 1 << 20  // badger's own limit, and below that of a transaction
	valueLogBytes  = 16 << 20 // it is opened and mapped all the same
)

// Config of a Store.
type Config struct {
	Dir    string
	Logger *slog.Logger
	// Failed is called once, on the goroutine whose write failed, when the store
	// is poisoned. It must not call the store. May be nil.
	Failed func(error)
}

// Store is a raft.LogStore and raft.StableStore. What a method wrote is on
// stable storage when it returns nil. After a failed write every later one
// fails with ErrPoisoned: a retry of a failed sync may falsely succeed. All
// methods may run concurrently, and as Raft does it writes come one at a time.
type Store struct {
	db     *badger.DB
	config Config

	mu          sync.Mutex // guards the fields below and orders writes
	first, last uint64     // of the log; 0 and 0 when it is empty
	hint        uint64
	poison      error
	votePending bool // the term of a vote is here, its candidate is not yet
	voteTerm    uint64
}

// Open opens the store in a directory, which is made if missing. A second
// process gets ErrInUse.
func Open(config Config) (*Store, error) {
	if err := removeLeftovers(config.Dir); err != nil {
		return nil, err
	}
	opts := badger.DefaultOptions(config.Dir).
		WithSyncWrites(true).
		WithMemTableSize(memtableBytes).
		WithNumMemtables(2).
		WithBaseTableSize(2 << 20).
		WithBaseLevelSize(8 << 20).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(8).
		WithNumCompactors(2).
		WithNumGoroutines(1).
		WithValueLogFileSize(valueLogBytes).
		WithValueThreshold(valueThreshold).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithLogger(quietLogger{config.Logger})
	db, err := badger.Open(opts)
	if err != nil {
		if strings.Contains(err.Error(), "Cannot acquire directory lock") {
			return nil, fmt.Errorf("open %s: %w", config.Dir, ErrInUse)
		}
		return nil, fmt.Errorf("open raft store %s: %w", config.Dir, err)
	}
	s := &Store{db: db, config: config}
	if err := s.loadBounds(); err != nil {
		return nil, errors.Join(fmt.Errorf("read raft store %s: %w", config.Dir, err), db.Close())
	}
	return s, nil
}

// Close frees the database and its lock.
func (s *Store) Close() error { return s.db.Close() }

// loadBounds finds the first and the last entry.
func (s *Store) loadBounds() error {
	return s.db.View(func(txn *badger.Txn) error {
		if item, err := txn.Get([]byte(hintKey)); err == nil {
			raw, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			s.hint = binary.BigEndian.Uint64(raw)
		} else if !errors.Is(err, badger.ErrKeyNotFound) {
			return err
		}
		s.first = firstFrom(txn, s.hint)
		opts := badger.IteratorOptions{Reverse: true, Prefix: []byte{logPrefix}}
		it := txn.NewIterator(opts)
		defer it.Close()
		if it.Seek(append(logKey(^uint64(0)), 0)); it.Valid() {
			s.last = indexOf(it.Item().Key())
		}
		return nil
	})
}

// firstFrom is the lowest index at or above from, 0 if there is none.
func firstFrom(txn *badger.Txn, from uint64) uint64 {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{logPrefix}})
	defer it.Close()
	if it.Seek(logKey(from)); it.Valid() {
		return indexOf(it.Item().Key())
	}
	return 0
}

func logKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{logPrefix}, index)
}

func indexOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:]) }

// write runs fn in one transaction; it is durable when write returns nil. The
// caller holds mu.
func (s *Store) write(fn func(*badger.Txn) error) error {
	if s.poison != nil {
		return s.poison
	}
	err := s.db.Update(fn)
	if err == nil {
		return nil
	}
	s.poison = fmt.Errorf("%w: %w", ErrPoisoned, err)
	s.config.Logger.Error("raft store failed", "dir", s.config.Dir, "error", err)
	if s.config.Failed != nil {
		s.config.Failed(s.poison)
	}
	return s.poison
}

// quietLogger passes on what badger warns of.
type quietLogger struct{ log *slog.Logger }

func (l quietLogger) Errorf(format string, args ...any) {
	l.log.Error("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l quietLogger) Warningf(format string, args ...any) {
	l.log.Warn("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (quietLogger) Infof(string, ...any)  {}
func (quietLogger) Debugf(string, ...any) {}
