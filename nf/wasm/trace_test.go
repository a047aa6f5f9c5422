package wasm

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"sfc/dataplane/packet"
)

// everything follows all packets through all functions.
func everything() *packet.HopTrace {
	return &packet.HopTrace{Want: ^uint64(0), Hops: ^uint32(0), Snap: packet.ChunkSize, Sides: packet.TraceBefore | packet.TraceAfter}
}

// Following packets changes nothing of what becomes of them, and the records
// tell the same story: where a packet came in, what each function made of it, one
// after the other, and how it ended.
func TestTraceTellsWhatHappened(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	s := newSettler(t)
	trace := everything()
	for range 300 {
		n := 1 + rng.IntN(packet.BurstSize)
		s.fill(n, 200)
		region, descs := s.mem.Frames.Bytes(), s.mem.Descs()
		for k := range n {
			frame := s.burst.Frames[k].Bytes(region)
			clear(frame)
			for hop := range scriptHops {
				p := frame[scriptBytes*hop:][:scriptBytes]
				p[0] = byte(packet.Next)
				if rng.IntN(4) == 0 {
					p[0], p[1] = byte(rng.IntN(6)), byte(rng.IntN(16))
					binary.LittleEndian.PutUint16(p[2:], uint16(rng.IntN(4)))
					binary.LittleEndian.PutUint16(p[4:], uint16(rng.IntN(2100)))
					binary.LittleEndian.PutUint16(p[6:], uint16(rng.IntN(2100)))
					binary.LittleEndian.PutUint16(p[8:], uint16(rng.IntN(3)))
				}
			}
		}
		trace.Want = rng.Uint64()
		saved, a, b := *descs, s.burst, s.burst
		s.group.SetHopTrace(nil)
		s.group.Process(&a)
		*descs = saved
		s.group.SetHopTrace(trace)
		s.group.Process(&b)
		if a.Out != b.Out || a.Frames != b.Frames {
			t.Fatal("followed packets fare differently")
		}
		for k := range n {
			if trace.Want>>k&1 != 0 {
				checkStory(t, trace, k, &s.burst, &b)
			}
		}
		for _, r := range trace.Records[:trace.N] {
			if trace.Want>>r.Packet&1 == 0 || int(r.Packet) >= n {
				t.Fatalf("packet %d was not asked for", r.Packet)
			}
		}
		if trace.Lost != 0 {
			t.Fatalf("%d runs lost", trace.Lost)
		}
	}
}

// checkStory follows one packet through the records: in says how it came in, out
// how it ended.
func checkStory(t *testing.T, trace *packet.HopTrace, k int, in, out *packet.Burst) {
	t.Helper()
	at, hop, port, ended := in.Frames[k], 0, uint16(1), false
	for i := range trace.Records[:trace.N] {
		r := &trace.Records[i]
		if int(r.Packet) != k {
			continue
		}
		if ended || int(r.Hop) != hop || r.Before != at || r.OutPortBefore != port || int(r.MarkBefore) != hop || r.Mark != r.MarkBefore+1 {
			t.Fatalf("packet %d: record %+v after function %d, frame %+v, ended %v", k, r, hop, at, ended)
		}
		if before := trace.BytesBefore(r); len(before) > 0 && len(before) != int(r.Before.Len) {
			t.Fatalf("packet %d: %d bytes kept of %+v", k, len(before), r.Before)
		}
		if r.TookNs == 0 || r.Burst == 0 || int(r.Burst) > int(in.N) {
			t.Fatalf("packet %d: %+v", k, r)
		}
		at, port, ended = r.After, r.OutPort, r.Verdict != packet.Next
		if o := out.Out[k]; ended && (o.Verdict != r.Verdict || o.Hop != r.Hop || o.Reason != r.Reason || o.Fault != r.Fault) {
			t.Fatalf("packet %d ended as %+v, and the record says %+v", k, o, r)
		}
		hop++
	}
	if o := out.Out[k]; !ended && (hop != scriptHops || o.Verdict != packet.Tx || o.Hop != packet.HopEngine) {
		t.Fatalf("packet %d: the records end at function %d, and it ended as %+v", k, hop, o)
	}
	if at != out.Frames[k] {
		t.Fatalf("packet %d lies at %+v, the last record says %+v", k, out.Frames[k], at)
	}
}

// The bytes are those of the frame before and after each function; more than
// there is room for is left out and counted.
func TestTraceBytes(t *testing.T) {
	f := newFixture(t, fixtureOptions{}, "swap_macs", "swap_macs")
	trace := everything()
	f.group.SetHopTrace(trace)
	f.fill(packet.BurstSize, 100)
	for k := range packet.BurstSize {
		copy(f.burst.Frames[k].Bytes(f.mem.Frames.Bytes()), "aaaaaabbbbbb")
	}
	f.group.Process(&f.burst)
	if trace.N != 2*packet.BurstSize || trace.Lost != 0 {
		t.Fatalf("%d records, %d lost", trace.N, trace.Lost)
	}
	for i := range trace.Records[:trace.N] {
		r := &trace.Records[i]
		before, after := trace.BytesBefore(r), trace.BytesAfter(r)
		if len(before) != 100 || len(after) != 100 || !bytes.Equal(before[:6], after[6:12]) || !bytes.Equal(before[12:], after[12:]) || before[20] != r.Packet {
			t.Fatalf("packet %d, function %d: %q became %q", r.Packet, r.Hop, before[:12], after[:12])
		}
	}

	trace.Snap, trace.Sides, trace.Hops = 12, packet.TraceAfter, 1<<1
	f.group.Process(&f.burst)
	if r := &trace.Records[0]; trace.N != packet.BurstSize || r.Hop != 1 || len(trace.BytesBefore(r)) != 0 || len(trace.BytesAfter(r)) != 12 {
		t.Errorf("%d records, the first %+v", trace.N, r)
	}
	trace.Hops = 0
	if f.group.Process(&f.burst); trace.N != 0 {
		t.Errorf("%d records of no function", trace.N)
	}
	if n := testing.AllocsPerRun(20, func() {
		trace.Hops = ^uint32(0)
		f.group.Process(&f.burst)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A path of more functions than there are records for says so.
func TestTraceBounded(t *testing.T) {
	f := newFixture(t, fixtureOptions{}, repeat("swap_macs", maxHops)...)
	trace := everything()
	runner := f.group.Runner([]int{3, 1, 0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	runner.SetHopTrace(trace)
	f.fill(packet.BurstSize, 1500)
	runner.Process(&f.burst)
	if trace.N != packet.HopRecords || trace.Lost != maxHops*packet.BurstSize-packet.HopRecords {
		t.Errorf("%d records, %d lost", trace.N, trace.Lost)
	}
	if trace.Used > packet.HopData || trace.Used < packet.HopData-1500 {
		t.Errorf("%d bytes used", trace.Used)
	}
	if last := &trace.Records[trace.N-1]; len(trace.BytesAfter(last)) != 0 {
		t.Error("bytes that found no room are there")
	}
	if trace.Records[0].Hop != 3 || trace.Records[packet.BurstSize].Hop != 1 {
		t.Error("records are not in the path's order")
	}
}

// What a fault does to packets is in their records, with either policy, and so
// is that a function is suspended.
func TestTraceFaults(t *testing.T) {
	for _, open := range []bool{false, true} {
		f := newFixture(t, fixtureOptions{open: open}, "traps_every_packet", "pass_all")
		trace := everything()
		f.group.SetHopTrace(trace)
		want := packet.HopRecord{Verdict: packet.Drop, Fault: 1, Reason: uint16(packet.ReasonFault)}
		if open {
			want.Verdict = packet.Next
		}
		for i := range 20 { // until the back-off has it suspended
			f.fill(2, 100)
			f.group.Process(&f.burst)
			if i > 0 && trace.Records[0].TookNs == 0 {
				want.Reason = uint16(packet.ReasonSuspended)
			}
			r := trace.Records[0]
			if r.Verdict != want.Verdict || r.Fault != want.Fault || r.Reason != want.Reason || r.Burst != 2 {
				t.Fatalf("open %v, burst %d: %+v, want %+v", open, i, r, want)
			}
			if records := 2 + 2*int(r.Verdict/packet.Next); int(trace.N) != records {
				t.Fatalf("open %v: %d records, want %d", open, trace.N, records)
			}
		}
		if want.Reason != uint16(packet.ReasonSuspended) {
			t.Error("it was never suspended")
		}
	}
}
