package dir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/tiering/object"
)

func version(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}

// PutIf implements object.Store. It is atomic against other PutIfs, those of
// other processes included.
func (s *Store) PutIf(ctx context.Context, key string, body []byte, match string) (string, error) {
	if err := object.CheckKey(key); err != nil {
		return "", err
	}
	temp, err := s.write(ctx, key, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	defer temp.discard()
	unlock, err := s.lock(ctx)
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	defer unlock()
	current, err := s.current(key)
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	if current != match {
		return "", fmt.Errorf("put %s at version %q, found %q: %w", key, match, current, object.ErrPrecondition)
	}
	// The name becomes durable under the lock: no other PutIf may build on a
	// version that a power cut could take back.
	if err := s.publish(key, temp); err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	return version(body), nil
}

func (s *Store) current(key string) (string, error) {
	b, err := os.ReadFile(s.path(key))
	if missing(err) {
		return "", s.check()
	}
	if err != nil {
		return "", err
	}
	return version(b), nil
}

// lock takes the store's lock between goroutines and processes. A dead
// process's lock is free; a stopped one keeps it, and ctx ends the wait.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() {
		if err != nil {
			<-s.turn
		}
	}()
	file, err := os.OpenFile(filepath.Join(s.root, lockName), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() {
				_ = file.Close() // which unlocks
				<-s.turn
			}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		timer := time.NewTimer(pause) // flock has no deadline
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			_ = file.Close()
			return nil, ctx.Err()
		}
	}
}
