package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// blockBytes is the size of all blocks of acme's desired state.
func blockBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(streamPath(dir, "KV_desired"), "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// Markers of deletions go when the store is opened, and nothing comes back.
func TestCompactedWhenOpened(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	var last uint64
	for i := range 30 {
		key := fmt.Sprint(i)
		rev := must[uint64](t)(b.Create(t.Context(), key, content(i, 1000)))
		if i%3 != 0 {
			rev = must[uint64](t)(b.Update(t.Context(), key, content(i+100, 1000), rev))
			rev = must[uint64](t)(b.Delete(t.Context(), key, rev))
		}
		last = rev
	}
	shut(t, s)
	before := blockBytes(t, dir)
	s = open(t, dir, Options{markers: 64})
	if after := blockBytes(t, dir); after > before/3 {
		t.Errorf("%d bytes, %d before", after, before)
	}
	b = bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	if b.Revision() != last {
		t.Errorf("revision %d, want %d", b.Revision(), last)
	}
	for i := range 30 {
		e, err := b.Get(fmt.Sprint(i))
		if i%3 == 0 && (err != nil || string(e.Value) != string(content(i, 1000))) {
			t.Errorf("%d: %d bytes, err %v", i, len(e.Value), err)
		} else if i%3 != 0 && !errors.Is(err, ErrNotFound) {
			t.Errorf("%d is back: %v", i, err)
		}
	}
	for i := range 30 {
		if i%3 != 0 {
			if rev := must[uint64](t)(b.Create(t.Context(), fmt.Sprint(i), nil)); rev <= last {
				t.Errorf("revision %d was used before", rev)
			}
		}
	}
}

// With very many the server is started anew, under those who write and watch.
func TestCompactedWhileServing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{markers: 100})
	sp := tenant(t, s, "acme", Limits{})
	b := bucket(t, sp, "desired")
	mod := put(t, modules(t, sp), content(1, 1000))
	w := must[*Watcher](t)(b.Watch("", b.Revision()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const writers, writes = 4, 60
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for j := range writes {
				key := fmt.Sprintf("%d/%d", i, j)
				rev, err := b.Create(ctx, key, content(j, 500))
				if err == nil {
					_, err = b.Delete(ctx, key, rev)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		last := uint64(0)
		for range 2 * writers * writes {
			ev, err := w.Next(ctx)
			if err != nil || ev.Revision != last+1 {
				t.Errorf("event of %d after %d: %v", ev.Revision, last, err)
				return
			}
			last = ev.Revision
		}
	})
	wg.Wait()
	for n := 1 << 20; n > 200; time.Sleep(10 * time.Millisecond) {
		if n, _ = b.cache.markers(); ctx.Err() != nil {
			t.Fatalf("%d markers are left", n)
		}
	}
	if p := must[Page](t)(b.List("", 0, "")); len(p.Entries) != 0 {
		t.Errorf("%d keys are left", len(p.Entries))
	}
	must[uint64](t)(b.Create(ctx, "0/0", nil))
	must[[]byte](t)(modules(t, sp).Get(ctx, mod.Digest))
}
