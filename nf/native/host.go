package native

import "sfc/dataplane/flow"

// Answers of a [Host], as in nf/ABI.md.
const (
	BindOK     int32 = iota // done, or so before
	BindTaken               // another flow's tuple, or another value
	BindFull                // no room
	BindNoFlow              // the packet has no flow
	BindLimit               // the flow has two already
	BindBad                 // not a tuple
)

// Host is what a function may ask the engine for, about the packets of the
// burst under way.
type Host interface {
	// FlowBind makes packets that answer t find the flow of packet i.
	FlowBind(i int, t flow.Tuple) int32
	// Claim makes the flow of packet i hold a value under a key until it ends.
	Claim(i int, hi, lo, value uint64) int32
	// ClaimFind returns the value under a key, 0 when no flow holds it.
	ClaimFind(hi, lo uint64) uint64
}

// nobody is the host of a function that was given none.
type nobody struct{}

func (nobody) FlowBind(int, flow.Tuple) int32            { return BindNoFlow }
func (nobody) Claim(int, uint64, uint64, uint64) int32   { return BindNoFlow }
func (nobody) ClaimFind(uint64, uint64) (nothing uint64) { return 0 }
