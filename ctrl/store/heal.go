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
// error that may mean that the server does not write any more has that looked into.
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
			return s.unwritten(err)
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

// healPause is the least time between two servers that were started because the
// one before did not write any more.
const healPause = time.Second

// heal looks into the suspicion that the server has stopped writing, which it does
// for good after the first failed write, and puts another in its place if that is
// so. Answers that did not come, or that came late from a server replaced
// meanwhile, are no proof: under load there are many. It waits until there is room
// to write, and tries until it succeeds or the store is closed.
func (s *Store) heal() {
	s.replace("a write failed", func() bool {
		return time.Since(s.healed) >= healPause && s.disk.check(0) == nil
	}, s.broken, func() { s.healed = time.Now() })
}

// broken says whether the server itself knows that it does not write any more.
func (s *Store) broken() bool {
	err := s.engine.failed("", "")
	if err != nil {
		s.opts.Logger.Warn("store: its server does not write any more", "err", err)
	}
	return err != nil
}

// compact starts the server anew, so that its blocks are rewritten. Keys are
// written when it is back; modules that are on their way get ErrUnavailable.
func (s *Store) compact() {
	s.replace("many keys were deleted", func() bool {
		s.gate.Lock()
		return true
	}, func() bool { return true }, s.gate.Unlock)
}

// replace replaces the server in the background if there is need, unless that is
// being done. It begins when ready says so, and ends with after.
func (s *Store) replace(why string, ready, needed func() bool, after func()) {
	select {
	case s.healing <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-s.healing }()
		if !needed() {
			return
		}
		for wait := 50 * time.Millisecond; !ready(); wait = min(2*wait, time.Second) {
			if !s.sleep(wait) {
				return
			}
		}
		defer after()
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
			err := s.restart()
			if err == nil {
				s.opts.Logger.Info("store: its server was started anew", "why", why)
				return
			}
			s.opts.Logger.Error("store: its server does not start", "why", why, "err", err)
			if !s.sleep(wait) {
				return
			}
		}
	}()
}

// sleep waits, and returns false if the store is closed meanwhile.
func (s *Store) sleep(d time.Duration) bool {
	select {
	case <-s.closing:
		return false
	case <-time.After(d):
		return true
	}
}

// restart replaces the server, with all that opening the store does.
func (s *Store) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Timeout)
	defer cancel()
	if err := s.engine.stop(ctx); err != nil {
		return err
	}
	// What a failed write has left behind is what a crash would have.
	found, err := examine(s.dir, s.opts.markers/64, s.opts.Logger)
	if err != nil {
		return err
	}
	s.damage = append(s.damage, found...)
	if err := s.engine.start(ctx); err != nil {
		return err
	}
	for _, sp := range s.spaces {
		sp.compacted()
	}
	return nil
}
