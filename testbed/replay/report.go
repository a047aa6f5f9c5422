package replay

import (
	"errors"
	"fmt"
)

// Report is the account of a replay. Sent = Received + Passed + all Dropped +
// Lost, or Balance says what is wrong.
type Report struct {
	Capture CaptureReport `json:"capture"`
	Chains  []ChainReport `json:"chains"`
	Mode    Mode          `json:"mode"`

	// Sent counts the packets offered, Received those that came out at a far
	// end, Passed those that went to the kernel's stack.
	Sent     uint64            `json:"sent"`
	Received uint64            `json:"received"`
	Passed   uint64            `json:"passed"`
	Dropped  map[string]uint64 `json:"dropped"`
	// Lost counts packets without a fate; 0 unless something is broken.
	Lost uint64 `json:"lost"`
	// Reordered counts packets that came out after one of the same flow which
	// was sent later into the same port, and those that overtook others on the
	// way from one worker to a far end.
	Reordered uint64 `json:"reordered"`
	// Damaged counts packets whose bytes or metadata functions overwrote while
	// they waited in memory that is the tenant's alone. Each has its fate, but
	// where several were damaged at once, perhaps that of its neighbour.
	Damaged uint64 `json:"damaged"`
	// Foreign counts frames at the far ends that nobody sent, such as a packet
	// that came out twice; 0 unless something is broken.
	Foreign uint64 `json:"foreign"`
	// BadChecksumsIn and BadChecksumsOut count packets with a wrong IPv4,
	// TCP, UDP or ICMP checksum among those sent and received.
	BadChecksumsIn  uint64 `json:"bad_checksums_in"`
	BadChecksumsOut uint64 `json:"bad_checksums_out"`

	Seconds   float64        `json:"seconds"`
	PPS       float64        `json:"pps"`
	Latency   LatencyReport  `json:"latency_ns"`
	Functions []FunctionData `json:"functions"`
	// Steering are the XDP program's counters; empty offline.
	Steering map[string]uint64 `json:"steering,omitempty"`
	// Worker is the account of all workers together, Workers that of each.
	Worker  WorkerReport   `json:"worker"`
	Workers []WorkerReport `json:"workers,omitempty"`
	// Moves and Swaps are set when flows were moved and functions replaced.
	Moves *MoveReport `json:"moves,omitempty"`
	Swaps *SwapReport `json:"swaps,omitempty"`
	// Notes say what the reader should know: a truncated capture, offloads
	// that could not be changed.
	Notes []string `json:"notes,omitempty"`
}

// CaptureReport describes what was sent.
type CaptureReport struct {
	File    string `json:"file"`
	Packets uint64 `json:"packets"` // in the file
	Cut     uint64 `json:"cut"`     // of them cut by the snap length: dropped as cut_short
	Loops   int    `json:"loops"`
	// Error is set when the file ends or is damaged part way; the packets in
	// front of that place were sent.
	Error string `json:"error,omitempty"`
}

// ChainReport names a chain that ran.
type ChainReport struct {
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
	// Flows is set when functions of the chain keep flow state.
	Flows *FlowReport `json:"flows,omitempty"`
}

// FlowReport is the account of a chain's flow table.
type FlowReport struct {
	Max      int    `json:"max"`
	Live     uint32 `json:"live"` // at the end
	Created  uint64 `json:"created"`
	Expired  uint64 `json:"expired"`
	Evicted  uint64 `json:"evicted"`
	Replaced uint64 `json:"replaced"` // over, and the same tuple began anew
	Refused  uint64 `json:"refused"`
}

// Mode is what was really in force.
type Mode struct {
	Attach     string `json:"attach"` // native, generic, or offline
	Bind       string `json:"bind"`   // copy, zerocopy, or memory
	Workers    int    `json:"workers"`
	Core       int    `json:"core"`   // of the first worker; -1: not pinned
	Memory     string `json:"memory"` // exclusive or shared
	HugePages  bool   `json:"huge_pages"`
	NeedWakeup bool   `json:"need_wakeup"`
	TxBudget   int    `json:"tx_budget"` // descriptors per kick; 0: not applicable
	Clock      Clock  `json:"clock"`
	Stack      string `json:"stack"` // tap, or none
}

// LatencyReport is the time from XDP receive to transmit, in ns.
type LatencyReport struct {
	P50  int64 `json:"p50"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

// FunctionData is one function's account.
type FunctionData struct {
	Chain       string            `json:"chain"`
	Name        string            `json:"name"`
	Packets     uint64            `json:"packets"`
	Verdicts    map[string]uint64 `json:"verdicts"`
	Dropped     map[string]uint64 `json:"dropped,omitempty"`
	Counters    map[string]uint64 `json:"counters,omitempty"`
	NsPerPacket float64           `json:"ns_per_packet"`
	Faults      uint64            `json:"faults"`
	State       string            `json:"state"`
	LastFault   string            `json:"last_fault,omitempty"`
	Skipped     uint64            `json:"skipped,omitempty"`
}

// WorkerReport is a worker's account.
type WorkerReport struct {
	Core      int    `json:"core"` // -1: not pinned
	Turns     uint64 `json:"turns"`
	Sleeps    uint64 `json:"sleeps"`
	Received  uint64 `json:"received"`
	Sent      uint64 `json:"sent"`
	Passed    uint64 `json:"passed"`
	Dropped   uint64 `json:"dropped"`
	HandedOut uint64 `json:"handed_out"` // to the workers that had their flows
	HandedIn  uint64 `json:"handed_in"`
	Held      uint64 `json:"held"` // had to wait for their flow, or first fragment
}

// add adds another worker's account.
func (w *WorkerReport) add(o *WorkerReport) {
	w.Turns += o.Turns
	w.Sleeps += o.Sleeps
	w.Received += o.Received
	w.Sent += o.Sent
	w.Passed += o.Passed
	w.Dropped += o.Dropped
	w.HandedOut += o.HandedOut
	w.HandedIn += o.HandedIn
	w.Held += o.Held
}

// MoveReport says how flows changed hands between workers.
type MoveReport struct {
	Count   uint64 `json:"count"`   // buckets moved
	Flows   uint64 `json:"flows"`   // that moved with them
	Refused uint64 `json:"refused"` // that found no room and ended
	Forced  uint64 `json:"forced"`  // moves that did not wait for packets which never came
	Stuck   uint64 `json:"stuck"`   // moves that did not wait for packets which never left
	// Hold is for how long packets were held meanwhile.
	Hold DelayReport `json:"hold_ns"`
}

// SwapReport says how functions were replaced.
type SwapReport struct {
	Count uint64 `json:"count"`
	// Pause is for how long a worker's packets had to wait for a replacement.
	Pause DelayReport `json:"pause_ns"`
}

// DelayReport is about packets that had to wait, in ns.
type DelayReport struct {
	Count uint64 `json:"count"`
	P50   int64  `json:"p50"`
	P99   int64  `json:"p99"`
	Max   int64  `json:"max"`
}

// ErrUnbalanced means that packets were lost or counted twice.
var ErrUnbalanced = errors.New("the account does not balance")

// Balance checks the report's sums, and that nothing is lost or came out twice.
func (r *Report) Balance() error {
	var dropped uint64
	for _, n := range r.Dropped {
		dropped += n
	}
	if sum := r.Received + r.Passed + dropped + r.Lost; sum != r.Sent {
		return fmt.Errorf("%w: sent %d, received %d + passed %d + dropped %d + lost %d = %d",
			ErrUnbalanced, r.Sent, r.Received, r.Passed, dropped, r.Lost, sum)
	}
	if r.Lost != 0 {
		return fmt.Errorf("%w: %d packets lost", ErrUnbalanced, r.Lost)
	}
	if r.Foreign != 0 {
		return fmt.Errorf("%w: %d frames came out that nobody sent", ErrUnbalanced, r.Foreign)
	}
	return nil
}
