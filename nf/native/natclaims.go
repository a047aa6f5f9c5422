package native

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
)

// natKey is the key of a claim.
func natKey(parts ...any) (hi, lo uint64) {
	h := fnv.New128a()
	fmt.Fprintln(h, parts...)
	sum := h.Sum(nil)
	return binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])
}

func natValue(e netip.AddrPort) uint64 {
	a := e.Addr().As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<16 | uint64(e.Port()) | 1<<63
}

// find returns the end that is claimed under a key.
func (v *view) find(parts ...any) (e netip.AddrPort, ok bool) {
	value := v.host.ClaimFind(natKey(parts...))
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(value>>16)))), uint16(value)), value != 0
}

// mapped returns the inside end of an outside one.
func (n *nat44) mapped(p *view, proto uint8, outside netip.AddrPort) (netip.AddrPort, bool) {
	return p.find("mapped", proto, outside)
}

// admits says whether the filter lets a remote host begin.
func (n *nat44) admits(p *view, proto uint8, outside netip.AddrPort, remote netip.Addr) bool {
	_, permitted := p.find("permitted", proto, outside, remote)
	return n.filtering == "endpoint_independent" || n.filtering == "address_dependent" && permitted
}

// existing returns the outside end that an inside one has.
func (n *nat44) existing(p *view, inside netip.AddrPort) (netip.AddrPort, bool) {
	if n.filtering != "address_dependent" {
		return p.find("owner", p.Proto, inside)
	}
	addr, ports := n.candidates(p.Proto, inside)
	for _, port := range ports {
		outside := netip.AddrPortFrom(addr, port)
		if to, ok := n.mapped(p, p.Proto, outside); ok && to == inside {
			return outside, true
		}
	}
	return netip.AddrPort{}, false
}

// fresh takes an outside end for an inside one.
func (n *nat44) fresh(p *view, inside netip.AddrPort, remote netip.Addr) (outside netip.AddrPort, reason uint16) {
	addr, ports := n.candidates(p.Proto, inside)
	for _, port := range ports {
		outside = netip.AddrPortFrom(addr, port)
		switch got := n.hold(p, inside, outside, remote); got {
		case BindOK:
			return outside, 0
		case BindTaken:
		default:
			return outside, natRefusal(got)
		}
	}
	return outside, natExhausted
}

// hold has the packet's flow hold a mapping: two claims. BindTaken says that the
// outside end is another's.
func (n *nat44) hold(p *view, inside, outside netip.AddrPort, remote netip.Addr) int32 {
	claim := func(value netip.AddrPort, parts ...any) int32 {
		hi, lo := natKey(parts...)
		return p.host.Claim(p.index, hi, lo, natValue(value))
	}
	switch got := claim(inside, "mapped", p.Proto, outside); got {
	case BindOK:
	case BindLimit: // it holds this one, or there is something else under the key
		if to, ok := n.mapped(p, p.Proto, outside); !ok || to != inside {
			return BindLimit
		}
		return BindOK
	default:
		return got
	}
	second := BindOK
	if n.filtering == "address_dependent" {
		second = claim(inside, "permitted", p.Proto, outside, remote)
	} else {
		second = claim(outside, "owner", p.Proto, inside)
	}
	switch second {
	case BindTaken:
		return BindFull
	case BindLimit:
		return BindOK
	}
	return second
}
