package flow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"sfc/dataplane/steer"
)

// Whatever is in the memory, what is restored is sound, can be worked with, and
// holds nothing that others do not know of. Half of the inputs are spoilt tables
// and not noise.
func FuzzRestore(f *testing.F) {
	base := Options{Key: secret, Max: 16, Bindings: 8, Buckets: 4, Chain: 1, Sparse: true}
	base.Claims = new(steer.Pins)
	size := MemoryBytes(base)
	made := make([]byte, size)
	pages := [2][]byte{make([]byte, steer.PinsSize(32)), make([]byte, steer.PinsSize(32))}
	open := func(tb testing.TB, o Options, pins, claims []byte) Options {
		var err error
		if o.Pins, _, err = steer.OpenPins(pins); err == nil {
			o.Claims, _, err = steer.OpenPins(claims)
		}
		if err != nil {
			tb.Fatal(err)
		}
		return o
	}
	o := open(f, base, pages[0], pages[1])
	o.Memory = made
	table, err := New(o)
	if err != nil {
		f.Fatal(err)
	}
	g := &rig{tb: f, t: table, now: 1000 * second}
	if g.r, err = NewReader(ReaderOptions{Key: secret}); err != nil {
		f.Fatal(err)
	}
	sh := shared{pins: o.Pins, claims: o.Claims}
	for i := range uint16(4) {
		slot := g.one(udp(1, 9, i, 1)).Slot
		g.t.Bind(slot, udp(200, 9, i, 1).tuple())
		key := uint64(i+1) * 0x9e3779b97f4a7c15
		sh.claims.Insert(key, 1)
		g.t.Claim(slot, key)
		g.one(tcp(2, 9, i, 80, []uint8{tcpSYN, tcpRST, tcpFIN, tcpACK}[i]))
	}
	g.one(tcp(2, 9, 1, 80, tcpSYN))
	table.Extract(0)
	if err := table.Detach(); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, false)
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, true)
	f.Add(made[:2048], false)
	for at := range uint16(200) {
		f.Add(binary.LittleEndian.AppendUint16([]byte{0xff}, at*16), true)
	}
	f.Fuzz(func(t *testing.T, input []byte, spoil bool) {
		mem := make([]byte, size)
		if spoil {
			copy(mem, made)
			for ; len(input) >= 3; input = input[3:] {
				mem[int(binary.LittleEndian.Uint16(input[1:]))%size] ^= input[0]
			}
		} else {
			copy(mem[128:], input)
			copy(mem, made[:64])
		}
		pins, claims := bytes.Clone(pages[0]), bytes.Clone(pages[1])
		o := open(t, base, pins, claims)
		o.Memory = mem
		table, _, err := Restore(o)
		if errors.Is(err, ErrNoTable) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer table.Detach()
		if err := table.Verify(); err != nil {
			t.Fatal(err)
		}
		Reconcile([]*Table{table}, func(uint16) int { return 0 }, func(int, uint32, int, uint32) {})
		o.Pins.Sweep()
		o.Claims.Sweep()
		g := &rig{tb: t, r: g.r, t: table, now: 1001 * second}
		for i := range uint32(20) {
			g.one(udp(1, 9, uint16(i), 1))
			g.one(udp(300+i, 9, 1, 1))
			if i%4 == 0 {
				g.drain()
			}
		}
		for range 2 {
			if err := table.Verify(); err != nil {
				t.Fatal(err)
			}
			for slot := range table.top {
				if table.entries[slot].kind.live() {
					table.count.Expired[table.entries[slot].kind.class()]++
					table.end(slot)
				}
			}
			g.drain()
		}
		for _, p := range []*steer.Pins{o.Pins, o.Claims} {
			if n, err := p.Verify(); err != nil || n != 0 {
				t.Fatalf("%d entries are left: %v", n, err)
			}
		}
	})
}
