package packet

// Verdict is the decision of a service function for one packet. The zero
// value fails closed: a packet that a function forgot is dropped and counted.
//
//go:generate go tool stringer -type=Verdict -linecomment
type Verdict uint8

const (
	Abort Verdict = iota // abort
	Drop                 // drop
	Next                 // next
	Tx                   // tx
	Pass                 // pass

	// NumVerdicts sizes arrays indexed by Verdict.
	NumVerdicts = iota
)

// Outcome is what became of a packet at the end of its chain.
type Outcome struct {
	// Verdict is Drop, Tx (send on Port) or Pass (kernel stack).
	Verdict Verdict
	// Hop is the index of the function that decided; [HopEngine] when the
	// engine did.
	Hop uint8
	// Reason is a [Reason] when Hop is HopEngine or the function faulted
	// (Fault is set), else the number of a drop reason of that function's
	// manifest, counted from 1. Zero unless Verdict is Drop.
	Reason uint16
	// Port is the egress port's index when Verdict is Tx.
	Port uint16
	// Fault says that Reason is the engine's word about function Hop.
	Fault uint8
	// Trial is 1 when the version of function Hop that is on trial decided,
	// which has reasons of its own.
	Trial uint8
}

// HopEngine is the Hop of an outcome that no function decided.
const HopEngine = 0xff
