package xsk

import (
	"testing"

	"sfc/dataplane/packet"
)

// The kernel shows received frames before it shows which descriptors of the
// fill ring it took for them: xsk_flush in net/xdp/xsk.c.
func TestFullFillRingLosesNoChunk(t *testing.T) {
	umem := newUMEM(t, 512)
	xsk, k := play(t, umem, Options{RingSize: 64, FillRing: 64, FillTarget: 64})
	xsk.Refill()
	shown := k.fill.consumer.Load()
	if n := k.receive(40, 60); n != 40 {
		t.Fatalf("%d frames received", n)
	}
	k.fill.consumer.Store(shown + 10)
	var f [packet.BurstSize]packet.Frame
	if n := xsk.Receive(f[:]); n != 40 {
		t.Fatalf("received %d frames", n)
	}
	xsk.Refill()
	if n := k.fillLeft(); n != 34 {
		t.Errorf("%d chunks to receive into, want 34: 10 descriptors were free", n)
	}
	k.fill.consumer.Store(k.fillCons)
	xsk.Refill()
	if n := k.fillLeft(); n != 64 {
		t.Errorf("%d chunks to receive into, want 64", n)
	}
	account(t, umem, 40)
	for _, fr := range f[:40] {
		umem.pool.Put(fr.Chunk)
	}
}
