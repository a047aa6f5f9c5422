package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Codes of the server's that this package has a word for.
const (
	codeAccountFull jetstream.ErrorCode = 10002
	codeNoResources jetstream.ErrorCode = 10023
	codeStorageFull jetstream.ErrorCode = 10047
	codeStoreFailed jetstream.ErrorCode = 10077
)

// explain gives an error of the server or of its client this package's name. An
// error after which the server does not write any more starts a new server.
func (s *Store) explain(err error) error {
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) {
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			return fmt.Errorf("%w: %w", ErrConflict, err)
		case codeAccountFull, codeStorageFull:
			return fmt.Errorf("%w: %w", ErrQuota, err)
		case jetstream.JSErrCodeStreamMessageExceedsMaximum:
			return fmt.Errorf("%w: %w", ErrTooLarge, err)
		case jetstream.JSErrCodeMessageNotFound:
			return fmt.Errorf("%w: %w", ErrNotFound, err)
		case codeStoreFailed, codeNoResources, jetstream.JSErrCodeJetStreamNotEnabled, jetstream.JSErrCodeJetStreamNotEnabledForAccount:
			s.heal()
			// The usual cause is a file system that has run full between the
			// look at it and the write.
			if disk := s.disk.check(0); disk != nil {
				return fmt.Errorf("%w: %w", disk, err)
			}
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return err
	}
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		s.heal()
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionReconnecting),
		errors.Is(err, nats.ErrDisconnected):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// heal puts another server in the place of one that has stopped writing, which
// it does for good after the first failed write. It waits until there is room to
// write, and tries until it succeeds or the store is closed. One heals at a time.
func (s *Store) heal() {
	select {
	case s.healing <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-s.healing }()
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
			if s.replaced() {
				return
			}
			select {
			case <-s.closing:
				return
			case <-time.After(wait):
			}
		}
	}()
}

// replaced restarts the server and says whether there is nothing left to do.
func (s *Store) replaced() bool {
	if s.disk.check(0) != nil {
		return false // no room yet
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Timeout)
	defer cancel()
	if err := s.engine.stop(ctx); err != nil {
		s.opts.Logger.Error("store: the server that stopped writing does not end", "err", err)
		return false
	}
	// What a failed write has left behind is what a crash would have.
	found, err := examine(s.dir, s.opts.Logger)
	if err == nil {
		s.damage = append(s.damage, found...)
		err = s.engine.start(ctx)
	}
	if err != nil {
		s.opts.Logger.Error("store: cannot be opened again", "err", err)
		return false
	}
	s.opts.Logger.Warn("store: opened again after a failed write")
	return true
}
