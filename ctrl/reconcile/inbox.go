package reconcile

import (
	"context"
	"errors"
	"sync"
	"time"

	"sfc/ctrl/store"
)

// source is a bucket that is watched; the host's has no tenant.
type source struct{ tenant, bucket string }

// inbox is where watchers put what changed, and the loop takes it from. Of
// several changes of a key the last one stays, so it holds at most one entry per
// key however far behind the loop is.
type inbox struct {
	mu      sync.Mutex
	changes map[source]map[string]*store.Entry // nil: the key is gone
	wake    chan struct{}                      // holds a token when there is something
}

func newInbox() *inbox {
	return &inbox{changes: map[source]map[string]*store.Entry{}, wake: make(chan struct{}, 1)}
}

// put notes a change.
func (b *inbox) put(src source, key string, e *store.Entry) {
	b.mu.Lock()
	if b.changes[src] == nil {
		b.changes[src] = map[string]*store.Entry{}
	}
	b.changes[src][key] = e
	b.mu.Unlock()
	poke(b.wake)
}

// take returns all there is.
func (b *inbox) take() map[source]map[string]*store.Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.changes
	b.changes = map[source]map[string]*store.Entry{}
	return all
}

// poke leaves a token, if there is none.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// load reads a bucket, gives every entry to each, and returns what a follower
// needs to go on from there.
func load(b *store.Bucket, each func(store.Entry)) (*follower, error) {
	page, err := b.List("", 0, "")
	if err != nil {
		return nil, err
	}
	f := &follower{bucket: b, revision: page.Revision, known: make(map[string]bool, len(page.Entries))}
	for _, e := range page.Entries {
		f.known[e.Key] = true
		each(e)
	}
	return f, nil
}

// follower watches a bucket from where it was read.
type follower struct {
	bucket   *store.Bucket
	revision uint64
	known    map[string]bool // keys that are there
}

// run puts every change into the inbox until ctx ends or the bucket is closed.
func (f *follower) run(ctx context.Context, src source, box *inbox) {
	for ctx.Err() == nil {
		w, err := f.bucket.Watch("", f.revision)
		for err == nil {
			var ev store.Event
			if ev, err = w.Next(ctx); err == nil {
				f.note(src, box, ev)
			}
		}
		switch {
		case errors.Is(err, store.ErrClosed):
			return
		case errors.Is(err, store.ErrExpired):
			f.again(src, box)
		default:
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

func (f *follower) note(src source, box *inbox, ev store.Event) {
	f.revision = ev.Revision
	if ev.Deleted {
		delete(f.known, ev.Key)
		box.put(src, ev.Key, nil)
		return
	}
	f.known[ev.Key] = true
	box.put(src, ev.Key, &ev.Entry)
}

// again reads everything, because changes were missed.
func (f *follower) again(src source, box *inbox) {
	was := f.known
	next, err := load(f.bucket, func(e store.Entry) {
		box.put(src, e.Key, &e)
		delete(was, e.Key)
	})
	if err != nil {
		return // the store is being closed, or Watch says what it is
	}
	for key := range was {
		box.put(src, key, nil)
	}
	*f = *next
}
