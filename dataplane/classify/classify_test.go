package classify

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"sfc/dataplane/packet"
)

// oracle is Lookup as one would write it first.
func oracle(rules []Rule, port uint16, in *packet.Info) (uint16, bool) {
	for i := range rules {
		if matches(&rules[i], port, in) {
			return rules[i].Path, true
		}
	}
	return 0, false
}

func matches(r *Rule, port uint16, in *packet.Info) bool {
	v4 := in.Flags&packet.FlagIPv4 != 0
	if r.Family == 4 && !v4 || r.Family == 6 && v4 {
		return false
	}
	src, dst := netip.AddrFrom16(in.Src), netip.AddrFrom16(in.Dst)
	if v4 {
		src, dst = netip.AddrFrom4([4]byte(in.Src[:4])), netip.AddrFrom4([4]byte(in.Dst[:4]))
	}
	inRange := func(p PortRange, v uint16) bool {
		return p.Any() || in.Ports() && p.Lo <= v && v <= p.Hi
	}
	return (r.Ports == 0 || r.Ports&(1<<port) != 0) &&
		(r.VLAN == AnyVLAN || r.VLAN == int(in.VLAN)) &&
		(!r.Src.IsValid() || r.Src.Contains(src)) &&
		(!r.Dst.IsValid() || r.Dst.Contains(dst)) &&
		(r.Proto == AnyProto || r.Proto == int(in.Proto)) &&
		inRange(r.SrcPorts, in.SrcPort) && inRange(r.DstPorts, in.DstPort)
}

// Values are drawn from few, so that rules and packets often meet, and lie at
// the ends of ranges, where mistakes are.
func addr(t *rapid.T, v6 bool, label string) netip.Addr {
	b := rapid.SampledFrom([]byte{0, 1, 127, 128, 255})
	if !v6 {
		return netip.AddrFrom4([4]byte{b.Draw(t, label), 0, 0, b.Draw(t, label)})
	}
	return netip.AddrFrom16([16]byte{0: b.Draw(t, label), 7: b.Draw(t, label), 8: b.Draw(t, label), 15: b.Draw(t, label)})
}

func prefix(t *rapid.T, v6 bool, label string) netip.Prefix {
	a := addr(t, v6, label)
	if rapid.Bool().Draw(t, label+" any") {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, label+" bits"))
}

var somePorts = rapid.SampledFrom([]uint16{0, 1, 53, 80, 443, 1023, 1024, 65534, 65535})

func ports(t *rapid.T, label string) PortRange {
	if rapid.Bool().Draw(t, label+" any") {
		return PortRange{}
	}
	a, b := somePorts.Draw(t, label), somePorts.Draw(t, label)
	return PortRange{min(a, b), max(a, b)}
}

func rule(t *rapid.T) Rule {
	v6 := rapid.Bool().Draw(t, "v6")
	r := Rule{
		Path:  rapid.Uint16().Draw(t, "path"),
		Ports: rapid.SampledFrom([]uint64{0, 0, 1, 2, 3, 1 << 63}).Draw(t, "ports"),
		VLAN:  rapid.SampledFrom([]int{AnyVLAN, AnyVLAN, 0, 1, 100, 4094}).Draw(t, "vlan"),
		Src:   prefix(t, v6, "src"), Dst: prefix(t, v6, "dst"),
		Proto:    rapid.SampledFrom([]int{AnyProto, AnyProto, 0, 1, 6, 17, 58, 132, 255}).Draw(t, "proto"),
		SrcPorts: ports(t, "sports"), DstPorts: ports(t, "dports"),
	}
	if rapid.Bool().Draw(t, "one family") {
		r.Family = map[bool]uint8{false: 4, true: 6}[v6]
	}
	if r.Proto >= 0 && !packet.HasPorts(uint8(r.Proto)) {
		r.SrcPorts, r.DstPorts = PortRange{}, PortRange{}
	}
	return r
}

func info(t *rapid.T) packet.Info {
	v6 := rapid.Bool().Draw(t, "v6")
	in := packet.Info{
		Flags: packet.FlagIPv4,
		VLAN:  rapid.SampledFrom([]uint16{0, 1, 100, 4094, 4095}).Draw(t, "vlan"),
		Proto: rapid.SampledFrom([]uint8{0, 1, 6, 17, 58, 132, 255}).Draw(t, "proto"),
	}
	src, dst := addr(t, v6, "src"), addr(t, v6, "dst")
	if v6 {
		in.Flags = packet.FlagIPv6
		in.Src, in.Dst = src.As16(), dst.As16()
	} else {
		a, b := src.As4(), dst.As4()
		copy(in.Src[:], a[:])
		copy(in.Dst[:], b[:])
	}
	if rapid.Bool().Draw(t, "l4") {
		in.L4 = 34
		if in.Ports() {
			in.SrcPort, in.DstPort = somePorts.Draw(t, "sport"), somePorts.Draw(t, "dport")
		}
	}
	return in
}

func TestLookupAgreesWithOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rapid.Custom(rule), 0, 150).Draw(t, "rules")
		table, err := Compile(rules)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			in := info(t)
			port := rapid.SampledFrom([]uint16{0, 1, 2, 63}).Draw(t, "port")
			path, ok := table.Lookup(port, &in)
			wantPath, want := oracle(rules, port, &in)
			if path != wantPath || ok != want {
				t.Fatalf("%+v at port %d: %d, %v; want %d, %v", in, port, path, ok, wantPath, want)
			}
		}
	})
}

// The full size, with rules that differ in every field: every class number and
// every word of the vectors is in use.
func TestLookupAtMaxRules(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	rules := make([]Rule, MaxRules)
	for i := range rules {
		v6 := i%2 == 1
		rules[i] = randomRule(rng, v6)
		rules[i].Path = uint16(i)
	}
	table, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	hits := 0
	for range 20000 {
		i := rng.IntN(MaxRules)
		in := matching(rng, &rules[i])
		path, ok := table.Lookup(0, &in)
		wantPath, want := oracle(rules, 0, &in)
		if path != wantPath || ok != want {
			t.Fatalf("seed %d: %+v: %d, %v; want %d, %v", seed, in, path, ok, wantPath, want)
		}
		if ok {
			hits++
		}
	}
	if hits < 20000 {
		t.Errorf("%d of 20000 packets made for a rule match one", hits)
	}
}

// randomRule returns a rule with prefixes, protocol and both port ranges set.
func randomRule(rng *rand.Rand, v6 bool) Rule {
	a := func() netip.Prefix {
		if v6 {
			var b [16]byte
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return netip.PrefixFrom(netip.AddrFrom16(b), 16+rng.IntN(113))
		}
		v := rng.Uint32()
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), 8+rng.IntN(25))
	}
	p := func() PortRange {
		x, y := uint16(rng.Uint32()), uint16(rng.Uint32())
		return PortRange{min(x, y), max(x, y)}
	}
	return Rule{VLAN: AnyVLAN, Src: a(), Dst: a(), Proto: []int{6, 17}[rng.IntN(2)], SrcPorts: p(), DstPorts: p()}
}

// matching returns a packet that the rule matches, at the low end of its
// prefixes and anywhere in its port ranges.
func matching(rng *rand.Rand, r *Rule) packet.Info {
	in := packet.Info{Flags: packet.FlagIPv4, Proto: uint8(r.Proto), L4: 34,
		SrcPort: r.SrcPorts.Lo + uint16(rng.IntN(int(r.SrcPorts.Hi-r.SrcPorts.Lo)+1)),
		DstPort: r.DstPorts.Lo + uint16(rng.IntN(int(r.DstPorts.Hi-r.DstPorts.Lo)+1))}
	src, dst := r.Src.Masked().Addr(), r.Dst.Masked().Addr()
	if src.Is4() {
		a, b := src.As4(), dst.As4()
		copy(in.Src[:], a[:])
		copy(in.Dst[:], b[:])
		return in
	}
	in.Flags = packet.FlagIPv6
	in.Src, in.Dst = src.As16(), dst.As16()
	return in
}

func TestOverlap(t *testing.T) {
	// A packet that matches both rules proves that they overlap.
	t.Run("never misses one", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			a, b := rule(t), rule(t)
			if Overlap(a, b) != Overlap(b, a) {
				t.Fatal("not symmetric")
			}
			for range 30 {
				in := info(t)
				if matches(&a, 0, &in) && matches(&b, 0, &in) && !Overlap(a, b) {
					t.Fatalf("%+v matches both", in)
				}
			}
		})
	})
	any := Rule{VLAN: AnyVLAN, Proto: AnyProto}
	with := func(change func(*Rule)) Rule { r := any; change(&r); return r }
	p := netip.MustParsePrefix
	for _, tt := range []struct {
		name string
		a, b Rule
		want bool
	}{
		{"any and any", any, any, true},
		{"nested prefixes", with(func(r *Rule) { r.Src = p("10.0.0.0/8") }), with(func(r *Rule) { r.Src = p("10.1.0.0/16") }), true},
		{"other prefixes", with(func(r *Rule) { r.Dst = p("10.0.0.0/8") }), with(func(r *Rule) { r.Dst = p("11.0.0.0/8") }), false},
		{"families by prefix", with(func(r *Rule) { r.Src = p("10.0.0.0/8") }), with(func(r *Rule) { r.Dst = p("fd00::/8") }), false},
		{"ports that meet", with(func(r *Rule) { r.DstPorts = PortRange{1, 80} }), with(func(r *Rule) { r.DstPorts = PortRange{80, 90} }), true},
		{"ports that do not", with(func(r *Rule) { r.DstPorts = PortRange{1, 79} }), with(func(r *Rule) { r.DstPorts = PortRange{80, 90} }), false},
		{"port range and icmp", with(func(r *Rule) { r.SrcPorts = PortRange{1, 79} }), with(func(r *Rule) { r.Proto = 1 }), false},
		{"port range and sctp", with(func(r *Rule) { r.SrcPorts = PortRange{1, 79} }), with(func(r *Rule) { r.Proto = 132 }), true},
		{"vlan and untagged", with(func(r *Rule) { r.VLAN = 5 }), with(func(r *Rule) { r.VLAN = 0 }), false},
		{"ingress ports apart", with(func(r *Rule) { r.Ports = 1 }), with(func(r *Rule) { r.Ports = 6 }), false},
		{"ingress port and any", with(func(r *Rule) { r.Ports = 1 }), any, true},
	} {
		if got := Overlap(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	p := netip.MustParsePrefix
	for name, r := range map[string]Rule{
		"vlan 4095":           {VLAN: 4095},
		"proto 256":           {Proto: 256},
		"family 5":            {Family: 5},
		"family and prefix":   {Family: 6, Src: p("10.0.0.0/8")},
		"two families":        {Src: p("10.0.0.0/8"), Dst: p("fd00::/8")},
		"mapped":              {Src: p("::ffff:10.0.0.0/104")},
		"invalid prefix":      {Src: netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 33)},
		"ports upside down":   {Proto: 6, SrcPorts: PortRange{2, 1}},
		"ports without ports": {Proto: 1, DstPorts: PortRange{1, 2}},
	} {
		if _, err := Compile([]Rule{r}); !errors.Is(err, ErrBadRule) {
			t.Errorf("%s: %v, want %v", name, err, ErrBadRule)
		}
	}
	if _, err := Compile(make([]Rule, MaxRules+1)); !errors.Is(err, ErrTooManyRules) {
		t.Errorf("%d rules: %v, want %v", MaxRules+1, err, ErrTooManyRules)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := randomRule(rng, false)
	table, err := Compile([]Rule{r})
	if err != nil {
		t.Fatal(err)
	}
	in := matching(rng, &r)
	if n := testing.AllocsPerRun(100, func() { table.Lookup(0, &in) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 100, 1000, MaxRules} {
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		rules := make([]Rule, n)
		for i := range rules {
			rules[i] = randomRule(rng, false)
		}
		table, err := Compile(rules)
		if err != nil {
			b.Fatal(err)
		}
		packets := make([]packet.Info, 1024)
		for i := range packets {
			packets[i] = matching(rng, &rules[rng.IntN(n)])
		}
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				table.Lookup(0, &packets[i%len(packets)])
			}
		})
	}
}

// BenchmarkLinear is the alternative to BenchmarkLookup: rule after rule.
func BenchmarkLinear(b *testing.B) {
	for _, n := range []int{1, 100, 1000, MaxRules} {
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		rules := make([]Rule, n)
		for i := range rules {
			rules[i] = randomRule(rng, false)
		}
		packets := make([]packet.Info, 1024)
		for i := range packets {
			packets[i] = matching(rng, &rules[rng.IntN(n)])
		}
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				oracle(rules, 0, &packets[i%len(packets)])
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	rules := make([]Rule, MaxRules)
	for i := range rules {
		rules[i] = randomRule(rng, i%2 == 1)
	}
	for b.Loop() {
		if _, err := Compile(rules); err != nil {
			b.Fatal(err)
		}
	}
}
