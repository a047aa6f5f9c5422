// Package lab keeps a small network alive around a data plane, so that real
// programs can talk through its chains:
//
//	client namespace            engine namespace               server namespace
//	  eth0 ------- veth ------- in  XDP -> XSK -> workers
//	                                XSK <- XDP  out ---- veth ------- eth0
//
// One process holds all of it and answers requests on a unix socket: [Run] is
// that process's life, [Dial] the other end. Namespaces, links, programs and
// sockets hang on the process's descriptors: when it ends, however it ends, the
// kernel takes them down. What it leaves in [Dir] after a SIGKILL is a socket
// that nobody answers and a lock that nobody holds, which the next lab of that
// name replaces.
package lab

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"sfc/nf"
)

// Dir is where labs have their sockets.
const Dir = "/run/sfcctl"

// DefaultName is the lab of those who name none.
const DefaultName = "lab"

// Mode is what the engine is to the two hosts.
type Mode string

// The modes.
const (
	// Inline: a bump in the wire. Both hosts are in one subnet; what no chain
	// claims, ARP and neighbour discovery above all, goes to the other side.
	Inline Mode = "inline"
	// Routed: a router. Each host has a subnet of its own and the engine for
	// its gateway. What no chain claims the engine's kernel gets, which answers
	// for the engine's addresses and forwards the rest.
	Routed Mode = "routed"
)

// Host is a network namespace of the lab.
type Host string

// The hosts. The client is behind port in, the server behind port out, and the
// engine between them.
const (
	HostClient Host = "client"
	HostEngine Host = "engine"
	HostServer Host = "server"
)

// Hosts are all of them.
var Hosts = []Host{HostClient, HostEngine, HostServer}

// Options configure a lab. Chains is required, or NoEngine.
type Options struct {
	// Dir is where the lab's socket and lock are. Default Dir.
	Dir string
	// Name distinguishes labs that run at the same time. Default DefaultName.
	Name string
	// Chains are chain files; ports are in and out.
	Chains []string
	// NoEngine leaves the engine out: hosts and links only, for a daemon that
	// somebody starts on host engine. Then there are no Chains.
	NoEngine bool
	// Mode defaults to Routed for chains that stand for addresses of their own,
	// which others must be able to reach, and to Inline for all others.
	Mode Mode
	// Workers is the number of workers. Default 1.
	Workers int
	// RebalanceEvery is how often buckets move from workers that have much to
	// do to those that have little. 0: never.
	RebalanceEvery time.Duration
	// Records is a file for what functions export, such as the records of
	// flows: a JSON object a line. Empty: nobody reads them.
	Records string
	// Limits are checked on every module.
	Limits nf.Limits
	// Log receives what functions log, their faults and alarms, one a line.
	// Nil: nobody reads it.
	Log io.Writer
	// LogFile is where that ends up, for [Status] to say; [Run] empties it.
	LogFile string
}

func (o Options) withDefaults() Options {
	if o.Dir == "" {
		o.Dir = Dir
	}
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Workers == 0 {
		o.Workers = 1
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	return o
}

// Validate checks what a command line can get wrong.
func (o Options) Validate() error {
	o = o.withDefaults()
	switch {
	case len(o.Chains) == 0 && !o.NoEngine:
		return errors.New("no chain given: name a file with --chain, or leave the engine out with --no-engine")
	case len(o.Chains) > 0 && o.NoEngine:
		return fmt.Errorf("chain %s and no engine to run it: give one of --chain and --no-engine", o.Chains[0])
	case o.Mode != "" && o.Mode != Inline && o.Mode != Routed:
		return fmt.Errorf("mode %q: it is %s or %s", o.Mode, Inline, Routed)
	case o.Workers < 1:
		return fmt.Errorf("%d workers: want at least 1", o.Workers)
	case o.RebalanceEvery != 0 && o.RebalanceEvery < time.Millisecond:
		return fmt.Errorf("rebalance every %v: want 1ms at least, or 0 for never", o.RebalanceEvery)
	}
	return CheckName(o.Name)
}

// CheckName says what is wrong with a lab's name: it becomes part of a file's.
func CheckName(name string) error {
	if len(name) < 1 || len(name) > 32 {
		return fmt.Errorf("name %q of a lab: want 1 to 32 letters, digits and dashes", name)
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("name %q of a lab: %q is no small letter, digit or dash", name, c)
		}
	}
	return nil
}

// ErrNoEngine says that a lab is hosts and links only.
var ErrNoEngine = errors.New("the lab has no engine of its own (--no-engine): ask the daemon that runs on its host engine")

// ErrNotRoot says what a lab needs.
var ErrNotRoot = errors.New("a lab needs root: CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_SYS_ADMIN (network namespaces) " +
	"and CAP_IPC_LOCK; run it with sudo")

// Names of the ports, in index order.
var portNames = []string{"in", "out"}

const (
	portIn = iota
	portOut
)

// addresses are the hosts' by mode; the engine's first two are those of port in,
// the others of port out.
var addresses = map[Mode]map[Host][]netip.Prefix{
	Inline: {
		HostClient: prefixes("10.0.1.1/24", "fd00:1::1/64"),
		HostServer: prefixes("10.0.1.2/24", "fd00:1::2/64"),
	},
	Routed: {
		HostClient: prefixes("10.0.0.2/24", "fd00::2/64"),
		HostEngine: prefixes("10.0.0.1/24", "fd00::1/64", "10.0.1.1/24", "fd00:1::1/64"),
		HostServer: prefixes("10.0.1.2/24", "fd00:1::2/64"),
	},
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}
