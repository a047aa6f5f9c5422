package bpf

import (
	"runtime"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// withPins is shared for two workers, with pins in chains 0 and 2.
func withPins(tb testing.TB) (*Steering, *steer.Owners, *steer.Pins) {
	tb.Helper()
	s, o := shared(tb, 2, true, false, true)
	pins, err := steer.NewPins(s.PinMemory())
	if err != nil {
		tb.Fatal(err)
	}
	return s, o, pins
}

// mustInsert gives a key a value that nobody disputes.
func mustInsert(tb testing.TB, p *steer.Pins, key, value uint64) {
	tb.Helper()
	if r := p.Insert(key, value); r != steer.PinOK {
		tb.Fatalf("insert %#x: %v", key, r)
	}
}

// A pinned tuple is steered by the bucket of the flow it belongs to, while it is
// pinned, for the chain it is pinned for; IPv4 and IPv6, both directions, and
// queries by identifier.
func TestPinsSteer(t *testing.T) {
	s, o, pins := withPins(t)
	table, placing := compile(t, fixtureRules), s.placing(pins)
	steered := func(frame []byte) uint16 {
		t.Helper()
		_, meta := agreeOn(t, s, table, placing, frame)
		return meta.Bucket
	}
	for name, c := range map[string]struct {
		frame []byte
		chain uint16
		pins  bool
	}{
		"udp4":           {dns4, 0, true},
		"tcp6":           {web6, 0, true},
		"sctp4":          {build(eth(0x0800), ip4(out4, 132, 0), sctp(9, 9)), 2, true},
		"ping4, no pins": {build(eth(0x0800), ip4(out4, 1, 0), query(8, 500)), 1, false},
		"a fragment":     {with(dns4, 20, 0x20, 0), 0, false},
	} {
		hash, own := flowOf(t, s, c.frame)
		if got := steered(c.frame); got != own {
			t.Errorf("%s: bucket %d before it is pinned, want %d", name, got, own)
		}
		key, to := steer.PinKey(hash, c.chain), own^341
		mustInsert(t, pins, steer.PinKey(hash, c.chain^1), steer.PinValue(7, c.chain^1, to))
		if got := steered(c.frame); got != own {
			t.Errorf("%s: bucket %d, pinned for another chain, want %d", name, got, own)
		}
		mustInsert(t, pins, key, steer.PinValue(0xffffffff, c.chain, to))
		want := own
		if c.pins {
			want = to
		}
		before := o.Sent(c.chain, to)
		if got := steered(c.frame); got != want {
			t.Errorf("%s: bucket %d when pinned, want %d", name, got, want)
		}
		if n := o.Sent(c.chain, to) - before; c.pins != (n == 1) {
			t.Errorf("%s: %d counted for the flow's bucket", name, n)
		}
		if !pins.Release(key) {
			t.Errorf("%s: nothing to release", name)
		}
		if got := steered(c.frame); got != own {
			t.Errorf("%s: bucket %d after release, want %d", name, got, own)
		}
		// A value of another chain is nobody's word about this one.
		mustInsert(t, pins, key, steer.PinValue(0, c.chain+1, to))
		if got := steered(c.frame); got != own {
			t.Errorf("%s: bucket %d by a value of another chain, want %d", name, got, own)
		}
	}
}

// Pins that found no room in their bucket are found in the next ones, as far as
// those go.
func TestPinsThatSpill(t *testing.T) {
	s, _, pins := withPins(t)
	table, placing := compile(t, fixtureRules), s.placing(pins)
	hash, own := flowOf(t, s, dns4)
	key, to := steer.PinKey(hash, 0), own^7
	_, meta := agreeOn(t, s, table, placing, dns4)
	if meta.Bucket != own {
		t.Fatalf("bucket %d", meta.Bucket)
	}
	others := uint64(0)
	for ; ; others++ { // entries in front of ours, one more each time
		r := pins.Insert(key, steer.PinValue(0, 0, to))
		if r == steer.PinFull {
			break
		}
		if r != steer.PinOK {
			t.Fatal(r)
		}
		if _, meta = agreeOn(t, s, table, placing, dns4); meta.Bucket != to {
			t.Errorf("behind %d others: bucket %d, want %d", others, meta.Bucket, to)
		}
		pins.Release(key)
		if _, meta = agreeOn(t, s, table, placing, dns4); meta.Bucket != own {
			t.Errorf("released, %d others: bucket %d, want %d", others, meta.Bucket, own)
		}
		mustInsert(t, pins, key^(others+1), steer.PinValue(0, 0, 1)) // the same high half: the same home
	}
	if others != 60 {
		t.Errorf("%d entries of one home, want 60", others)
	}
	if _, meta = agreeOn(t, s, table, placing, dns4); meta.Bucket != own {
		t.Errorf("full of others: bucket %d, want %d", meta.Bucket, own)
	}
}

// Kernel and Go agree on frames at random with many pins.
func TestPinsAgree(t *testing.T) {
	s, _, pins := withPins(t)
	table, placing := compile(t, fixtureRules), s.placing(pins)
	rng := seed(t)
	var from [][]byte
	for _, f := range fixtures {
		if f.want == claimed && len(f.in) < 200 {
			from = append(from, f.in)
		}
	}
	var keys []uint64
	hits := 0
	for range 20000 {
		frame := from[rng.IntN(len(from))]
		if rng.IntN(2) == 0 {
			frame = mutate(rng, frame)
		}
		_, meta := agreeOn(t, s, table, placing, frame)
		if meta == nil {
			continue
		}
		in, _ := packet.Parse(frame)
		at := placing.Place(meta.Path, &in)
		if meta.Bucket != steer.Bucket(meta.Hash) {
			hits++
		}
		if rng.IntN(4) == 0 && len(keys) < 14 {
			key := steer.PinKey(at.Hash, at.Row)
			if pins.Insert(key, steer.PinValue(1, at.Row, uint16(rng.IntN(steer.Buckets)))) == steer.PinOK {
				keys = append(keys, key)
			}
		} else if len(keys) > 0 && rng.IntN(40) == 0 {
			i := rng.IntN(len(keys))
			pins.Release(keys[i])
			keys[i] = keys[len(keys)-1]
			keys = keys[:len(keys)-1]
		}
	}
	if hits < 100 {
		t.Errorf("%d frames were steered by a pin", hits)
	}
}

// While pins come and go, a frame is steered by the one that is there or by its
// own bucket, and counted there: never anywhere else.
func TestPinsUnderWriters(t *testing.T) {
	s, o, pins := withPins(t)
	hash, own := flowOf(t, s, dns4)
	key := steer.PinKey(hash, 0)
	targets := []uint16{own ^ 1, own ^ 2, own ^ 3}
	const each = 1 << 20
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := s.ports[0].prog.Run(&ebpf.RunOptions{Data: dns4, Repeat: each}); err != nil {
			t.Error(err)
		}
	}()
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				// Neighbours of the same home push the key's entry around.
				other := key ^ uint64(1+w*8+i%6)
				pins.Insert(other, steer.PinValue(0, 0, own^500))
				if w == 0 {
					if r := pins.Insert(key, steer.PinValue(0, 0, targets[i%len(targets)])); r != steer.PinOK {
						t.Errorf("insert: %v", r)
					}
					runtime.Gosched()
					pins.Release(key)
				}
				pins.Release(other)
			}
		})
	}
	wg.Wait()
	counted := sent(o)
	total, pinned := uint64(0), uint64(0)
	for _, b := range append(targets, own) {
		n := counted[[2]uint16{0, b}]
		total += n
		if b != own {
			pinned += n
		}
		delete(counted, [2]uint16{0, b})
	}
	t.Logf("%d of %d frames by a pin", pinned, total)
	if total != each || len(counted) != 0 || pinned == 0 || pinned == total {
		t.Errorf("%d frames counted where they may be, want %d; elsewhere %v", total, each, counted)
	}
}

// With one worker pins are not looked at, and there is memory for them all the
// same; without chains that pin there is none.
func TestPinsAtTheEdges(t *testing.T) {
	s, _ := shared(t, 1, true)
	pins, err := steer.NewPins(s.PinMemory())
	if err != nil {
		t.Fatal(err)
	}
	hash, own := flowOf(t, s, dns4)
	mustInsert(t, pins, steer.PinKey(hash, 0), steer.PinValue(0, 0, own^1))
	if _, meta := agreeOn(t, s, compile(t, fixtureRules), s.placing(pins), dns4); meta.Bucket != own {
		t.Errorf("one worker: bucket %d, want %d", meta.Bucket, own)
	}
	if s, _ := shared(t, 2); s.PinMemory() != nil {
		t.Errorf("%d bytes for pins that nobody has", len(s.PinMemory()))
	}
}
