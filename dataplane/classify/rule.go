// Package classify decides which service path claims a packet: an ordered list
// of rules, compiled into tables that find the first match in a few memory
// accesses, however many rules there are. The steering program runs the same
// tables in the kernel (bpf/steer_classify.h); [Table.Lookup] is its oracle and
// serves replays that run without the kernel.
//
// The method is the aggregated bit vector (Baboescu and Varghese, SIGCOMM
// 2001): each header field on its own selects a vector with one bit per rule,
// and the first bit set in all of them is the first rule that matches.
package classify

import (
	"errors"
	"fmt"
	"net/netip"

	"sfc/dataplane/packet"
)

const (
	// MaxRules is the most rules in a table: one bit each in 64 words, so that
	// one more word can summarise them.
	MaxRules = 4096
	// MaxPorts is how many ingress ports rules can tell apart.
	MaxPorts = 64
	// AnyVLAN and AnyProto match every packet.
	AnyVLAN  = -1
	AnyProto = -1
)

// PortRange is a range of transport ports, both ends included. The zero value
// matches every packet; any other range only packets that show their ports:
// TCP, UDP and SCTP, and of a fragmented packet only the first part.
type PortRange struct{ Lo, Hi uint16 }

// Any reports whether the range is the zero value.
func (r PortRange) Any() bool { return r == PortRange{} }

// Rule says which packets take a service path: those that agree with every
// field. Mind that the zero value of VLAN is "untagged" and of Proto is
// protocol 0; use AnyVLAN and AnyProto.
type Rule struct {
	// Path is the index of the service path, returned by Lookup.
	Path uint16
	// Ports has bit i set for ingress port i; 0 means any port.
	Ports uint64
	// VLAN is AnyVLAN, 0 for frames without a tag or with a priority tag, or
	// the outermost VLAN id, 1 to 4094.
	VLAN int
	// Family is 0 for both, 4 or 6.
	Family uint8
	// Src and Dst are prefixes; the zero value matches every address. Bits
	// behind the prefix length are ignored.
	Src, Dst netip.Prefix
	// Proto is AnyProto or an IANA protocol number, after IPv6 extension
	// headers. Of a fragmented IPv6 packet the later parts may show the number
	// of an extension header instead.
	Proto int
	// SrcPorts and DstPorts are ranges of transport ports.
	SrcPorts, DstPorts PortRange
}

// Errors that Compile wraps.
var (
	// ErrTooManyRules: more than MaxRules.
	ErrTooManyRules = errors.New("too many rules")
	// ErrBadRule: a field out of range, or fields that contradict each other.
	ErrBadRule = errors.New("bad rule")
)

// validate returns what is wrong with r, wrapping ErrBadRule.
func (r *Rule) validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrBadRule, fmt.Sprintf(format, args...))
	}
	if r.VLAN < AnyVLAN || r.VLAN > 4094 {
		return bad("vlan %d: want 1 to 4094, 0 for untagged, %d for any", r.VLAN, AnyVLAN)
	}
	if r.Proto < AnyProto || r.Proto > 255 {
		return bad("protocol %d: want 0 to 255, %d for any", r.Proto, AnyProto)
	}
	if r.Family != 0 && r.Family != 4 && r.Family != 6 {
		return bad("family %d: want 4, 6, 0 for both", r.Family)
	}
	for _, p := range []netip.Prefix{r.Src, r.Dst} {
		switch {
		case p == netip.Prefix{}:
		case !p.IsValid():
			return bad("prefix %v is not valid", p)
		case p.Addr().Is4In6():
			return bad("prefix %v: write it as IPv4", p)
		case r.Family != 0 && r.Family != prefixFamily(p):
			return bad("prefix %v in a rule for IPv%d", p, r.Family)
		}
	}
	if r.Src.IsValid() && r.Dst.IsValid() && prefixFamily(r.Src) != prefixFamily(r.Dst) {
		return bad("source %v and destination %v are of different families", r.Src, r.Dst)
	}
	for _, p := range []PortRange{r.SrcPorts, r.DstPorts} {
		if p.Lo > p.Hi {
			return bad("port range %d-%d is empty: swap its ends", p.Lo, p.Hi)
		}
		if !p.Any() && r.Proto != AnyProto && !packet.HasPorts(uint8(r.Proto)) {
			return bad("port range %d-%d with protocol %d, which has no ports", p.Lo, p.Hi, r.Proto)
		}
	}
	return nil
}

// prefixFamily returns 4 or 6.
func prefixFamily(p netip.Prefix) uint8 {
	if p.Addr().Is4() {
		return 4
	}
	return 6
}

// allows reports whether r can match packets of the family, 4 or 6.
func (r *Rule) allows(family uint8) bool {
	for _, p := range []netip.Prefix{r.Src, r.Dst} {
		if p.IsValid() && prefixFamily(p) != family {
			return false
		}
	}
	return r.Family == 0 || r.Family == family
}
