package route

import (
	"math/bits"
)

// Verdict says what became of a frame.
type Verdict uint8

const (
	// Ready: the frame bears the addresses of its next hop and may be sent.
	Ready Verdict = iota
	// NoRoute: no route to the destination leaves by the port, a route forbids
	// it, the link is down, or the frame is no IP.
	NoRoute
	// NoNeighbour: the next hop's Ethernet address is not known. The kernel
	// has been asked to find it.
	NoNeighbour
	// Local: the destination is an address of this host.
	Local
)

func (v Verdict) String() string {
	return [...]string{"ready", "no route", "no neighbour", "local"}[v&3]
}

// View is one worker's way to a [Table]. Only one goroutine may use it.
type View struct {
	table *Table
	cache []entry
	shift int // of a hash, to an index in cache
	ring  ring
}

// entry remembers where a destination goes, as of one generation.
type entry struct {
	dst        key
	generation uint32 // 0 for none
	port       int16
	verdict    Verdict
	macs       [12]byte // destination and source, as in the header
}

func newView(t *Table) *View {
	n := bits.Len(uint(max(t.opts.Cache, 2) - 1))
	return &View{table: t, cache: make([]entry, 1<<n), shift: 32 - n}
}

// Rewrite makes a frame ready to leave by a port: it looks up the destination of
// the IP header at l3, which is not changed, and writes the Ethernet addresses
// of next hop and port. VLAN tags and the EtherType stay. Any verdict but Ready
// leaves the frame as it was.
//
// It takes no lock and does not allocate. It makes no system call unless it has
// to wake the table's goroutine for a next hop that is not known.
func (v *View) Rewrite(port int, frame []byte, l3 int) Verdict {
	dst, ok := destination(frame, l3)
	if !ok {
		return NoRoute
	}
	s := v.table.current.Load()
	e := &v.cache[(spread(dst)+uint32(port)*0x9e3779b1)>>v.shift]
	if e.dst != dst || e.generation != s.generation || int(e.port) != port {
		v.fill(e, s, port, dst)
	}
	if e.verdict == Ready {
		copy(frame, e.macs[:])
	}
	return e.verdict
}

// fill looks a destination up and remembers the answer. Where a neighbour is
// missing or to be confirmed, it asks once per generation: when what is known of
// the neighbour changes, there is a new one.
func (v *View) fill(e *entry, s *snapshot, port int, dst key) {
	if uint(port) >= uint(len(s.ports)) {
		*e = entry{verdict: NoRoute}
		return
	}
	p := &s.ports[port]
	a := p.resolve(dst)
	*e = entry{dst: dst, generation: s.generation, port: int16(port), verdict: a.verdict}
	copy(e.macs[:6], a.mac[:])
	copy(e.macs[6:], p.mac[:])
	if !a.ask {
		return
	}
	if !v.ring.put(question{port: port, addr: a.via}) {
		e.generation = 0 // the next packet asks again
	}
	v.table.wake.ifAsleep()
}
