package abuse

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"sfc/dataplane/packet"
)

// kind is whose packet it is.
type kind uint8

const (
	setup  kind = iota // of handshakes, before an attack
	talk               // of established flows
	attack             // of the attacker
	others             // of further traffic that a test tells apart
	numKinds
)

func (k kind) String() string { return [...]string{"setup", "talk", "attack", "others"}[k] }

// record is what is known of a packet.
type record struct {
	fate atomic.Uint32 // 0: under way
	ref  uint32        // the sender's own
	kind kind
}

// hopRing is the Hop of packets that found their RX ring full: the kernel's
// loss, which no worker sees.
const hopRing = 0xfe

// A fate is an outcome in a word: known, verdict, hop, fault and reason.
const known = 1 << 31

func fateOf(o packet.Outcome) uint32 {
	return known | uint32(o.Verdict)<<24 | uint32(o.Hop)<<16 | uint32(o.Fault&1)<<15 | uint32(o.Reason)&0x7fff
}

func outcomeOf(fate uint32) packet.Outcome {
	return packet.Outcome{
		Verdict: packet.Verdict(fate >> 24 & 0x7f), Hop: uint8(fate >> 16), Fault: uint8(fate >> 15 & 1), Reason: uint16(fate & 0x7fff),
	}
}

func engineDrop(r packet.Reason) packet.Outcome {
	return packet.Outcome{Verdict: packet.Drop, Hop: packet.HopEngine, Reason: uint16(r)}
}

// meet notes a packet's fate.
func (b *bed) meet(seq uint32, o packet.Outcome) {
	if int(seq) >= len(b.records) || !b.records[seq].fate.CompareAndSwap(0, fateOf(o)) {
		b.twice.Add(1)
		return
	}
	b.settled.Add(1)
}

// fate returns what became of a packet; ok is false while it is under way.
func (b *bed) fate(seq uint32) (o packet.Outcome, ok bool) {
	f := b.records[seq].fate.Load()
	return outcomeOf(f), f != 0
}

// watcher is a worker's observer: it tells the bed what becomes of packets.
type watcher struct{ b *bed }

// Received implements dataplane.Observer: functions' time is the packets'.
func (w *watcher) Received(b *packet.Burst) { b.NowNs = b.TimeNs[b.N-1] }

// Decided implements dataplane.Observer.
func (w *watcher) Decided(b *packet.Burst, region []byte) {
	for k := range int(b.N) {
		o := b.Out[k]
		if o.Verdict == packet.Abort {
			o.Verdict = packet.Drop
		}
		if o.Verdict == packet.Tx && w.b.seen != nil {
			r := &w.b.records[b.Seq[k]]
			w.b.seen(r.ref, r.kind, o.Port, b.Frames[k].Bytes(region))
		}
		w.b.meet(b.Seq[k], o)
	}
}

// Sent implements dataplane.Observer.
func (w *watcher) Sent([]uint64, uint64) {}

// TxFull implements dataplane.Observer; ports in memory take everything, so a
// call shows as a second fate.
func (w *watcher) TxFull(seq uint32, _ uint16) { w.b.meet(seq, engineDrop(packet.ReasonTxFull)) }

// Dropped implements dataplane.Observer.
func (w *watcher) Dropped(m packet.Meta, r packet.Reason) { w.b.meet(m.Seq, engineDrop(r)) }

// Unknown implements dataplane.Observer.
func (w *watcher) Unknown(seq uint32) { w.b.meet(seq, engineDrop(packet.ReasonNoPath)) }

// account is what became of the packets of a kind.
type account struct {
	sent, received, passed, lost int
	dropped                      map[string]int // by reason
}

// account returns what became of the packets of a kind from number first on.
func (b *bed) account(k kind, first uint32) account {
	a := account{dropped: map[string]int{}}
	reasons := map[uint32]int{}
	for i := first; i < b.offered; i++ {
		r := &b.records[i]
		if r.kind != k {
			continue
		}
		a.sent++
		f := r.fate.Load()
		switch o := outcomeOf(f); {
		case f == 0:
			a.lost++
		case o.Verdict == packet.Tx:
			a.received++
		case o.Verdict == packet.Pass:
			a.passed++
		default:
			reasons[f]++
		}
	}
	for f, n := range reasons {
		a.dropped[b.reason(f)] += n
	}
	return a
}

// reason names why a packet was dropped.
func (b *bed) reason(fate uint32) string {
	o := outcomeOf(fate)
	if o.Hop == hopRing {
		return "rx_full"
	}
	return b.e.ReasonName(0, o)
}

// drops is how many were dropped, for whatever reason.
func (a account) drops() (n int) {
	for _, d := range a.dropped {
		n += d
	}
	return n
}

func (a account) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "sent %d = received %d + passed %d + dropped %d", a.sent, a.received, a.passed, a.drops())
	for _, r := range slices.Sorted(maps.Keys(a.dropped)) {
		fmt.Fprintf(&s, ", %s %d", r, a.dropped[r])
	}
	return s.String()
}

// checkBooks checks, after the engine has stopped, that every packet met one
// fate and that the workers counted the same.
func (b *bed) checkBooks() {
	b.tb.Helper()
	var sum account
	rings := 0
	for k := range numKinds {
		a := b.account(k, 0)
		if a.sent != a.received+a.passed+a.drops() {
			b.tb.Errorf("%v: %d packets are lost without a reason: %v", k, a.lost, a)
		}
		sum.sent, sum.received, sum.passed = sum.sent+a.sent, sum.received+a.received, sum.passed+a.passed
		rings += a.dropped["rx_full"]
	}
	if n := b.twice.Load(); n != 0 {
		b.tb.Errorf("%d packets met more than one fate", n)
	}
	sent, in, out := uint64(0), uint64(0), uint64(0)
	for _, c := range b.e.Workers() {
		sent, in, out = sent+c.Sent, in+c.HandedIn, out+c.HandedOut
	}
	if sent != uint64(sum.received) || in != out {
		b.tb.Errorf("workers sent %d packets, %d were received; they handed out %d and took %d", sent, sum.received, out, in)
	}
	if err := b.e.VerifyFlows(); err != nil {
		b.tb.Error(err)
	}
}
