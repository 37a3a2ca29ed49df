package quorum

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/raftstore"
)

// MaxCommandBytes is the most that one command may take in the log. Callers
// with many rows split them over commands.
const MaxCommandBytes = raftstore.MaxEntryBytes

// Propose writes a command to the log and returns what Apply said to it, once it
// is durable on a majority and this broker has applied it and told its
// subscribers. Errors: a refusal of package metadata (nothing changed);
// ErrNotLeader, ErrClosed or ErrFailed (nothing was proposed); ErrUnknownOutcome
// when the answer did not come, also when ctx ended: the command may still be
// applied later, the caller asks the image. Many proposals may be under way;
// they share writes of the log.
func (n *Node) Propose(ctx context.Context, cmd *metadata.Command) (metadata.Result, error) {
	if err := n.check(ctx, cmd); err != nil {
		return metadata.Result{}, err
	}
	data, err := proto.Marshal(cmd)
	if err != nil {
		return metadata.Result{}, fmt.Errorf("%w: %w", metadata.ErrInvalidCommand, err)
	}
	if len(data) > MaxCommandBytes {
		return metadata.Result{}, fmt.Errorf("%w: %d bytes, at most %d", metadata.ErrInvalidCommand, len(data), MaxCommandBytes)
	}
	answer := make(chan response, 1)
	go func() { answer <- n.await(n.raft.Apply(data, 0)) }()
	select {
	case r := <-answer:
		return r.result, r.err
	case <-n.over:
		return metadata.Result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, n.reason(ErrClosed))
	case <-ctx.Done():
		return metadata.Result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
}

// check refuses what must not get into the log.
func (n *Node) check(ctx context.Context, cmd *metadata.Command) error {
	if err := n.Err(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.isClosed() {
		return ErrClosed
	}
	level, finalised := metadata.LevelOf(cmd), n.Image().Version()
	switch {
	case level == metadata.UnknownLevel:
		return metadata.ErrUnknownCommand
	case level > finalised:
		return fmt.Errorf("%w: the command needs level %d, %d is finalised", metadata.ErrUnsupportedVersion, level, finalised)
	}
	return nil
}

// await turns Raft's answer into ours.
func (n *Node) await(f raft.ApplyFuture) response {
	err := f.Error()
	switch {
	case err == nil:
		return f.Response().(response)
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return response{err: fmt.Errorf("%w: the leader is %d", ErrNotLeader, n.Leader())}
	}
	return response{err: fmt.Errorf("%w: %w", ErrUnknownOutcome, n.reason(err))}
}

// reason is why the node failed, if it has, else err.
func (n *Node) reason(err error) error {
	if failure := n.Err(); failure != nil {
		return failure
	}
	return err
}

func (n *Node) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}
