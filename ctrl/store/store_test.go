package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/testbed/gate"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
		return
	}
	os.Exit(gate.Main(m))
}

// open opens a store that is closed when the test ends.
func open(tb testing.TB, dir string, o Options) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), dir, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { shut(tb, s) })
	return s
}

func shut(tb testing.TB, s *Store) {
	tb.Helper()
	if err := s.Close(context.Background()); err != nil {
		tb.Error(err)
	}
}

// tenant opens the space of a tenant.
func tenant(tb testing.TB, s *Store, name string, l Limits) *Space {
	tb.Helper()
	sp, err := s.Tenant(tb.Context(), name, l)
	if err != nil {
		tb.Fatal(err)
	}
	return sp
}

func bucket(tb testing.TB, sp *Space, name string) *Bucket {
	tb.Helper()
	b, err := sp.Bucket(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// must unwraps what must not fail.
func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// is fails the test unless err is want.
func is(tb testing.TB, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("error is %v, want %v", err, want)
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "store")
	s := open(t, dir, Options{})
	bucket(t, must[*Space](t)(s.System(t.Context())), "desired")
	for _, path := range []string{dir, filepath.Join(dir, engineDir)} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, want 0700", path, info.Mode().Perm())
		}
	}
}

func TestNothingListens(t *testing.T) {
	quiet := open(t, t.TempDir(), Options{})
	if url, _, _ := quiet.Access(must[*Space](t)(quiet.System(t.Context()))); url != "" {
		t.Errorf("the store listens on %s without being asked", url)
	}
	for _, address := range []string{"0.0.0.0:0", "192.0.2.1:4222", "[::]:0", "example.invalid"} {
		if _, err := Open(t.Context(), t.TempDir(), Options{Listen: address}); err == nil {
			t.Errorf("listening on %s is allowed", address)
		}
	}
}

func TestCloseTwiceAndAfterwards(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	w := must[*Watcher](t)(b.Watch("", b.Revision()))
	ended := make(chan error, 1)
	go func() {
		_, err := w.Next(context.Background())
		ended <- err
	}()
	begin := time.Now()
	shut(t, s)
	shut(t, s)
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("closing took %v", took)
	}
	is(t, <-ended, ErrClosed)
	_, err := b.Create(t.Context(), "k", nil)
	is(t, err, ErrClosed)
	_, err = s.Tenant(t.Context(), "acme", Limits{})
	is(t, err, ErrClosed)
	is(t, s.Remove(t.Context(), "acme"), ErrClosed)
}

// What SIGKILL cannot show, since the kernel lives on: every write is synced.
func TestServerSyncsAlways(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	if c := s.engine.srv.JetStreamConfig(); c == nil || !c.SyncAlways {
		t.Errorf("the server's configuration is %+v", c)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{MaxValue: -1}, {MaxValue: 33 << 20}, {MinFree: -1}, {Events: -1}, {Events: 1<<20 + 1}, {Timeout: -1}} {
		if _, err := Open(t.Context(), t.TempDir(), o); err == nil || !strings.Contains(err.Error(), "store option") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
