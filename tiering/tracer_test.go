package tiering_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// tracer writes down what changes the bucket, with names that say what and not when.
type tracer struct {
	object.Store
	mu    sync.Mutex
	lines []string
	reads bool
}

func (s *tracer) trace(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *tracer) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.lines
	s.lines = nil
	return lines
}

func title(key string) string {
	n, err := format.ParseKey(key)
	switch {
	case err != nil:
		return key
	case n.Kind == format.SegmentObject:
		return fmt.Sprintf("segment [%d, %d)", n.Base, n.End)
	case n.Kind == format.ManifestObject:
		return fmt.Sprintf("manifest %d", n.Version)
	case n.Kind == format.RootObject:
		return fmt.Sprintf("root %d", n.Seq)
	}
	return key
}

func (s *tracer) outcome(line string, err error) {
	if err != nil {
		line += ": failed"
	}
	s.trace(line)
}

func (s *tracer) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	err := s.Store.Put(ctx, key, body, size)
	s.outcome("put "+title(key), err)
	return err
}

func (s *tracer) PutIf(ctx context.Context, key string, body []byte, match string) (string, error) {
	version, err := s.Store.PutIf(ctx, key, body, match)
	s.outcome("put if "+title(key), err)
	return version, err
}

func (s *tracer) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	b, err := s.Store.Get(ctx, key, offset, length)
	if s.reads {
		s.outcome(fmt.Sprintf("get %s [%d, +%d)", title(key), offset, length), err)
	}
	return b, err
}

func (s *tracer) GetAll(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	b, version, err := s.Store.GetAll(ctx, key, limit)
	if s.reads {
		s.outcome("get "+title(key), err)
	}
	return b, version, err
}

func (s *tracer) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	if s.reads {
		s.trace("list " + prefix)
	}
	return s.Store.List(ctx, prefix, after)
}

func (s *tracer) Delete(ctx context.Context, keys []string) error {
	err := s.Store.Delete(ctx, keys)
	line := "delete"
	for _, k := range keys {
		line += " " + title(k)
	}
	s.outcome(line, err)
	return err
}

// unconditional is a store that takes conditions and ignores them.
type unconditional struct{ *tracer }

func (s unconditional) PutIf(ctx context.Context, key string, body []byte, _ string) (string, error) {
	if err := s.Put(ctx, key, bytes.NewReader(body), int64(len(body))); err != nil {
		return "", err
	}
	_, version, err := s.GetAll(ctx, key, 1<<20)
	return version, err
}
