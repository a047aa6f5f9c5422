package packet

// NoSlot is the Slot of packets without a flow: what is not part of one, what
// the flow table had no room for, and all packets of paths without flows.
const NoSlot = 0xffffffff

// DescSize is the size in bytes of [Desc].
const DescSize = 64

// Desc is a packet as a function sees it: one of an array in memory that the
// host and the functions of one chain share. The layout is ABI version 1,
// little-endian; see nf/ABI.md and struct sfc_desc in nf/sdk/c/sfc.h.
//
// The host writes every field before the first function runs. A function may
// change Off, Len, OutPort, Mark, Verdict and Reason; the host copies those out
// once and checks them, and ignores what it reads in the others.
type Desc struct {
	// Chunk is the guest address of the chunk; the frame's first byte is at
	// Chunk+Off.
	Chunk uint32
	// Off is the offset of the frame's first byte in the chunk, which is also
	// the headroom in front of it. Len is the frame's length. Bytes.
	Off, Len uint16
	// L3 and L4 are offsets in the chunk (not in the frame, so that they stay
	// true when Off moves). L4 is 0 when there is no transport header.
	L3, L4 uint16
	// Proto is the transport protocol (IANA number).
	Proto uint8
	_     uint8
	// Flags are the Flag bits.
	Flags uint16
	// Slot is the index of the flow's state in every function's slot array;
	// [NoSlot] when the packet has no flow.
	Slot uint32
	// Hash is the keyed flow hash.
	Hash uint32
	// RxNs is the packet's time in ns: its arrival, or the capture's time
	// stamp in a replay that runs on the capture's clock.
	RxNs uint64
	// InPort and OutPort are port indices. OutPort starts as the chain's
	// egress port.
	InPort, OutPort uint16
	// Mark is the tenant's own, carried from function to function.
	Mark uint32
	// Verdict is Abort when a function is called.
	Verdict Verdict
	_       uint8
	// Reason numbers a drop reason of the function's manifest, from 1.
	Reason uint16
	// VLAN is the outermost VLAN id when FlagVLAN is set.
	VLAN uint16
	_    [18]byte
}
