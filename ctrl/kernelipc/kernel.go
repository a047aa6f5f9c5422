// Package kernelipc is what the data plane asks of its supervisor, which has the
// privileges that the data plane has not: what goes through the connection
// between the two, as plain data.
//
// There are two parts. What is kept (keep.*): named descriptors that outlive the
// data plane. And the kernel's half of the engine (kernel.*): the steering
// programs, the sockets of ports, the device to the kernel's stack. The
// descriptors of the kernel's half are kept, too, under names that begin with
// "kernel/": answers name them, and [MethodFetch] hands them over. So a new data
// plane asks the same questions as the first one and finds what there is.
//
// The data plane holds a duplicate of everything kept and hands it to a new
// supervisor when its own has died ([MethodHeld], [MethodFetch] in the other
// direction).
package kernelipc

import (
	"net/netip"

	"sfc/dataplane/classify"
)

// Interface is the name under which both sides say Version at the beginning of
// a connection (ipc.Options.Interfaces).
const (
	Interface = "supervisor"
	Version   = 1
)

// Methods of the supervisor for the kernel's half, answered to the data plane.
// Changes are made one after the other.
const (
	MethodOpen       = "kernel.open"        // Open -> Opened
	MethodAddPort    = "kernel.add_port"    // AddPort -> Port
	MethodRemovePort = "kernel.remove_port" // RemovePort -> None
	MethodUpdate     = "kernel.update"      // Update -> None
	MethodGrace      = "kernel.grace"       // None -> None
	MethodAnswer     = "kernel.answer"      // Answer -> Answered
	MethodNeighbours = "kernel.neighbours"  // Neighbours -> None
	MethodStack      = "kernel.stack"       // Stack -> Stacked
)

// None is a request or answer that says nothing.
type None struct{}

// Limits of requests, checked by the supervisor.
const (
	MaxWorkers = 64
	MaxPorts   = classify.MaxPorts
)

// Open makes the kernel's half, or finds it as the last data plane left it. It
// is called once, first. It is found only when what is asked for is what there
// is; else everything of it is taken down, and packets meet their ports'
// policies until ports are added again.
type Open struct {
	Workers int
	// Chains and Paths are how many of each there can ever be.
	Chains, Paths int
	// PinBytes is the size of the memory of pins, 0 for the default.
	PinBytes int
	// Region is the name of the kept memory that frames are in (the UMEM).
	Region string
	// RingSize, FillRing, FillTarget, Reserve and TxBudget are those of
	// xsk.Options, of all sockets.
	RingSize, FillRing, FillTarget, Reserve, TxBudget uint32
}

// Opened is the kernel's half.
type Opened struct {
	// Found: it is what the last data plane left, with these ports, owners and
	// pins as they are.
	Found bool
	// Renewed: its ports have new sockets, in nobody's hands, and so all chunks
	// are free. That is so where nobody can take over sockets that another process
	// has used: see xsk.Grant.Unbound.
	Renewed bool
	Ports   []Port `json:",omitzero"`
	// HashKey is the secret of the flow hash.
	HashKey [2]uint64
	// Owners and Pins are names of kept BPF maps to be mapped, with sizes in
	// bytes.
	Owners, Pins           string
	OwnersBytes, PinsBytes int
	// Grace and GraceInner are names of the kept maps of bpf.View.Grace, CPUs is
	// how many there may be: the rest of what a view needs.
	Grace, GraceInner string
	CPUs              int
}

// AddPort attaches an interface.
type AddPort struct {
	// Index of the port in rules and metadata, 0 to MaxPorts-1; free.
	Index int
	// Interface is its name.
	Interface string
	// Mode is auto, native or generic; Bind is auto, copy or zero-copy.
	Mode, Bind string
	// Unmatched is pass, forward or drop; Peer is the index of the port that
	// forward sends to.
	Unmatched string
	Peer      int
	// Queues is how many receive queues get sockets, one for each worker. 0: all
	// that the interface has.
	Queues int
}

// Port is a port that is attached.
type Port struct {
	Index     int
	Interface string
	Ifindex   int
	// Attach is the mode in force.
	Attach string
	Queues int
	MAC    [6]byte
	MTU    int
	// Counters and Seq are names of kept BPF maps to be mapped: the program's
	// account of the port, and its number of frames.
	Counters, Seq string
	// Sockets has one entry per queue and worker, in the order in which they are
	// to be adopted.
	Sockets []Socket
}

// Socket is an AF_XDP socket of a port.
type Socket struct {
	Queue, Worker int
	// Name is that of the kept descriptor.
	Name string
	// Grant is xsk.Grant: what the worker's process has to know to use it.
	Grant []byte
}

// RemovePort detaches a port. The supervisor gives up its hold on the sockets
// and forgets them; the data plane closes its own afterwards, and then their
// chunks are free.
type RemovePort struct{ Index int }

// Update replaces what packets are classified by, all ports at once as seen by
// each packet.
type Update struct {
	Rules []classify.Rule
	// PathChain is the chain of each path, by path index.
	PathChain []uint16
	// Pins says for each chain whether it has secondary tuples.
	Pins []bool
}

// Answer makes the kernel answer ARP and neighbour discovery for exactly these
// prefixes on a port, besides its own addresses, until the port is removed. What
// the kernel forgets when a link goes down is for the data plane to ask again.
type Answer struct {
	Port     int
	Prefixes []netip.Prefix
}

// Answered says which of them are not answered for, and why: the text belongs to
// the prefix at the same place, and is empty where all is well.
type Answered struct {
	Refused []string `json:",omitzero"`
}

// MaxPrefixes is how many prefixes are answered for on a port.
const MaxPrefixes = 4096

// Neighbours has the kernel look for the Ethernet addresses of neighbours, at
// most MaxNeighbours, those that it does not know yet.
type Neighbours struct{ List []Neighbour }

// Neighbour is an address on the link of a port.
type Neighbour struct {
	Ifindex int
	Addr    netip.Addr
}

// MaxNeighbours is how many are asked for at once.
const MaxNeighbours = 256

// Stack makes the TAP device through which packets reach the kernel's stack,
// or finds it.
type Stack struct {
	// Name of the device.
	Name string
}

// Stacked is the device.
type Stacked struct {
	// File is the name of the kept descriptor.
	File string
	MAC  [6]byte
}
