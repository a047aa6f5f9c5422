package route

import "slices"

// snapshot is a picture of a namespace's routes and neighbours. Immutable.
type snapshot struct {
	generation uint32
	ports      []portRoutes
	of         *int // the first of the interfaces of which it is; nil for none
}

// portRoutes is what concerns one port.
type portRoutes struct {
	// up says that the link is up. A port that is not has no routes.
	up  bool
	mac [6]byte
	// ranges gives the index in routes.
	ranges     ranges
	routes     []route
	hops       []hop
	neighbours []neighbour // ascending by address
}

// route is what becomes of the packets of a prefix.
type route struct {
	kind routeKind
	// first and n are the hops, of which a destination always takes the same.
	first, n int32
}

type routeKind uint8

const (
	routeUnicast routeKind = iota
	routeReject            // blackhole, unreachable, prohibit
	routeLocal             // an address of the namespace's own
)

// hop is a next hop: a gateway, or the destination itself.
type hop struct {
	direct  bool
	gateway key
}

// neighbour is an entry of the kernel's neighbour table that can be used.
type neighbour struct {
	addr key
	mac  [6]byte
	// stale says that the kernel is to confirm it when it is used.
	stale bool
}

// equal reports whether workers would do the same with either picture.
func (s *snapshot) equal(o *snapshot) bool {
	return slices.EqualFunc(s.ports, o.ports, func(a, b portRoutes) bool {
		return a.up == b.up && a.mac == b.mac &&
			slices.Equal(a.ranges.starts, b.ranges.starts) && slices.Equal(a.ranges.values, b.ranges.values) &&
			slices.Equal(a.routes, b.routes) && slices.Equal(a.hops, b.hops) && slices.Equal(a.neighbours, b.neighbours)
	})
}

// answer is what a picture says of a destination.
type answer struct {
	verdict Verdict
	// ask says that the kernel is to be asked for via.
	ask bool
	via key
	mac [6]byte // of the next hop
}

// resolve finds out where packets to dst go from here.
func (p *portRoutes) resolve(dst key) (a answer) {
	if !p.up {
		return answer{verdict: NoRoute}
	}
	if mac, ok := dst.multicast(); ok {
		return answer{verdict: Ready, mac: mac}
	}
	at := p.ranges.lookup(dst)
	if at == none || p.routes[at].kind == routeReject {
		return answer{verdict: NoRoute}
	}
	r := &p.routes[at]
	if r.kind == routeLocal {
		return answer{verdict: Local}
	}
	h := &p.hops[r.first+int32(spread(dst)%uint32(r.n))]
	a.via = h.gateway
	if h.direct {
		a.via = dst
	}
	if n := p.neighbour(a.via); n != nil {
		a.verdict, a.mac, a.ask = Ready, n.mac, n.stale
	} else {
		a.verdict, a.ask = NoNeighbour, true
	}
	return a
}

// neighbour returns the entry of an address, nil when there is none.
func (p *portRoutes) neighbour(addr key) *neighbour {
	at, n := 0, len(p.neighbours)
	for n > 0 {
		half := n / 2
		if p.neighbours[at+half].addr.less(addr) {
			at += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	if at < len(p.neighbours) && p.neighbours[at].addr == addr {
		return &p.neighbours[at]
	}
	return nil
}

// spread is a hash of an address (Fibonacci hashing; Knuth, The Art of Computer
// Programming, volume 3, section 6.4).
func spread(k key) uint32 {
	const golden = 0x9e3779b97f4a7c15
	return uint32(((k.hi^k.hi>>32)*golden ^ k.lo) * golden >> 32)
}
