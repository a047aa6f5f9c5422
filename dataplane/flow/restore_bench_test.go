package flow

import (
	"fmt"
	"testing"

	"sfc/dataplane/arena"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// What it takes to go on with the flows of a process that was killed: memory
// mapped anew, each flow checked and entered again. Every second benchmark has a
// tuple and a claim for each flow, as an address translation does.
func BenchmarkRestore(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		for _, held := range []bool{false, true} {
			b.Run(fmt.Sprintf("flows=%d/held=%v", n, held), func(b *testing.B) { benchRestore(b, n, held) })
		}
	}
}

func benchRestore(b *testing.B, n int, held bool) {
	opts := Options{Key: secret, Max: uint32(n + n/4), Buckets: steer.Buckets}
	var pins, claims []byte
	open := func() {
		var err error
		if opts.Pins, _, err = steer.OpenPins(pins); err == nil {
			opts.Claims, _, err = steer.OpenPins(claims)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if held {
		opts.Bindings = 2 * opts.Max
		pins, claims = make([]byte, steer.PinsSize(2*n)), make([]byte, steer.PinsSize(2*n))
		open()
	}
	region, err := arena.Open("flows", MemoryBytes(opts), arena.Options{Transparent: true})
	if err != nil {
		b.Fatal(err)
	}
	defer region.Close()
	opts.Memory = region.Bytes()
	table, err := New(opts)
	if err != nil {
		b.Fatal(err)
	}
	var qs [packet.BurstSize]Query
	var out [packet.BurstSize]Result
	for _, f := range flows(n, 7) {
		q := &qs[0]
		*q = Query{kind: Packet, at: 1000}
		q.bits = q.key.setV4(endV4(f.src, f.sport), endV4(f.dst, f.dport), lastWord(4, packet.ProtoUDP, 0)) << querySwapShift
		h := q.key.hash64(secret)
		q.hash = uint32(h)
		table.Lookup(&qs, 1, &out)
		if held && out[0].Status == Created {
			t := q.key.tuple(0)
			t.SrcPort, t.Src = uint16(out[0].Slot), addr(false, out[0].Slot)
			if r := table.Bind(out[0].Slot, &t); r != Bound {
				b.Fatal(r)
			}
			if opts.Claims.Insert(h, 1) != steer.PinOK || !table.Claim(out[0].Slot, h) {
				b.Fatal("not claimed")
			}
		}
	}
	live := int(table.Live())
	if err := table.Detach(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		fd, err := dupOf(region.FD())
		if err != nil {
			b.Fatal(err)
		}
		again, err := arena.Adopt("flows", fd, arena.Options{Transparent: true})
		if err != nil {
			b.Fatal(err)
		}
		if held {
			open()
		}
		opts.Memory = again.Bytes()
		table, r, err := Restore(opts)
		if err != nil || r.Flows != live || held && (r.Bindings != live || r.LostClaims != 0) {
			b.Fatalf("%+v, want %d flows: %v", r, live, err)
		}
		b.StopTimer()
		if err := table.Detach(); err != nil {
			b.Fatal(err)
		}
		again.Close()
		b.StartTimer()
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/table")
}

// BenchmarkLookupKept is BenchmarkLookup with the table in shared memory, in
// small pages and in huge ones.
func BenchmarkLookupKept(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		list := flows(n, 1)
		for _, huge := range []bool{false, true} {
			opts := Options{Key: secret, Max: uint32(n + n/8)}
			region, err := arena.Open("flows", MemoryBytes(opts), arena.Options{Transparent: huge})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { region.Close() })
			opts.Memory = region.Bytes()
			d := newDrive(b, opts)
			d.open(list)
			packets := bursts(list, 1<<20, false)
			b.Run(fmt.Sprintf("flows=%d/huge=%v", n, huge), func(b *testing.B) {
				at := 0
				for b.Loop() {
					d.tick()
					d.load(packets[at:][:packet.BurstSize])
					d.run(packet.BurstSize)
					at = (at + packet.BurstSize) & (len(packets) - 1)
				}
				perPacket(b, b.N*packet.BurstSize)
			})
		}
	}
}
