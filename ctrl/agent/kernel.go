package agent

import (
	"net/netip"

	"sfc/bpf"
	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/arena"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/route"
	"sfc/dataplane/xsk"
)

// Kernel is what of a [Dataplane] needs privileges: the steering programs, the
// sockets and the way into the kernel's stack. A process that has the
// privileges does it itself, one that has none asks its supervisor. Methods are
// called one at a time, unless they say otherwise.
type Kernel interface {
	// Open prepares for ports, or finds those that an earlier process had. It is
	// called first, and once.
	Open(KernelOptions) (KernelTables, error)
	// Update puts rules into force: every frame is classified by those before it
	// or by these. When it fails, those before it are in force on all ports.
	Update(Claims) error
	// Grace returns when what the steering programs had begun before the call
	// has ended. Any goroutine may call it.
	Grace() error
	// OpenPort attaches a port at an index that no other has now; peer is the
	// index of the port that unmatched frames are forwarded to, -1 for none. An
	// index that Open has found is taken over as it is.
	OpenPort(index int, p plane.Port, peer int) (PortLink, error)
	// ClosePort detaches a port and closes its ends, which no worker has any
	// more.
	ClosePort(index int) error
	// Answer makes the kernel answer ARP and neighbour discovery for exactly
	// these prefixes on a port, besides its own addresses, until the port is
	// closed. refused says of those that it must not answer for why, at the same
	// place; it is nil when there are none.
	Answer(index int, prefixes []netip.Prefix) (refused []error, err error)
	// Routes follows the routes of the ports' namespace, without ports at first.
	// Who called it closes it.
	Routes() (*route.Table, error)
	// Watch has changed called when an interface of that namespace has come,
	// gone or changed, until done is closed. The error is for what never began.
	Watch(done <-chan struct{}, changed func()) error
	// Stack is where packets for the kernel's stack go; nil: there is none.
	Stack() dataplane.Stack
	// Close gives back what this process has of it.
	Close() error
}

// KernelOptions say what a data plane may grow to.
type KernelOptions struct {
	// Workers share the flows of up to Chains chains, which have up to Paths
	// paths together.
	Workers, Chains, Paths int
	// PinBytes is the size of the table of pins.
	PinBytes int
	// Frames is the region that ports receive into and send from, Depot its
	// free chunks, Pools each worker's. It is kept as FramesName.
	Frames     *arena.Region
	FramesName string
	Depot      *packet.Depot
	Pools      []*packet.Pool
	// Sockets are the options of all sockets.
	Sockets xsk.Options
	// OnWorker runs a function between two bursts of a worker: what touches its
	// pool.
	OnWorker func(worker int, f func())
}

// KernelTables is what steering programs and workers share, valid until Close.
type KernelTables struct {
	// Key is the secret of the flow hash.
	Key [2]uint64
	// Owners and Pins are memory for the tables.
	Owners, Pins []byte
	// Kept says that both hold what an earlier process left there; Ports are the
	// ports that it had, by index.
	Kept  bool
	Ports map[int]string // interfaces
}

// Claims is what paths claim of the ports' frames.
type Claims struct {
	// Rules are in order of precedence.
	Rules []classify.Rule
	// PathChain is the chain of each path, Pinned says of each chain whether its
	// functions give flows further tuples.
	PathChain []uint16
	Pinned    []bool
}

// PortLink is a port that is open.
type PortLink interface {
	// Ends are a worker's: by the first it sends and receives, from the others
	// it only receives.
	Ends(worker int) []dataplane.Port
	// Ifindex is the index of its interface.
	Ifindex() int
	// Status says how the port is. Anyone may call it.
	Status() plane.PortStatus
	// Counters is what the steering program counted. Anyone may call it.
	Counters() (bpf.Counters, error)
}
