package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing/iotest"

	"github.com/stratabroker/strata/tiering/object"
)

// streams checks object.OpenRange, and with it each sentence of object.Streamer where the store is one.
func streams(t subject) {
	s := t.store
	whole := make([]byte, 3<<20)
	for i := range whole {
		whole[i] = byte(i >> 3)
	}
	Put(t, s, "long", whole)
	for _, r := range [][2]int64{{0, 3 << 20}, {1, 1<<20 + 7}, {3<<20 - 1, 1}, {5, 0}} {
		body, err := object.OpenRange(t.Context(), s, "long", r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(body, whole[r[0]:r[0]+r[1]]); err != nil {
			t.Errorf("[%d,+%d): %v", r[0], r[1], err)
		}
		if err := body.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	// One that is closed early, and what was removed meanwhile.
	body, err := object.OpenRange(t.Context(), s, "long", 0, 3<<20)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1000)
	if _, err := io.ReadFull(body, head); err != nil || !bytes.Equal(head, whole[:1000]) {
		t.Errorf("the head of a long range: %v", err)
	}
	if err := body.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for _, r := range [][2]int64{{0, 3<<20 + 1}, {3 << 20, 1}, {-1, 3}, {0, -1}, {1, 1<<63 - 1}} {
		_, err := object.OpenRange(t.Context(), s, "long", r[0], r[1])
		wantErr(t, err, object.ErrRange, fmt.Sprintf("OpenRange [%d,+%d) of 3 MiB", r[0], r[1]))
	}
	_, err = object.OpenRange(t.Context(), s, "missing", 0, 1)
	wantErr(t, err, object.ErrNotFound, "OpenRange of what is not there")
	_, err = object.OpenRange(t.Context(), s, "no//key", 0, 1)
	wantErr(t, err, object.ErrInvalidKey, "OpenRange of no key")
}

// streamEnds checks that a stream does not outlive its context, nor ends as if it were whole.
func streamEnds(t subject) {
	Put(t, t.store, "long", make([]byte, 8<<20))
	if _, ok := t.store.(object.Streamer); !ok {
		return // it was read whole before
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, err := object.OpenRange(ctx, t.store, "long", 0, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	cancel()
	n, err := io.Copy(io.Discard, body)
	if n == 8<<20 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%d bytes after the end of the context, %v", n, err)
	}
}
