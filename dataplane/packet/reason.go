package packet

// Reason says why the engine (not a function) dropped a packet. The names are
// stable: they are metric labels and test expectations.
//
//go:generate go tool stringer -type=Reason -linecomment
type Reason uint16

const (
	ReasonNone Reason = iota // none
	// No chain matched and the policy for such packets is drop.
	ReasonNoPath // no_path
	// The frame is longer than a chunk allows ([MaxFrame]).
	ReasonTooLong // too_long
	// A header is cut short or its length fields contradict the frame.
	ReasonMalformed // malformed
	// More IPv6 extension headers than the parser follows.
	ReasonExtHeaders // ext_headers
	// No AF_XDP socket serves the queue the packet came in on.
	ReasonNoSocket // no_socket
	// The function trapped.
	ReasonFault // fault
	// The function ran past its deadline.
	ReasonBudget // budget
	// The function left the verdict unwritten or wrote one that does not exist.
	ReasonNoVerdict // no_verdict
	// The function moved the packet outside its chunk or made it too short.
	ReasonBadDescriptor // bad_descriptor
	// The function named an egress port that does not exist.
	ReasonBadPort // bad_port
	// The function is suspended after a fault: backing off or in quarantine.
	ReasonSuspended // suspended
	// The egress ring stayed full.
	ReasonTxFull // tx_full
	// The kernel stack's port did not take the packet.
	ReasonStackFull // stack_full
	// The worker stopped with the packet in hand.
	ReasonShutdown // shutdown
	// The ring to the worker that has the packet's flow was full.
	ReasonHandoffFull // handoff_full
	// Too many packets waited for flows that change hands.
	ReasonHeldFull // held_full
	// The hardware address of the next hop is not known (yet).
	ReasonNoNeighbour // no_neighbour
	// No route to the packet's destination leaves by its egress port.
	ReasonNoRoute // no_route
	// The egress port was removed.
	ReasonPortGone // port_gone
	// The tenant used up its time on the worker while others needed theirs.
	ReasonOverShare // over_share
	// The data plane is handed over, and what the packet waited for did not
	// come in time.
	ReasonHandover // handover

	// NumReasons sizes arrays indexed by Reason.
	NumReasons = iota
)
