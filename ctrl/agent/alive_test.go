package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sfc/testbed/gate"
)

// Workers that sleep are woken and count; one that is stuck is named; none are
// alive that have ended.
func TestPlaneAlive(t *testing.T) {
	gate.Leaks(t)
	r := openRig(t, PlaneOptions{Workers: 2})
	time.Sleep(10 * time.Millisecond) // they sleep
	within := func(d time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		return r.Alive(ctx)
	}
	if err := within(5 * time.Second); err != nil {
		t.Error(err)
	}
	free := make(chan struct{})
	held := make(chan struct{})
	go func() {
		_, _ = r.workers[1].run.Do(func() { close(held); <-free }) // freed below
	}()
	<-held
	if err := within(50 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "workers [1] take no turns") {
		t.Errorf("worker 1 is stuck: %v", err)
	}
	close(free)
	if err := within(5 * time.Second); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := within(time.Second); err == nil {
		t.Error("a closed one is alive")
	}
}
