package store

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/testbed/gate"
)

// serving returns which server runs, so that a test sees whether it is another.
func serving(s *Store) any {
	s.engine.mu.RLock()
	defer s.engine.mu.RUnlock()
	return s.engine.srv
}

// settled waits until nobody is about to replace the server.
func settled(s *Store) {
	s.healing <- struct{}{}
	<-s.healing
}

// A server that is well is left alone, whoever suspects it.
func TestSuspicionIsNoReason(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	was := serving(s)
	for range 3 {
		s.heal()
		settled(s)
	}
	if serving(s) != was {
		t.Error("the server was started anew and nothing ailed it")
	}
}

// Writes to a tenant that goes away at that moment fail, and nobody else notices.
func TestWritesToTenantThatGoes(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	other := bucket(t, tenant(t, s, "other", Limits{}), "desired")
	was := serving(s)
	for round := range 5 {
		b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					if _, err := b.Create(t.Context(), fmt.Sprintf("k/%d/%d", w, i), nil); err != nil {
						return
					}
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		if err := s.Remove(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		must[uint64](t)(other.Create(t.Context(), fmt.Sprint(round), nil))
		wg.Wait()
	}
	settled(s)
	if serving(s) != was {
		t.Error("the server was started anew because a tenant went")
	}
}

// Many writers on a machine that is busy wait longer, and that is all: slowness
// is no failed write.
func TestWritersOnBusyMachine(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	was := serving(s)
	var stop atomic.Bool
	var busy, writers sync.WaitGroup
	for range 16 * runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for !stop.Load() {
			}
		})
	}
	end := time.Now().Add(time.Second)
	var wrote atomic.Int64
	for w := range 48 {
		writers.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				if _, err := b.Create(t.Context(), fmt.Sprintf("k/%d/%d", w, i), []byte("v")); err != nil {
					t.Error(err)
					return
				}
				wrote.Add(1)
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	busy.Wait()
	settled(s)
	if serving(s) != was {
		t.Error("the server was started anew because the machine was busy")
	}
	t.Logf("%d writes", wrote.Load())
}

// Closing waits for what is being made, also when nobody wants it any more: the
// server would leave files and goroutines of it behind.
func TestCloseWhileOpening(t *testing.T) {
	gate.Leaks(t)
	for i := range 20 {
		s := open(t, t.TempDir(), Options{})
		sp := tenant(t, s, "acme", Limits{})
		ctx, cancel := context.WithCancel(t.Context())
		begun, opened := make(chan struct{}), make(chan error, 1)
		go func() {
			close(begun)
			_, err := sp.Bucket(ctx, "desired")
			opened <- err
		}()
		<-begun
		time.Sleep(time.Duration(i*i) * 20 * time.Microsecond)
		cancel()
		shut(t, s)
		<-opened // either way is right
	}
}
