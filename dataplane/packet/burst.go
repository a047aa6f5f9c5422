package packet

// Burst is a batch of frames of one service path. The worker that received
// them owns it; a function borrows it until Process returns.
//
// It holds no pointers, so that it may be handed to C as it is; its layout is
// struct sfc_burst in nf/wasm/shim.h.
type Burst struct {
	// N is the number of packets, at most BurstSize.
	N uint32
	// Path is the index of the service path they take.
	Path uint16
	_    uint16
	// NowNs is the time in ns given to functions for the whole burst.
	NowNs uint64
	// Frames says where each packet lies: the host's own word, updated from
	// what functions asked for once it was checked.
	Frames [BurstSize]Frame
	// Out is what became of each packet, written by Process.
	Out [BurstSize]Outcome
	// Slot is each packet's flow, as the flow table said: the host's own word,
	// where a function may have written another into the descriptor. [NoSlot]
	// when the packet has none.
	Slot [BurstSize]uint32
	// Bucket is the ownership bucket of that flow.
	Bucket [BurstSize]uint16
	// RxNs is when XDP saw each packet, CLOCK_MONOTONIC, in ns.
	RxNs [BurstSize]uint64
	// TimeNs is each packet's time in ns as flows and functions take it: RxNs,
	// or what an observer says.
	TimeNs [BurstSize]uint64
	// Seq is each packet's [Meta.Seq].
	Seq [BurstSize]uint32
	// InPort is each packet's ingress port index.
	InPort [BurstSize]uint16
}
