package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sfc/dataplane/packet"
)

// dnsGuard is nf/catalog/dnsguard.
type dnsGuard struct {
	block         map[string]bool // joinLabels of the listed names
	ports         []uint16
	dropBlocked   bool
	dropMalformed bool
}

const (
	dnsBlockedName    = 1 // reasons
	dnsMalformedQuery = 2

	dnsQueries   = 0 // counters
	dnsBlocked   = 1
	dnsMalformed = 2

	dnsMaxNames     = 10000
	dnsMaxPorts     = 8
	dnsMaxQuestions = 8
	dnsHeaderLen    = 12
)

func newDNSGuard(config map[string]any) (decider, error) {
	g := &dnsGuard{block: map[string]bool{}, ports: []uint16{53}}
	err := onlyFields(config, "block", "action", "ports", "malformed")
	block, errBlock := getArray(config, "block", dnsMaxNames)
	action, errAction := getEnum(config, "action", "drop", "count")
	ports, errPorts := getArray(config, "ports", dnsMaxPorts)
	malformed, errMalformed := getEnum(config, "malformed", "drop", "pass")
	errs := []error{err, errBlock, errAction, errPorts, errMalformed}
	g.dropBlocked, g.dropMalformed = action == "drop", malformed == "drop"
	for i, value := range block {
		name, ok := value.(string)
		labels, valid := splitName(name)
		if !ok || !valid {
			errs = append(errs, fmt.Errorf("block[%d]: %v is not a name", i, value))
		}
		g.block[joinLabels(labels)] = true
	}
	if _, ok := config["ports"]; ok {
		g.ports = nil
	}
	for _, value := range ports {
		port, err := toInt(value, "ports", 0, 65535)
		errs = append(errs, err)
		g.ports = append(g.ports, uint16(port))
	}
	return g, errors.Join(errs...)
}

// splitName reads a name in text.
func splitName(name string) (labels []string, ok bool) {
	if len(name) > 254 {
		return nil, false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f {
			return nil, false
		}
	}
	labels = strings.Split(strings.ToLower(strings.TrimSuffix(name, ".")), ".")
	return labels, legal(labels) && !slices.Contains(labels, "")
}

// legal says whether labels fit the limits of RFC 1035 section 2.3.4: 63 bytes a
// label, 255 the name with a byte of length in front of each label and the root.
func legal(labels []string) bool {
	size := 1
	for _, l := range labels {
		if len(l) > 63 {
			return false
		}
		size += 1 + len(l)
	}
	return size <= 255
}

// joinLabels makes a map key: a label may hold any byte, dots too.
func joinLabels(labels []string) string { return fmt.Sprintf("%q", labels) }

func (g *dnsGuard) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	udp := p.at(p.L4, packet.UDPLen)
	if p.Proto != packet.ProtoUDP || p.Flags&packet.FlagLaterFrag != 0 || udp == nil {
		return packet.Next, 0
	}
	if !slices.Contains(g.ports, binary.BigEndian.Uint16(udp[2:])) {
		return packet.Next, 0
	}
	names, isQuery, err := g.questions(p, udp)
	if !isQuery {
		return packet.Next, 0
	}
	c[dnsQueries]++
	if err != nil {
		c[dnsMalformed]++
		if g.dropMalformed {
			return packet.Drop, dnsMalformedQuery
		}
		return packet.Next, 0
	}
	if slices.ContainsFunc(names, g.listed) {
		c[dnsBlocked]++
		if g.dropBlocked {
			return packet.Drop, dnsBlockedName
		}
	}
	return packet.Next, 0
}

// listed says whether the name or one of its parent domains is listed.
func (g *dnsGuard) listed(labels []string) bool {
	for i := range labels {
		if g.block[joinLabels(labels[i:])] {
			return true
		}
	}
	return false
}

var errDNS = errors.New("not a query by RFC 1035")

// questions returns the names a datagram asks for. isQuery is false when it is a
// response or asks nothing.
func (g *dnsGuard) questions(p *view, udp []byte) (names [][]string, isQuery bool, err error) {
	size := int(binary.BigEndian.Uint16(udp[4:]))
	if size < packet.UDPLen+dnsHeaderLen {
		return nil, true, errDNS
	}
	datagram := p.at(p.L4, size)
	if datagram == nil {
		return nil, true, errDNS
	}
	msg := datagram[packet.UDPLen:]
	count := int(binary.BigEndian.Uint16(msg[4:]))
	if msg[2]&0x80 != 0 || count == 0 {
		return nil, false, nil
	}
	if count > dnsMaxQuestions {
		return nil, true, errDNS
	}
	at := dnsHeaderLen
	for range count {
		labels, next, err := readName(msg, at)
		if err != nil || next+4 > len(msg) {
			return nil, true, errDNS
		}
		names = append(names, labels)
		at = next + 4
	}
	return names, true, nil
}

// readName reads the name at a position of a message and returns its labels in
// lower case and where it ends. A pointer leads to the rest of the name, which
// must lie in front of the part that holds the pointer.
func readName(msg []byte, at int) (labels []string, next int, err error) {
	start := at
	for {
		if at >= len(msg) {
			return nil, 0, errDNS
		}
		count := int(msg[at])
		switch {
		case count == 0:
			if !legal(labels) {
				return nil, 0, errDNS
			}
			return labels, at + 1, nil
		case count >= 0xc0:
			if at+2 > len(msg) {
				return nil, 0, errDNS
			}
			to := int(binary.BigEndian.Uint16(msg[at:]) & 0x3fff)
			if to >= start || to < dnsHeaderLen {
				return nil, 0, errDNS
			}
			rest, _, err := readName(msg, to)
			labels = append(labels, rest...)
			if err != nil || !legal(labels) {
				return nil, 0, errDNS
			}
			return labels, at + 2, nil
		case count > 63 || at+1+count > len(msg):
			return nil, 0, errDNS
		}
		labels = append(labels, lowerASCII(msg[at+1:at+1+count]))
		at += 1 + count
	}
}

// lowerASCII lowers A to Z and nothing else (RFC 4343).
func lowerASCII(label []byte) string {
	out := slices.Clone(label)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return string(out)
}
