package capture

import "encoding/binary"

// Magic numbers of a pcap file header, in the writer's byte order.
const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
)

// openPcap reads the 24-byte file header: magic, version (2 x 16 bits), time
// zone, accuracy, snap length, link type. The scale is ns per unit of the
// fraction of a second.
func (r *Reader) openPcap(order binary.ByteOrder, scale int64) error {
	var h [24]byte
	if err := r.readRest(h[:], 24); err != nil {
		return err
	}
	major, minor := order.Uint16(h[4:]), order.Uint16(h[6:])
	if major != 2 || minor != 4 {
		return r.corrupt("pcap version %d.%d is not 2.4", major, minor)
	}
	// The upper 16 bits say whether frames end in an FCS, and how long it is.
	if t := uint16(order.Uint32(h[20:])); t != linkTypeEthernet {
		return &LinkTypeError{File: r.name, LinkType: t}
	}
	r.next = func() (Packet, error) { return r.nextPcap(order, scale) }
	return nil
}

// nextPcap reads one record: seconds, fraction, captured and original length
// (32 bits each), data. The snap length of the header is not enforced: many
// writers put packets longer than it into their files, and libpcap reads them.
func (r *Reader) nextPcap(order binary.ByteOrder, scale int64) (Packet, error) {
	r.record = r.off
	var h [16]byte
	if err := r.read(h[:], 16); err != nil {
		return Packet{}, err
	}
	capLen, origLen := order.Uint32(h[8:]), order.Uint32(h[12:])
	if capLen > MaxPacket {
		return Packet{}, r.corrupt("captured length %d of packet %d is above %d", capLen, r.packets+1, MaxPacket)
	}
	data, err := r.data(int(capLen), int64(capLen))
	if err != nil {
		return Packet{}, err
	}
	ns := int64(order.Uint32(h[0:]))*1e9 + int64(order.Uint32(h[4:]))*scale
	return Packet{TimeNs: ns, Data: data, OrigLen: int(max(origLen, capLen))}, nil
}
