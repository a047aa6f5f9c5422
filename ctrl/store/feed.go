package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// feed is the one reader of a bucket: it brings every change to the cache.
type feed struct {
	b       *Bucket
	cancel  context.CancelFunc
	resumed chan struct{} // holds one token: the server is another one
	done    chan struct{}
}

// startFeed reads the whole bucket, then goes on in a goroutine.
func startFeed(ctx context.Context, b *Bucket) (*feed, error) {
	info, err := b.stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background())
	f := &feed{b: b, cancel: cancel, resumed: make(chan struct{}, 1), done: make(chan struct{})}
	w, err := b.kv.WatchAll(running)
	if err != nil {
		cancel()
		return nil, err
	}
	if err := f.read(ctx, w); err != nil {
		cancel()
		return nil, errors.Join(err, w.Stop())
	}
	b.cache.begin(info.State.LastSeq)
	go f.run(running, w)
	return f, nil
}

// read takes in what the bucket holds, up to the watcher's mark of the end.
func (f *feed) read(ctx context.Context, w jetstream.KeyWatcher) error {
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return fmt.Errorf("%w: the reader ended early", ErrUnavailable)
			case e == nil:
				return nil
			}
			f.apply(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run brings changes to the cache until the bucket is closed.
func (f *feed) run(ctx context.Context, w jetstream.KeyWatcher) {
	defer close(f.done)
	for {
		f.follow(ctx, w)
		if w != nil {
			// An error means that the server has forgotten it already.
			_ = w.Stop()
		}
		if ctx.Err() != nil {
			return
		}
		if w = f.again(ctx); w == nil {
			return
		}
	}
}

// follow returns when the reader has ended or must be begun anew.
func (f *feed) follow(ctx context.Context, w jetstream.KeyWatcher) {
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return
			}
			if e != nil {
				f.apply(e)
			}
		case <-f.resumed:
			return
		case <-ctx.Done():
			return
		}
	}
}

// again begins a reader after the last change that is known, and tries until it
// succeeds or the bucket is closed (nil).
func (f *feed) again(ctx context.Context) jetstream.KeyWatcher {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		w, err := f.b.kv.WatchAll(ctx, jetstream.ResumeFromRevision(f.b.Revision()+1))
		if err == nil {
			return w
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// apply takes in one change.
func (f *feed) apply(e jetstream.KeyValueEntry) {
	key, ok := unescape(e.Key(), true)
	if !ok {
		f.b.space.store.opts.Logger.Warn("store: key is not this program's, left alone", "bucket", f.b.name, "key", e.Key())
		return
	}
	ev := Event{Entry: Entry{Key: key, Revision: e.Revision()}, Deleted: e.Operation() != jetstream.KeyValuePut}
	if !ev.Deleted {
		ev.Value = e.Value()
	}
	f.b.space.count(f.b.object(key), f.b.cache.apply(ev))
	if ev.Deleted {
		if n, _ := f.b.cache.markers(); n > f.b.space.store.opts.markers {
			f.b.space.store.compact()
		}
	}
}

// resume makes the feed begin anew after the last change it knows.
func (f *feed) resume() {
	select {
	case f.resumed <- struct{}{}:
	default:
	}
}

// stop ends the feed and waits for it.
func (f *feed) stop() {
	f.cancel()
	<-f.done
}
