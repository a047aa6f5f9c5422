package abuse

import (
	"math/rand/v2"
	"testing"

	"sfc/dataplane/packet"
)

// shards makes fragments that a host would never get to see whole.
type shards struct {
	rnd *rand.Rand
	buf [maxData]byte
}

// maxEarly is how many fragments a worker holds whose first one it has not
// seen, as in package dataplane.
const maxEarly = 256

func (s *shards) ends() (src, dst uint32) {
	return 10<<24 | 1<<23 | s.rnd.Uint32()>>9, 198<<24 | 51<<16 | 100<<8 | s.rnd.Uint32()&0xff
}

// later sends a fragment whose first one never comes.
func (s *shards) later(b *bed) {
	src, dst := s.ends()
	at := 8 * (1 + s.rnd.IntN(100))
	b.offer(portIn, fragment(s.buf[:], packet.ProtoUDP, src, dst, uint16(s.rnd.Uint32()), at, s.rnd.IntN(2) == 0, 64, nil), attack, 0)
}

// first sends a first fragment whose others never come.
func (s *shards) first(b *bed) {
	src, dst := s.ends()
	h := []byte{byte(s.rnd.Uint32()), 7, 0, 53, 4, 0, 0, 0}
	b.offer(portIn, fragment(s.buf[:], packet.ProtoUDP, src, dst, uint16(s.rnd.Uint32()), 0, true, 64, h), attack, 0)
}

// tiny sends first fragments that do not hold a transport header, later ones
// that lie inside it or over each other, and such as reach beyond 64 KiB.
func (s *shards) tiny(b *bed) {
	src, dst := s.ends()
	id := uint16(s.rnd.Uint32()) & 15 // so that many are of the same packet
	src, proto := src&^0x7fffff|1, []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP}[s.rnd.IntN(3)]
	at, more := 8*s.rnd.IntN(4), s.rnd.IntN(4) > 0
	if s.rnd.IntN(8) == 0 {
		at = 65528
	}
	h := make([]byte, 24)
	for i := range h {
		h[i] = byte(s.rnd.Uint32())
	}
	size := 8 * s.rnd.IntN(4)
	b.offer(portIn, fragment(s.buf[:], proto, src, dst&^0xff, id, at, more, size, h), attack, 0)
}

// whole sends a datagram of an honest client in two fragments, in order.
func (s *shards) whole(b *bed, id uint16) {
	src, dst := uint32(10<<24|9), uint32(198<<24|51<<16|100<<8|7)
	h := []byte{0x30, 0x39, 0, 53, 0, 136, 0, 0}
	b.offer(portIn, fragment(s.buf[:], packet.ProtoUDP, src, dst, id, 0, true, 64, h), others, 0)
	b.offer(portIn, fragment(s.buf[:], packet.ProtoUDP, src, dst, id, 64, false, 72, nil), others, 0)
}

// TestFragmentFlood sends fragments that never become whole: what they hold up
// is bounded, and neither established connections nor datagrams whose fragments
// come in order lose anything.
func TestFragmentFlood(t *testing.T) {
	const packets = 120_000
	for _, o := range []struct {
		name    string
		workers int
		send    func(*shards, *bed)
	}{
		{"first ones never come", 1, (*shards).later},
		{"others never come", 1, (*shards).first},
		{"tiny and overlapping", 1, (*shards).tiny},
		{"first ones never come, two workers, flows move", 2, (*shards).later},
		{"others never come, two workers, flows move", 2, (*shards).first},
	} {
		t.Run(o.name, func(t *testing.T) {
			b := newBed(t, bedOptions{chain: stateful(t, 16384), workers: o.workers, packets: 3 * packets})
			rnd := rand.New(rand.NewPCG(7, 8))
			c := newCrowd(b, crowdSize)
			s := &shards{rnd: rnd}
			b.cost()
			begun := flowsOf(b.e)
			var trouble *trouble
			if o.workers > 1 {
				trouble = stir(b, hopFirewall, hopNAT)
			}
			wholes := 0
			mix(c, packets, 70, rnd, func() {
				if rnd.IntN(50) == 0 {
					s.whole(b, uint16(wholes))
					wholes++
				}
				o.send(s, b)
			})
			cost, held := b.cost(), b.lanes[0].held.Load()
			if trouble != nil {
				t.Log(trouble.end())
			}
			c.unharmed("fragments")
			fc, f, a, w := b.e.Fragments(), flowsOf(b.e), b.account(attack, 0), b.account(others, 0)
			t.Logf("%.0f ns a packet; at most %d chunks were held between two bursts", cost, held)
			t.Logf("flood: %v", a)
			t.Logf("whole datagrams: %v", w)
			t.Logf("notes: %+v; flows: %+v", fc, f)
			switch full := w.dropped["handoff_full"]; {
			case o.workers == 1 && held > maxEarly:
				t.Errorf("%d fragments were held, want at most %d", held, maxEarly)
			case w.drops() != full || o.workers == 1 && full != 0 || wholes == 0:
				// Between workers fragments of all kinds share a ring, which
				// fills when one of them does not get its core.
				t.Errorf("of %d datagrams in order fragments were lost: %v", wholes, w)
			}
			if later := f.created - begun.created; o.name == "first ones never come" && later > 1 {
				t.Errorf("%d flows were made of fragments that show no ports", later)
			}
		})
	}
}
