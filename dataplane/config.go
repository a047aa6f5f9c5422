package dataplane

import (
	"errors"
	"fmt"
	"time"

	"sfc/chains"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/route"
	"sfc/dataplane/steer"
)

// Port is where a worker takes frames from and gives them to: an AF_XDP socket
// (dataplane/xsk), or memory. All ports of a worker share one frame region and
// one pool of free chunks. Only the worker's goroutine calls these methods;
// none of them allocates or blocks.
type Port interface {
	// Receive fills f with frames, each with its [packet.Meta] in front, and
	// returns how many. The worker owns their chunks.
	Receive(f []packet.Frame) int
	// Transmit takes a prefix of f and returns its length. The chunks return
	// to the pool when the frames are sent.
	Transmit(f []packet.Frame) int
	// Flush tells the kernel of new frames and takes back the chunks of sent
	// ones. It returns whether frames still wait.
	Flush() bool
	// Refill gives the port free chunks to receive into.
	Refill()
	// Waiting returns how many frames wait to be received, and how many that
	// Transmit took have not left yet: what another worker sends once they have
	// comes after them.
	Waiting() (rx, tx int)
	// PollFD is readable when there is something to receive; -1 if the port
	// always or never has.
	PollFD() int
	// Census says where the port's chunks are.
	Census() packet.Census
}

// Stack takes packets for the kernel's network stack (verdict Pass).
type Stack interface {
	// Inject hands over a copy of frame; false when the stack did not take it.
	Inject(frame []byte) bool
}

// Observer sees every burst. It runs on the worker's goroutine and must not
// keep what it is given. A worker without one pays nothing for it.
type Observer interface {
	// Received is called before the path runs; it may change b.TimeNs and
	// b.NowNs.
	Received(b *packet.Burst)
	// Decided is called when outcomes are known and the bytes still there:
	// b.Frames lie in region. Only TxFull can change an outcome after it.
	Decided(b *packet.Burst, region []byte)
	// Sent is called after the frames of a turn went to their ports: the
	// XDP receive times of those that left, and the time now.
	Sent(rxNs []uint64, nowNs uint64)
	// TxFull is called for every packet that found its egress ring full.
	TxFull(seq uint32, inPort uint16)
	// Dropped is called for every packet that the engine dropped outside a
	// burst: it could not be handed to the worker that has its flow, or held.
	Dropped(m packet.Meta, r packet.Reason)
	// Unknown is called for every frame whose metadata names no path: it was
	// dropped as no_path. Steering never sends one, but functions of a port
	// that is theirs alone can overwrite what waits there.
	Unknown(seq uint32)
}

// Binder is the functions of a chain that add keys to flows while they process.
type Binder interface {
	// ApplyBinds gives t the keys that were added since the last call, and
	// takes note of the room left for more.
	ApplyBinds(t *flow.Table)
}

// Path is a service path as one worker runs it. Paths of one chain share
// Descs, Arena and Flows.
type Path struct {
	// Chain is the index of the path's chain. The first of its paths has the
	// Runner that is ticked and told of ended flows.
	Chain  uint16
	Runner chains.Runner
	// Descs are the chain's descriptors, shared with its functions.
	Descs *[packet.BurstSize]packet.Desc
	// Arena is the path's own frame region when the ports carry several
	// tenants: packets are copied into it and back. At least BurstSize chunks.
	// Nil when the worker's region itself is shared with the functions.
	Arena []byte
	// Flows is the chain's flow table on this worker; nil when no function
	// keeps flow state. Whoever made it closes it after the worker stopped.
	Flows *flow.Table
	// Pins are the tuples that functions added to the chain's flows, when they
	// do: the same as the table's.
	Pins *steer.Pins
	// Binder is told of them: the chain's functions, when any of them may add
	// some, else nil.
	Binder Binder
	// Egress is the index of the port that packets leave by.
	Egress uint16
	// Tenant is the chain's tenant's part of this worker's time; nil for chains
	// that have one part together, of which nothing is guaranteed.
	Tenant *Share
}

// Config describes a [Worker].
type Config struct {
	// Index is the worker's place among the workers that share the ports.
	Index int
	// Owners says which worker has which flows; nil when there is only one.
	Owners *steer.Owners
	// Core to pin the worker's thread to; -1 leaves it to the scheduler.
	Core int
	// Ports by port index, each with one of its queues, nil where there is none
	// (yet, see [Set.AddPort]); behind them the other queues of all ports, which
	// are only received from. Queues is how many those are.
	Ports  []Port
	Queues int
	// MaxPorts, MaxPaths and MaxChains are how many there can be: indices are
	// below. Default 0: as many as Ports (without Queues), Paths and again
	// Paths; at most 64 ports and 65,536 of the others.
	MaxPorts, MaxPaths, MaxChains int
	// Region is the frame region of all ports, Pool its free chunks.
	Region []byte
	Pool   *packet.Pool
	// Paths by path index. Further ones come and go by [Set.AddChain] and
	// [Set.RemoveChain].
	Paths []Path
	// GuestBase is the guest address of Region and Arena (nf.FramesStart).
	GuestBase uint32
	// Tuples reads the tuples of packets of paths with Flows, with the same
	// secret.
	Tuples *flow.Reader
	// Routed has bit i set for ports whose frames get the Ethernet addresses of
	// their next hop, which Routes knows. Frames for others leave with those
	// they came with.
	Routed uint64
	Routes *route.View
	// Stack takes packets with verdict Pass. Nil drops them: stack_full.
	Stack Stack
	// Observer sees every burst; nil for none.
	Observer Observer
	// PacketTime says that the Observer sets b.NowNs from packets: then the
	// periodic calls of functions follow that clock, and stop without traffic.
	PacketTime bool
	// Spin is how long to look for more after the last packet before sleeping
	// in poll. More than 1,000 packets a second keep a worker awake at the
	// default of 1 ms; without any it sleeps.
	Spin time.Duration
}

// Most of what indices of 16 bits and sets of 64 can name.
const (
	mostPorts  = 64
	mostChains = 1 << 16
)

func (c Config) withDefaults() Config {
	if c.MaxPorts == 0 {
		c.MaxPorts = len(c.Ports) - c.Queues
	}
	if c.MaxPaths == 0 {
		c.MaxPaths = len(c.Paths)
	}
	if c.MaxChains == 0 {
		c.MaxChains = len(c.Paths)
	}
	if c.Spin == 0 {
		c.Spin = time.Millisecond
	}
	return c
}

func (c *Config) validate() error {
	switch {
	case c.Queues < 0 || len(c.Ports) < c.Queues || c.MaxPorts < 1:
		return errors.New("worker has no ports")
	case c.MaxPorts > mostPorts || len(c.Ports)-c.Queues > c.MaxPorts:
		return fmt.Errorf("worker has %d ports of at most %d, which can be 1 to %d", len(c.Ports)-c.Queues, c.MaxPorts, mostPorts)
	case c.MaxPaths < len(c.Paths) || c.MaxPaths > mostChains || c.MaxChains < 0 || c.MaxChains > mostChains:
		return fmt.Errorf("worker has %d paths of at most %d, and at most %d chains: both can be up to %d", len(c.Paths), c.MaxPaths, c.MaxChains, mostChains)
	case c.Routed != 0 && c.Routes == nil:
		return errors.New("worker has routed ports and no routes")
	case len(c.Region) == 0 || c.Pool == nil:
		return errors.New("worker has no frame region or pool")
	}
	if c.Owners != nil && (c.Index < 0 || c.Index >= steer.MaxWorkers) {
		return fmt.Errorf("worker %d: want 0 to %d", c.Index, steer.MaxWorkers-1)
	}
	for i, p := range c.Ports[len(c.Ports)-c.Queues:] {
		if p == nil {
			return fmt.Errorf("queue %d of %d is missing", i, c.Queues)
		}
	}
	for i := range c.Paths {
		if err := c.validatePath(uint16(i), &c.Paths[i]); err != nil {
			return err
		}
	}
	return nil
}

// validatePath checks a path that is to have an index.
func (c *Config) validatePath(i uint16, p *Path) error {
	switch {
	case int(i) >= c.MaxPaths:
		return fmt.Errorf("path %d: there can be %d paths", i, c.MaxPaths)
	case int(p.Chain) >= c.MaxChains:
		return fmt.Errorf("path %d is of chain %d, there can be %d chains", i, p.Chain, c.MaxChains)
	case p.Flows != nil && c.Tuples == nil:
		return fmt.Errorf("path %d has flows, the worker has no reader of tuples", i)
	case p.Runner == nil || p.Descs == nil:
		return fmt.Errorf("path %d has no runner or no descriptors", i)
	case int(p.Egress) >= c.MaxPorts:
		return fmt.Errorf("path %d leaves by port %d, the worker can have %d ports", i, p.Egress, c.MaxPorts)
	case p.Arena != nil && len(p.Arena) < packet.BurstSize*packet.ChunkSize:
		return fmt.Errorf("path %d: arena of %d bytes, a burst needs %d", i, len(p.Arena), packet.BurstSize*packet.ChunkSize)
	}
	return nil
}
