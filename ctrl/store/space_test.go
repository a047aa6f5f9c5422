package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Tenants see nothing of each other, not even at the server's own door.
func TestSpacesAreApart(t *testing.T) {
	s := open(t, t.TempDir(), Options{Listen: "127.0.0.1:0"})
	acme, other := tenant(t, s, "acme", Limits{}), tenant(t, s, "other", Limits{})
	system := must[*Space](t)(s.System(t.Context()))
	for _, sp := range []*Space{acme, other, system} {
		must[uint64](t)(bucket(t, sp, "desired").Create(t.Context(), "k", []byte(sp.Name())))
		put(t, modules(t, sp), []byte(sp.Name()))
	}
	for _, sp := range []*Space{acme, other, system} {
		if e := must[Entry](t)(bucket(t, sp, "desired").Get("k")); string(e.Value) != sp.Name() {
			t.Errorf("%s reads %q", sp.Name(), e.Value)
		}
	}
	_, err := modules(t, acme).Get(t.Context(), digestOf([]byte("other")))
	is(t, err, ErrNotFound)

	url, user, password := s.Access(acme)
	nc := must[*nats.Conn](t)(nats.Connect(url, nats.UserInfo(user, password)))
	defer nc.Close()
	js := must[jetstream.JetStream](t)(jetstream.New(nc))
	kv := must[jetstream.KeyValue](t)(js.KeyValue(t.Context(), "desired"))
	if e := must[jetstream.KeyValueEntry](t)(kv.Get(t.Context(), "k")); string(e.Value()) != "acme" {
		t.Errorf("a tool that is acme's reads %q", e.Value())
	}
	for _, o := range [][]nats.Option{
		nil, {nats.UserInfo(user, "guess")}, {nats.UserInfo("", password)}, {nats.UserInfo("$SYS", password)}, {nats.UserInfo("T_nobody", password)},
	} {
		if nc, err := nats.Connect(url, o...); err == nil {
			nc.Close()
			t.Errorf("the server lets anybody in")
		}
	}
}

func TestLimits(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	sp := tenant(t, s, "acme", Limits{Objects: 3, Bytes: 100_000})
	b, m := bucket(t, sp, "desired"), modules(t, sp)
	first := must[uint64](t)(b.Create(t.Context(), "1", nil))
	must[uint64](t)(bucket(t, sp, "observed").Create(t.Context(), "1", nil))
	mod := put(t, m, []byte("module"))
	if u := sp.Usage(); u.Objects != 3 || u.Bytes == 0 {
		t.Errorf("usage %+v", u)
	}
	_, err := b.Create(t.Context(), "2", nil)
	var q *QuotaError
	if !errors.As(err, &q) || q.Resource != "objects" || q.Limit != 3 || q.Used != 3 {
		t.Errorf("a fourth object: %v", err)
	}
	_, err = m.Put(t.Context(), strings.NewReader("another"), PutOptions{MaxSize: 100})
	is(t, err, ErrQuota)
	put(t, m, []byte("module")) // is there already
	must[uint64](t)(b.Delete(t.Context(), "1", first))
	second := must[uint64](t)(b.Create(t.Context(), "2", bytes.Repeat([]byte("x"), 80_000)))
	_, err = b.Update(t.Context(), "2", bytes.Repeat([]byte("x"), 110_000), second)
	if !errors.As(err, &q) || q.Resource != "bytes" || q.Limit != 100_000 {
		t.Errorf("too many bytes: %v", err)
	}
	if err := m.Delete(t.Context(), mod.Digest); err != nil {
		t.Fatal(err)
	}
	_, err = m.Put(t.Context(), bytes.NewReader(make([]byte, 50_000)), PutOptions{MaxSize: 1 << 20})
	is(t, err, ErrQuota)
	second = must[uint64](t)(b.Update(t.Context(), "2", nil, second))
	put(t, m, make([]byte, 50_000))

	if err := sp.SetLimits(Limits{Objects: 1}); err != nil {
		t.Fatal(err)
	}
	_, err = b.Create(t.Context(), "3", nil)
	is(t, err, ErrQuota)
	must[uint64](t)(b.Update(t.Context(), "2", []byte("still"), second))
	if err := sp.SetLimits(Limits{Objects: -1}); err == nil {
		t.Error("a negative limit is taken")
	}
	must[uint64](t)(bucket(t, tenant(t, s, "other", Limits{}), "desired").Create(t.Context(), "1", nil))
}

// Many at once do not pass a limit, and reach it.
func TestLimitExact(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	sp := tenant(t, s, "acme", Limits{Objects: 10})
	b := bucket(t, sp, "desired")
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			_, err := b.Create(t.Context(), fmt.Sprint(i%20), nil)
			switch {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, ErrQuota) && !errors.Is(err, ErrExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p := must[Page](t)(b.List("", 0, ""))
	if len(p.Entries) != int(made.Load()) || made.Load() > 10 || sp.Usage().Objects != len(p.Entries) {
		t.Errorf("%d made, %d listed, %d counted, 10 allowed", made.Load(), len(p.Entries), sp.Usage().Objects)
	}
	for i := 0; sp.Usage().Objects < 10; i++ {
		must[uint64](t)(b.Create(t.Context(), fmt.Sprint("more", i), nil))
	}
	_, err := b.Create(t.Context(), "eleventh", nil)
	is(t, err, ErrQuota)
}

func TestRemoveTenant(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{Objects: 1}), "desired")
	must[uint64](t)(b.Create(t.Context(), "k", nil))
	must[uint64](t)(bucket(t, tenant(t, s, "other", Limits{}), "desired").Create(t.Context(), "k", nil))
	if err := s.Remove(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	is(t, s.Remove(t.Context(), "acme"), ErrNotFound)
	_, err := b.Create(t.Context(), "again", nil)
	is(t, err, ErrClosed)
	again := bucket(t, tenant(t, s, "acme", Limits{Objects: 1}), "desired")
	_, err = again.Get("k")
	is(t, err, ErrNotFound)
	must[uint64](t)(again.Create(t.Context(), "new", nil))
	if names := must[[]string](t)(s.Tenants()); strings.Join(names, " ") != "acme other" {
		t.Errorf("tenants %q", names)
	}
	// One that died in the middle of it.
	shut(t, s)
	half := filepath.Join(dir, engineDir, removedPrefix+tenantPrefix+"third", "streams")
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	if _, err := os.Stat(filepath.Dir(half)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was being removed is still there: %v", err)
	}
	must[Entry](t)(bucket(t, tenant(t, s, "acme", Limits{}), "desired").Get("new"))
}
