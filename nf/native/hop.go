package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"sfc/dataplane/packet"
)

// hop is nf/catalog/hop.
type hop struct {
	decrement bool
	src, dst  net.HardwareAddr // nil: left alone
}

const (
	hopExpired = 1 // reason

	hopForwarded = 0 // counters
	hopNonIP     = 1
)

func newHop(config map[string]any) (decider, error) {
	h := &hop{}
	err := onlyFields(config, "decrement", "src_mac", "dst_mac")
	var errDec, errSrc, errDst error
	h.decrement, errDec = getBool(config, "decrement", true)
	h.src, errSrc = getMAC(config, "src_mac")
	h.dst, errDst = getMAC(config, "dst_mac")
	return h, errors.Join(err, errDec, errSrc, errDst)
}

func getMAC(config map[string]any, name string) (net.HardwareAddr, error) {
	value, ok := config[name]
	if !ok {
		return nil, nil
	}
	text, ok := value.(string)
	if !ok || len(text) != 17 || text[2] != ':' {
		return nil, fmt.Errorf("%s: %v is not an address like 02:00:5e:10:00:01", name, value)
	}
	return net.ParseMAC(text)
}

func (h *hop) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	ip := p.ip()
	if ip == nil || p.L3 < p.Off+packet.EtherLen {
		c[hopNonIP]++
		return packet.Next, 0
	}
	if h.decrement {
		ttl := &ip[7]
		if len(ip) == packet.IPv4Len {
			ttl = &ip[8]
		}
		if *ttl <= 1 {
			return packet.Drop, hopExpired
		}
		*ttl--
		if len(ip) == packet.IPv4Len {
			addToChecksum(ip[10:12], 0x0100)
		}
	}
	if h.dst != nil {
		copy(p.frame[0:6], h.dst)
	}
	if h.src != nil {
		copy(p.frame[6:12], h.src)
	}
	c[hopForwarded]++
	return packet.Next, 0
}

// addToChecksum adjusts a checksum whose data shrank by n. A checksum is the
// negative sum of the data in one's complement arithmetic, which is arithmetic
// modulo 65535.
func addToChecksum(check []byte, n uint32) {
	sum := (uint32(binary.BigEndian.Uint16(check)) + n) % 65535
	binary.BigEndian.PutUint16(check, uint16(sum))
}
