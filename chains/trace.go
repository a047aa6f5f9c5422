package chains

import "sfc/dataplane/packet"

// Bounds of a [HopTrace].
const (
	// TracePackets is how many packets of a burst can be followed.
	TracePackets = 8
	// TraceHops is how many functions they can meet: all that a path may have.
	TraceHops = 16
)

// Tracer is a Runner that can show what its functions do with a packet.
type Tracer interface {
	// Trace takes a burst along the path as Process does, one function at a
	// time, and writes down what each of them did with the chosen packets. The
	// outcome is that of Process. It allocates nothing.
	Trace(b *packet.Burst, t *HopTrace)
}

// HopTrace is what functions did with a few packets of a burst. The caller sets
// Chosen and Snap, [Tracer.Trace] the rest.
//
// It holds no pointers, so that it may be handed to C as it is.
type HopTrace struct {
	// Chosen has bit k set for packet k of the burst, TracePackets of them at
	// most; further ones are not followed. Seen has them in order.
	Chosen uint64
	// Snap is how many bytes of a frame are written down, at most
	// packet.ChunkSize.
	Snap uint32
	// Hops is how many functions ran.
	Hops uint32
	// Hop says of each of them, in the order in which they ran, how its run
	// went, and Seen what it did with each chosen packet.
	Hop  [TraceHops]HopRun
	Seen [TraceHops][TracePackets]HopSeen
}

// HopRun is a function's run over a burst.
type HopRun struct {
	// Ns is how long it took.
	Ns uint64
	// Function is its index in the chain.
	Function uint32
	// Packets is how many it was given.
	Packets uint32
}

// HopSeen is a packet as a function left it.
type HopSeen struct {
	// Met is 1 when the packet came to the function, else nothing else is set.
	Met uint8
	// Fault is 1 when Reason is a packet.Reason: the function is not to blame
	// for its own words but for what it did. Else Reason is one of its own,
	// from 1, or 0.
	Fault   uint8
	Verdict packet.Verdict
	_       uint8
	Reason  uint16
	// Port is the egress port that the function chose.
	Port uint16
	// Len is the length of the frame, Copied how many bytes of it Data has.
	Len, Copied uint16
	_           uint32
	Data        [packet.ChunkSize]byte
}
