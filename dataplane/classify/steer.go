package classify

import "sfc/dataplane/packet"

// Policy says what happens to frames that no path claims.
type Policy uint8

const (
	// Pass gives them to the kernel's network stack.
	Pass Policy = iota
	// Forward sends them out of the paired port.
	Forward
	// Drop drops them.
	Drop
)

// String returns the policy's name as chains spell it.
func (p Policy) String() string {
	switch p {
	case Pass:
		return "pass"
	case Forward:
		return "forward"
	case Drop:
		return "drop"
	}
	return "unknown"
}

// Action is what the steering program does with a frame.
type Action uint8

const (
	// Claim: a path takes it.
	Claim Action = iota
	// PassFrame: to the kernel's stack.
	PassFrame
	// ForwardFrame: to the paired port.
	ForwardFrame
	// DropFrame: dropped, for Decision.Reason.
	DropFrame
)

// Decision is the steering program's word about a frame.
type Decision struct {
	// Action says what happens.
	Action Action
	// Path is the service path, when Action is Claim.
	Path uint16
	// Reason is why, when Action is DropFrame.
	Reason packet.Reason
	// Result and Info are what the parser found.
	Result packet.ParseResult
	Info   packet.Info
}

// Steer decides about a frame as the steering program does (bpf/steer.bpf.c),
// for runs without the kernel and as its oracle. A frame too long for a chunk is
// dropped only if a path claims it.
func (t *Table) Steer(port uint16, unmatched Policy, frame []byte) Decision {
	var d Decision
	d.Info, d.Result = packet.Parse(frame)
	claimed := false
	switch d.Result {
	case packet.Malformed:
		return d.drop(packet.ReasonMalformed)
	case packet.ExtHeaders:
		return d.drop(packet.ReasonExtHeaders)
	case packet.ParsedIP:
		d.Path, claimed = t.Lookup(port, &d.Info)
	}
	if claimed {
		if len(frame) > packet.MaxFrame {
			return d.drop(packet.ReasonTooLong)
		}
		d.Action = Claim
		return d
	}
	switch unmatched {
	case Pass:
		d.Action = PassFrame
	case Forward:
		d.Action = ForwardFrame
	default:
		return d.drop(packet.ReasonNoPath)
	}
	return d
}

// drop returns d with the frame dropped for the reason.
func (d Decision) drop(r packet.Reason) Decision {
	d.Action, d.Reason, d.Path = DropFrame, r, 0
	return d
}
