// Package chains turns what a tenant asks for into what a worker runs.
//
// A [Spec] is the abstract chain (SFC, RFC 7665): which packets, which
// functions in which order, where to. [Parse] reads it from YAML, [Load] from
// a file. [Compile] resolves specs to a [Plan]: service paths with indices
// instead of names and the classifier's rules in order of precedence. Both are
// pure: equal input gives equal output.
//
// The package knows nothing of sockets, Wasm or eBPF.
package chains

import (
	"net/netip"
	"time"

	"sfc/dataplane/classify"
)

// Limits of a spec.
const (
	// MaxFile is the longest chain file in bytes.
	MaxFile = 1 << 20
	// MaxFunctions is the most functions in a chain.
	MaxFunctions = 16
	// MaxMatches is the most match rules of one chain; see
	// [classify.MaxRules] for all chains together.
	MaxMatches = classify.MaxRules
	// MaxPriority is the highest priority; the lowest is its negative.
	MaxPriority = 1_000_000
	// MinBudget and MaxBudget bound the time a function may take per burst.
	MinBudget = 100 * time.Microsecond
	MaxBudget = 100 * time.Millisecond
	// MaxFlows is the most flows of one chain at a time.
	MaxFlows = 1 << 22
	// DefaultFlows is the number for a chain that names none.
	DefaultFlows = 1 << 16
	// DefaultBudget is the budget of a chain that names none.
	DefaultBudget = time.Millisecond
)

// Spec is a chain as a tenant asks for it. It is plain data: two specs that
// ask for the same are equal under reflect.DeepEqual, however they were
// written.
type Spec struct {
	// Name and Tenant are RFC 1123 labels; together they are unique.
	Name, Tenant string
	// Priority decides between chains that claim the same packet: the higher
	// goes first. Default 0.
	Priority int
	// Match says which packets the chain claims: those of any element. Empty
	// means all IP packets of every port but Egress.
	Match []Match
	// Functions are passed in this order. Empty means: forward only.
	Functions []FunctionSpec
	// Egress is the name of the port that packets leave on unless a function
	// decides otherwise.
	Egress string
	// Return is the way back; nil means that the chain has one direction only.
	Return *Return
	// Budget is the time one function may take for one burst.
	Budget time.Duration
	// Flows is the most flows at a time whose state the functions keep. It
	// means nothing when none of them keeps any.
	Flows int
	// Addresses are those that the chain stands for: the pool of an address
	// translation, the virtual addresses of a load balancer. A routed port's
	// host answers ARP and neighbour discovery for them.
	Addresses []Address
	// Unmatched says what becomes of packets that no chain claims, on the
	// ports where this chain takes packets in.
	Unmatched Unmatched
}

// Match selects packets; every field must hold. [MatchAll] selects all IP
// packets, the zero value does not.
type Match struct {
	// Port is the ingress port's name; "" means every port but the chain's
	// egress.
	Port string
	// VLAN is the outermost VLAN id, 0 for untagged packets only, or
	// [classify.AnyVLAN].
	VLAN int
	// Family is 4, 6 or 0 for both.
	Family uint8
	// Src and Dst are masked prefixes; the zero Prefix holds every address.
	Src, Dst netip.Prefix
	// Protocol is the transport protocol (IANA number) or
	// [classify.AnyProto].
	Protocol int
	// SrcPorts and DstPorts are transport ports; the zero range holds every
	// port.
	SrcPorts, DstPorts classify.PortRange
}

// MatchAll selects every IP packet.
func MatchAll() Match {
	return Match{VLAN: classify.AnyVLAN, Protocol: classify.AnyProto}
}

// Return is the way that packets take through a chain in the other direction:
// they come in where the chain's packets leave and leave where those come in.
// The functions are the same as forward, with the same flows.
type Return struct {
	// Functions names the functions of the chain that are passed on the way
	// back, in that order, each at most once. Empty means: forward only.
	Functions []string
	// Match says which packets take the way back. Empty means: what answers
	// the chain's own matches, see [Match.Mirrored]. An element that names no
	// port means the chain's egress.
	Match []Match
	// Egress is the name of the port that packets leave on; "" means the one
	// port where the chain takes packets in.
	Egress string
}

// Mirror returns the way back through all functions in reverse order.
func (s *Spec) Mirror() *Return {
	r := &Return{}
	for i := len(s.Functions) - 1; i >= 0; i-- {
		r.Functions = append(r.Functions, s.Functions[i].Name)
	}
	return r
}

// Mirrored returns what matches the answers to packets that m matches: source
// and destination change places, and the port is the one the packets left on.
func (m Match) Mirrored(egress string) Match {
	m.Port = egress
	m.Src, m.Dst = m.Dst, m.Src
	m.SrcPorts, m.DstPorts = m.DstPorts, m.SrcPorts
	return m
}

// FunctionSpec is one function of a chain.
type FunctionSpec struct {
	// Name is an RFC 1123 label, unique in the chain.
	Name string
	// Module is the path of the Wasm module.
	Module string
	// Config is the function's configuration, a JSON object; nil when it lies
	// in ConfigFile and has not been read yet.
	Config []byte
	// ConfigFile is the path of a file with the configuration, "" when the
	// chain file carries it.
	ConfigFile string
	// Fault says what becomes of the packets a function held when it failed.
	Fault FaultPolicy
}

// FaultPolicy says what becomes of the packets of a function that trapped or
// overran its budget, and of those that arrive while it is suspended.
type FaultPolicy uint8

// The fault policies, by their names in chain files.
const (
	FaultClosed FaultPolicy = iota // closed: drop them
	FaultOpen                      // open: go on with the next function
)

func (f FaultPolicy) String() string { return faultNames[f] }

var faultNames = []string{FaultClosed: "closed", FaultOpen: "open"}

// Unmatched says what becomes of packets that no chain claims.
type Unmatched uint8

// The policies for unmatched packets, by their names in chain files.
const (
	UnmatchedUnset   Unmatched = iota // no opinion: as another chain says, else pass
	UnmatchedPass                     // to the kernel's stack
	UnmatchedForward                  // to the port's pair
	UnmatchedDrop                     // dropped and counted
)

func (u Unmatched) String() string { return unmatchedNames[u] }

var unmatchedNames = []string{UnmatchedUnset: "unset", UnmatchedPass: "pass", UnmatchedForward: "forward", UnmatchedDrop: "drop"}
