// Package nftest compares implementations of a network function packet by
// packet: the Wasm module, the same C compiled natively, and the reference in
// Go (nf/native). Equal input must give equal verdicts, reasons and frames.
package nftest

import (
	"bytes"
	"fmt"

	"sfc/dataplane/packet"
)

// Runner is one implementation of one function.
type Runner interface {
	// Configure gives the function its configuration (JSON) and an empty
	// state. A refusal is an error.
	Configure(config []byte) error
	// Process runs the packets through the function in bursts of at most
	// packet.BurstSize, in order, and returns one result for each.
	Process(packets []Packet) []Result
	// FlowEnd tells the function that flows have ended, in this order, and
	// clears their state.
	FlowEnd(flows []uint32)
}

// Limiter is a Runner that can give its function little room for tuples and
// claims, from the next Configure on.
type Limiter interface{ Limit(Room) }

// Reconfigurer is a Runner that can give its function another configuration
// while it keeps its flows and counters.
type Reconfigurer interface{ Reconfigure(config []byte) error }

// MaxFlows is the most flows that a runner has state for.
const MaxFlows = 1 << 16

// Keeper is a Runner that can show what its function keeps of the flows.
type Keeper interface {
	// FlowState returns the slots of the first n flows, one after the other;
	// nil when the function keeps nothing. It aliases the runner's own.
	FlowState(n int) []byte
}

// Recorder is a Runner that can show what its function exported.
type Recorder interface {
	// Records ends the present configuration and returns the records of its
	// function, as the engine writes them.
	Records() []string
}

// Counter is a Runner whose function's counters can be read.
type Counter interface {
	// Counters returns the counters in the order of the manifest.
	Counters() []uint64
}

// Packet is a frame with what the engine tells a function about it.
type Packet struct {
	Frame []byte
	// Whole is the frame that the flow is looked up by, when a function in front
	// is to have changed it since; nil: Frame.
	Whole []byte
	// L3 and L4 are offsets in the frame, as in packet.Info.
	L3, L4 uint16
	Proto  uint8
	Flags  uint16
	VLAN   uint16
	InPort uint16
	RxNs   uint64
	// Flow is the number of the packet's flow, from 1 to MaxFlows; 0: none. For
	// functions that bind tuples it is looked up, whatever stands here.
	Flow uint32
}

// NewPacket parses a frame as the steering program does.
func NewPacket(frame []byte, rxNs uint64) Packet {
	in, _ := packet.Parse(frame)
	return Packet{
		Frame: frame, L3: in.L3, L4: in.L4, Proto: in.Proto,
		Flags: in.Flags, VLAN: in.VLAN, RxNs: rxNs,
	}
}

// slots returns the slots of flows.
func slots(flows []uint32) []uint32 {
	out := make([]uint32, len(flows))
	for i, f := range flows {
		out[i] = f - 1
	}
	return out
}

// Result is what a function did with a packet. The zero Verdict is Abort.
type Result struct {
	Verdict packet.Verdict
	Reason  uint16
	OutPort uint16
	Off     uint16
	// Frame is a copy of the frame as the function left it.
	Frame []byte
}

// Diff says how two results differ, "" when they do not.
func (r Result) Diff(other Result) string {
	switch {
	case r.Verdict != other.Verdict || r.Reason != other.Reason:
		return fmt.Sprintf("verdict %v(%d) and %v(%d)", r.Verdict, r.Reason, other.Verdict, other.Reason)
	case r.OutPort != other.OutPort || r.Off != other.Off:
		return fmt.Sprintf("port and offset %d, %d and %d, %d", r.OutPort, r.Off, other.OutPort, other.Off)
	case !bytes.Equal(r.Frame, other.Frame):
		return fmt.Sprintf("frames\n%x\n%x", r.Frame, other.Frame)
	}
	return ""
}

// RefusedError is the number with which a function refused its configuration,
// see nf/ABI.md: the code in the low 8 bits, a byte offset above.
type RefusedError struct{ Code int32 }

// Error names code and place.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("configuration refused with code %d at byte %d", e.Code&0xff, e.Code>>8)
}
