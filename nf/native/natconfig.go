package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// natConfig is nat44's configuration.
type natConfig struct {
	inside, pool   natRanges
	first, last    int // ports
	share          int // of a subscriber
	perDestination bool
	filtering      string
	hairpin        bool
	passOthers     bool
}

// natRanges are addresses, from first to last, in the configuration's order.
type natRanges [][2]uint32

func newNATConfig(config map[string]any) (c natConfig, err error) {
	known := onlyFields(config, "inside", "pool", "ports", "ports_per_subscriber", "mapping", "filtering", "hairpin", "others")
	inside, errInside := getRanges(config, "inside", false)
	pool, errPool := getRanges(config, "pool", true)
	first, last, errPorts := getNATPorts(config)
	share, errShare := getInt(config, "ports_per_subscriber", 0, 0, 65535)
	mapping, errMapping := getEnum(config, "mapping", "endpoint_independent", "address_and_port_dependent")
	filtering, errFiltering := getEnum(config, "filtering", "address_and_port_dependent", "address_dependent", "endpoint_independent")
	hairpin, errHairpin := getBool(config, "hairpin", true)
	others, errOthers := getEnum(config, "others", "drop", "pass")
	err = errors.Join(known, errInside, errPool, errPorts, errShare, errMapping, errFiltering, errHairpin, errOthers)
	if err != nil {
		return c, err
	}
	for _, a := range inside {
		for _, b := range pool {
			if a[0] <= b[1] && b[0] <= a[1] {
				return c, errors.New("an address is inside and in the pool")
			}
		}
	}
	c = natConfig{inside: inside, pool: pool, first: first, last: last, share: int(share),
		perDestination: mapping == "address_and_port_dependent", filtering: filtering, hairpin: hairpin, passOthers: others == "pass"}
	if c.share > last-first+1 {
		return c, errors.New("fewer ports than one subscriber's")
	}
	if c.perDestination && filtering != "address_and_port_dependent" {
		return c, errors.New("a mapping per destination filters by address and port")
	}
	return c, nil
}

// getRanges reads prefixes and addresses, and with dash "first-last".
func getRanges(config map[string]any, name string, dash bool) (natRanges, error) {
	list, err := getArray(config, name, 64)
	if err != nil || len(list) == 0 {
		return nil, fmt.Errorf("%s: at least one is wanted: %w", name, errors.Join(err))
	}
	var ranges natRanges
	for _, element := range list {
		text, ok := element.(string)
		if !ok {
			return nil, fmt.Errorf("%s: %v is not a string", name, element)
		}
		r, err := getRange(text, dash)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, other := range ranges {
			if r[0] <= other[1] && other[0] <= r[1] {
				return nil, fmt.Errorf("%s: %s: an address twice", name, text)
			}
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

func getRange(text string, dash bool) (r [2]uint32, err error) {
	if from, to, ok := strings.Cut(text, "-"); ok && dash {
		a, errA := netip.ParseAddr(from)
		b, errB := netip.ParseAddr(to)
		if errA != nil || errB != nil || !a.Is4() || !b.Is4() || b.Less(a) {
			return r, fmt.Errorf("%q is not a range of addresses", text)
		}
		return [2]uint32{ip4Number(a), ip4Number(b)}, nil
	}
	p, err := getPrefix(map[string]any{"": text}, "")
	if err != nil || !p.Addr().Is4() {
		return r, fmt.Errorf("%q is not an IPv4 prefix: %w", text, errors.Join(err))
	}
	first := ip4Number(p.Masked().Addr())
	return [2]uint32{first, first + uint32(1<<(32-p.Bits())-1)}, nil
}

func ip4Number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

var portsRE = regexp.MustCompile(`^([1-9][0-9]{0,4})-([1-9][0-9]{0,4})$`)

func getNATPorts(config map[string]any) (first, last int, err error) {
	value, ok := config["ports"]
	if !ok {
		return 1024, 65535, nil
	}
	text, _ := value.(string)
	m := portsRE.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, fmt.Errorf("ports: %v is not a range", value)
	}
	first, errFirst := strconv.Atoi(m[1])
	last, errLast := strconv.Atoi(m[2])
	if err := errors.Join(errFirst, errLast); err != nil || last < first || last > 65535 {
		return 0, 0, fmt.Errorf("ports: %v is not a range: %w", value, errors.Join(err))
	}
	return first, last, nil
}

// place returns how many addresses stand before a in the list.
func (r natRanges) place(a netip.Addr) (at uint64, ok bool) {
	n := ip4Number(a)
	for _, one := range r {
		if one[0] <= n && n <= one[1] {
			return at + uint64(n-one[0]), true
		}
		at += uint64(one[1]) - uint64(one[0]) + 1
	}
	return 0, false
}

func (r natRanges) has(a netip.Addr) bool {
	_, ok := r.place(a)
	return ok
}

func (r natRanges) size() (n uint64) {
	for _, one := range r {
		n += uint64(one[1]) - uint64(one[0]) + 1
	}
	return n
}

// get returns the address that has at others before it.
func (r natRanges) get(at uint64) netip.Addr {
	for _, one := range r {
		if size := uint64(one[1]) - uint64(one[0]) + 1; at >= size {
			at -= size
			continue
		}
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, one[0]+uint32(at))))
	}
	panic("no such address")
}

// natMix is the page's mix.
func natMix(v uint64) uint64 {
	v = (v ^ v>>32) * 0x9e3779b97f4a7c15
	v = (v ^ v>>29) * 0x6a09e667f3bcc909
	return v ^ v>>32
}

// candidates are the address that an inside end gets, and the ports it may have
// in the order they are tried.
func (c *natConfig) candidates(proto uint8, inside netip.AddrPort) (netip.Addr, []uint16) {
	first, last := c.first, c.last
	addresses := c.pool.size()
	at := natMix(uint64(ip4Number(inside.Addr()))) >> 32 * addresses >> 32
	if c.share > 0 {
		subscriber, _ := c.inside.place(inside.Addr())
		shares := uint64((last - first + 1) / c.share)
		subscriber %= shares * addresses
		at = subscriber % addresses
		first += int(subscriber/addresses) * c.share
		last = first + c.share - 1
	}
	own := int(inside.Port())
	if own < 1024 && first < 1024 {
		last = min(last, 1023)
	}
	if own >= 1024 && last >= 1024 {
		first = max(first, 1024)
	}
	var ports []uint16
	if own >= first && own <= last {
		ports = append(ports, inside.Port())
	}
	n := last - first + 1
	h := natMix(uint64(ip4Number(inside.Addr()))<<32 | uint64(inside.Port())<<16 | uint64(proto))
	step := []int{65537, 65539, 65543, 65551, 65557, 65563, 65579, 65581}[h>>61]
	for k := range min(n, 63) {
		ports = append(ports, uint16(first+(int(h&0xffffffff)+k*step)%n))
	}
	return c.pool.get(at), ports
}
