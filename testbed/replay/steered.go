package replay

import (
	"sfc/chains"
	"sfc/ctrl/agent"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// steerVerdict is where the steering program sends a frame.
type steerVerdict uint8

const (
	steerPath steerVerdict = iota // a worker takes it along a path
	steerPass
	steerForward
	steerDrop
)

// String is the word of the steering program's counters; drops have their own.
func (v steerVerdict) String() string {
	return [...]string{steerPath: "redirected", steerPass: "passed", steerForward: "forwarded", steerDrop: "dropped"}[v]
}

// steered is what the steering program does with a frame of the capture,
// worked out in Go by the same tables. Live, the program's own counters are
// compared with it.
type steered struct {
	verdict steerVerdict
	path    uint16
	reason  string // of a drop
	info    packet.Info
	// unsendable frames never reach the program: no link here carries them.
	unsendable bool
}

// cutShort is the reason of packets of which the capture holds only a part.
const cutShort = "cut_short"

// steering is the Go mirror of the steering program on the port in.
type steering struct {
	table *classify.Table
	port  chains.Port
}

func (s *steering) steer(frame []byte, cut bool) steered {
	switch {
	case cut:
		return steered{verdict: steerDrop, reason: cutShort, unsendable: true}
	case len(frame) > packet.MaxFrame:
		return steered{verdict: steerDrop, reason: packet.ReasonTooLong.String(), unsendable: true}
	case len(frame) < packet.MinFrame:
		return steered{verdict: steerDrop, reason: packet.ReasonMalformed.String(), unsendable: true}
	}
	d := s.table.Steer(portIn, agent.Policies[s.port.Unmatched], frame)
	switch d.Action {
	case classify.Claim:
		return steered{verdict: steerPath, path: d.Path, info: d.Info}
	case classify.ForwardFrame:
		return steered{verdict: steerForward}
	case classify.DropFrame:
		return steered{verdict: steerDrop, reason: d.Reason.String()}
	}
	return steered{verdict: steerPass}
}
