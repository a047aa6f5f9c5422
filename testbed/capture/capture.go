// Package capture reads packet captures (pcap and pcapng) and writes pcapng.
//
// Captures come from anywhere, so the readers trust nothing: every length is
// checked before memory is taken for it, no input makes them panic, and what
// is wrong is said with the file, the byte offset, the packet's number and a
// cure. A capture that ends in the middle of a record still gives its whole
// packets.
//
// Formats: pcap 2.4 (draft-ietf-opsawg-pcap) in both byte orders with
// microseconds or nanoseconds; pcapng 1.x (draft-ietf-opsawg-pcapng) with any
// number of sections and interfaces. Only Ethernet is accepted: the engine's
// frames are Ethernet frames.
package capture

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxPacket is the longest captured packet in bytes that is read or written:
// libpcap's MAXIMUM_SNAPLEN.
const MaxPacket = 262144

// Packet is one captured packet.
type Packet struct {
	// TimeNs is the time of capture in ns since 1970, never negative. A
	// pcapng simple packet block has none and gets that of the packet before.
	TimeNs int64
	// Data is what was captured, from the Ethernet header on. The caller may
	// keep and change it.
	Data []byte
	// OrigLen is the length of the packet on the wire in bytes, at least
	// len(Data).
	OrigLen int
	// Interface is where the packet was seen: an index into the interfaces of
	// its pcapng section, 0 in a pcap file.
	Interface int
}

// Cut reports whether the capture's snap length cut the packet's end off.
func (p Packet) Cut() bool { return len(p.Data) < p.OrigLen }

// ReadFile reads the capture at path whole. A capture with a header and no
// packets is valid and gives none.
//
// When the capture breaks off or is damaged part way, ReadFile returns the
// whole packets in front of that place together with a [*TruncatedError] or a
// [*CorruptError].
func ReadFile(path string) (packets []Packet, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open capture: %w; give the path of a pcap or pcapng file", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, fmt.Errorf("open capture: %s is a directory; give the path of a pcap or pcapng file", path)
	}
	r, err := NewReader(f, path)
	if err != nil {
		return nil, err
	}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return packets, nil
		}
		if err != nil {
			return packets, err
		}
		packets = append(packets, p)
	}
}
