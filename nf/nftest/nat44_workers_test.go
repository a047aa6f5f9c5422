package nftest

import (
	"fmt"
	"net/netip"
	"testing"

	"sfc/dataplane/packet"
)

// sentAs is what a frame shows as its source.
func sentAs(frame []byte) netip.AddrPort {
	in, _ := packet.Parse(frame)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(in.Src[:4])), in.SrcPort)
}

// TestNAT44Workers runs two workers of one chain, which know nothing of each
// other but what flows hold: an inside end has the same outside end on both, no
// two inside ends have the same, and a mapping outlives the flow that made it.
func TestNAT44Workers(t *testing.T) {
	for _, filtering := range []string{"endpoint_independent", "address_dependent"} {
		t.Run(filtering, func(t *testing.T) {
			a, b := newSandboxed(t, "nat44"), newSandboxed(t, "nat44")
			config := []byte(natWith(`,"ports":"2000-2199","filtering":"` + filtering + `"`))
			if err := a.Configure(config); err != nil {
				t.Fatal(err)
			}
			b.Limit(Room{beside: a.w.live})
			if err := b.Configure(config); err != nil {
				t.Fatal(err)
			}
			inside := map[netip.AddrPort]string{}
			for i := range 300 {
				worker := []*Sandboxed{a, b}[i/50%2] // every end begins on one and comes to the other
				src := fmt.Sprintf("10.0.0.%d:%d", i%50, 2000+i%3)
				got := worker.Process([]Packet{NewPacket(frame4(udpProto, src, fmt.Sprintf("192.0.2.%d:%d", i%7, 1+i)), 1e9)})[0]
				if got.Verdict != packet.Next {
					t.Fatalf("packet %d: reason %d", i, got.Reason)
				}
				out := sentAs(got.Frame)
				if other, ok := inside[out]; ok && other != src {
					t.Fatalf("%v is %s and %s", out, other, src)
				}
				inside[out] = src
			}
			ends := map[string]bool{}
			for _, src := range inside {
				if ends[src] {
					t.Errorf("%s has two outside ends", src)
				}
				ends[src] = true
			}
			if err := b.Close(); err != nil { // its flows end
				t.Error(err)
			}
			for out, src := range inside {
				got := a.Process([]Packet{NewPacket(frame4(udpProto, src, "192.0.2.99:9"), 1e9)})[0]
				if got.Verdict != packet.Next || sentAs(got.Frame) != out {
					t.Errorf("%s is %v now, reason %d; want %v", src, sentAs(got.Frame), got.Reason, out)
				}
			}
		})
	}
}

// TestNAT44Reconfigured changes the pool under flows: those that there are keep
// their address, also for new destinations; others get one of the new pool. A
// configuration that is refused changes nothing.
func TestNAT44Reconfigured(t *testing.T) {
	for _, r := range runners(t, "nat44") {
		t.Run(fmt.Sprintf("%T", r), func(t *testing.T) {
			out := func(src, dst string) string {
				got := r.Process([]Packet{NewPacket(frame4(tcpProto, src, dst), 1e9)})[0]
				if got.Verdict != packet.Next {
					return fmt.Sprint("reason ", got.Reason)
				}
				return sentAs(got.Frame).String()
			}
			same := func(got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if err := r.Configure([]byte(natWith(""))); err != nil {
				t.Fatal(err)
			}
			same(out("10.0.0.5:4000", "192.0.2.9:80"), "203.0.113.1:4000")
			if err := r.(Reconfigurer).Reconfigure([]byte(`{"inside":["10.0.0.0/8"],"pool":["203.0.113.2"]}`)); err != nil {
				t.Fatal(err)
			}
			same(out("10.0.0.5:4000", "192.0.2.9:80"), "203.0.113.1:4000")
			same(out("10.0.0.5:4000", "192.0.2.9:81"), "203.0.113.1:4000")
			same(out("10.0.0.6:4000", "192.0.2.9:80"), "203.0.113.2:4000")
			if r.(Reconfigurer).Reconfigure([]byte(`{"inside":["10.0.0.0/8"],"pool":["10.0.0.1"]}`)) == nil {
				t.Error("a pool that is inside was accepted")
			}
			same(out("10.0.0.7:4001", "192.0.2.9:80"), "203.0.113.2:4001")
			same(out("192.0.2.9:80", "203.0.113.1:4000"), "192.0.2.9:80") // an answer
		})
	}
}
