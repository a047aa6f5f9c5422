package nftest

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"sfc/dataplane/packet"
)

// dialog draws traffic for functions that translate: what the far side answers
// depends on what the function made of packets before, which the caller tells it.
type dialog struct {
	gen
	now   uint64
	fresh func(g gen) []byte // a frame that begins something
	stray func(g gen) []byte // one that belongs nowhere
	seen  []exchange         // what went through, the newest last
	spoil bool               // let some packets lie

	configs []string // lockstep changes to one of them now and then
}

// exchange is a frame before and behind the function.
type exchange struct{ in, out []byte }

func newDialog(g gen, fresh, stray func(g gen) []byte) *dialog {
	return &dialog{gen: g, now: 1_700_000_000_000_000_000, fresh: fresh, stray: stray}
}

// burst draws the packets of a burst.
func (d *dialog) burst(n int) []Packet {
	out := make([]Packet, 0, n+1)
	for len(out) < n {
		d.now += d.Uint64N(pick[uint64](d.gen, 1, 1e3, 1e6, 1e8))
		if d.oneIn(3000) {
			d.now += 400e9 // most flows end
		}
		frame := d.frame()
		p := NewPacket(slices.Clone(frame), d.now)
		if d.spoil && d.oneIn(20) {
			p.Whole = slices.Clone(frame)
			d.gen.spoil(&p)
		}
		out = append(out, p)
		if d.oneIn(25) {
			first, rest := fragments(frame, uint16(d.IntN(65536)))
			if first != nil {
				out[len(out)-1] = NewPacket(first, d.now)
				out = append(out, NewPacket(rest, d.now))
			}
		}
	}
	return out[:n]
}

// learn takes what the function made of a burst.
func (d *dialog) learn(packets []Packet, results []Result) {
	for i, r := range results {
		if f := packets[i].Flags & (packet.FlagIPv4 | packet.FlagICMPError | packet.FlagFragment); r.Verdict == packet.Next && f == packet.FlagIPv4 {
			d.seen = append(d.seen, exchange{packets[i].Frame, r.Frame})
		}
	}
	if len(d.seen) > 200 {
		d.seen = slices.Delete(d.seen, 0, len(d.seen)-200)
	}
}

// frame draws one.
func (d *dialog) frame() []byte {
	if len(d.seen) == 0 || d.oneIn(6) {
		return d.fresh(d.gen)
	}
	e := d.seen[d.IntN(len(d.seen))]
	switch d.IntN(12) {
	case 0:
		return d.stray(d.gen)
	case 1, 2, 3: // once more
		return e.in
	case 4: // an answer, from another port or host
		back := answer(e.out)
		in, result := packet.Parse(back)
		if result != packet.ParsedIP || in.Flags&packet.FlagIPv4 == 0 {
			return back
		}
		if d.oneIn(2) {
			back[in.L3+15] ^= byte(1 + d.IntN(3))
		} else if in.Ports() {
			back[in.L4+1] ^= byte(1 + d.IntN(3))
		}
		packet.SetChecksums(back)
		return back
	case 5: // to where others seem to be
		return hairpin(e.in, d.seen[d.IntN(len(d.seen))].out)
	case 6:
		return icmpAbout(e.out, d.addrOf(e.out), pick(d.gen, 8, 8, 20, 100))
	case 7: // from a router on the way, or that lies about where it came from
		frame := icmpAbout(e.out, netip.AddrFrom4([4]byte{10, 0, 0, byte(d.IntN(8))}), 28)
		if d.oneIn(4) && len(frame) > 50 {
			frame[pick(d.gen, 30, 31, 32, 33, 42, 51, 58, 60)%len(frame)]++
			packet.SetChecksums(frame)
		}
		return frame
	}
	back := answer(e.out)
	if d.oneIn(20) {
		withoutUDPSum(back)
	}
	if d.oneIn(20) {
		back[len(back)-1]++ // a wrong checksum stays wrong
	}
	return back
}

// addrOf is a frame's destination.
func (d *dialog) addrOf(frame []byte) netip.Addr {
	in, _ := packet.Parse(frame)
	return netip.AddrFrom4([4]byte(in.Dst[:4]))
}

// answer turns an IPv4 frame round: addresses, ports, and ICMP echo into its
// reply. Checksums stay right, since sums do not mind the order.
func answer(frame []byte) []byte {
	b := slices.Clone(frame)
	in, result := packet.Parse(b)
	if result != packet.ParsedIP || in.Flags&packet.FlagIPv4 == 0 {
		return b
	}
	swap := func(at, n int) {
		for i := range n {
			b[at+i], b[at+n+i] = b[at+n+i], b[at+i]
		}
	}
	swap(0, 6)
	swap(int(in.L3)+12, 4)
	switch {
	case in.Ports():
		swap(int(in.L4), 2)
	case in.Proto == packet.ProtoICMP && in.L4 != 0 && (b[in.L4] == 8 || b[in.L4] == 0):
		b[in.L4] ^= 8
		packet.SetChecksums(b)
	}
	return b
}

// hairpin sends a frame to the source of another one.
func hairpin(frame, to []byte) []byte {
	b := slices.Clone(frame)
	in, result := packet.Parse(b)
	there, _ := packet.Parse(to)
	if result != packet.ParsedIP || in.Flags&there.Flags&packet.FlagIPv4 == 0 {
		return b
	}
	copy(b[in.L3+16:], there.Src[:4])
	if in.Ports() && there.Ports() {
		binary.BigEndian.PutUint16(b[in.L4+2:], there.SrcPort)
	}
	packet.SetChecksums(b)
	return b
}

// icmpAbout is an ICMP error from a host to the source of an IPv4 frame, of which
// it quotes the IP header and n bytes.
func icmpAbout(frame []byte, from netip.Addr, n int) []byte {
	in, result := packet.Parse(frame)
	if result != packet.ParsedIP || in.Flags&packet.FlagIPv4 == 0 {
		return slices.Clone(frame)
	}
	ip := frame[in.L3:]
	quote := ip[:min(int(ip[0]&15)*4+n, int(binary.BigEndian.Uint16(ip[2:])))]
	return icmpError(from, netip.AddrFrom4([4]byte(in.Src[:4])), 3, 1, quote)
}

// icmpError builds an ICMP error.
func icmpError(src, dst netip.Addr, typ, code byte, quote []byte) []byte {
	frame := Spec{Src: src, Dst: dst, Proto: packet.ProtoICMP, Payload: quote}.Frame()
	l4 := packet.EtherLen + packet.IPv4Len
	copy(frame[l4:], []byte{typ, code, 0, 0, 0, 0, 0, 0})
	packet.SetChecksums(frame)
	return frame
}

// fragments cuts an IPv4 frame into two fragments behind 8 bytes of payload, or
// 24 for TCP; nil when it is too short.
func fragments(frame []byte, id uint16) (first, rest []byte) {
	in, result := packet.Parse(frame)
	at := int(in.L4) + 24
	if result != packet.ParsedIP || in.Flags&packet.FlagIPv4 == 0 || in.L4 == 0 || len(frame) <= at || in.Flags&packet.FlagFragment != 0 {
		return nil, nil
	}
	header := frame[:in.L4]
	first, rest = slices.Clone(frame[:at]), append(slices.Clone(header), frame[at:]...)
	for i, b := range [][]byte{first, rest} {
		ip := b[in.L3:]
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], id)
		binary.BigEndian.PutUint16(ip[6:], []uint16{0x2000, uint16(at-int(in.L4)) / 8}[i])
		packet.SetChecksums(b)
	}
	return first, rest
}

// withoutUDPSum takes the checksum out of a UDP frame.
func withoutUDPSum(frame []byte) {
	if in, result := packet.Parse(frame); result == packet.ParsedIP && in.Proto == packet.ProtoUDP && in.Flags&packet.FlagLaterFrag == 0 {
		frame[in.L4+6], frame[in.L4+7] = 0, 0
	}
}

// dialogs are the functions that translate.
var dialogs = map[string]func(g gen) *dialog{"lb4": lbDialog, "nat44": natDialog}

// replay draws n packets of a dialog with a function's reference, some of which
// lie. With another configuration, or other bursts, their answers may be none.
func (g gen) replay(tb testing.TB, function string, d *dialog, n int) []Packet {
	tb.Helper()
	r := newReference(tb, function)
	if err := r.Configure([]byte(configs[function][0])); err != nil {
		tb.Fatal(err)
	}
	d.spoil = true
	var out []Packet
	for len(out) < n {
		packets := d.burst(1 + g.IntN(min(n-len(out), packet.BurstSize)))
		d.learn(packets, r.Process(packets))
		out = append(out, packets...)
	}
	return out
}

// lockstep runs a dialog through several implementations at once and checks after
// each burst that they agree with the first. check sees what the first decided.
func lockstep(tb testing.TB, d *dialog, config string, n int, check func(p Packet, r Result), all ...Runner) {
	tb.Helper()
	for _, r := range all {
		if err := r.Configure([]byte(config)); err != nil {
			tb.Fatalf("%T: %v\n%s", r, err, config)
		}
	}
	for sent := 0; sent < n; {
		if d.configs != nil && d.oneIn(20) {
			config = pick(d.gen, d.configs...)
			for _, r := range all {
				if err := r.(Reconfigurer).Reconfigure([]byte(config)); err != nil {
					tb.Fatalf("%T: %v\n%s", r, err, config)
				}
			}
		}
		packets := d.burst(1 + d.IntN(packet.BurstSize))
		sent += len(packets)
		want := all[0].Process(packets)
		for _, r := range all[1:] {
			for i, got := range r.Process(packets) {
				if diff := want[i].Diff(got); diff != "" {
					tb.Fatalf("packet %d of %d of a burst: %T and %T: %s\npacket %+v\nframe %x\n%s", i, len(packets), all[0], r, diff, packets[i], packets[i].Frame, config)
				}
			}
		}
		for i, r := range want {
			check(packets[i], r)
		}
		d.learn(packets, want)
	}
	var kept []byte
	for _, r := range all {
		if c, ok := r.(Counter); ok {
			if got, want := c.Counters(), all[0].(Counter).Counters(); !slices.Equal(got, want) {
				tb.Fatalf("counters: %T %v and %T %v\n%s", all[0], want[:24], r, got[:24], config)
			}
		}
		if k, ok := r.(Keeper); ok {
			state := k.FlowState(512)
			if kept != nil && !slices.Equal(kept, state) {
				tb.Fatalf("%T keeps something else of the flows", r)
			}
			kept = slices.Clone(state)
		}
	}
}
