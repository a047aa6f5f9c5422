package flow

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"sfc/dataplane/packet"
)

// query makes a query of a UDP flow with a hash that somebody chose.
func query(src uint32, hash uint32) Query {
	q := Query{hash: hash, kind: Packet, at: 1000}
	q.key.setV4(endV4(src, 1), endV4(9, 2), lastWord(4, packet.ProtoUDP, 0))
	return q
}

// put looks a query up that is not there.
func (g *rig) put(q Query) Result {
	g.qs[0] = q
	g.t.Lookup(&g.qs, 1, &g.out)
	return g.out[0]
}

// forget ends every flow: its hash is made up, so Verify would complain.
func (g *rig) forget() {
	for slot := range g.t.top {
		if g.t.entries[slot].kind.live() {
			g.t.end(slot)
			g.t.count.Expired[UDP]++
		}
	}
}

// Keys with the very same hash: 16 fit, two buckets full, and each is found.
// What does not fit is refused, and nothing else suffers.
func TestEqualHashes(t *testing.T) {
	g := newRig(t, Options{Max: 4096})
	const hash = 0xdeadbeef
	made := map[uint32]uint32{}
	for src := range uint32(40) {
		if r := g.put(query(src, hash)); r.Status == Created {
			made[src] = r.Slot
		}
	}
	if len(made) != 2*bucketSize || sum(g.t.Counters().Refused) != 40-2*bucketSize {
		t.Errorf("%d keys of equal hash, %d refused", len(made), sum(g.t.Counters().Refused))
	}
	for src, slot := range made {
		if r := g.put(query(src, hash)); r.Status != Found || r.Slot != slot {
			t.Errorf("key %d: %v, slot %d, want %d", src, r.Status, r.Slot, slot)
		}
	}
	other := g.put(query(100, hash+1))
	g.want("another hash", other, Created, other.Slot, packet.FlagNewFlow)
	if err := g.t.verifyIndex(); err != nil {
		t.Error(err)
	}
	g.forget()
	if err := g.t.verifyIndex(); err != nil {
		t.Error(err)
	}
}

// Hashes found by brute force that share bucket and tag, but not all bits; and
// such that share only the bucket, so that keys move to make room.
func TestEqualTagsAndCrowdedBuckets(t *testing.T) {
	for _, sameTag := range []bool{true, false} {
		g := newRig(t, Options{Max: 4096})
		b0, tag0 := g.t.idx.place(1)
		var hashes []uint32
		for h := uint32(1); len(hashes) < 13; h++ {
			if b, tag := g.t.idx.place(h); b == b0 && (tag == tag0 || !sameTag) {
				hashes = append(hashes, h)
			}
		}
		// Fill the other buckets of all of them nearly up, so that there is
		// no room but by moving.
		src := uint32(1000)
		if !sameTag {
			for _, h := range hashes {
				_, tag := g.t.idx.place(h)
				o := g.t.idx.other(b0, tag)
				for v := uint32(1 << 20); ; v++ {
					if _, full := g.t.idx.buckets[o].free(); !full {
						break
					}
					if b, _ := g.t.idx.place(v); b == o {
						g.put(query(src, v))
						src++
					}
				}
			}
		}
		slots := map[int]uint32{}
		for i, h := range hashes {
			r := g.put(query(uint32(i), h))
			if r.Status != Created {
				t.Fatalf("same tag %v, hash %d of %d: %v", sameTag, i, len(hashes), r.Status)
			}
			slots[i] = r.Slot
			if err := g.t.verifyIndex(); err != nil {
				t.Fatal(err)
			}
		}
		for i, h := range hashes {
			if r := g.put(query(uint32(i), h)); r.Slot != slots[i] || r.Status != Found {
				t.Errorf("same tag %v, hash %d: %v", sameTag, i, r.Status)
			}
		}
		g.forget()
		if err := g.t.verifyIndex(); err != nil {
			t.Error(err)
		}
	}
}

// The densest index there is takes every key: sizes just below where the
// number of buckets doubles are three quarters full.
func TestFullIndexRefusesNobody(t *testing.T) {
	for _, n := range []uint32{12, 24, 48, 3072, 196_608} {
		g := newRig(t, Options{Max: n, Sparse: true, IdleFloor: MaxTimeout})
		rng := rand.New(rand.NewPCG(testSeed(t), 0))
		if load := float64(n) / float64(bucketSize*len(g.t.idx.buckets)); load != 0.75 {
			t.Fatalf("%d keys: load %.2f", n, load)
		}
		for src := range n {
			q := query(src, rng.Uint32())
			if r := g.put(q); r.Status != Created {
				t.Errorf("key %d of %d: %v", src, n, r.Status)
			}
			g.t.enter(g.out[0].Slot, Open)
		}
		spilled := 0
		for b := range g.t.idx.buckets {
			spilled += int(g.t.idx.buckets[b].spill)
		}
		t.Logf("%d keys: %d in their second bucket", n, spilled)
		// Keys come and go: some are moved on, some back home.
		for i := range min(4*n, 50_000) {
			g.t.end(rng.Uint32N(n))
			g.t.count.Expired[UDP]++
			g.drain()
			if r := g.put(query(n+i, rng.Uint32())); r.Status != Created {
				t.Fatalf("key %d after %d: %v", i, n, r.Status)
			}
			g.t.enter(g.out[0].Slot, Open)
		}
		if err := g.t.verifyIndex(); err != nil {
			t.Error(err)
		}
		g.forget()
	}
}

// Who does not know the secret cannot choose flows that fall into few buckets:
// tuples that differ as little as can be spread as random numbers do. The same
// for the hashes that one worker of many sees.
func TestHashesSpread(t *testing.T) {
	x := newIndex(make([]bucket, 1024))
	for name, hash := range map[string]func(i uint32) uint32{
		"ports in order":     func(i uint32) uint32 { return tupleHash(1, 2, uint16(i), 80, packet.ProtoTCP) },
		"addresses in order": func(i uint32) uint32 { return tupleHash(i, 2, 1000, 80, packet.ProtoTCP) },
		"far apart":          func(i uint32) uint32 { return tupleHash(i<<16, 2, 1000, 80, packet.ProtoTCP) },
		"echo identifiers":   func(i uint32) uint32 { return tupleHash(1, 2, uint16(i), uint16(i), packet.ProtoICMP) },
		"one ownership bucket": func(i uint32) uint32 {
			return tupleHash(1, 2, uint16(i), 80, packet.ProtoTCP)&^0xfff | 0x123
		},
	} {
		const n = 1 << 16
		count := make([]float64, 1024)
		for i := range uint32(n) {
			b, _ := x.place(hash(i))
			count[b]++
		}
		chi, mean := 0.0, float64(n)/1024
		for _, c := range count {
			chi += (c - mean) * (c - mean) / mean
		}
		// Chi-squared of 1023 degrees of freedom: 1023 +- 45; six sigma.
		if math.Abs(chi-1023) > 6*45.3 {
			t.Errorf("%s: chi-squared %.0f of 1023", name, chi)
		}
	}
}

func tupleHash(src, dst uint32, sport, dport uint16, proto uint8) uint32 {
	in := packet.Info{Flags: packet.FlagIPv4, Proto: proto, SrcPort: sport, DstPort: dport}
	binary.BigEndian.PutUint32(in.Src[:], src)
	binary.BigEndian.PutUint32(in.Dst[:], dst)
	return packet.FlowHash(secret, &in)
}

// Thousands of pings between two hosts are as many flows, and belong to as
// many ownership buckets as other flows.
func TestManyEchoesBetweenTwoHosts(t *testing.T) {
	g := newRig(t, Options{Max: 8192})
	for id := range uint16(5000) {
		r := g.one(&sent{src: 1, dst: 2, proto: packet.ProtoICMP, typ: 8, sport: id, dport: id})
		if r.Status != Created {
			t.Fatalf("echo %d: %v", id, r.Status)
		}
	}
	buckets := map[uint32]bool{}
	for slot := range uint32(5000) {
		buckets[mustOwner(t, g, slot)&1023] = true
	}
	if len(buckets) < 990 { // of 1024, about 8 stay empty
		t.Errorf("5000 pings between two hosts are in %d ownership buckets", len(buckets))
	}
}
