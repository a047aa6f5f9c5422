package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sfc/chains"
	"sfc/dataplane/packet"
	"sfc/testbed/gate"
	"sfc/testbed/trafgen"
)

// statefulPeers compares forwarders that follow flows: a router whose firewall
// accepts what belongs to a flow and asks 100 rules about what begins one, and
// which puts its own address in the place of the source's. Linux does it with
// nftables, this engine with firewall and nat44; the whole example chain counts
// flows and limits them on top. testpmd and Linux forwarding do none of it.
//
// All flows are begun and answered before anything is measured, so that they are
// established; what is measured goes one way only, from gen to sink.
func statefulPeers(t *testing.T, rounds int) {
	gate.Tool(t, "nft")
	ps := []peer{
		{name: "Linux nftables", start: func(t *testing.T, w *peerWorld) (func(), func() time.Duration) { return startNftables(t, w, false) }, follows: true},
		{name: "Linux nftables, flowtable", start: func(t *testing.T, w *peerWorld) (func(), func() time.Duration) { return startNftables(t, w, true) }, follows: true},
		{name: "Linux forwarding", start: startLinux},
		{name: "dpdk-testpmd io", start: startTestpmd},
		{name: "sfc, firewall and nat44", start: func(t *testing.T, w *peerWorld) (func(), func() time.Duration) { return startStateful(t, w, false) }, follows: true},
		{name: "sfc, stateful chain", start: func(t *testing.T, w *peerWorld) (func(), func() time.Duration) { return startStateful(t, w, true) }, follows: true},
	}
	for _, flows := range []int{1 << 10, peerFlows} {
		for _, size := range []int{64, 1500} {
			compare(t, ps, rounds, fmt.Sprintf("stateful, %d-byte packets, %d flows", size, flows), func(p peer) load {
				return load{
					frame: func(w *peerWorld) []byte { return flowFrame(w, size, 0) },
					flows: flows, spread: true, open: p.follows,
				}
			})
		}
	}
}

// peerFlows is the largest number of flows: 4,096 ports of 32 addresses, each of
// which has a destination of its own.
const peerFlows = 1 << 17

// What the flows' tuples begin with, see bpf.GeneratorOptions.
const (
	flowSrc, flowDst     = 10<<24 | 1<<16 | 1, 10<<24 | 2<<16 | 1
	flowSport, flowDport = 20000, 30000
	flowPorts            = 4096
)

// flowFrame is the first packet of a flow, to the router.
func flowFrame(w *peerWorld, size, flow int) []byte {
	f := make([]byte, packet.MaxFrame)
	k := newKind(packet.ProtoUDP, size, 0, 0, 0)
	if size > 1000 {
		k = newKind(packet.ProtoUDP, size+4, 0, 0, 0) // 1,500 without the FCS
	}
	high := uint32(flow / flowPorts)
	f = k.frame(tuple{flowSrc + high, flowDst + high, uint16(flowSport + flow%flowPorts), flowDport}, f)
	copy(f, w.in.MAC)
	copy(f[6:], w.g0.MAC)
	return f
}

// startNftables makes Linux a router with a stateful firewall and masquerading.
// With a flowtable, packets of established flows leave out most of the stack.
func startNftables(t *testing.T, w *peerWorld, flowtable bool) (func(), func() time.Duration) {
	t.Helper()
	stop, busy := startLinux(t, w)
	var rules strings.Builder
	for i := range 99 {
		fmt.Fprintf(&rules, "ip saddr 172.%d.%d.0/24 ip daddr 10.%d.0.0/16 %s dport %d-%d drop\n",
			16+i%16, i, i, []string{"tcp", "udp"}[i%2], 1000+i, 2000+i)
	}
	table, add := "", ""
	if flowtable {
		table = "flowtable fast { hook ingress priority 0; devices = { in, out }; }"
		add = "ct state established flow add @fast"
	}
	script := fmt.Sprintf(`nft -f - <<'END'
table ip bench {
%s
chain forward {
type filter hook forward priority 0; policy drop;
%s
ct state vmap { established : accept, related : accept, invalid : drop }
%sip saddr 10.0.0.0/8 accept
}
chain source {
type nat hook postrouting priority srcnat;
oifname "out" masquerade
}
}
END
test "$(sysctl -n net.netfilter.nf_conntrack_max)" -ge %d`, table, add, rules.String(), peerFlows)
	if err := w.dut.Do(func() error { return sh(script) }); err != nil {
		stop()
		t.Fatal(err)
	}
	return stop, busy
}

// startStateful makes this engine that router.
func startStateful(t *testing.T, w *peerWorld, all bool) (func(), func() time.Duration) {
	t.Helper()
	if err := w.dut.Do(func() error { return addressed(w) }); err != nil {
		t.Fatal(err)
	}
	functions := []chains.FunctionSpec{
		function(t, "firewall", hundredRules()),
		// As masquerading does: the same port where it is free for the destination.
		function(t, "nat44", `{"inside":["10.1.0.0/16"],"pool":["10.0.1.254"],"mapping":"address_and_port_dependent"}`),
	}
	if all {
		functions = append(functions, statefulChain(t, "ratelimit")[0], statefulChain(t, "flowstat")[0])
	}
	spec := twoWays("bench", peerFlows+peerFlows/8, functions...)
	spec.Unmatched = chains.UnmatchedPass
	return startEngine(t, w, true, []chains.Spec{spec})
}

// openWindow is how many flows are begun at a time: less than any ring holds.
const openWindow = 32

// openFlows begins every flow with a packet, and sends its answer back, until all
// answers have come through.
func openFlows(t *testing.T, w *peerWorld, name string, l load) {
	t.Helper()
	o := opener{w: w, answered: make([]bool, l.flows)}
	o.send, o.back = must(trafgen.OpenSender(w.g0))(t), must(trafgen.OpenSender(w.s0))(t)
	defer o.send.Close()
	defer o.back.Close()
	o.home, o.far = must(trafgen.OpenReceiver(w.g0))(t), must(trafgen.OpenReceiver(w.s0))(t)
	defer o.home.Close()
	defer o.far.Close()
	for try := 0; o.n < l.flows; try++ {
		if try == 10 {
			t.Fatalf("%s: %d of %d flows were answered", name, o.n, l.flows)
		}
		for from := 0; from < l.flows; from += openWindow {
			if err := o.window(from, min(from+openWindow, l.flows)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// opener is both ends of flows that begin.
type opener struct {
	w          *peerWorld
	send, back *trafgen.Sender
	home, far  *trafgen.Receiver
	answered   []bool
	n          int
}

// window begins some flows and waits for their answers, but not for long.
func (o *opener) window(from, to int) error {
	var frames [][]byte
	for flow := from; flow < to; flow++ {
		if !o.answered[flow] {
			frames = append(frames, flowFrame(o.w, 64, flow))
		}
	}
	want := o.n + len(frames)
	for len(frames) > 0 {
		n, err := o.send.Send(frames)
		if err != nil {
			return err
		}
		frames = frames[n:]
	}
	for o.n < want {
		arrived, err := trafgen.Wait(50*time.Millisecond, o.far, o.home)
		if err != nil || !arrived {
			return err // what is missing comes in the next round
		}
		if err := o.answer(); err != nil {
			return err
		}
		if err := o.welcome(); err != nil {
			return err
		}
	}
	return nil
}

// isFlow says that a frame is of UDP, and no noise of the kernel's.
func isFlow(f []byte) bool {
	return len(f) >= l4At+packet.UDPLen && f[12] == 8 && f[13] == 0 && f[ipAt] == 0x45 && f[ipAt+9] == packet.ProtoUDP
}

// answer sends back what has come to the far end.
func (o *opener) answer() error {
	frames, err := o.far.Receive()
	if err != nil {
		return err
	}
	var out [][]byte
	for _, f := range frames {
		if !isFlow(f) {
			continue
		}
		swap(f[:6], f[6:12])
		swap(f[addrsAt:addrsAt+4], f[addrsAt+4:addrsAt+8])
		swap(f[l4At:l4At+2], f[l4At+2:l4At+4])
		out = append(out, f)
	}
	for len(out) > 0 {
		n, err := o.back.Send(out)
		if err != nil {
			return err
		}
		out = out[n:]
	}
	return nil
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// welcome notes which answers have come home.
func (o *opener) welcome() error {
	frames, err := o.home.Receive()
	if err != nil {
		return err
	}
	for _, f := range frames {
		if !isFlow(f) {
			continue
		}
		t := tupleOf(f)
		if flow := int(t.dst-flowSrc)*flowPorts + int(t.dport) - flowSport; flow >= 0 && flow < len(o.answered) && !o.answered[flow] {
			o.answered[flow] = true
			o.n++
		}
	}
	return nil
}
