package replay

import (
	"slices"

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
	to      int    // port that it is forwarded to
	reason  string // of a drop
	info    packet.Info
	// unsendable frames never reach the program: no link here carries them.
	unsendable bool
}

// cutShort is the reason of packets of which the capture holds only a part.
const cutShort = "cut_short"

// steering is the Go mirror of the steering program.
type steering struct {
	table *classify.Table
	ports []chains.Port
}

func newSteering(e *agent.Engine) *steering {
	return &steering{table: e.Table(), ports: e.Plan().Ports}
}

// twoWay says that a chain has a way back: then packets go into both ports.
func twoWay(p *chains.Plan) bool {
	return slices.ContainsFunc(p.Paths, func(p chains.Path) bool { return p.Return })
}

func (s *steering) steer(p *parcel) steered {
	switch {
	case p.cut:
		return steered{verdict: steerDrop, reason: cutShort, unsendable: true}
	case len(p.data) > packet.MaxFrame:
		return steered{verdict: steerDrop, reason: packet.ReasonTooLong.String(), unsendable: true}
	case len(p.data) < packet.MinFrame:
		return steered{verdict: steerDrop, reason: packet.ReasonMalformed.String(), unsendable: true}
	}
	port := s.ports[p.port]
	d := s.table.Steer(uint16(p.port), agent.Policies[port.Unmatched], p.data)
	switch d.Action {
	case classify.Claim:
		return steered{verdict: steerPath, path: d.Path, info: d.Info}
	case classify.ForwardFrame:
		return steered{verdict: steerForward, to: max(port.Forward, 0)}
	case classify.DropFrame:
		return steered{verdict: steerDrop, reason: d.Reason.String()}
	}
	return steered{verdict: steerPass}
}
