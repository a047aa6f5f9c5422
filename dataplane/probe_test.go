package dataplane

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/net/bpf"

	"sfc/dataplane/packet"
)

// alone is a set of one worker that takes its turns when the test says so.
func alone(w *Worker) *Set { return &Set{workers: []*Worker{w}} }

// numbered drops every fourth frame of bed.offer for its reason 1, passes the
// one behind it, and marks what it sends.
func numbered(region []byte, d []packet.Desc) {
	for i := range d {
		f := packet.Frame{Chunk: d[i].Chunk, Off: d[i].Off, Len: d[i].Len}
		f.Chunk -= 32 << 20 // nf.FramesStart
		frame := f.Bytes(region)
		n, _ := strconv.Atoi(string(frame[6:12]))
		switch n / 2 % 4 {
		case 0:
			d[i].Verdict, d[i].Reason = packet.Drop, 1
		case 1:
			d[i].Verdict = packet.Pass
		default:
			d[i].Verdict = packet.Next
			copy(frame, "FRAME")
		}
	}
}

// A probe sees what it was asked for, with the bytes as they are at that point.
func TestProbeSees(t *testing.T) {
	odd := func(frame []byte) bool { return frame[11]&1 == 0 && frame[10] == '4' } // of path 0: those of the forties
	for _, shared := range []bool{false, true} {
		for _, c := range []struct {
			name string
			o    ProbeOptions
			want map[Point]int
		}{
			{"ingress", ProbeOptions{}, map[Point]int{AtIngress: 50}},
			{"egress", ProbeOptions{Points: 1 << AtEgress}, map[Point]int{AtEgress: 37}},
			{"drops", ProbeOptions{Points: 1 << AtDrop}, map[Point]int{AtDrop: 13}},
			{"filtered", ProbeOptions{Points: 1<<AtIngress | 1<<AtDrop, Filter: odd}, map[Point]int{AtIngress: 5, AtDrop: 2}},
			{"followed", ProbeOptions{Points: 1<<AtIngress | 1<<AtEgress | 1<<AtDrop, Filter: odd, Follow: true}, map[Point]int{AtIngress: 5, AtEgress: 3, AtDrop: 2}},
		} {
			t.Run(c.name+"/shared="+strconv.FormatBool(shared), func(t *testing.T) {
				b := newBed(t, shared, numbered)
				b.w.cfg.Stack = countingStack{}
				p, err := alone(b.w).Probe(0, c.o)
				if err != nil {
					t.Fatal(err)
				}
				b.offer(100)
				for len(b.ports[0].in) > 0 {
					b.w.turn()
				}
				got := map[Point]int{}
				p.Read(func(r *Record) {
					got[r.Point]++
					n, _ := strconv.Atoi(string(r.Data[6:12]))
					verdict, word := packet.Next, "frame"
					switch {
					case r.Point == AtDrop:
						verdict = packet.Drop
					case r.Point == AtEgress && n/2%4 == 1:
						verdict = packet.Pass
					case r.Point == AtEgress:
						verdict, word = packet.Tx, "FRAME"
					}
					if r.Seq != uint32(n) || r.Path != 0 || r.Len != 41 || len(r.Data) != 41 || r.Verdict != verdict || !bytes.HasPrefix(r.Data, []byte(word)) {
						t.Errorf("%+v %q", r, r.Data)
					}
					if r.Point == AtDrop && (r.Reason != 1 || r.Hop != 0 || r.Fault) || verdict == packet.Tx && r.OutPort != 1 {
						t.Errorf("%+v", r)
					}
				})
				for _, pt := range []Point{AtIngress, AtHop, AtEgress, AtDrop} {
					if got[pt] != c.want[pt] {
						t.Errorf("point %d: %d records, want %d", pt, got[pt], c.want[pt])
					}
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				b.offer(10)
				b.w.turn()
				if n := p.Read(func(*Record) {}); n != 0 || len(b.w.chains[0].probes) != 0 {
					t.Errorf("%d records after Close", n)
				}
				b.w.Run(func() bool { return true })
			})
		}
	}
}

// What the engine drops is seen with its reason.
func TestProbeSeesEngineDrops(t *testing.T) {
	b := newBed(t, false, allNext)
	b.w.swapPort(1, &stuckPort{*b.ports[1]})
	p, err := alone(b.w).Probe(1, ProbeOptions{Points: 1 << AtDrop})
	if err != nil {
		t.Fatal(err)
	}
	b.offer(20)
	b.w.turn()
	n := p.Read(func(r *Record) {
		if r.Reason != uint16(packet.ReasonTxFull) || r.Hop != packet.HopEngine || r.Path != 1 || r.Seq%2 != 1 || !bytes.HasPrefix(r.Data, []byte("frame")) {
			t.Errorf("%+v", r)
		}
	})
	if n != 10 {
		t.Errorf("%d drops seen, want 10", n)
	}
	if a := b.w.chains[1].account; a.Sent != 0 || a.Dropped != 10 || a.Engine[packet.ReasonTxFull] != 10 {
		t.Errorf("%+v", a)
	}
	b.w.Run(func() bool { return true })
}

// A reader that is too slow loses records, which are counted, and the worker
// does not wait. Nothing is allocated, with a filter of tcpdump's too.
func TestProbeLosesAndAllocatesNothing(t *testing.T) {
	// not ether[11] & 1 == 0: tcpdump -ddd
	filter, err := Filter([]bpf.RawInstruction{{Op: 0x30, K: 11}, {Op: 0x45, Jt: 0, Jf: 1, K: 1}, {Op: 6, K: 0}, {Op: 6, K: 65535}})
	if err != nil {
		t.Fatal(err)
	}
	b := newBed(t, true, allNext)
	frame := []byte("frame 000002 ............................")
	b.w.swapPort(0, NewMemPort(b.w.cfg.Region, b.w.cfg.Pool, []Template{{Frame: frame}, {Frame: []byte("frame 000001 .............")}}, 0, 1<<40))
	b.w.swapPort(1, NewMemPort(b.w.cfg.Region, b.w.cfg.Pool, nil, 0, 0))
	p, err := alone(b.w).Probe(0, ProbeOptions{Filter: filter, Points: 1<<AtIngress | 1<<AtEgress, Snap: 16, Slots: 128})
	if err != nil {
		t.Fatal(err)
	}
	var records int
	read := func(r *Record) {
		if records++; string(r.Data) != "frame 000002 ..." || r.Len != uint16(len(frame)) {
			t.Fatalf("%q of %d", r.Data, r.Len)
		}
	}
	if n := testing.AllocsPerRun(100, func() { b.w.turn(); p.Read(read) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if seen, lost := p.Counts(); seen != 101*64 || lost != 0 || records != int(seen) {
		t.Errorf("%d seen, %d lost, %d read", seen, lost, records)
	}
	for range 10 {
		b.w.turn()
	}
	if seen, lost := p.Counts(); seen != 111*64 || lost != 10*64-128 {
		t.Errorf("%d seen, %d lost", seen, lost)
	}
	b.w.Run(func() bool { return true })
}

func TestProbeRefuses(t *testing.T) {
	b := newBed(t, false, allNext)
	s := alone(b.w)
	for _, c := range []struct {
		chain uint16
		o     ProbeOptions
		is    error
	}{
		{2, ProbeOptions{}, ErrAbsent},
		{0, ProbeOptions{Points: 1 << AtHop}, ErrUntraceable},
		{0, ProbeOptions{Points: 1 << numPoints}, nil},
		{0, ProbeOptions{Snap: packet.ChunkSize + 1}, nil},
		{0, ProbeOptions{Slots: 3}, nil},
	} {
		if _, err := s.Probe(c.chain, c.o); err == nil || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for i := range maxProbes + 1 {
		if _, err := s.Probe(0, ProbeOptions{}); errors.Is(err, ErrProbes) != (i == maxProbes) {
			t.Errorf("probe %d: %v", i, err)
		}
	}
	for _, bad := range [][]bpf.RawInstruction{{{Op: 0xffff}}, {{Op: 0x30, K: 1}}, nil} {
		if _, err := Filter(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	b.w.Run(func() bool { return true })
}

// Packets are followed through guests: each hop's record begins where the one
// before ended, and the last agrees with what became of the packet.
func TestProbeFollowsThroughGuests(t *testing.T) {
	for _, shared := range []bool{false, true} {
		guests := slices.Clone(catalogue)
		guests[0].config = `{"default":"permit","rules":[{"action":"deny","proto":"tcp","dst_ports":80}]}`
		b := newWasmBed(t, bedOptions{shared: shared}, guests...)
		s := alone(b.w)
		p, err := s.Probe(0, ProbeOptions{Points: 1<<AtIngress | 1<<AtHop | 1<<AtEgress | 1<<AtDrop, Follow: true, Snap: packet.ChunkSize, Slots: 1 << 12})
		check(t, err)
		type story struct {
			data []byte
			hops int
			last packet.Verdict
			over bool
		}
		followed := map[uint32]*story{}
		ends := map[Point]int{}
		serial := uint32(0)
		for range 20 {
			b.in.Left = len(b.in.templates)
			for i := range b.in.templates {
				b.in.templates[i].Meta.Seq = serial + uint32(i)
			}
			serial += uint32(len(b.in.templates))
			clear(followed)
			for b.in.Left > 0 {
				b.w.turn()
			}
			p.Read(func(r *Record) {
				st := followed[r.Seq]
				switch {
				case r.Point == AtIngress:
					followed[r.Seq] = &story{data: bytes.Clone(r.Data)}
					return
				case st == nil || st.over:
					t.Fatalf("%+v does not belong to a packet", r)
				case r.Point == AtHop:
					if int(r.Hop) != st.hops || !bytes.Equal(r.Before, st.data) || r.TookNs == 0 || st.last != 0 && st.last != packet.Next {
						t.Fatalf("%+v after %d hops, the last %v: %q, was %q", r, st.hops, st.last, r.Before, st.data)
					}
					st.hops, st.last, st.data = st.hops+1, r.Verdict, bytes.Clone(r.Data)
				default:
					ends[r.Point]++
					st.over = true
					if (r.Point == AtDrop) != (st.last == packet.Drop) || !bytes.Equal(st.data, r.Data) || st.hops == 0 {
						t.Fatalf("%+v after %d hops, the last %v", r, st.hops, st.last)
					}
				}
			})
			for seq, st := range followed {
				if !st.over {
					t.Fatalf("packet %d has no end", seq)
				}
			}
		}
		if ends[AtEgress] == 0 || ends[AtDrop] == 0 {
			t.Errorf("ends: %v", ends)
		}
		if n := testing.AllocsPerRun(20, func() { b.in.Left = 64; b.w.turn(); p.Read(func(*Record) {}) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		check(t, p.Close())
		if b.w.chains[0].trace != nil {
			t.Error("functions go on writing down what they do")
		}
		b.in.Left = 0
		b.w.Run(func() bool { return true })
	}
}
