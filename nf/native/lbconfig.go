package native

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"sfc/dataplane/packet"
)

func newLB4(config map[string]any) (decider, error) {
	l := &lb4{flows: map[uint32]*lbFlow{}}
	known := onlyFields(config, "services", "table_size", "seed", "src_mac", "others")
	list, errServices := getArray(config, "services", 64)
	if list == nil {
		errServices = errors.Join(errServices, errors.New("no services"))
	}
	size, errSize := getInt(config, "table_size", 65537, 2, 65537)
	seed, errSeed := getInt(config, "seed", 0, 0, 1<<63-1)
	mac, errMAC := getMAC(config, "src_mac")
	others, errOthers := getEnum(config, "others", "pass", "drop")
	err := errors.Join(known, errServices, errSize, errSeed, errMAC, errOthers)
	if err != nil {
		return nil, err
	}
	for d := int64(2); d < size; d++ {
		if size%d == 0 {
			return nil, fmt.Errorf("table_size: %d is not prime", size)
		}
	}
	backends := 0
	for _, element := range list {
		s, err := newLBService(element)
		if err != nil {
			return nil, err
		}
		for _, o := range l.services {
			if o.vip == s.vip && o.port == s.port && o.proto == s.proto {
				return nil, errors.New("a service twice")
			}
		}
		l.services = append(l.services, s)
		if backends += len(s.backends); backends > 1024 {
			return nil, errors.New("more than 1024 back ends")
		}
	}
	macs := map[netip.Addr]string{}
	for _, s := range l.services {
		for _, b := range s.backends {
			if b.mac != nil && macs[b.addr] != "" && macs[b.addr] != b.mac.String() {
				return nil, fmt.Errorf("%v has two MAC addresses", b.addr)
			}
			macs[b.addr] = cmp.Or(b.mac.String(), macs[b.addr])
		}
		s.build(int(size))
	}
	l.seed, l.srcMAC, l.dropOthers = uint64(seed), mac, others == "drop"
	return l, nil
}

func newLBService(element any) (*lbService, error) {
	object, ok := element.(map[string]any)
	if !ok {
		return nil, errors.New("a service is not an object")
	}
	known := onlyFields(object, "vip", "port", "proto", "mode", "hash", "backends")
	vip, errVIP := getIP4(object, "vip")
	port, errPort := getInt(object, "port", 0, 1, 65535)
	proto, errProto := getEnum(object, "proto", "any", "tcp", "udp")
	mode, errMode := getEnum(object, "mode", "nat", "dsr")
	hash, errHash := getEnum(object, "hash", "five_tuple", "source")
	list, errBackends := getArray(object, "backends", 1024)
	if err := errors.Join(known, errVIP, errPort, errProto, errMode, errHash, errBackends); err != nil {
		return nil, err
	}
	s := &lbService{vip: vip, port: uint16(port), dsr: mode == "dsr", bySource: hash == "source",
		proto: map[string]uint8{"any": 0, "tcp": packet.ProtoTCP, "udp": packet.ProtoUDP}[proto]}
	if _, there := object["backends"]; !there || s.port != 0 && s.proto == 0 {
		return nil, errors.New("a service without back ends, or with a port and no protocol")
	}
	for _, element := range list {
		b, err := newLBBackend(element)
		if err != nil {
			return nil, err
		}
		switch {
		case s.dsr == (b.mac == nil):
			return nil, errors.New("a MAC address is for dsr, and only there")
		case b.port != 0 && (s.dsr || s.port == 0):
			return nil, errors.New("a port where there is none to translate")
		}
		for _, o := range s.backends {
			if o.addr == b.addr && o.port == b.port {
				return nil, errors.New("a back end twice")
			}
		}
		s.backends = append(s.backends, b)
	}
	return s, nil
}

func newLBBackend(element any) (*lbBackend, error) {
	object, ok := element.(map[string]any)
	if !ok {
		return nil, errors.New("a back end is not an object")
	}
	known := onlyFields(object, "addr", "port", "mac", "weight", "state")
	addr, errAddr := getIP4(object, "addr")
	port, errPort := getInt(object, "port", 0, 1, 65535)
	mac, errMAC := getMAC(object, "mac")
	weight, errWeight := getInt(object, "weight", 1, 0, 100)
	state, errState := getEnum(object, "state", "up", "draining", "down")
	b := &lbBackend{addr: addr, port: uint16(port), mac: mac, weight: int(weight), state: state}
	return b, errors.Join(known, errAddr, errPort, errMAC, errWeight, errState)
}

func getIP4(object map[string]any, name string) (netip.Addr, error) {
	text, _ := object[name].(string)
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return a, fmt.Errorf("%s: %v is not an IPv4 address: %w", name, object[name], errors.Join(err))
	}
	return a, nil
}
