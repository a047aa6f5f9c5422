package capture

import (
	"errors"
	"fmt"
)

// ErrNotCapture says that the input is neither pcap nor pcapng.
var ErrNotCapture = errors.New("not a packet capture")

// TruncatedError says that a capture ends in the middle of a record. The
// packets in front of it are whole and may be used.
type TruncatedError struct {
	// File is the name given to the reader.
	File string
	// Offset is where the broken record starts, in bytes.
	Offset int64
	// Packets is the number of whole packets in front of it.
	Packets int
	// Missing is the number of bytes that the record lacks, as far as its
	// own header can tell.
	Missing int64
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("capture %s breaks off in the record at byte %d, after %d whole packets (at least %d bytes missing); copy or record it again to have the rest",
		e.File, e.Offset, e.Packets, e.Missing)
}

// CorruptError says that a capture contradicts its format. The packets in
// front of the place are whole.
type CorruptError struct {
	// File is the name given to the reader.
	File string
	// Offset is where the damaged record starts, in bytes.
	Offset int64
	// Packets is the number of whole packets in front of it.
	Packets int
	// What is wrong, with the value.
	What string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("capture %s is damaged at byte %d, after %d whole packets: %s; record it again, or cut it there with editcap",
		e.File, e.Offset, e.Packets, e.What)
}

// LinkTypeError says that packets were captured on something that is not
// Ethernet.
type LinkTypeError struct {
	// File is the name given to the reader.
	File string
	// LinkType is the LINKTYPE_ value of the tcpdump.org registry.
	LinkType uint16
	// Packet is the number of the first such packet, counted from 1; 0 when
	// the whole file has this link type.
	Packet int
}

func (e *LinkTypeError) Error() string {
	where := ""
	if e.Packet > 0 {
		where = fmt.Sprintf(" from packet %d on", e.Packet)
	}
	return fmt.Sprintf("capture %s has link type %s%s, not Ethernet (1); capture on an Ethernet interface, not on %q, a tunnel or a radio",
		e.File, linkTypeName(e.LinkType), where, "any")
}

// linkTypeEthernet is the only link type whose packets are Ethernet frames.
const linkTypeEthernet = 1

// linkTypeName names the link types that people meet (tcpdump.org/linktypes).
func linkTypeName(t uint16) string {
	names := map[uint16]string{
		0: "NULL (BSD loopback)", 1: "EN10MB (Ethernet)", 9: "PPP", 12: "RAW (IP)", 14: "RAW (IP)", 101: "RAW (IP)",
		105: "IEEE802_11", 108: "LOOP (OpenBSD loopback)", 113: "LINUX_SLL", 127: "IEEE802_11_RADIOTAP",
		147: "USER0", 189: "USB_LINUX", 220: "USB_LINUX_MMAPPED", 228: "IPV4", 229: "IPV6", 239: "NFLOG",
		249: "USBPCAP", 253: "NETLINK", 276: "LINUX_SLL2",
	}
	if n, ok := names[t]; ok {
		return fmt.Sprintf("%d %s", t, n)
	}
	return fmt.Sprintf("%d", t)
}
