package store

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestBucketCompareAndSet(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxValue: 1000})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	ctx := t.Context()

	one := must[uint64](t)(b.Create(ctx, "chain/edge", []byte("1")))
	_, err := b.Create(ctx, "chain/edge", []byte("x"))
	is(t, err, ErrExists)
	two := must[uint64](t)(b.Update(ctx, "chain/edge", []byte("2"), one))
	if two <= one {
		t.Errorf("revision %d comes after %d", two, one)
	}
	_, err = b.Update(ctx, "chain/edge", []byte("x"), one)
	var c *ConflictError
	if !errors.As(err, &c) || c.Have != two || c.Want != one || c.Key != "chain/edge" {
		t.Errorf("update of an old revision: %v", err)
	}
	is(t, err, ErrConflict)
	_, err = b.Delete(ctx, "chain/edge", one)
	is(t, err, ErrConflict)
	_, err = b.Delete(ctx, "chain/edge", 0)
	is(t, err, ErrConflict)
	if e := must[Entry](t)(b.Get("chain/edge")); string(e.Value) != "2" || e.Revision != two {
		t.Errorf("got %q at %d", e.Value, e.Revision)
	}
	must[uint64](t)(b.Delete(ctx, "chain/edge", two))
	_, err = b.Get("chain/edge")
	is(t, err, ErrNotFound)
	_, err = b.Update(ctx, "chain/edge", nil, two)
	is(t, err, ErrNotFound)
	_, err = b.Delete(ctx, "chain/edge", two)
	is(t, err, ErrNotFound)
	three := must[uint64](t)(b.Create(ctx, "chain/edge", nil))
	if e := must[Entry](t)(b.Get("chain/edge")); len(e.Value) != 0 || e.Revision != three {
		t.Errorf("got %q at %d", e.Value, e.Revision)
	}

	must[uint64](t)(b.Create(ctx, "big", bytes.Repeat([]byte("x"), 1000)))
	_, err = b.Create(ctx, "bigger", bytes.Repeat([]byte("x"), 1001))
	is(t, err, ErrTooLarge)
	for _, key := range []string{"", strings.Repeat("k", MaxKey+1), "\xff"} {
		_, err := b.Create(ctx, key, nil)
		is(t, err, ErrName)
	}
}

// Of many who change the same revision, one succeeds.
func TestBucketOneWins(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	for round := range 5 {
		key := fmt.Sprint(round)
		first := race(t, func(i int) error {
			_, err := b.Create(t.Context(), key, []byte{byte(i)})
			return err
		}, ErrExists)
		e := must[Entry](t)(b.Get(key))
		if e.Value[0] != byte(first) {
			t.Errorf("%d created %s, but it holds %d", first, key, e.Value[0])
		}
		race(t, func(i int) error {
			_, err := b.Update(t.Context(), key, []byte{byte(i)}, e.Revision)
			return err
		}, ErrConflict)
		e = must[Entry](t)(b.Get(key))
		race(t, func(int) error {
			_, err := b.Delete(t.Context(), key, e.Revision)
			return err
		}, ErrNotFound)
	}
}

// race runs f sixteen times at once and returns which succeeded: one, and all
// others with the error lost.
func race(t *testing.T, f func(i int) error, lost error) int {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won >= 0:
			t.Fatalf("%d and %d both succeeded", won, i)
		case err == nil:
			won = i
		case !errors.Is(err, lost):
			t.Fatalf("%d: %v, want %v", i, err, lost)
		}
	}
	if won < 0 {
		t.Fatal("nobody succeeded")
	}
	return won
}

func TestBucketList(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	for _, key := range []string{"b/2", "a/1", "b/1", "c", "b/3", "b"} {
		must[uint64](t)(b.Create(t.Context(), key, []byte(key)))
	}
	keys := func(p Page) string {
		var names []string
		for _, e := range p.Entries {
			names = append(names, e.Key)
		}
		return strings.Join(names, " ")
	}
	all := must[Page](t)(b.List("", 0, ""))
	if got := keys(all); got != "a/1 b b/1 b/2 b/3 c" || all.Continue != "" || all.Revision != b.Revision() {
		t.Errorf("all: %q continue %q at %d", got, all.Continue, all.Revision)
	}
	p := must[Page](t)(b.List("b/", 2, ""))
	if got := keys(p); got != "b/1 b/2" || p.Continue == "" {
		t.Fatalf("first page: %q continue %q", got, p.Continue)
	}
	must[uint64](t)(b.Create(t.Context(), "b/4", nil))
	q := must[Page](t)(b.List("b/", 2, p.Continue))
	if got := keys(q); got != "b/3 b/4" || q.Continue != "" || q.Revision != p.Revision {
		t.Errorf("second page: %q continue %q at %d, want %d", got, q.Continue, q.Revision, p.Revision)
	}
	w := must[*Watcher](t)(b.Watch("b/", q.Revision))
	if ev := must[Event](t)(w.Next(t.Context())); ev.Key != "b/4" {
		t.Errorf("the list's revision leads to %q", ev.Key)
	}
	for _, cont := range []string{"!", "e30", p.Continue[1:]} {
		_, err := b.List("b/", 2, cont)
		is(t, err, ErrExpired)
	}
	_, err := b.List("a/", 2, p.Continue)
	is(t, err, ErrExpired)
}

// What was written is there after a restart, revisions and all.
func TestBucketReopened(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	kept := must[uint64](t)(b.Create(t.Context(), "kept", []byte("v")))
	gone := must[uint64](t)(b.Create(t.Context(), "gone", []byte("v")))
	last := must[uint64](t)(b.Delete(t.Context(), "gone", gone))
	shut(t, s)

	s = open(t, dir, Options{})
	if names := must[[]string](t)(s.Tenants()); len(names) != 1 || names[0] != "acme" {
		t.Errorf("tenants %q", names)
	}
	b = bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	if e := must[Entry](t)(b.Get("kept")); string(e.Value) != "v" || e.Revision != kept {
		t.Errorf("kept: %q at %d, want v at %d", e.Value, e.Revision, kept)
	}
	_, err := b.Get("gone")
	is(t, err, ErrNotFound)
	if b.Revision() != last {
		t.Errorf("revision %d, want %d", b.Revision(), last)
	}
	if again := must[uint64](t)(b.Create(t.Context(), "gone", nil)); again <= last {
		t.Errorf("revision %d after %d", again, last)
	}
}
