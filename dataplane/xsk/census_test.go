package xsk

import (
	"sync/atomic"
	"testing"
	"time"
)

// Frames go on arriving while the engine stops: the account is right at any
// moment, though no two looks at a ring see the same.
func TestVerifyWhileFramesArrive(t *testing.T) {
	umem := newUMEM(t, 4096)
	first, k := play(t, umem, Options{RingSize: 2048, FillTarget: 2048})
	_, other := playOn(t, umem, k.playedQueue, umem.depot.Pool(), Options{RingSize: 2048, FillTarget: 2048})
	first.Refill()
	var stop atomic.Bool
	done := make(chan int)
	go func() {
		n := 0
		for ; !stop.Load() && n < 2000; n += k.receive(1, 60) + other.receive(1, 60) {
			time.Sleep(time.Microsecond)
		}
		done <- n
	}()
	for i := range 2000 {
		if err := umem.Verify(0); err != nil {
			t.Errorf("time %d: %v", i, err)
			break
		}
	}
	stop.Store(true)
	if n := <-done; n == 0 {
		t.Error("no frame arrived")
	}
}
