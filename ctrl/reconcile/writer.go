package reconcile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"sfc/ctrl/store"
)

// writer writes what is observed into the store, many keys at once, each key in
// order. Of several values of a key that wait the last is written.
type writer struct {
	log *slog.Logger
	ctx context.Context

	mu      sync.Mutex
	idle    *sync.Cond // nothing waits and nothing is being written
	more    *sync.Cond
	queue   []target
	values  map[target][]byte // nil: to be deleted
	writing map[target]bool
	ended   bool
	workers sync.WaitGroup
}

// target is a key of a bucket.
type target struct {
	bucket *store.Bucket
	key    string
}

// writers is how many keys are written at once: the store syncs them together.
const writers = 8

// rewrite is how long a write waits that failed.
const rewrite = time.Second

func newWriter(ctx context.Context, log *slog.Logger) *writer {
	w := &writer{log: log, ctx: ctx, values: map[target][]byte{}, writing: map[target]bool{}}
	w.idle, w.more = sync.NewCond(&w.mu), sync.NewCond(&w.mu)
	for range writers {
		w.workers.Go(w.work)
	}
	return w
}

// set has a value written; nil deletes the key.
func (w *writer) set(b *store.Bucket, key string, value []byte) {
	if b == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t := target{b, key}
	if _, waits := w.values[t]; !waits && !w.writing[t] {
		w.queue = append(w.queue, t)
		w.more.Signal()
	}
	w.values[t] = value
}

// flush waits until everything is written.
func (w *writer) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for (len(w.values) > 0 || len(w.writing) > 0) && !w.ended {
		w.idle.Wait()
	}
}

// close ends the writing; what waits is dropped, since it would be found out
// again.
func (w *writer) close() {
	w.mu.Lock()
	w.ended = true
	w.more.Broadcast()
	w.idle.Broadcast()
	w.mu.Unlock()
	w.workers.Wait()
}

func (w *writer) work() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.queue) == 0 && !w.ended {
			w.more.Wait()
		}
		if w.ended {
			return
		}
		t := w.queue[0]
		w.queue = w.queue[1:]
		value := w.values[t]
		delete(w.values, t)
		w.writing[t] = true
		w.mu.Unlock()
		err := w.write(t, value)
		w.mu.Lock()
		delete(w.writing, t)
		w.written(t, value, err)
	}
}

// written notes the end of a write. The lock is held.
func (w *writer) written(t target, value []byte, err error) {
	if _, newer := w.values[t]; newer {
		w.queue = append(w.queue, t)
		w.more.Signal()
	} else if err != nil && !errors.Is(err, store.ErrClosed) && w.ctx.Err() == nil {
		w.log.Warn("status not written", "bucket", t.bucket.Name(), "key", t.key, "err", err)
		w.values[t] = value
		time.AfterFunc(rewrite, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if _, waits := w.values[t]; waits && !w.writing[t] {
				w.queue = append(w.queue, t)
				w.more.Signal()
			}
		})
	}
	if len(w.values) == 0 && len(w.writing) == 0 {
		w.idle.Broadcast()
	}
}

// write brings a key to a value. Nobody else writes these keys; a conflict is a
// write of this process whose answer was lost.
func (w *writer) write(t target, value []byte) error {
	// A write that was begun is waited for, within the store's timeout: it may
	// take place all the same, and nobody would know.
	ctx := context.WithoutCancel(w.ctx)
	var err error
	for range 3 {
		e, missing := t.bucket.Get(t.key)
		switch {
		case missing != nil && value == nil:
			return nil
		case missing != nil:
			_, err = t.bucket.Create(ctx, t.key, value)
		case value == nil:
			_, err = t.bucket.Delete(ctx, t.key, e.Revision)
		case bytes.Equal(e.Value, value):
			return nil
		default:
			_, err = t.bucket.Update(ctx, t.key, value, e.Revision)
		}
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return err
}
