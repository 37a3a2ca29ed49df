package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	createVersion = 4 // answers with a code and a message a topic
	retryEvery    = time.Millisecond
	attemptLimit  = 30 * time.Second
)

// FirstAck asks until the broker has acknowledged one record (acks=all) in
// partition 0 of topic; with create it makes the topic first, with one
// partition. It may begin before the broker listens. ended is asked between the
// attempts: an error ends them.
func FirstAck(ctx context.Context, addr, topic string, create bool, ended func() error) error {
	produce := ProduceFrames(topic, 1, 1, 1, 100, -1)[0]
	var frames [][]byte
	if create {
		frames = append(frames, createFrame(topic))
	}
	for ctx.Err() == nil {
		if err := ended(); err != nil {
			return err
		}
		if err := attempt(ctx, addr, frames, produce); err == nil {
			return nil
		}
		time.Sleep(retryEvery)
	}
	return ctx.Err()
}

// attempt sends the requests over one connection, as often as the broker
// answers with an error.
func attempt(ctx context.Context, addr string, before [][]byte, produce []byte) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // every answer that matters has come
	for {
		if err := conn.SetDeadline(time.Now().Add(attemptLimit)); err != nil {
			return err
		}
		for _, frame := range before {
			if _, err := roundTrip(conn, frame); err != nil { // what it says shows in the Produce
				return err
			}
		}
		body, err := roundTrip(conn, produce)
		if err != nil {
			return err
		}
		err = CheckProduced(body)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if !errors.As(err, new(*kerr.Error)) {
			return err
		}
		time.Sleep(retryEvery)
	}
}

func createFrame(topic string) []byte {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, 1, 1
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis, req.Topics = createVersion, int32(attemptLimit.Milliseconds()), append(req.Topics, t)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, req, 0)
}

// roundTrip sends a frame and returns the answer without its length.
func roundTrip(conn net.Conn, frame []byte) ([]byte, error) {
	if _, err := conn.Write(frame); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 4 || n > maxAnswer {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(conn, body)
	return body, err
}

// Hold opens n connections that each have been answered once, and returns what closes them.
func Hold(ctx context.Context, addr string, n int) (func(), error) {
	req := kmsg.NewPtrApiVersionsRequest()
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, req, 0)
	var conns []net.Conn
	closeAll := func() {
		for _, conn := range conns {
			_ = conn.Close() // nothing is lost with it
		}
	}
	var dialer net.Dialer
	for i := range n {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			conns = append(conns, conn)
			_, err = roundTrip(conn, frame)
		}
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("connection %d to %s: %w", i, addr, err)
		}
	}
	return closeAll, nil
}
