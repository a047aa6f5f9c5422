package steer

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// Who owns what survives, with the counts; what no worker can own is dealt out
// anew, and so is a single chain when it begins.
func TestOpenOwners(t *testing.T) {
	mem := make([]byte, OwnersSize(3))
	first, err := NewOwners(mem, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	first.Flip(0, 7, 3)
	first.Take(0, 7)
	first.Flip(1, 9, 2)
	first.Flip(2, 5, 3)
	first.Take(first.Odd(), 1)

	o, mended, err := OpenOwners(mem, 3, 4)
	if err != nil || mended != 0 {
		t.Fatal(mended, err)
	}
	if o.Owner(0, 7) != 3 || o.Sent(0, 7) != 1 || o.Owner(1, 9) != 2 || o.Owner(2, 5) != 3 || o.Sent(o.Odd(), 1) != 0 {
		t.Error("it is not as it was")
	}
	o.Deal(2)
	if o.Owner(2, 5) != 1 || o.Owner(1, 9) != 2 {
		t.Error("one chain dealt out anew")
	}

	// With fewer workers, and a word that nobody wrote.
	first.word(1, 3).Store(0xffff_ffff_ffff_ffff)
	o, mended, err = OpenOwners(mem, 3, 3)
	if want := 3 * Buckets / 4; err != nil || mended != want {
		t.Fatal(mended, want, err)
	}
	for chain := uint16(0); chain <= o.Odd(); chain++ {
		for b := uint16(0); b < Buckets; b++ {
			if w := o.Owner(chain, b); w >= 3 || chain == o.Odd() && w != int(b)%3 {
				t.Fatalf("chain %d bucket %d: owner %d", chain, b, w)
			}
		}
	}
	if _, _, err := OpenOwners(mem[8:], 3, 3); err == nil {
		t.Error("memory of another size")
	}
}

// What a process held, the next one finds; what it holds again stays, the rest
// goes.
func TestOpenPins(t *testing.T) {
	mem := make([]byte, PinsSize(100))
	first, err := NewPins(mem)
	if err != nil {
		t.Fatal(err)
	}
	for k := range uint64(60) {
		first.Insert(spread(k), k)
	}
	p, dropped, err := OpenPins(mem)
	if err != nil || dropped != 0 {
		t.Fatal(dropped, err)
	}
	share := p.Share(35)
	for k := range uint64(10) {
		if !share.Hold(spread(k)) || !share.Hold(spread(k)) {
			t.Fatalf("key %d is not there", k)
		}
		if s := share.Add(spread(10+k), 10+k); s != PinOK {
			t.Fatalf("key %d: %v", 10+k, s)
		}
		if s := share.Insert(spread(20+k), 99); s != PinTaken {
			t.Fatalf("key %d with another value: %v", 20+k, s)
		}
		if s := share.Insert(spread(20+k), 20+k); s != PinOK {
			t.Fatalf("key %d: %v", 20+k, s)
		}
	}
	if share.Hold(spread(1000)) {
		t.Error("held what is not there")
	}
	if s := share.Add(spread(10), 3); s != PinTaken {
		t.Errorf("a key that is held again: %v", s)
	}
	for k := range uint64(5) {
		share.Hold(spread(30 + k))
	}
	if share.Hold(spread(40)) || share.Insert(spread(41), 41) != PinFull || share.Live() != 35 {
		t.Errorf("%d live through a share of 35", share.Live())
	}
	if n := p.Sweep(); n != 25 {
		t.Errorf("%d freed", n)
	}
	verify(t, p, 35)
	for k := range uint64(60) {
		v, ok := p.Lookup(spread(k))
		if ok != (k < 35) || ok && v != k {
			t.Errorf("key %d: %d, %v", k, v, ok)
		}
	}
	for k := range uint64(35) {
		if k < 10 {
			share.Release(spread(k))
		}
		share.Release(spread(k))
	}
	verify(t, p, 0)
	if share.Live() != 0 {
		t.Errorf("%d live", share.Live())
	}
}

func spread(k uint64) uint64 { return (k + 1) * 0x9e3779b97f4a7c15 }

// Whatever words are changed in the memory, the table is sound, and what was not
// touched is there.
func TestOpenPinsTorn(t *testing.T) {
	made := make([]byte, PinsSize(100))
	first, err := NewPins(made)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 5))
	for range 100 {
		first.Insert(r.Uint64N(4)<<62|r.Uint64N(1<<40), 1)
	}
	rapid.Check(t, func(rt *rapid.T) {
		mem := bytes.Clone(made)
		for range rapid.IntRange(0, 20).Draw(rt, "words") {
			at := rapid.IntRange(0, len(mem)/8-1).Draw(rt, "at") * 8
			copy(mem[at:at+8], rapid.SampledFrom([][]byte{
				{}, make([]byte, 8), {1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mem[128:136], mem[8:16], {0, 0, 0, 0, 7},
			}).Draw(rt, "word"))
		}
		p, _, err := OpenPins(mem)
		if err != nil {
			rt.Fatal(err)
		}
		held := 0
		for i := range p.buckets {
			for k := range p.buckets[i].e {
				key := p.buckets[i].e[k].key.Load()
				if key == 0 || rapid.Bool().Draw(rt, "forgotten") {
					continue
				}
				if !p.Hold(key) {
					rt.Fatalf("key %#x lies there and cannot be held", key)
				}
				held++
			}
		}
		p.Sweep()
		verify(rt, p, held)
	})
}
