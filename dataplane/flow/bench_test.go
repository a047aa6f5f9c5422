package flow

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// udpBench is what a benchmark changes in a frame to make it another flow's.
type udpBench struct {
	src, dst     uint32
	sport, dport uint16
	hash         uint32
}

// drive feeds bursts of UDP packets to a reader and a table, as a worker does:
// frames lie in chunks of a region, metadata in front.
type drive struct {
	g      *rig
	region []byte
	frames [packet.BurstSize]packet.Frame
}

func newDrive(b *testing.B, opts Options) *drive {
	b.Helper()
	d := &drive{g: newRig(b, opts), region: make([]byte, packet.BurstSize*packet.ChunkSize)}
	template, m := udp(1, 2, 3, 4).frame(b, 0)
	for k := range d.frames {
		d.frames[k] = packet.Frame{Chunk: uint32(k) * packet.ChunkSize, Off: packet.Headroom, Len: 60}
		copy(d.region[d.frames[k].Pos():], template)
		*packet.MetaAt(d.region, d.frames[k].Pos()) = m
	}
	return d
}

// load writes a burst's packets: what the benchmarks cost beside the table.
func (d *drive) load(packets []udpBench) { d.loadFrom(0, packets) }

// loadFrom is load into the frames from number first on.
func (d *drive) loadFrom(first int, packets []udpBench) {
	for k := range packets {
		p, pos := &packets[k], d.frames[first+k].Pos()
		h := d.region[pos+packet.EtherLen : pos+packet.EtherLen+24]
		binary.LittleEndian.PutUint32(h[12:], p.src)
		binary.LittleEndian.PutUint32(h[16:], p.dst)
		binary.BigEndian.PutUint16(h[20:], p.sport)
		binary.BigEndian.PutUint16(h[22:], p.dport)
		m := packet.MetaAt(d.region, pos)
		m.Hash, m.RxNs = p.hash, d.g.now
	}
}

// tick advances the clock as bursts at 1 Mpps do, in a circle, true at its end:
// nothing expires however long a benchmark runs.
func (d *drive) tick() bool {
	if d.g.now += 64_000; d.g.now < 1200*second {
		return false
	}
	d.g.now = 1000 * second
	return true
}

// run reads and looks up a burst that was loaded.
func (d *drive) run(n int) {
	for k := range n {
		f := d.frames[k]
		d.g.r.Read(f.Bytes(d.region), packet.MetaAt(d.region, f.Pos()), &d.g.qs[k])
	}
	d.g.t.Lookup(&d.g.qs, n, &d.g.out)
}

// flows returns n UDP flows.
func flows(n int, seed uint64) []udpBench {
	rng := rand.New(rand.NewPCG(seed, 2))
	list := make([]udpBench, n)
	for i := range list {
		f := udpBench{src: rng.Uint32(), dst: rng.Uint32(), sport: uint16(rng.Uint32()), dport: uint16(rng.Uint32())}
		in := packet.Info{Flags: packet.FlagIPv4, Proto: packet.ProtoUDP, SrcPort: f.sport, DstPort: f.dport}
		binary.LittleEndian.PutUint32(in.Src[:], f.src)
		binary.LittleEndian.PutUint32(in.Dst[:], f.dst)
		f.hash = packet.FlowHash(secret, &in)
		list[i] = f
	}
	return list
}

// back is the packet that answers f.
func (f udpBench) back() udpBench {
	return udpBench{src: f.dst, dst: f.src, sport: f.dport, dport: f.sport, hash: f.hash}
}

// bursts returns n packets of the flows, either way round, drawn evenly or
// with Zipf's law (s = 1.1).
func bursts(list []udpBench, n int, zipf bool) []udpBench {
	rng := rand.New(rand.NewPCG(7, 7))
	draw := func() uint64 { return rng.Uint64N(uint64(len(list))) }
	if zipf {
		draw = rand.NewZipf(rng, 1.1, 1, uint64(len(list)-1)).Uint64
	}
	packets := make([]udpBench, n)
	for i := range packets {
		packets[i] = list[draw()]
		if rng.Uint32()&1 != 0 {
			packets[i] = packets[i].back()
		}
	}
	return packets
}

// open makes every flow known and answered.
func (d *drive) open(list []udpBench) {
	for i := 0; i < len(list); i += packet.BurstSize {
		burst := append([]udpBench(nil), list[i:min(i+packet.BurstSize, len(list))]...)
		d.load(burst)
		d.run(len(burst))
		for k := range burst {
			burst[k] = burst[k].back()
		}
		d.load(burst)
		d.run(len(burst))
	}
}

func perPacket(b *testing.B, packets int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/pkt")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkLookup is reading and looking up a packet of an open flow, in bursts
// of 64. stage=load is what it costs to write the packets: it is part of the
// others' numbers.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		for _, draw := range []string{"uniform", "zipf"} {
			list := flows(n, 1)
			d := newDrive(b, Options{Max: uint32(n + n/8)})
			d.open(list)
			if d.g.t.Live() != uint32(n) {
				b.Fatalf("%d flows", d.g.t.Live())
			}
			packets := bursts(list, 1<<20, draw == "zipf")
			for _, stage := range []string{"load", "read", "lookup"} {
				b.Run(fmt.Sprintf("flows=%d/draw=%s/stage=%s", n, draw, stage), func(b *testing.B) {
					b.ReportAllocs()
					at := 0
					for range b.N {
						d.tick()
						d.load(packets[at : at+packet.BurstSize])
						at = (at + packet.BurstSize) & (len(packets) - 1)
						switch stage {
						case "read":
							for k, f := range d.frames {
								d.g.r.Read(f.Bytes(d.region), packet.MetaAt(d.region, f.Pos()), &d.g.qs[k])
							}
						case "lookup":
							d.run(packet.BurstSize)
						}
					}
					perPacket(b, b.N*packet.BurstSize)
				})
			}
			if c := d.g.t.Counters(); c.Created[UDP] != uint64(n) {
				b.Errorf("%d flows created", c.Created[UDP])
			}
		}
	}
}

// BenchmarkCreate is a flow per packet: made, aged out of a table that stays
// partly filled, drained. Its inverse is new flows per second.
func BenchmarkCreate(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("live=%d", n), func(b *testing.B) {
			const lifetime = time.Second
			d := newDrive(b, Options{Max: uint32(n) * 3 / 2, Sweep: 100 * time.Millisecond, Timeouts: Timeouts{UDPOneWay: lifetime}})
			step := uint64(lifetime) * packet.BurstSize / uint64(n) // so that n are alive
			packets := flows(1<<21, 3)
			var slots [256]uint32
			at := 0
			one := func() {
				d.g.now += step
				d.load(packets[at : at+packet.BurstSize])
				at = (at + packet.BurstSize) & (len(packets) - 1)
				d.run(packet.BurstSize)
				d.g.t.Age(d.g.now, 4096)
				for d.g.t.Drain(slots[:]) > 0 {
				}
			}
			for range 2 * n / packet.BurstSize {
				one()
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := d.g.t.Counters()
			for range b.N {
				one()
			}
			c := d.g.t.Counters()
			if made := c.Created[UDP] - before.Created[UDP]; made != uint64(b.N)*packet.BurstSize || sum(c.Refused)+sum(c.Evicted) != 0 {
				b.Errorf("%d flows made of %d, %+v", made, b.N*packet.BurstSize, c)
			}
			perPacket(b, b.N*packet.BurstSize)
			b.ReportMetric(float64(b.N)*packet.BurstSize/b.Elapsed().Seconds(), "flows/s")
		})
	}
}

// BenchmarkFlood is a table of 1M flows, 700,000 of them established, under a
// flood: of 64 packets, 48 begin a flow, each at the cost of another one-way
// flow, and 16 are of established flows. None of these may be lost.
func BenchmarkFlood(b *testing.B) {
	const n, established, share = 1_000_000, 700_000, 16
	d := newDrive(b, Options{Max: n})
	list := flows(established, 1)
	d.open(list)
	known := bursts(list, 1<<20, false)
	flood := flows(1<<21, 4)
	var slots [256]uint32
	at, next, lost := 0, 0, 0
	one := func() {
		d.tick()
		d.load(known[at : at+share])
		at = (at + share) & (len(known) - 1)
		if next += packet.BurstSize - share; next > len(flood)-packet.BurstSize {
			next = 0
		}
		d.loadFrom(share, flood[next:next+packet.BurstSize-share])
		d.run(packet.BurstSize)
		for k := range share {
			if d.g.out[k].Status != Found {
				lost++
			}
		}
		d.g.t.Age(d.g.now, 256)
		for d.g.t.Drain(slots[:]) > 0 {
		}
	}
	for d.g.t.Live() < n-packet.BurstSize {
		one()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		one()
	}
	if c := d.g.t.Counters(); sum(c.Refused) != 0 || lost != 0 {
		b.Errorf("%d packets of established flows did not find theirs; %+v", lost, c)
	}
	perPacket(b, b.N*packet.BurstSize)
	b.ReportMetric(float64(b.N)*(packet.BurstSize-share)/b.Elapsed().Seconds(), "flows/s")
}

// BenchmarkAge is what ageing costs per packet when bursts of 64 come at 1 Mpps
// and nothing expires.
func BenchmarkAge(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			d := newDrive(b, Options{Max: uint32(n + n/8)})
			d.open(flows(n, 1))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if d.tick() {
					d.g.t.agedNs = d.g.now
				}
				d.g.t.Age(d.g.now, 256)
			}
			perPacket(b, b.N*packet.BurstSize)
		})
	}
}

// BenchmarkMove is a bucket's flow from one table to another, of two with 1M
// flows together.
func BenchmarkMove(b *testing.B) {
	const n = 1_000_000
	d := newDrive(b, Options{Max: n})
	to := newRig(b, Options{Max: n})
	d.open(flows(n*9/10, 1))
	from, dest := d.g.t, to.t
	moved := 0
	bucket := uint32(0)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		for slot := from.First(bucket); slot != NoSlot; slot = from.First(bucket) {
			r, _ := from.Extract(slot)
			if dest.Insert(&r) == NoSlot {
				b.Fatal("refused")
			}
			moved++
		}
		if bucket++; bucket == 4096 {
			bucket = 0
			from, dest = dest, from
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(moved), "ns/flow")
}
