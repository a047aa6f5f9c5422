package chains

import (
	"time"

	"sfc/dataplane/classify"
)

// Plan is what all chains of a data plane come to: everything resolved to
// indices, nothing left to look up.
type Plan struct {
	// Ports are the ports given to [Compile], in that order.
	Ports []Port
	// Chains are the chains; Chains[i].Index is i. They stand in the order of
	// the specs.
	Chains []Chain
	// Paths are the service paths; Paths[i].Index is i. In the order of the
	// specs, each chain has its forward path, and behind it the one for the
	// return if it has one.
	Paths []Path
	// Rules are the classifier's, in order of precedence: the first that
	// matches a packet decides.
	Rules []classify.Rule
	// Warnings say, one line each, what is allowed but hardly meant.
	Warnings []string
}

// Port is a port and what the chains together ask of it.
type Port struct {
	Name string
	// Memory says whether the port's memory may be shown to functions.
	Memory MemoryMode
	// Unmatched says what becomes of packets that no rule claims; never
	// [UnmatchedUnset].
	Unmatched Unmatched
	// Forward is the index of the port that such packets leave on when
	// Unmatched is [UnmatchedForward], else -1.
	Forward int
}

// Chain is a chain with everything its paths have in common: the functions, of
// which a worker has one instance each, and the flows whose state they keep.
type Chain struct {
	// Index is the chain's place in [Plan.Chains].
	Index        uint16
	Name, Tenant string
	// Functions are the hops in the order of the spec.
	Functions []Hop
	// Ports has bit i set when the chain takes packets in from port i or sends
	// them out there by default: the ports that its tenant has a say in.
	Ports uint64
	// Addresses are those that the chain stands for, by port.
	Addresses []PortAddress
	// Budget is the time one function may take for one burst.
	Budget time.Duration
	// Binds says that a function may add tuples to its flows
	// ([nf.CapabilityBind]): then packets of a flow are found by these too.
	// False when modules were not looked at.
	Binds bool
	// Flows is the most flows at a time; 0 when no function keeps flow state,
	// or when modules were not looked at.
	Flows int
}

// Path is a service path (SFP, RFC 7665): one way through a chain.
type Path struct {
	// Index is the path's place in [Plan.Paths], carried by every packet.
	Index uint16
	// Chain is the index of the path's chain.
	Chain uint16
	// Return says that the path is the chain's way back.
	Return bool
	// Order is the hops by their index in [Chain.Functions].
	Order []int
	// Egress is the index of the port that packets leave on by default.
	Egress int
}

// Hop is a function in its place in a path.
type Hop struct {
	// Name is unique in the chain.
	Name string
	// Module is the key of the function's module in the [ModuleSet].
	Module string
	// Config is the configuration, a JSON object. Not to be changed.
	Config []byte
	Fault  FaultPolicy
}

// MemoryMode says whether the frames of a port lie where functions see them.
type MemoryMode uint8

const (
	// MemoryExclusive means that one tenant alone uses the port: the port's
	// memory may itself be what the functions see, and no packet is copied.
	MemoryExclusive MemoryMode = iota
	// MemoryShared means that several tenants use the port: each packet is
	// copied into its tenant's memory and back.
	MemoryShared
)

func (m MemoryMode) String() string { return [...]string{"exclusive", "shared"}[m] }

// Title names the chain as users do: tenant/chain.
func (c *Chain) Title() string { return c.Tenant + "/" + c.Name }
