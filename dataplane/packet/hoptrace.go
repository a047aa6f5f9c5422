package packet

// What a [HopTrace] has room for.
const (
	// HopRecords is how many records it has for a burst: all 16 functions of a
	// chain for 16 packets.
	HopRecords = 256
	// HopData is how many bytes of frames it has for a burst: 64 whole chunks,
	// both before and after a function.
	HopData = 2 * BurstSize * ChunkSize
)

// Sides of a function that a [HopTrace] keeps bytes of.
const (
	TraceBefore = 1 << iota
	TraceAfter
)

// HopTrace says which packets to follow through which functions, and receives
// what became of them: see chains.HopTracer. It is the worker's, which sets Want
// before a burst and reads the records after it. It has no pointers, so that it
// may be handed to C as it is; its layout is struct sfc_trace in nf/wasm/shim.h.
// It is some 270 KiB: make one and keep it.
type HopTrace struct {
	// Want is the set of packets of the next burst, bit k for packet k. Process
	// leaves it alone.
	Want uint64
	// Hops is the set of functions, bit h for the one with index h in the
	// chain.
	Hops uint32
	// Snap is the most bytes kept of a frame on each side; 0: none.
	Snap uint16
	// Sides is where bytes are kept: TraceBefore, TraceAfter or both.
	Sides uint16

	// N is how many records there are of the last burst, Used how many bytes
	// of Data, and Lost how many runs of a function found no record. A frame
	// that finds no room in Data has no bytes.
	N, Used, Lost uint32
	_             uint32
	Records       [HopRecords]HopRecord
	Data          [HopData]byte
}

// HopRecord is what one function did with one packet.
type HopRecord struct {
	// TookNs is how long the function ran, all packets of the run together; 0
	// when it is suspended.
	TookNs uint64
	// MarkBefore is the packet's mark before the function, Mark that after it.
	MarkBefore, Mark uint32
	// Before and After say where the frame lay: as the function found it, and
	// as the host took it over from there.
	Before, After Frame
	// BeforeAt and BeforeLen are where its bytes lie in Data; likewise AfterAt
	// and AfterLen.
	BeforeAt, AfterAt   uint32
	BeforeLen, AfterLen uint16
	// OutPortBefore is the egress port before the function, OutPort what the
	// function left in the descriptor.
	OutPortBefore, OutPort uint16
	// Reason is that of a drop: the function's own number or, with Fault, the
	// engine's. A packet that a fault let through (policy open) has verdict
	// Next, Fault and the reason.
	Reason uint16
	// Burst is how many packets the function was called with.
	Burst uint16
	// Packet is the index in the burst, Hop that of the function in the chain.
	Packet, Hop uint8
	// Verdict is what the host made of the function's: never Abort.
	Verdict Verdict
	Fault   uint8
	// Trial is 1 when it was the version on trial that ran.
	Trial uint8
	_     [7]uint8
}

// BytesBefore returns what was kept of the frame before the function. It is
// valid until the next burst.
func (t *HopTrace) BytesBefore(r *HopRecord) []byte { return t.Data[r.BeforeAt:][:r.BeforeLen] }

// BytesAfter returns what was kept of the frame after the function. It is valid
// until the next burst.
func (t *HopTrace) BytesAfter(r *HopRecord) []byte { return t.Data[r.AfterAt:][:r.AfterLen] }
