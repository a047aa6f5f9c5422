package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/nats-io/nats.go/jetstream"
)

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func modules(tb testing.TB, sp *Space) *Modules {
	tb.Helper()
	m, err := sp.Modules(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func put(tb testing.TB, m *Modules, b []byte) Module {
	tb.Helper()
	mod, err := m.Put(tb.Context(), bytes.NewReader(b), PutOptions{MaxSize: 64 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	return mod
}

// uploads returns how many uploads have chunks in the store.
func uploads(t *testing.T, m *Modules) int {
	t.Helper()
	s, err := m.subjects(t.Context(), chunkSubjects+">")
	if err != nil {
		t.Fatal(err)
	}
	return len(s)
}

func TestModulesRoundTrip(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	sp := tenant(t, s, "acme", Limits{})
	m := modules(t, sp)
	for i, size := range []int{0, 1, 100 << 10, chunkSize - 1, chunkSize, chunkSize + 1, 3 * chunkSize, 5<<20 + 7} {
		want := content(i, size)[:size]
		mod := put(t, m, want)
		if mod.Digest != digestOf(want) || mod.Size != int64(size) {
			t.Errorf("%d bytes: stored as %+v", size, mod)
		}
		got := must[[]byte](t)(m.Get(t.Context(), mod.Digest))
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d others", size, len(got))
		}
		again := put(t, m, want)
		if again != mod {
			t.Errorf("%d bytes: stored again as %+v, was %+v", size, again, mod)
		}
		if have := must[Module](t)(m.Stat(t.Context(), mod.Digest)); have != mod {
			t.Errorf("%d bytes: stat %+v, want %+v", size, have, mod)
		}
		theirs := must[[]byte](t)(must[jetstream.ObjectStore](t)(sp.js.ObjectStore(t.Context(), modulesName)).GetBytes(t.Context(), mod.Digest))
		if !bytes.Equal(theirs, want) {
			t.Errorf("%d bytes: the object store's own client got %d others", size, len(theirs))
		}
	}
	if list := must[[]Module](t)(m.List(t.Context())); len(list) != 8 {
		t.Errorf("%d modules are listed", len(list))
	}
	if n := uploads(t, m); n != 7 {
		t.Errorf("chunks of %d uploads, want 7: what was stored before is not stored again", n)
	}
}

func TestModulesRefuse(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	m := modules(t, tenant(t, s, "acme", Limits{}))
	big := content(1, 3*chunkSize)
	wrong := digestOf([]byte("something else"))
	cause := errors.New("the line broke")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		r    io.Reader
		o    PutOptions
		want error
	}{
		{"too large", t.Context(), bytes.NewReader(big), PutOptions{MaxSize: int64(len(big)) - 1}, ErrTooLarge},
		{"endless", t.Context(), endless{}, PutOptions{MaxSize: 2 << 20}, ErrTooLarge},
		{"other digest", t.Context(), bytes.NewReader(big), PutOptions{MaxSize: 1 << 30, Digest: wrong}, ErrDigest},
		{"bad digest", t.Context(), bytes.NewReader(big), PutOptions{MaxSize: 1 << 30, Digest: "../../etc"}, ErrName},
		{"broken", t.Context(), io.MultiReader(bytes.NewReader(big), iotest.ErrReader(cause)), PutOptions{MaxSize: 1 << 30}, cause},
		{"cancelled", cancelled, bytes.NewReader(big), PutOptions{MaxSize: 1 << 30}, context.Canceled},
	}
	for _, tt := range tests {
		_, err := m.Put(tt.ctx, tt.r, tt.o)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if list := must[[]Module](t)(m.List(t.Context())); len(list) != 0 {
			t.Errorf("%s: %v is listed", tt.name, list)
		}
		if n := uploads(t, m); n != 0 {
			t.Errorf("%s: chunks of %d uploads are left", tt.name, n)
		}
	}
	if _, err := m.Put(t.Context(), bytes.NewReader(big), PutOptions{}); err == nil {
		t.Error("a module is put without a limit")
	}
	mod := put(t, m, big)
	// Known content is compared.
	same := must[Module](t)(m.Put(t.Context(), bytes.NewReader(big), PutOptions{MaxSize: 1 << 30, Digest: mod.Digest}))
	if same != mod {
		t.Errorf("put again: %+v, want %+v", same, mod)
	}
	_, err := m.Put(t.Context(), bytes.NewReader(big[1:]), PutOptions{MaxSize: 1 << 30, Digest: mod.Digest})
	is(t, err, ErrDigest)
	_, err = m.Put(t.Context(), endless{}, PutOptions{MaxSize: 1 << 20, Digest: mod.Digest})
	is(t, err, ErrTooLarge)
	for _, digest := range []string{wrong, "", mod.Digest[1:], "*"} {
		if _, err := m.Get(t.Context(), digest); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrName) {
			t.Errorf("get %q: %v", digest, err)
		}
	}
	is(t, m.Delete(t.Context(), wrong), ErrNotFound)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Many who put the same content at once all succeed, and one copy is kept.
func TestModulesPutAtOnce(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	sp := tenant(t, s, "acme", Limits{Objects: 1})
	m := modules(t, sp)
	want := content(1, chunkSize+100)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			mod, err := m.Put(t.Context(), bytes.NewReader(want), PutOptions{MaxSize: 1 << 30})
			if err != nil || mod.Digest != digestOf(want) {
				t.Errorf("%+v, %v", mod, err)
			}
		})
	}
	wg.Wait()
	if n := uploads(t, m); n != 1 {
		t.Errorf("chunks of %d uploads", n)
	}
	if u := sp.Usage(); u.Objects != 1 {
		t.Errorf("%d objects are counted", u.Objects)
	}
	if got := must[[]byte](t)(m.Get(t.Context(), digestOf(want))); !bytes.Equal(got, want) {
		t.Error("it is not what was put")
	}
}

func TestModulesDeletedWhileRead(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	m := modules(t, tenant(t, s, "acme", Limits{}))
	mod := put(t, m, content(1, 3*chunkSize))
	r, _, err := m.Open(t.Context(), mod.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, chunkSize)); err != nil {
		t.Fatal(err)
	}
	if err := m.Delete(t.Context(), mod.Digest); err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, r)
	is(t, err, ErrNotFound)
	if n := uploads(t, m); n != 0 {
		t.Errorf("chunks of %d uploads are left", n)
	}
}

// Content goes when it was unused for a whole round, and not before.
func TestModulesCollect(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	m := modules(t, tenant(t, s, "acme", Limits{}))
	used := put(t, m, []byte("used"))
	idle := put(t, m, []byte("idle"))
	again := put(t, m, []byte("put again"))
	collect := func() string {
		removed, err := m.Collect(t.Context(), func(d string) bool { return d == used.Digest })
		if err != nil {
			t.Fatal(err)
		}
		names := ""
		for _, mod := range removed {
			names += fmt.Sprint(mod.Digest == idle.Digest, mod.Digest == again.Digest)
		}
		return names
	}
	if got := collect(); got != "" {
		t.Errorf("the first round removed %s", got)
	}
	put(t, m, []byte("put again"))
	if got := collect(); got != "true false" {
		t.Errorf("the second round removed %q", got)
	}
	if got := collect(); got != "false true" {
		t.Errorf("the third round removed %q", got)
	}
	must[Module](t)(m.Stat(t.Context(), used.Digest))
}

// A process that dies while it deletes a module has either deleted it or not: what
// is marked as deleted is overwritten before marks can get lost.
func TestModulesBuried(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	m := modules(t, tenant(t, s, "acme", Limits{}))
	mod, kept := put(t, m, content(1, 1000)), put(t, m, content(2, 1000))
	if err := m.stream.DeleteMsg(t.Context(), mod.Revision); err != nil { // marks only
		t.Fatal(err)
	}
	shut(t, s)
	s = open(t, dir, Options{})
	m = modules(t, tenant(t, s, "acme", Limits{}))
	_, err := m.Stat(t.Context(), mod.Digest)
	is(t, err, ErrNotFound)
	must[[]byte](t)(m.Get(t.Context(), kept.Digest))
	shut(t, s)
	e := examination{dir: dir, account: tenantPrefix + "acme", stream: modulesStream}
	files, err := e.blockFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b := must[*block](t)(parseBlock(e.stream, f.n, must[[]byte](t)(os.ReadFile(f.path))))
		for _, r := range b.records {
			if r.seq == mod.Revision {
				t.Errorf("the message is still in %s", f.path)
			}
		}
	}
}
