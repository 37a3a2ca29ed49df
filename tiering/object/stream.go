package object

import (
	"bytes"
	"context"
	"io"
)

// Streamer is a Store that can give a range as it arrives, so that a long range
// need not be in memory whole and its first bytes can be used before its last are sent.
type Streamer interface {
	// OpenRange begins to read length bytes from offset; the errors are Get's. The stream fails once ctx
	// ends. It gives io.EOF only after all bytes: an answer that is cut off ends with another error. Closing it early is allowed.
	OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
}

// OpenRange reads a range as a stream. Where the store is no Streamer that is one Get, whose bytes are all in memory
// until the stream is closed: every driver is one, wrappers in tests need not be.
func OpenRange(ctx context.Context, s Store, key string, offset, length int64) (io.ReadCloser, error) {
	if streamer, ok := s.(Streamer); ok {
		return streamer.OpenRange(ctx, key, offset, length)
	}
	b, err := s.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}
