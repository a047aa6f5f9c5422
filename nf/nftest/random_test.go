package nftest

import (
	"os"
	"strconv"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/nf/native"
)

// testSeed returns the seed of random tests: TEST_SEED, else the clock. It is
// logged, so that a failure can be repeated.
func testSeed(tb testing.TB) uint64 {
	tb.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TEST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			tb.Fatalf("TEST_SEED=%q: %v", text, err)
		}
		seed = n
	}
	tb.Logf("TEST_SEED=%d", seed)
	return seed
}

// TestRandom compares all implementations on random configurations and packets.
func TestRandom(t *testing.T) {
	seed := testSeed(t)
	for _, name := range native.Names() {
		t.Run(name, func(t *testing.T) {
			all := runners(t, name)
			seen := map[packet.Verdict]int{}
			accepted := 0
			const rounds = 100
			for i := range uint64(rounds) {
				g := newGen(seed + i)
				results := Compare(t, g.config(name), g.traffic(t, name, 1+g.IntN(100)), all...)
				if results != nil {
					accepted++
				}
				for _, r := range results {
					seen[r.Verdict]++
				}
			}
			t.Logf("verdicts %v, %d of %d configurations accepted", seen, accepted, rounds)
			if seen[packet.Next] == 0 || seen[packet.Drop] == 0 != neverDrops[name] || len(seen) > 2 || accepted == rounds {
				t.Errorf("verdicts %v, %d of %d configurations accepted: too narrow a world", seen, accepted, rounds)
			}
		})
	}
}

// neverDrops are functions that only watch.
var neverDrops = map[string]bool{"flowstat": true}

// TestNoUndefinedBehaviour runs random cases on builds that stop the process at
// the first overflow, misaligned access or index out of bounds.
func TestNoUndefinedBehaviour(t *testing.T) {
	seed := testSeed(t)
	for _, name := range native.Names() {
		t.Run(name, func(t *testing.T) {
			checked := newCompiled(t, name, "-fsanitize=undefined", "-fsanitize-trap=undefined")
			for i := range uint64(100) {
				g := newGen(seed + i)
				Compare(t, g.config(name), g.traffic(t, name, 1+g.IntN(100)), newReference(t, name), checked)
			}
		})
	}
}

// The fuzz targets take a seed for a whole case, and bytes that stand in for a
// configuration, a frame and what the parser found.

func fuzz(f *testing.F, name string) {
	for _, config := range configs[name] {
		f.Add(uint64(len(config)), []byte(config), Spec{Src: newGen(1).addr(false), Dst: newGen(2).addr(false),
			Proto: packet.ProtoUDP, DPort: 53, Payload: newGen(3).query()}.Frame(), uint16(14), uint16(34), uint8(17), uint16(1))
	}
	all := runners(f, name)
	f.Fuzz(func(t *testing.T, seed uint64, config, frame []byte, l3, l4 uint16, proto uint8, flags uint16) {
		g := newGen(seed)
		Compare(t, g.config(name), g.traffic(t, name, 10), all...)
		if len(frame) < packet.MinFrame || len(config) > 1<<16 {
			return
		}
		frame = frame[:min(len(frame), packet.MaxFrame)]
		now := g.Uint64()
		packets := []Packet{NewPacket(frame, now), {Frame: frame, L3: l3, L4: l4, Proto: proto, Flags: flags, RxNs: now, Flow: 1}}
		packets[0].Flow = 1
		Compare(t, config, append(packets, g.traffic(t, name, 10)...), all...)
	})
}

func FuzzACL(f *testing.F)       { fuzz(f, "acl") }
func FuzzRateLimit(f *testing.F) { fuzz(f, "ratelimit") }
func FuzzFirewall(f *testing.F)  { fuzz(f, "firewall") }
func FuzzFlowStat(f *testing.F)  { fuzz(f, "flowstat") }
func FuzzHop(f *testing.F)       { fuzz(f, "hop") }
func FuzzLB4(f *testing.F)       { fuzz(f, "lb4") }
func FuzzNAT44(f *testing.F)     { fuzz(f, "nat44") }
func FuzzDNSGuard(f *testing.F)  { fuzz(f, "dnsguard") }
