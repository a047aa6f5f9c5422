package store

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestWatch(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	start := b.Revision()
	one := must[uint64](t)(b.Create(t.Context(), "a/1", []byte("1")))
	must[uint64](t)(b.Create(t.Context(), "b/1", nil))
	two := must[uint64](t)(b.Update(t.Context(), "a/1", []byte("2"), one))
	three := must[uint64](t)(b.Delete(t.Context(), "a/1", two))

	w := must[*Watcher](t)(b.Watch("a/", start))
	for i, want := range []Event{
		{Entry{"a/1", []byte("1"), one}, false}, {Entry{"a/1", []byte("2"), two}, false}, {Entry{"a/1", nil, three}, true},
	} {
		got := must[Event](t)(w.Next(t.Context()))
		if got.Key != want.Key || string(got.Value) != string(want.Value) || got.Revision != want.Revision || got.Deleted != want.Deleted {
			t.Errorf("event %d is %+v, want %+v", i, got, want)
		}
	}
	// It waits for the next, sees no others, and knows how far it is.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := w.Next(ctx)
	is(t, err, context.DeadlineExceeded)
	four := must[uint64](t)(b.Create(t.Context(), "b/2", nil))
	got := make(chan Event)
	go func() {
		ev, err := w.Next(context.Background())
		if err != nil {
			t.Error(err)
		}
		got <- ev
	}()
	five := must[uint64](t)(b.Create(t.Context(), "a/2", nil))
	if ev := <-got; ev.Key != "a/2" || ev.Revision != five {
		t.Errorf("event %+v", ev)
	}
	if w.Revision() != five || five <= four {
		t.Errorf("the watcher is at %d, want %d", w.Revision(), five)
	}
	_, err = b.Watch("", five+1)
	is(t, err, ErrExpired)
}

// Who is too slow is told, and loses nothing by listing again.
func TestWatchExpires(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Events: 10})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	start := b.Revision()
	slow := must[*Watcher](t)(b.Watch("", start))
	rev := must[uint64](t)(b.Create(t.Context(), "k", nil))
	for range 15 {
		rev = must[uint64](t)(b.Update(t.Context(), "k", nil, rev))
	}
	_, err := slow.Next(t.Context())
	is(t, err, ErrExpired)
	_, err = b.Watch("", start)
	is(t, err, ErrExpired)
	w := must[*Watcher](t)(b.Watch("", rev-10))
	if ev := must[Event](t)(w.Next(t.Context())); ev.Revision != rev-9 {
		t.Errorf("the oldest event is of %d, want %d", ev.Revision, rev-9)
	}
	// After a restart only the list's own revision is known.
	shut(t, s)
	s = open(t, dir, Options{})
	b = bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	_, err = b.Watch("", rev-1)
	is(t, err, ErrExpired)
	must[*Watcher](t)(b.Watch("", rev))
}

// Every watcher sees every change, in order, whoever makes them, and a list and
// the watch behind it are the whole truth.
func TestWatchersAgree(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	const writers, writes = 4, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			key := fmt.Sprint(w)
			for i := range writes {
				e, err := b.Get(key)
				switch {
				case err != nil:
					_, err = b.Create(t.Context(), key, []byte{byte(i)})
				case i%7 == 6:
					_, err = b.Delete(t.Context(), key, e.Revision)
				default:
					_, err = b.Update(t.Context(), key, []byte{byte(i)}, e.Revision)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 8 {
		wg.Go(func() {
			p, err := b.List("", 0, "")
			if err != nil {
				t.Error(err)
				return
			}
			state := map[string]uint64{}
			for _, e := range p.Entries {
				state[e.Key] = e.Revision
			}
			w, err := b.Watch("", p.Revision)
			for last := p.Revision; err == nil && last < writers*writes; {
				var ev Event
				if ev, err = w.Next(t.Context()); err != nil {
					break
				}
				if ev.Revision != last+1 {
					t.Errorf("event of %d after %d", ev.Revision, last)
				}
				last = ev.Revision
				if state[ev.Key] = ev.Revision; ev.Deleted {
					delete(state, ev.Key)
				}
			}
			if err != nil {
				t.Error(err)
			}
			for key, rev := range state {
				if e, err := b.Get(key); err != nil || e.Revision != rev {
					t.Errorf("%s is at %d, err %v; the watcher has %d", key, e.Revision, err, rev)
				}
			}
		})
	}
	wg.Wait()
}
