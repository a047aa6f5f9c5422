package steer

import (
	"sync"
	"testing"
)

func TestOwnersDealOut(t *testing.T) {
	o, err := NewOwners(make([]byte, OwnersSize(2)), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	for chain := uint16(0); chain <= o.Odd(); chain++ {
		for b := uint16(0); b < Buckets; b++ {
			if got, want := o.Owner(chain, b), int(b)%3; got != want {
				t.Fatalf("chain %d bucket %d: owner %d, want %d", chain, b, got, want)
			}
		}
	}
}

func TestOwnersRefusals(t *testing.T) {
	for _, c := range []struct{ size, chains, workers int }{
		{OwnersSize(1), 1, 0}, {OwnersSize(1), 1, MaxWorkers + 1}, {OwnersSize(1) - 8, 1, 1}, {OwnersSize(2), 1, 1},
	} {
		if _, err := NewOwners(make([]byte, c.size), c.chains, c.workers); err == nil {
			t.Errorf("%d bytes, %d chains, %d workers: no error", c.size, c.chains, c.workers)
		}
	}
	if _, err := NewOwners(make([]byte, OwnersSize(1)+1)[1:], 1, 1); err == nil {
		t.Error("unaligned memory: no error")
	}
}

// TestFlipCountsExactly sends from several goroutines while the owner changes:
// what each owner was sent, as told by those who sent, is what Flip returns.
func TestFlipCountsExactly(t *testing.T) {
	const workers, senders, packets = 4, 4, 20_000
	o, err := NewOwners(make([]byte, OwnersSize(1)), 1, workers)
	if err != nil {
		t.Fatal(err)
	}
	var sent [senders][workers]uint64
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for range packets {
				sent[s][o.Take(0, 17)]++
			}
		})
	}
	var flipped [workers]uint64
	for i := range 1000 {
		from := o.Owner(0, 17)
		flipped[from] += o.Flip(0, 17, i%workers)
	}
	wg.Wait()
	flipped[o.Owner(0, 17)] += o.Sent(0, 17)
	for w := range workers {
		var want uint64
		for s := range senders {
			want += sent[s][w]
		}
		if flipped[w] != want {
			t.Errorf("worker %d: flips say %d packets, senders %d", w, flipped[w], want)
		}
	}
}
