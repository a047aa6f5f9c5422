package capture

import (
	"encoding/binary"
	"errors"
	"io"
)

// Block types of pcapng that are read; all others are passed over.
const (
	blockInterface = 1
	blockPacket    = 2 // obsolete, still met in old captures
	blockSimple    = 3
	blockEnhanced  = 6
	blockSection   = 0x0a0d0d0a // a palindrome: the same in both byte orders
)

const (
	// byteOrderMagic tells the byte order of a section.
	byteOrderMagic = 0x1a2b3c4d
	// maxBlock is the longest block in bytes that is believed: Wireshark's
	// limit. Blocks that are not read cost no memory, however long.
	maxBlock = 16 << 20
	// maxInterface is the longest interface description in bytes.
	maxInterface = 1 << 20
)

// ngReader is the state of one section of a pcapng file.
type ngReader struct {
	*Reader
	order  binary.ByteOrder
	ifaces []ngInterface
	lastNs int64
	left   int64 // bytes of the current block's body not yet consumed
}

// openPcapng reads the first section header.
func (r *Reader) openPcapng() error {
	ng := &ngReader{Reader: r}
	r.next = ng.next
	typ, err := ng.startBlock()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = r.truncated(12)
		}
		return err
	}
	_, _, err = ng.block(typ)
	return err
}

// next reads blocks up to and including the next packet.
func (ng *ngReader) next() (Packet, error) {
	for {
		typ, err := ng.startBlock()
		if err != nil {
			return Packet{}, err
		}
		if p, ok, err := ng.block(typ); ok || err != nil {
			return p, err
		}
	}
}

// startBlock reads a block's type and total length and checks the length. A
// section header also sets the byte order.
func (ng *ngReader) startBlock() (typ uint32, err error) {
	ng.record = ng.off
	var h [12]byte
	if err := ng.read(h[:8], 12); err != nil {
		return 0, err
	}
	used := int64(8)
	if binary.BigEndian.Uint32(h[:]) == blockSection {
		if err := ng.readRest(h[8:], 4); err != nil {
			return 0, err
		}
		used = 12
		switch {
		case binary.LittleEndian.Uint32(h[8:]) == byteOrderMagic:
			ng.order = binary.LittleEndian
		case binary.BigEndian.Uint32(h[8:]) == byteOrderMagic:
			ng.order = binary.BigEndian
		default:
			return 0, ng.corrupt("byte order mark % x of a section header", h[8:])
		}
	}
	total := int64(ng.order.Uint32(h[4:]))
	if total < used+4 || total%4 != 0 || total > maxBlock {
		return 0, ng.corrupt("block length %d is not a multiple of 4 between %d and %d", total, used+4, maxBlock)
	}
	ng.left = total - used - 4
	return ng.order.Uint32(h[:]), nil
}

// block reads the rest of a block; ok says that it held a packet.
func (ng *ngReader) block(typ uint32) (p Packet, ok bool, err error) {
	switch typ {
	case blockSection:
		err = ng.section()
	case blockInterface:
		err = ng.iface()
	case blockEnhanced, blockPacket:
		p, err = ng.packet(typ)
		ok = true
	case blockSimple:
		p, err = ng.simplePacket()
		ok = true
	}
	if err == nil {
		err = ng.endBlock()
	}
	if err != nil {
		return Packet{}, false, err
	}
	return p, ok, nil
}

// endBlock passes over what is left of the body and checks the second copy of
// the length.
func (ng *ngReader) endBlock() error {
	if err := ng.skip(ng.left); err != nil {
		return err
	}
	want := ng.off + 4 - ng.record
	var b [4]byte
	if err := ng.readRest(b[:], 4); err != nil {
		return err
	}
	if got := int64(ng.order.Uint32(b[:])); got != want {
		return ng.corrupt("block length is %d in front and %d behind", want, got)
	}
	return nil
}

// body reads len(b) bytes of the block's body.
func (ng *ngReader) body(b []byte) error {
	if int64(len(b)) > ng.left {
		return ng.corrupt("block has %d bytes where %d are needed", ng.left, len(b))
	}
	if err := ng.readRest(b, ng.left+4); err != nil {
		return err
	}
	ng.left -= int64(len(b))
	return nil
}

// section reads a section header behind its byte order mark: version (2 x 16
// bits), section length, options. Interfaces do not outlive their section.
func (ng *ngReader) section() error {
	var b [12]byte
	if err := ng.body(b[:]); err != nil {
		return err
	}
	if major, minor := ng.order.Uint16(b[0:]), ng.order.Uint16(b[2:]); major != 1 {
		return ng.corrupt("pcapng version %d.%d is not 1.x", major, minor)
	}
	ng.ifaces = ng.ifaces[:0]
	return nil
}

// packet reads an enhanced packet block (interface, time, lengths, data,
// options) or its obsolete forerunner, whose interface number has 16 bits.
func (ng *ngReader) packet(typ uint32) (Packet, error) {
	var b [20]byte
	if err := ng.body(b[:]); err != nil {
		return Packet{}, err
	}
	id := ng.order.Uint32(b[0:])
	if typ == blockPacket {
		id = uint32(ng.order.Uint16(b[0:]))
	}
	ifc, err := ng.ethernet(id)
	if err != nil {
		return Packet{}, err
	}
	ticks := uint64(ng.order.Uint32(b[4:]))<<32 | uint64(ng.order.Uint32(b[8:]))
	ns, ok := ifc.timeNs(ticks)
	if !ok {
		return Packet{}, ng.corrupt("time stamp %d of packet %d lies outside 1970 to 2262", ticks, ng.packets+1)
	}
	ng.lastNs = ns
	p, err := ng.packetData(ng.order.Uint32(b[12:]), ng.order.Uint32(b[16:]))
	p.Interface = int(id)
	return p, err
}

// simplePacket reads a simple packet block: original length and data, cut at
// the snap length of interface 0.
func (ng *ngReader) simplePacket() (Packet, error) {
	var b [4]byte
	if err := ng.body(b[:]); err != nil {
		return Packet{}, err
	}
	ifc, err := ng.ethernet(0)
	if err != nil {
		return Packet{}, err
	}
	origLen := ng.order.Uint32(b[:])
	capLen := origLen
	if ifc.snapLen > 0 {
		capLen = min(capLen, ifc.snapLen)
	}
	return ng.packetData(capLen, origLen)
}

// ethernet returns the interface with number id if it is an Ethernet one.
func (ng *ngReader) ethernet(id uint32) (*ngInterface, error) {
	if int64(id) >= int64(len(ng.ifaces)) {
		return nil, ng.corrupt("packet %d names interface %d; the section has described %d so far", ng.packets+1, id, len(ng.ifaces))
	}
	ifc := &ng.ifaces[id]
	if ifc.linkType != linkTypeEthernet {
		return nil, &LinkTypeError{File: ng.name, LinkType: ifc.linkType, Packet: ng.packets + 1}
	}
	return ifc, nil
}

func (ng *ngReader) packetData(capLen, origLen uint32) (Packet, error) {
	if capLen > MaxPacket || int64(capLen) > ng.left {
		return Packet{}, ng.corrupt("captured length %d of packet %d is above %d", capLen, ng.packets+1, min(MaxPacket, ng.left))
	}
	data, err := ng.data(int(capLen), ng.left+4)
	if err != nil {
		return Packet{}, err
	}
	ng.left -= int64(capLen)
	return Packet{TimeNs: ng.lastNs, Data: data, OrigLen: int(max(origLen, capLen))}, nil
}
