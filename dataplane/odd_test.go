package dataplane

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// fragmentSource is a flow all of whose packets come in two fragments.
type fragmentSource struct {
	source
	early bool // the second fragment comes first
}

// fragmentsOf makes a flow's packets fragments of the same addresses.
func (b *played) fragmentsOf(s *source, early bool) *fragmentSource {
	f := &fragmentSource{source: *s, early: early}
	in := packet.Info{Flags: packet.FlagIPv4 | packet.FlagFragment}
	copy(in.Src[:], s.wire[0][26:30])
	copy(in.Dst[:], s.wire[0][30:34])
	h := packet.FlowHash(b.key, &in)
	for part := range 2 {
		f.wire[part] = append([]byte(nil), s.wire[0]...)
		m := &f.at[part]
		*m = s.at[0]
		m.Hash, m.Bucket, m.Flags = h, steer.Bucket(h), in.Flags
		binary.BigEndian.PutUint16(f.wire[part][20:], 0x2000) // more fragments follow
	}
	f.at[1].Flags |= packet.FlagLaterFrag
	f.at[1].L4 = 0
	binary.BigEndian.PutUint16(f.wire[1][20:], 1)
	return f
}

// sendFragments sends the next packet of a flow in two parts. Both reach the RX
// ring or, when workers stop, none: a part without the other would be late, and
// be right to be.
func (b *played) sendFragments(f *fragmentSource) {
	n := f.n
	binary.BigEndian.PutUint16(f.wire[0][18:], uint16(n))
	binary.BigEndian.PutUint16(f.wire[1][18:], uint16(n))
	one, ok := b.chunk()
	if !ok {
		return
	}
	two, ok := b.chunk()
	if !ok {
		b.pool.Put(one)
		return
	}
	b.running.RLock()
	defer b.running.RUnlock()
	var frames [2]packet.Frame
	owner := 0
	for i, chunk := range [2]uint32{one, two} {
		part := i
		if f.early {
			part = 1 - i
		}
		f.n = n + uint32(part) // numbers are those of the right order
		frames[i] = b.write(&f.source, part, chunk)
		owner = b.owners.Take(b.owners.Odd(), f.at[part].Bucket) // the same of both, always
	}
	f.n = n
	for b.rings[owner].Len() > playedRing-len(frames) {
		if b.stopping.Load() {
			b.pool.Put(one)
			b.pool.Put(two)
			return
		}
		runtime.Gosched()
	}
	// However long this thread stands still, nobody sees one without the other.
	b.ports[2*owner].pair.Lock()
	b.rings[owner].Push(&frames[0])
	b.rings[owner].Push(&frames[1])
	b.ports[2*owner].pair.Unlock()
	f.n += 2
	b.offers += 2
}

// sendOdd is the steering program for a packet that goes by its addresses.
func (b *played) sendOdd(s *source, part int, rnd *rand.Rand) {
	row := s.at[part]
	chain := b.owners.Odd()
	b.sendTo(s, part, rnd, func() int { return b.owners.Take(chain, row.Bucket) })
}

// quoteOf makes an ICMP error about a flow's packets of its second direction's
// packets, from a router on the way.
func (b *played) quoteOf(s *source) {
	f := make([]byte, 128)
	f[12], f[13] = 8, 0
	ip := f[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, packet.ProtoICMP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{192, 0, 2, 1})
	copy(ip[16:], s.wire[0][26:30])
	icmp := ip[20:]
	icmp[0], icmp[1] = 3, 3
	copy(icmp[8+4:], s.wire[0][14+4:]) // the quoted packet; its number is in the error itself
	icmp[8] = 0x45
	in := packet.Info{Flags: packet.FlagIPv4 | packet.FlagICMPError, Proto: packet.ProtoICMP}
	copy(in.Src[:], ip[12:16])
	copy(in.Dst[:], ip[16:20])
	h := packet.FlowHash(b.key, &in)
	s.wire[1] = f
	s.at[1] = packet.Meta{Hash: h, Path: 1, L3: 14, L4: 34, Flags: in.Flags, Proto: packet.ProtoICMP, Version: packet.MetaVersion, Bucket: steer.Bucket(h)}
}

// TestOddPacketsUnderMoves sends what steering cannot tell the flow of, while
// flows change hands: all of it reaches the flow, in order.
func TestOddPacketsUnderMoves(t *testing.T) {
	b := newPlayed(t, 3, 4096)
	b.window = 256 // all of it fits into any ring
	plain := b.sources(1200)
	var fragmented []*fragmentSource
	for i := range 400 {
		fragmented = append(fragmented, b.fragmentsOf(&plain[i], i%2 == 1))
	}
	quoted := plain[400:800]
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range quoted {
		b.quoteOf(&quoted[i])
		b.send(&quoted[i], 0, rnd)
	}
	for deadline := time.Now().Add(10 * time.Second); b.set.Counters().Sent < b.offers; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d packets were sent: %+v", b.set.Counters().Sent, b.offers, b.set.Counters())
		}
	}
	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for range 30 {
				b.sendFragments(fragmented[rnd.IntN(len(fragmented))])
				b.sendOdd(&quoted[rnd.IntN(len(quoted))], 1, rnd)
				b.send(&plain[800+rnd.IntN(400)], 0, rnd)
			}
		}
	})
	moves := rand.New(rand.NewPCG(8, 9))
	flows := 0
	for start := time.Now(); time.Since(start) < time.Second || flows < 20 && time.Since(start) < 20*time.Second; {
		r, err := b.set.Move(0, uint16(moves.IntN(64)), moves.IntN(3))
		if err != nil {
			t.Fatal(err)
		}
		flows += r.Flows
	}
	close(stop)
	sender.Wait()
	all := append([]source(nil), plain[400:]...)
	for _, f := range fragmented {
		all = append(all, f.source)
	}
	b.finish(all)
	c := b.set.Counters()
	t.Logf("%d packets, %d flows moved, %d packets handed to their owner, %d held", b.offers, flows, c.HandedIn, c.Held)
	if flows == 0 || c.HandedIn == 0 || c.Held == 0 {
		t.Error("nothing was tested")
	}
}

// Fragments of a packet stay together when the rules give the first one, which
// alone shows ports, to another chain than the rest, be it one without flows.
func TestFragmentsOfTwoChains(t *testing.T) {
	for first := range uint16(2) {
		seen := map[uint16]int{} // packets by chain
		h := newHands(t, playedOptions{workers: 2, flows: 64, chains: 2, forgetful: true, config: func(c *Config) {
			for i := range c.Paths {
				p := &c.Paths[i]
				if p.Chain == 1 {
					p.Flows = nil
					p.Runner = &runnerFunc{process: func(b *packet.Burst) {
						seen[1] += int(b.N)
						for k := range int(b.N) {
							b.Out[k] = packet.Outcome{Verdict: packet.Tx, Port: 1}
						}
					}}
				}
			}
		}})
		f := h.fragmentsOf(&h.sources(1)[0], false)
		f.at[0].Path, f.at[1].Path = 2*first, 2*(1-first)
		for range 10 {
			h.sendFragments(f)
			h.turn(0, 1)
		}
		if got, want := seen[1], 20*int(first); got != want {
			t.Errorf("first fragments are of chain %d: chain 1 saw %d packets, want %d", first, got, want)
		}
		if n := h.set.workers[0].early.n + h.set.workers[1].early.n; n != 0 {
			t.Errorf("%d fragments wait", n)
		}
		h.finish()
	}
}
