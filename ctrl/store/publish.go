package store

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// lookAfter is how long a message may take before the server is asked how it is:
// when it cannot write it says nothing.
const lookAfter = 100 * time.Millisecond

// publish sends a message and returns the sequence it is stored under.
func (sp *Space) publish(ctx context.Context, stream string, msg *nats.Msg) (uint64, error) {
	f, err := sp.send(msg)
	if err != nil {
		return 0, err
	}
	return sp.stored(ctx, stream, f)
}

// send sends a message. Its data may be used again when send returns.
func (sp *Space) send(msg *nats.Msg) (jetstream.PubAckFuture, error) {
	f, err := sp.js.PublishMsgAsync(msg)
	return f, sp.store.explain(err)
}

// stored waits until a message is on disk and returns its sequence. The time is
// bounded by ctx, or by Options.Timeout.
func (sp *Space) stored(ctx context.Context, stream string, f jetstream.PubAckFuture) (uint64, error) {
	look := time.NewTicker(lookAfter)
	defer look.Stop()
	for {
		select {
		case ack := <-f.Ok():
			return ack.Sequence, nil
		case err := <-f.Err():
			return 0, sp.store.explain(err)
		case <-sp.gone: // nobody will answer
			return 0, ErrClosed
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		case <-look.C:
			if err := sp.store.engine.failedNow(sp.account, stream); err != nil {
				sp.store.heal()
				return 0, sp.store.unwritten(err)
			}
		}
	}
}

// unwritten names the error of a server that has stopped writing. The usual cause
// is a file system that has run full between the look at it and the write.
func (s *Store) unwritten(err error) error {
	if disk := s.disk.check(0); disk != nil {
		return fmt.Errorf("%w: %w", disk, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, named(err))
}
