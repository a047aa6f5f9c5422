package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sfc/dataplane/packet"
)

// acl is nf/catalog/acl: it asks every rule in turn.
type acl struct {
	rules []aclRule
	deny  bool // what no rule matches
}

type aclRule struct {
	deny         bool
	src, dst     netip.Prefix // not valid: any
	proto        int          // -1: any
	sport, dport []portRange  // empty: any
	flags        bool         // set and clear hold
	set, clear   uint8
}

type portRange struct{ from, to uint16 }

const (
	aclDenied = 1 // reason

	aclPermitted = 0 // counters
	aclNonIP     = 1

	aclMaxRules = 1023
	aclMaxPorts = 8
)

func newACL(config map[string]any) (decider, error) {
	a, err := newRules(config)
	return a, errors.Join(err, onlyFields(config, "default", "rules"))
}

// newRules reads the fields about rules.
func newRules(config map[string]any) (*acl, error) {
	def, errDef := getEnum(config, "default", "permit", "deny")
	list, errRules := getArray(config, "rules", aclMaxRules)
	a := &acl{deny: def == "deny"}
	errs := []error{errDef, errRules}
	for i, element := range list {
		rule, err := newRule(element)
		if err != nil {
			errs = append(errs, fmt.Errorf("rules[%d]: %w", i, err))
		}
		a.rules = append(a.rules, rule)
	}
	return a, errors.Join(errs...)
}

func newRule(element any) (r aclRule, err error) {
	object, ok := element.(map[string]any)
	if !ok {
		return r, errors.New("not an object")
	}
	if _, ok := object["action"]; !ok {
		return r, errors.New("action is missing")
	}
	action, errAction := getEnum(object, "action", "permit", "deny")
	errs := []error{errAction, onlyFields(object, "action", "src", "dst", "proto", "src_ports", "dst_ports", "tcp_flags")}
	read := func(err error) { errs = append(errs, err) }

	r.deny = action == "deny"
	r.src, err = getPrefix(object, "src")
	read(err)
	r.dst, err = getPrefix(object, "dst")
	read(err)
	r.proto, err = getProto(object)
	read(err)
	r.sport, err = getPorts(object, "src_ports")
	read(err)
	r.dport, err = getPorts(object, "dst_ports")
	read(err)
	read(r.readFlags(object))

	if r.src.IsValid() && r.dst.IsValid() && r.src.Addr().Is4() != r.dst.Addr().Is4() {
		read(errors.New("src and dst are of different families"))
	}
	if len(r.sport)+len(r.dport) > 0 && r.proto >= 0 && !packet.HasPorts(uint8(r.proto)) {
		read(fmt.Errorf("protocol %d has no ports", r.proto))
	}
	if r.flags && r.proto >= 0 && r.proto != int(packet.ProtoTCP) {
		read(fmt.Errorf("protocol %d has no TCP flags", r.proto))
	}
	return r, errors.Join(errs...)
}

// getPrefix reads a prefix or an address; not valid when absent.
func getPrefix(object map[string]any, name string) (netip.Prefix, error) {
	value, ok := object[name]
	if !ok {
		return netip.Prefix{}, nil
	}
	text, ok := value.(string)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%s is not a string", name)
	}
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%s: %q is not an address", name, text)
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err
}

func getProto(object map[string]any) (int, error) {
	value, ok := object["proto"]
	if !ok {
		return -1, nil
	}
	text, ok := value.(string)
	if !ok {
		n, err := toInt(value, "proto", 0, 255)
		return int(n), err
	}
	names := map[string]int{"any": -1, "tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132}
	if n, ok := names[text]; ok {
		return n, nil
	}
	return decimal(text, 255)
}

// decimal reads a number without sign or leading zeros.
func decimal(text string, max int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text || n < 0 || n > max {
		return 0, fmt.Errorf("%q is not a number from 0 to %d", text, max)
	}
	return n, nil
}

func getPorts(object map[string]any, name string) ([]portRange, error) {
	value, ok := object[name]
	if !ok {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	if len(list) == 0 || len(list) > aclMaxPorts {
		return nil, fmt.Errorf("%s: %d ranges, 1 to %d are allowed", name, len(list), aclMaxPorts)
	}
	var ranges []portRange
	for _, value := range list {
		text := fmt.Sprint(value)
		if _, ok := value.(string); !ok {
			if _, err := toInt(value, name, 0, 65535); err != nil {
				return nil, err
			}
			text = strings.TrimPrefix(text, "-") // -0 is 0
		}
		from, to, isRange := strings.Cut(text, "-")
		if !isRange {
			to = from
		}
		a, errA := decimal(from, 65535)
		b, errB := decimal(to, 65535)
		if err := errors.Join(errA, errB); err != nil || b < a {
			return nil, fmt.Errorf("%s: %q is not a range of ports: %w", name, text, err)
		}
		ranges = append(ranges, portRange{uint16(a), uint16(b)})
	}
	return ranges, nil
}

func (r *aclRule) readFlags(object map[string]any) error {
	value, ok := object["tcp_flags"]
	if !ok {
		return nil
	}
	flags, ok := value.(map[string]any)
	if !ok {
		return errors.New("tcp_flags is not an object")
	}
	r.flags = true
	err := onlyFields(flags, "set", "clear")
	var errSet, errClear error
	r.set, errSet = getFlags(flags, "set")
	r.clear, errClear = getFlags(flags, "clear")
	return errors.Join(err, errSet, errClear)
}

func getFlags(object map[string]any, name string) (bits uint8, err error) {
	list, err := getArray(object, name, 1<<30)
	for _, value := range list {
		i := slices.Index([]any{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}, value)
		if i < 0 {
			return 0, fmt.Errorf("%s: %v is no TCP flag", name, value)
		}
		bits |= 1 << i
	}
	return bits, err
}

func (a *acl) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	ip := p.ip()
	if ip == nil {
		c[aclNonIP]++
		return packet.Next, 0
	}
	if !a.permits(p, ip) {
		return packet.Drop, aclDenied
	}
	c[aclPermitted]++
	return packet.Next, 0
}

// permits asks the rules about a packet whose IP header is ip.
func (a *acl) permits(p *view, ip []byte) bool {
	if i := a.first(p, ip); i < len(a.rules) {
		return !a.rules[i].deny
	}
	return !a.deny
}

// first returns the number of the first rule that matches; of the default, which
// is behind them all, when none does.
func (a *acl) first(p *view, ip []byte) int {
	for i := range a.rules {
		if a.rules[i].matches(p, ip) {
			return i
		}
	}
	return len(a.rules)
}

func (r *aclRule) matches(p *view, ip []byte) bool {
	src, dst := srcOf(ip), dstOf(ip)
	if r.src.IsValid() && !contains(r.src, src) || r.dst.IsValid() && !contains(r.dst, dst) {
		return false
	}
	if r.proto >= 0 && uint8(r.proto) != p.Proto {
		return false
	}
	l4 := func(size int) []byte { // what the packet shows of its transport header
		if p.Flags&packet.FlagLaterFrag != 0 || !packet.HasPorts(p.Proto) {
			return nil
		}
		return p.at(p.L4, size)
	}
	if len(r.sport)+len(r.dport) > 0 {
		ports := l4(4)
		if ports == nil || !inRanges(r.sport, ports[0:2]) || !inRanges(r.dport, ports[2:4]) {
			return false
		}
	}
	if r.flags {
		tcp := l4(14)
		if tcp == nil || p.Proto != packet.ProtoTCP {
			return false
		}
		return tcp[13]&r.set == r.set && tcp[13]&r.clear == 0
	}
	return true
}

// contains is Prefix.Contains, except that an IPv4-mapped IPv6 address is an
// IPv6 address like any other.
func contains(p netip.Prefix, a netip.Addr) bool {
	return p.Addr().Is4() == a.Is4() && netip.PrefixFrom(a, p.Bits()).Masked().Addr() == p.Addr()
}

// inRanges is true when there is no range or the port is in one.
func inRanges(ranges []portRange, port []byte) bool {
	n := binary.BigEndian.Uint16(port)
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(r portRange) bool { return r.from <= n && n <= r.to })
}
