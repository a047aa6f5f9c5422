package dataplane

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/nf"
)

// flowRunner stands for a path's functions: it notes what descriptors say of
// flows, and which flows ended.
type flowRunner struct {
	descs *[packet.BurstSize]packet.Desc
	seen  []seenFlow
	ended []uint32
}

type seenFlow struct {
	slot  uint32
	flags uint16 // new, reverse
}

func (r *flowRunner) Process(b *packet.Burst) {
	for k := range int(b.N) {
		d := &r.descs[k]
		if len(r.seen) < cap(r.seen) {
			r.seen = append(r.seen, seenFlow{d.Slot, d.Flags & (packet.FlagNewFlow | packet.FlagReverse)})
		}
		b.Out[k] = packet.Outcome{Verdict: packet.Tx, Port: 1}
	}
}

func (r *flowRunner) Tick(uint64)             {}
func (r *flowRunner) FlowBytes() int          { return 0 }
func (r *flowRunner) TakeFlow(uint32, []byte) {}
func (r *flowRunner) ClearFlow(uint32)        {}
func (r *flowRunner) GiveFlow(uint32, []byte) {}

func (r *flowRunner) FlowEnd(slots []uint32) {
	if len(r.ended)+len(slots) <= cap(r.ended) {
		r.ended = append(r.ended, slots...)
	}
}

// udpTemplate is a UDP packet between two addresses, at time at.
func udpTemplate(key [2]uint64, src, dst byte, sport, dport uint16, at time.Duration) Template {
	f := make([]byte, 60)
	f[12], f[13] = 8, 0
	ip := f[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(ip[2:], 46)
	copy(ip[12:], []byte{10, 0, 0, src, 10, 0, 0, dst})
	binary.BigEndian.PutUint16(ip[20:], sport)
	binary.BigEndian.PutUint16(ip[22:], dport)
	binary.BigEndian.PutUint16(ip[24:], 26)
	packet.SetChecksums(f)
	in, result := packet.Parse(f)
	if result != packet.ParsedIP {
		panic("the template is no packet")
	}
	return Template{Frame: f, Meta: packet.Meta{
		RxNs: uint64(at), Hash: packet.FlowHash(key, &in), L3: in.L3, L4: in.L4, Flags: in.Flags, Proto: in.Proto, Version: packet.MetaVersion,
	}}
}

// packetClock is an Observer by whose clock a burst is as late as its last
// packet.
type packetClock struct{}

func (packetClock) Received(b *packet.Burst)           { b.NowNs = b.TimeNs[b.N-1] }
func (packetClock) Decided(*packet.Burst, []byte)      {}
func (packetClock) Sent([]uint64, uint64)              {}
func (packetClock) TxFull(uint32, uint16)              {}
func (packetClock) Unknown(uint32)                     {}
func (packetClock) Dropped(packet.Meta, packet.Reason) {}

// newFlowBed makes a worker of one path with a flow table.
func newFlowBed(t *testing.T, shared bool, left int, templates func(key [2]uint64) []Template) (*Worker, *flowRunner) {
	t.Helper()
	key := [2]uint64{1, 2}
	region := make([]byte, 256*packet.ChunkSize)
	pool := packet.NewPool(len(region))
	table, err := flow.New(flow.Options{Key: key, Max: 64, Sparse: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	tuples, err := flow.NewReader(flow.ReaderOptions{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	r := &flowRunner{descs: new([packet.BurstSize]packet.Desc), seen: make([]seenFlow, 0, 100), ended: make([]uint32, 0, 100)}
	path := Path{Runner: r, Descs: r.descs, Egress: 1, Flows: table}
	if shared {
		path.Arena = make([]byte, packet.BurstSize*packet.ChunkSize)
	}
	w, err := NewWorker(Config{
		Core: -1, Region: region, Pool: pool, GuestBase: nf.FramesStart, Paths: []Path{path}, Tuples: tuples,
		Ports:    []Port{NewMemPort(region, pool, templates(key), 1, left), NewMemPort(region, pool, nil, 0, 0)},
		Observer: packetClock{}, PacketTime: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w, r
}

// Both directions of a flow have one slot; the first packet is new; a flow
// that idled too long has ended, and its functions are told.
func TestWorkerFindsFlows(t *testing.T) {
	for _, shared := range []bool{false, true} {
		w, r := newFlowBed(t, shared, 7, func(key [2]uint64) []Template {
			return []Template{
				udpTemplate(key, 1, 2, 5, 53, 0),
				udpTemplate(key, 2, 1, 53, 5, time.Millisecond),
				udpTemplate(key, 1, 2, 6, 53, 2*time.Millisecond),
				udpTemplate(key, 1, 2, 5, 53, 3*time.Millisecond),
				udpTemplate(key, 3, 4, 7, 53, time.Hour),
				udpTemplate(key, 3, 4, 7, 53, time.Hour+10*time.Second),
				udpTemplate(key, 3, 4, 7, 53, time.Hour+20*time.Second),
			}
		})
		in := w.cfg.Ports[0].(*MemPort)
		w.Run(func() bool { return in.Left == 0 })
		if err := w.Verify(); err != nil {
			t.Error(err)
		}
		if len(r.seen) != 7 {
			t.Fatalf("shared=%t: %d packets seen", shared, len(r.seen))
		}
		a, b, c := r.seen[0].slot, r.seen[2].slot, r.seen[4].slot
		want := []seenFlow{{a, packet.FlagNewFlow}, {a, packet.FlagReverse}, {b, packet.FlagNewFlow}, {a, 0}, {c, packet.FlagNewFlow}, {c, 0}, {c, 0}}
		if !slices.Equal(r.seen, want) || a == b || a >= 64 || b >= 64 {
			t.Errorf("shared=%t: seen %v, want %v", shared, r.seen, want)
		}
		slices.Sort(r.ended)
		if ends := []uint32{min(a, b), max(a, b)}; !slices.Equal(r.ended, ends) {
			t.Errorf("shared=%t: ended %v, want %v", shared, r.ended, ends)
		}
	}
}

func TestFlowsDoNotAllocate(t *testing.T) {
	w, r := newFlowBed(t, false, 1<<30, func(key [2]uint64) (out []Template) {
		for i := range 500 { // more flows than slots, each an hour after the last
			out = append(out, udpTemplate(key, 1, 2, uint16(i), 53, time.Duration(i)*time.Hour))
		}
		return out
	})
	if n := testing.AllocsPerRun(2000, func() { w.turn() }); n != 0 {
		t.Errorf("%v allocations per turn", n)
	}
	if len(r.ended) == 0 {
		t.Error("no flow ended")
	}
	w.Run(func() bool { return true })
}
