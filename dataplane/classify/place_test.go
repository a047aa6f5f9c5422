package classify

import (
	"testing"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// A packet is placed by its chain and hash, an odd one in the row behind the
// chains, and a pinned one where its flow is.
func TestPlace(t *testing.T) {
	pins, err := steer.NewPins(make([]byte, steer.PinsSize(10)))
	if err != nil {
		t.Fatal(err)
	}
	p := Placing{Key: [2]uint64{1, 2}, Workers: 2, Chains: 3, PathChain: []uint16{0, 2}, Pinned: []bool{true}, Pins: pins}
	in := packet.Info{Flags: packet.FlagIPv4, Proto: packet.ProtoUDP, L4: 34, SrcPort: 5, DstPort: 6, Src: [16]byte{10}, Dst: [16]byte{11}}
	hash := packet.FlowHash64(p.Key, &in)
	own := steer.Bucket(uint32(hash))
	pinned := own ^ 99
	for chain := range uint16(3) {
		if r := pins.Insert(steer.PinKey(hash, chain), steer.PinValue(3, chain, pinned)); r != steer.PinOK {
			t.Fatal(r)
		}
	}
	check := func(name string, p *Placing, path uint16, in *packet.Info, want Place) {
		t.Helper()
		if got := p.Place(path, in); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	check("pinned", &p, 0, &in, Place{hash, 0, pinned})
	check("chain without pins", &p, 1, &in, Place{hash, 2, own})
	check("path past the list", &p, 2, &in, Place{hash, 0, pinned})
	alone := p
	alone.Workers = 1
	check("one worker", &alone, 0, &in, Place{hash, 0, own})
	without := p
	without.Pins = nil
	check("no table of pins", &without, 0, &in, Place{hash, 0, own})
	other := in
	other.SrcPort = 7
	h := packet.FlowHash64(p.Key, &other)
	check("not pinned", &p, 0, &other, Place{h, 0, steer.Bucket(uint32(h))})
	for _, flag := range []uint16{packet.FlagFragment, packet.FlagFragment | packet.FlagLaterFrag, packet.FlagICMPError} {
		odd := in
		odd.Flags |= flag
		h := packet.FlowHash64(p.Key, &odd)
		want := Place{h, 3, steer.Bucket(uint32(h))}
		check("odd", &p, 0, &odd, want)
		odd.SrcPort, odd.Proto = 9, packet.ProtoTCP
		check("odd, another path", &p, 1, &odd, want)
	}
	pins.Release(steer.PinKey(hash, 0))
	if r := pins.Insert(steer.PinKey(hash, 0), steer.PinValue(0, 1, pinned)); r != steer.PinOK {
		t.Fatal(r)
	}
	check("a value of another chain", &p, 0, &in, Place{hash, 0, own})
}
