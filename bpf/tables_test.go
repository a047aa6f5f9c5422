package bpf

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// address returns a random address of the given length in bytes; with few
// different ones, so that rules overlap.
func address(rng *rand.Rand, n int) netip.Addr {
	b := make([]byte, n)
	b[0] = 10
	for i := 1; i < n; i++ {
		if n == 4 || i < 4 || i > 12 {
			b[i] = byte(rng.Uint32()) & 0x3f
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// maybe returns v or, one time in six, the value for "any".
func maybe[T any](rng *rand.Rand, v, any T) T {
	if rng.IntN(6) == 0 {
		return any
	}
	return v
}

// randomRule returns a rule that uses any of the fields.
func randomRule(rng *rand.Rand, path int) classify.Rule {
	n := 4 + 12*rng.IntN(2)
	prefix := func() netip.Prefix {
		return maybe(rng, netip.PrefixFrom(address(rng, n), 8*n-12+rng.IntN(13)), netip.Prefix{})
	}
	ports := func() classify.PortRange {
		lo := uint16(rng.IntN(2000))
		return maybe(rng, classify.PortRange{Lo: lo, Hi: lo + uint16(rng.IntN(300))}, classify.PortRange{})
	}
	return classify.Rule{
		Path: uint16(path), Ports: maybe(rng, uint64(rng.IntN(4)), 0),
		VLAN: maybe(rng, rng.IntN(3), classify.AnyVLAN), Family: maybe(rng, map[int]uint8{4: 4, 16: 6}[n], 0),
		Src: prefix(), Dst: prefix(), Proto: maybe(rng, []int{6, 17, 132}[rng.IntN(3)], classify.AnyProto),
		SrcPorts: ports(), DstPorts: ports(),
	}
}

// frameFor returns a frame near the rule: inside its prefixes or not far away.
func frameFor(rng *rand.Rand, r *classify.Rule) []byte {
	n := 4
	if r.Family == 6 || r.Src.IsValid() && r.Src.Addr().Is6() || r.Dst.IsValid() && r.Dst.Addr().Is6() {
		n = 16
	}
	side := func(p netip.Prefix) []byte {
		a := address(rng, n)
		if p.IsValid() {
			a = p.Masked().Addr()
		}
		b := a.AsSlice()
		if rng.IntN(4) == 0 {
			b[rng.IntN(n)] ^= 1 << rng.IntN(8)
		}
		return b
	}
	port := func(p classify.PortRange) uint16 {
		if p.Any() || rng.IntN(8) == 0 {
			return uint16(rng.IntN(2500))
		}
		return p.Lo + uint16(rng.IntN(int(p.Hi-p.Lo)+1))
	}
	proto := r.Proto
	if proto == classify.AnyProto {
		proto = []int{1, 6, 17, 132}[rng.IntN(4)]
	}
	l4, ok := map[int]layer{
		1: icmp(8), 6: tcp(port(r.SrcPorts), port(r.DstPorts), 0),
		17: udp(port(r.SrcPorts), port(r.DstPorts)), 132: sctp(port(r.SrcPorts), port(r.DstPorts)),
	}[proto]
	if !ok {
		l4 = data(20)
	}
	l3, typ := ip4([4]byte{}, uint8(proto), 0), packet.EtherIPv4
	srcAt, dstAt := 12, 16
	if n == 16 {
		l3, typ, srcAt, dstAt = ip6([16]byte{}, uint8(proto)), packet.EtherIPv6, 8, 24
	}
	b := build(l3, l4)
	copy(b[srcAt:], side(r.Src))
	copy(b[dstAt:], side(r.Dst))
	vlan := maybe(rng, max(r.VLAN, 0), rng.IntN(3))
	if vlan == 0 {
		return build(eth(typ), raw(b...))
	}
	return build(eth(packet.EtherVLAN), tag(uint16(vlan), typ), raw(b...))
}

// Kernel and Go find the same rule in tables of every size.
func TestTablesAgree(t *testing.T) {
	needKernel(t)
	rng := seed(t)
	for _, n := range []int{0, 1, 63, 64, 65, 1000, classify.MaxRules} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rules := make([]classify.Rule, n)
			for i := range rules {
				rules[i] = randomRule(rng, i)
			}
			table := compile(t, rules)
			s := onePort(t, table)
			near := append(rules, randomRule(rng, 0))
			outcomes, paths := map[string]int{}, map[uint16]bool{}
			for range 3000 {
				name, meta := agree(t, s, table, frameFor(rng, &near[rng.IntN(len(near))]))
				outcomes[name]++
				if meta != nil {
					paths[meta.Path] = true
				}
			}
			t.Log(outcomes, "paths", len(paths))
			// A rule that wants little, early in a large table, hides most others.
			if len(paths) < min(n/3, 50) || n < 1000 && outcomes[unmatched] == 0 {
				t.Error("the frames do not tell the rules apart")
			}
		})
	}
}

// Every field works when it is the only one in use: then the program has no code
// for the others, and the verifier sees another program.
func TestSingleFieldsAgree(t *testing.T) {
	needKernel(t)
	rng := seed(t)
	one := func(change func(r *classify.Rule, i int)) func(i int) classify.Rule {
		return func(i int) classify.Rule {
			r := classify.Rule{Path: uint16(i), VLAN: classify.AnyVLAN, Proto: classify.AnyProto}
			change(&r, i)
			return r
		}
	}
	shapes := map[string]func(i int) classify.Rule{
		"none":   one(func(*classify.Rule, int) {}),
		"family": one(func(r *classify.Rule, i int) { r.Family = 6 }),
		"ports":  one(func(r *classify.Rule, i int) { r.Ports = uint64(i + 2) }),
		"vlan":   one(func(r *classify.Rule, i int) { r.VLAN = i + 1 }),
		"src4":   one(func(r *classify.Rule, i int) { r.Src = netip.PrefixFrom(address(rng, 4), 20) }),
		"dst4":   one(func(r *classify.Rule, i int) { r.Dst = netip.PrefixFrom(address(rng, 4), 20) }),
		"src6":   one(func(r *classify.Rule, i int) { r.Src = netip.PrefixFrom(address(rng, 16), 112) }),
		"dst6":   one(func(r *classify.Rule, i int) { r.Dst = netip.PrefixFrom(address(rng, 16), 112) }),
		"proto":  one(func(r *classify.Rule, i int) { r.Proto = 6 + i%12 }),
		"sports": one(func(r *classify.Rule, i int) { r.SrcPorts = classify.PortRange{Lo: uint16(i), Hi: 65535} }),
		"dports": one(func(r *classify.Rule, i int) {
			r.DstPorts = classify.PortRange{Lo: uint16(100 * i), Hi: uint16(100*i + 50)}
		}),
		"highest": one(func(r *classify.Rule, i int) { r.DstPorts = classify.PortRange{Lo: 65535, Hi: 65535} }),
	}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		rule := shapes[name]
		for _, n := range []int{1, 65} {
			rules := make([]classify.Rule, n)
			for i := range rules {
				rules[i] = rule(i)
			}
			table := compile(t, rules)
			s := onePort(t, table)
			for range 100 {
				agree(t, s, table, frameFor(rng, &rules[rng.IntN(n)]))
			}
			t.Log(name, n, counters(t, s, 0).Redirected, "claimed")
		}
	}
}

// The program reads the tables at the offsets that the layout says.
func TestLayoutIsAligned(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	rules := make([]classify.Rule, 100)
	for i := range rules {
		rules[i] = randomRule(rng, i)
	}
	table := compile(t, rules)
	for _, sh := range []shape{shapeOf(table), startShape.union(shapeOf(table).spacious())} {
		l := layoutOf(sh)
		tables, _ := l.fill(table, func(path uint16) uint32 { return 3*claimPins | uint32(path) })
		for name, at := range map[string]uint32{"claim": l.claim, "sport": l.sport, "dport": l.dport, "vlan": l.vlan,
			"proto": l.proto, "ingress": l.ingress, "src4": l.src4, "dst4": l.dst4, "src6": l.src6, "dst6": l.dst6} {
			if at%8 != 0 || int(at) >= len(tables) {
				t.Errorf("%s at %d of %d", name, at, len(tables))
			}
		}
		for i := range rules {
			if got := binary.LittleEndian.Uint32(tables[int(l.claim)+4*i:]); got != 3*claimPins|uint32(i) {
				t.Errorf("rule %d gives %#x", i, got)
			}
		}
	}
	empty := layoutOf(shapeOf(&classify.Table{}))
	if empty.Words != 0 || empty.src4 != none || empty.size == 0 || empty.vectorBytes() == 0 {
		t.Errorf("layout of no rules: %+v", empty)
	}
}
