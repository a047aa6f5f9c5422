package packet

// MetaSize is the size in bytes of [Meta]; the kernel allows at most 32 in
// front of a frame on its way to an AF_XDP socket.
const MetaSize = 32

// MetaVersion is the layout of [Meta] that this build reads and writes.
const MetaVersion = 1

// Meta is what the steering program found out about a frame. It lies in the
// MetaSize bytes in front of the frame, in the machine's byte order
// (little-endian), laid out as struct sfc_meta in bpf/steer_meta.h.
type Meta struct {
	// RxNs is the time of arrival, CLOCK_MONOTONIC, in ns.
	RxNs uint64
	// Seq counts the frames that arrived at the port since it was attached,
	// from 0, modulo 2^32. Every frame has one, also those that the kernel
	// keeps or drops.
	Seq uint32
	// Hash is the keyed hash of the normalised 5-tuple, see [FlowHash].
	Hash uint32
	// Path is the index of the service path that claims the frame.
	Path uint16
	// Port is the index of the ingress port.
	Port uint16
	// L3 and L4 are byte offsets from the frame's first byte. L4 is 0 when
	// there is no transport header to see (later fragments, unknown headers).
	L3, L4 uint16
	// Flags are the Flag bits.
	Flags uint16
	// Proto is the transport protocol (IANA number), after IPv6 extension
	// headers.
	Proto uint8
	// Version is MetaVersion.
	Version uint8
	// VLAN is the outermost VLAN id when FlagVLAN is set.
	VLAN uint16
	// Bucket is the ownership bucket by which the frame was steered, in the
	// row of its path's chain, or for a frame with a flag of FlagOdd in the
	// odd row (package dataplane/steer).
	Bucket uint16
}

// Flags of a packet, the same bits in [Meta] and [Desc].
const (
	FlagIPv4      uint16 = 1 << iota // IPv4 header at L3
	FlagIPv6                         // IPv6 header at L3
	FlagVLAN                         // at least one VLAN tag
	FlagFragment                     // any fragment of a larger packet
	FlagLaterFrag                    // a fragment that is not the first: no L4 header
	FlagICMPError                    // ICMP or ICMPv6 error message that quotes a packet
	FlagNewFlow                      // first packet of its flow
	FlagReverse                      // against the direction of the flow's first packet
)

// FlagOdd are the flags of packets whose headers do not tell their flow: all
// fragments, since only the first one shows ports, and ICMP errors, whose flow
// is that of the packet they quote.
const FlagOdd = FlagFragment | FlagICMPError
