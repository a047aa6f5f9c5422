package flow

import (
	"sfc/dataplane/packet"
)

// FragmentCounters count what a [Reader] saw of fragments.
type FragmentCounters struct {
	First    uint64 // first fragments, whose tuple was noted
	Resolved uint64 // later fragments whose first one was known
	Unknown  uint64 // later fragments whose first one was not
	Lost     uint64 // notes given up for newer ones before their time
}

// fragments remembers by addresses and identification the tuple that a first
// fragment showed. It is a cache of fixed size: 4 notes a set, the oldest gives
// way.
//
// It keeps the tuple and not the flow's slot, so it knows nothing of slots and
// their reuse, and a flow may move to another worker between two fragments.
type fragments struct {
	notes   []fragment // len is a power of two, at least ways
	mask    uint32     // number of sets - 1
	timeout int32      // ms
	count   FragmentCounters
}

const ways = 4

// fragment is a note, one cache line. addrs and id are what it is found by.
type fragment struct {
	addrs [4]uint64 // source, destination, as in key
	word  uint64    // word 4 of the tuple's key, and noteSwap
	hash  uint32    // of the tuple
	at    uint32    // ms
	id    fragmentID
	path  uint16
}

// fragmentID tells fragmented packets between two addresses apart. IPv6 leaves
// the protocol out: only the first fragment is bound to name it (RFC 8200
// section 4.5). Tenants may use the same addresses, on links of their own.
type fragmentID struct {
	hi, lo     uint16 // identification; 16 bits in IPv4
	port, vlan uint16
	proto      uint8
	ip         uint8 // 4, 6, or 0: the note is free
}

// noteSwap, in fragment.word: the source is the key's higher end.
const noteSwap = 1 << 63

func newFragments(n uint32, timeout int32) fragments {
	size := uint32(ways)
	for size < n {
		size *= 2
	}
	return fragments{notes: make([]fragment, size), mask: size/ways - 1, timeout: timeout}
}

// identify reads from the IP header h what a packet's fragments share, and its
// hash, which is never 0; ok is false when the fragment header is not there.
func identify(secret [2]uint64, h []byte, m *packet.Meta, ipv4 bool) (addrs [4]uint64, id fragmentID, hash uint32, ok bool) {
	id = fragmentID{port: m.Port, ip: 4}
	if m.Flags&packet.FlagVLAN != 0 {
		id.vlan = m.VLAN
	}
	var k key
	if ipv4 {
		id.lo, id.proto = be16(h[4:]), m.Proto
		src, dst := le32(h[12:]), le32(h[16:])
		addrs[0], addrs[2] = uint64(src), uint64(dst)
		k.setV4(endV4(src, id.lo), endV4(dst, 0), lastWord(4, id.proto, 0))
	} else {
		id.ip = 6
		if id.hi, id.lo, ok = fragmentHeader(h); !ok {
			return addrs, id, 0, false
		}
		addrs = [4]uint64{le64(h[8:]), le64(h[16:]), le64(h[24:]), le64(h[32:])}
		k.setV6(addrs[0], addrs[1], addrs[2], addrs[3], id.lo, id.hi, lastWord(6, 0, 0))
	}
	return addrs, id, max(k.hash(secret), 1), true
}

// fragmentHeader returns the identification in the fragment header of the IPv6
// packet h.
func fragmentHeader(h []byte) (hi, lo uint16, ok bool) {
	proto, rest := h[6], h[packet.IPv6Len:]
	for range maxExtHeaders + 1 {
		size, ext := extHeaderSize(proto, rest)
		if !ext || size > len(rest) {
			return 0, 0, false
		}
		if proto == packet.ProtoFragment {
			return be16(rest[4:]), be16(rest[6:]), true
		}
		proto, rest = rest[0], rest[size:]
	}
	return 0, 0, false
}

// note remembers the tuple of a first fragment.
func (f *fragments) note(secret [2]uint64, h []byte, m *packet.Meta, ipv4 bool, q *Query) {
	addrs, id, hash, ok := identify(secret, h, m, ipv4)
	if !ok {
		return
	}
	f.count.First++
	q.group = hash
	set := f.set(hash)
	victim, age := 0, int32(-1)
	for i := range set {
		n := &set[i]
		if n.id == id && n.addrs == addrs {
			victim, age = i, -1
			break
		}
		idle := f.timeout
		if n.id.ip != 0 {
			idle = f.idle(n, q.at)
		}
		if idle > age {
			victim, age = i, idle
		}
	}
	if age >= 0 && age < f.timeout {
		f.count.Lost++
	}
	set[victim] = fragment{
		addrs: addrs, id: id,
		word: q.key[4] | uint64(q.swap())*noteSwap,
		hash: q.hash, at: q.at, path: q.path,
	}
}

// resolve gives a later fragment the tuple of its first one.
func (f *fragments) resolve(secret [2]uint64, h []byte, m *packet.Meta, ipv4 bool, q *Query) {
	q.none()
	addrs, id, hash, ok := identify(secret, h, m, ipv4)
	if !ok {
		return
	}
	q.group = hash
	set := f.set(hash)
	for i := range set {
		n := &set[i]
		if n.id != id || n.addrs != addrs || f.idle(n, q.at) >= f.timeout {
			continue
		}
		f.count.Resolved++
		q.kind = LaterFragment
		q.fromNote(n)
		return
	}
	f.count.Unknown++
	q.kind = UnknownFragment
}

// fromNote rebuilds the tuple of a first fragment.
func (q *Query) fromNote(n *fragment) {
	a, b := [2]uint64(n.addrs[:2]), [2]uint64(n.addrs[2:])
	if n.word&noteSwap != 0 {
		a, b = b, a
		q.bits = querySwap
	}
	if n.id.ip == 4 {
		q.key[0] = a[0] | b[0]<<32
	} else {
		q.key[0], q.key[1], q.key[2], q.key[3] = a[0], a[1], b[0], b[1]
	}
	q.key[4] = n.word &^ noteSwap
	q.hash, q.path = n.hash, n.path
}

// idle returns the age of a note in ms, at most the timeout. Packets are not
// quite in order of time: a note from the near future is new, one from further
// away is left over from before the clock was set back.
func (f *fragments) idle(n *fragment, at uint32) int32 {
	d := int32(at - n.at)
	if d >= f.timeout || d <= -f.timeout {
		return f.timeout
	}
	return max(d, 0)
}

// set returns the notes that a hash may be among.
func (f *fragments) set(hash uint32) []fragment {
	i := (hash & f.mask) * ways
	return f.notes[i : i+ways]
}
