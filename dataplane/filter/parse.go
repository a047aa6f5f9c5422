package filter

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sfc/dataplane/packet"
)

// MaxLength is the longest expression in bytes.
const MaxLength = 4096

// maxDepth bounds how deep parentheses and negations nest.
const maxDepth = 64

// MaxTests bounds how many primitives an expression has: workers try them on
// packets.
const MaxTests = 64

// Parse compiles an expression; an empty one chooses everything. Errors say at
// which word, and what could be there.
func Parse(text string) (*Filter, error) {
	if len(text) > MaxLength {
		return nil, fmt.Errorf("filter of %d bytes: at most %d are possible", len(text), MaxLength)
	}
	p := &parser{words: split(text)}
	if len(p.words) == 0 {
		return &Filter{&node{op: opAll}}, nil
	}
	root, err := p.expression()
	if err == nil && p.at < len(p.words) {
		err = p.unexpected("and, or, or the end")
	}
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", text, err)
	}
	return &Filter{root}, nil
}

// split cuts an expression into words.
func split(text string) []string {
	for _, mark := range []string{"(", ")", "&&", "||"} {
		text = strings.ReplaceAll(text, mark, " "+mark+" ")
	}
	var words []string
	for _, w := range strings.Fields(text) {
		for len(w) > 1 && w[0] == '!' {
			words, w = append(words, "!"), w[1:]
		}
		words = append(words, w)
	}
	return words
}

// parser goes through the words of an expression.
type parser struct {
	words []string
	at    int
	depth int
	tests int
	last  qualifiers // of the primitive before
}

// qualifiers are what is said in front of an address or number.
type qualifiers struct {
	proto string // "" for any
	side  side
	kind  string // host, net, port, portrange, proto; "" when nothing was said
}

func (p *parser) peek() string {
	if p.at < len(p.words) {
		return p.words[p.at]
	}
	return ""
}

// take takes the next word if it is one of these.
func (p *parser) take(words ...string) bool {
	for _, w := range words {
		if p.peek() == w && w != "" {
			p.at++
			return true
		}
	}
	return false
}

func (p *parser) unexpected(want string) error {
	if p.at >= len(p.words) {
		return fmt.Errorf("it ends where there should be %s", want)
	}
	return fmt.Errorf("word %d is %q where there should be %s", p.at+1, p.words[p.at], want)
}

func (p *parser) expression() (*node, error) {
	left, err := p.term()
	for err == nil {
		o := opAnd
		switch {
		case p.take("and", "&&"):
		case p.take("or", "||"):
			o = opOr
		default:
			return left, nil
		}
		var right *node
		if right, err = p.term(); err == nil {
			left = &node{op: o, a: left, b: right}
		}
	}
	return nil, err
}

func (p *parser) term() (*node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("it nests deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	switch {
	case p.take("not", "!"):
		n, err := p.term()
		return &node{op: opNot, a: n}, err
	case p.take("("):
		n, err := p.expression()
		if err == nil && !p.take(")") {
			err = p.unexpected(")")
		}
		return n, err
	}
	return p.primitive()
}

// protocols are the words for transport protocols.
var protocols = map[string]uint8{
	"tcp": packet.ProtoTCP, "udp": packet.ProtoUDP, "sctp": packet.ProtoSCTP, "icmp": packet.ProtoICMP, "icmp6": packet.ProtoICMPv6,
}

// services are the words for ports that need no file to look up.
var services = map[string]uint16{
	"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "http": 80, "ntp": 123, "snmp": 161, "bgp": 179, "https": 443, "syslog": 514,
}

func (p *parser) primitive() (*node, error) {
	if p.tests++; p.tests > MaxTests {
		return nil, fmt.Errorf("it tests more than %d things: at most so many are possible", MaxTests)
	}
	switch {
	case p.take("vlan"):
		if n, err := strconv.ParseUint(p.peek(), 10, 12); err == nil {
			p.at++
			return &node{op: opVLAN, lo: uint16(n)}, nil
		}
		return &node{op: opVLAN, hi: 1}, nil
	case p.take("less"):
		return p.number(opLess)
	case p.take("greater"):
		return p.number(opGreater)
	}
	start := p.at
	q := p.qualifiers()
	proto, err := q.protocol()
	if err != nil {
		return nil, err
	}
	if q.kind == "" && !isValue(p.peek()) {
		if q.side != either || proto == nil {
			return nil, p.unexpected("a protocol, host, net, port, portrange, vlan, less or greater")
		}
		return proto, nil
	}
	if p.at == start { // a value alone means what was said before
		q = p.last
		if q.kind == "" {
			q.kind = "host"
		}
		if proto, err = q.protocol(); err != nil {
			return nil, err
		}
	}
	p.last = q
	n, err := p.value(&q)
	if err == nil && proto != nil && n.op != opMAC {
		n = &node{op: opAnd, a: proto, b: n}
	}
	return n, err
}

// isValue says whether a word is an address, a number or the name of a port.
func isValue(w string) bool {
	if w == "" {
		return false
	}
	_, known := services[w]
	return known || w[0] >= '0' && w[0] <= '9' || strings.ContainsAny(w, ":.")
}

// qualifiers takes what stands before a value.
func (p *parser) qualifiers() (q qualifiers) {
	switch w := p.peek(); w {
	case "ip", "ip6", "arp", "ether", "tcp", "udp", "sctp", "icmp", "icmp6":
		q.proto = w
		p.at++
	}
	switch {
	case p.take("src"):
		q.side = source
		if p.at+1 < len(p.words) && p.words[p.at+1] == "dst" {
			switch p.peek() {
			case "or":
				q.side, p.at = either, p.at+2
			case "and":
				q.side, p.at = both, p.at+2
			}
		}
	case p.take("dst"):
		q.side = destination
	}
	switch w := p.peek(); w {
	case "host", "net", "port", "portrange", "proto":
		q.kind = w
		p.at++
	}
	return q
}

// protocol is the part of a primitive that a protocol's name stands for; nil
// without one.
func (q *qualifiers) protocol() (*node, error) {
	if n, ok := protocols[q.proto]; ok {
		if q.kind == "host" || q.kind == "net" || q.kind == "proto" {
			return nil, fmt.Errorf("%s %s means nothing: say %s and %s", q.proto, q.kind, q.proto, q.kind)
		}
		is := &node{op: opProto, lo: uint16(n)}
		switch n {
		case packet.ProtoICMP:
			is = &node{op: opAnd, a: &node{op: opFamily, lo: 4}, b: is}
		case packet.ProtoICMPv6:
			is = &node{op: opAnd, a: &node{op: opFamily, lo: 6}, b: is}
		}
		return is, nil
	}
	switch q.proto {
	case "ip":
		return &node{op: opFamily, lo: 4}, nil
	case "ip6":
		return &node{op: opFamily, lo: 6}, nil
	case "arp":
		return &node{op: opEther, lo: packet.EtherARP}, nil
	}
	return nil, nil
}

func (p *parser) number(o op) (*node, error) {
	n, err := strconv.ParseUint(p.peek(), 10, 16)
	if err != nil {
		return nil, p.unexpected("a number up to 65535")
	}
	p.at++
	return &node{op: o, lo: uint16(n)}, nil
}

// value takes an address or a number and makes a test of it.
func (p *parser) value(q *qualifiers) (*node, error) {
	w := p.peek()
	if w == "" {
		return nil, p.unexpected("an address or a number")
	}
	n := &node{side: q.side}
	var want string
	switch {
	case q.proto == "ether":
		n.op, want = opMAC, "an Ethernet address"
		if mac, err := net.ParseMAC(w); err == nil && len(mac) == 6 && (q.kind == "" || q.kind == "host") {
			n.mac, want = [6]byte(mac), ""
		}
	case q.kind == "proto":
		n.op, want = opProto, "a protocol or its number up to 255"
		if k, err := strconv.ParseUint(w, 10, 8); err == nil {
			n.lo, want = uint16(k), ""
		} else if k, ok := protocols[w]; ok {
			n.lo, want = uint16(k), ""
		}
	case q.kind == "port" || q.kind == "portrange" || q.kind == "" && !strings.ContainsAny(w, ".:"):
		n.op, want = opPort, "a port"
		if q.kind == "portrange" {
			want = "a range of ports such as 5000-5999"
		}
		from, to, ranged := strings.Cut(w, "-")
		lo, ok1 := port(from)
		hi, ok2 := lo, ok1
		if ranged {
			hi, ok2 = port(to)
		}
		if ok1 && ok2 && lo <= hi && ranged == (q.kind == "portrange") {
			n.lo, n.hi, want = lo, hi, ""
		}
	default:
		n.op, want = opNet, "an address, or a network such as 10.0.0.0/8"
		if a, err := netip.ParseAddr(w); err == nil && a.Zone() == "" {
			n.prefix, want = netip.PrefixFrom(a, a.BitLen()), ""
		} else if net, err := netip.ParsePrefix(w); err == nil && q.kind != "host" {
			n.prefix, want = net.Masked(), ""
		}
	}
	if want != "" {
		return nil, p.unexpected(want)
	}
	p.at++
	return n, nil
}

func port(w string) (uint16, bool) {
	if n, ok := services[w]; ok {
		return n, true
	}
	n, err := strconv.ParseUint(w, 10, 16)
	return uint16(n), err == nil
}
