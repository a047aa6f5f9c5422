// Package bpf is the part of the engine that runs in the kernel: the steering
// program that takes a port's frames to AF_XDP sockets, and three small programs
// for test beds (a stub that passes everything, a sink, a generator).
//
// One [Steering] serves all ports of an engine. Each port has its own copy of
// the program, specialised when it is loaded: port number, policy, hash key and
// the shape of the classifier's tables are constants that the verifier folds in.
// What fits into these shapes is exchanged under traffic by one store; another
// shape means new programs. [Steering.Update] does both.
//
// A frame that a path claims goes to the socket of the worker that owns its flow.
// Who owns what is in memory that all programs share with user space
// ([Steering.OwnerMemory], [Steering.PinMemory]; package dataplane/steer), so
// owners change without a system call.
//
// Interfaces are named by index, which the kernel resolves in the network
// namespace of the calling thread: call Load, Attach and the Open functions in
// the namespace of the interfaces.
package bpf

import (
	"errors"
	"fmt"

	"sfc/dataplane/classify"
)

// Limits of [Config].
const (
	// MaxQueues is how many receive queues of a port can have sockets.
	MaxQueues = 64
	// MaxChains is how many chains can be told apart: a rule each.
	MaxChains = classify.MaxRules
)

// Mode is how a program sits on an interface.
type Mode uint8

const (
	// Auto asks for Native and takes Generic where the driver has no XDP.
	Auto Mode = iota
	// Native runs in the driver, before the kernel allocates an skb.
	Native
	// Generic runs on skbs, with any driver, and is slower.
	Generic
)

// String returns the mode's name.
func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case Native:
		return "native"
	case Generic:
		return "generic"
	}
	return fmt.Sprintf("mode %d", m)
}

// Config says what to load.
type Config struct {
	// Table classifies the frames of all ports. Nil claims none.
	Table *classify.Table
	// Ports are the ports, by port index; at most classify.MaxPorts. Others may
	// be added later, all of them if Dynamic.
	Ports []PortConfig
	// Dynamic: chains and ports come and go. The programs have room for more
	// than the table needs, so that another one rarely means other programs.
	Dynamic bool
	// MaxChains is how many chains there may be with Dynamic, at most the
	// constant; 0 means as many as there are.
	MaxChains int
	// HashKey is the secret of the flow hash. Random, one per boot: whoever
	// knows it can make all flows collide.
	HashKey [2]uint64
	// Workers is how many workers share the flows of each chain, at most
	// steer.MaxWorkers; 0 means 1. With one worker neither owners nor pins
	// are looked at.
	Workers int
	// Chains are the chains, by chain index, at most MaxChains. None means
	// one chain without pins.
	Chains []ChainConfig
	// PathChain is the chain of each path of the table, by path index. Paths
	// past its end belong to chain 0.
	PathChain []uint16
	// PinBytes is the size of [Steering.PinMemory], as steer.PinsSize says; 0
	// means DefaultPinBytes. Not used when no chain has pins, unless Dynamic.
	PinBytes int
}

// Rules say which frames are claimed, by what path and chain. They are plain
// data.
type Rules struct {
	// Table classifies the frames of all ports. Nil claims none.
	Table *classify.Table
	// PathChain is the chain of each path of the table, by path index. Paths
	// past its end belong to chain 0.
	PathChain []uint16
	// Pins says which chains have pins, by chain index; those past its end
	// have none.
	Pins []bool
}

// ChainConfig describes one chain.
type ChainConfig struct {
	// Pins says that functions of the chain give flows secondary tuples. Only
	// frames of such chains pay for looking those up.
	Pins bool
}

// PortConfig describes one port.
type PortConfig struct {
	// Ifindex is the interface's index.
	Ifindex int
	// Unmatched is the policy for frames that no path claims: not IP,
	// neighbour discovery, no rule matched.
	Unmatched classify.Policy
	// Pair is the index of the port that classify.Forward sends to; not used
	// with other policies. While there is no such port, frames are dropped and
	// counted as no_pair.
	Pair int
}

// Errors of this package.
var (
	// ErrClosed: the object was closed.
	ErrClosed = errors.New("closed")
	// ErrConfig: the configuration contradicts itself.
	ErrConfig = errors.New("bad steering configuration")
	// ErrNoPort: no port, queue or worker has the index.
	ErrNoPort = errors.New("no such port, queue or worker")
	// ErrAttached: this port is attached already.
	ErrAttached = errors.New("already attached")
	// ErrOccupied: another XDP program is on the interface.
	ErrOccupied = errors.New("interface has another XDP program")
	// ErrGone: the interface of an attached port has vanished, or has moved to
	// another network namespace; the kernel has taken the program off. See
	// [Steering.SetPort].
	ErrGone = errors.New("interface of the port is gone")
	// ErrDescription: what describes a steering or a view does not fit this
	// package, or the files that come with it.
	ErrDescription = errors.New("steering cannot be adopted")
	// ErrNoNative: native mode was asked for and the driver has none.
	ErrNoNative = errors.New("no native XDP")
)

// validate returns what is wrong with the configuration.
func (c *Config) validate() error {
	if n := len(c.Ports); n == 0 && !c.Dynamic || n > classify.MaxPorts {
		return fmt.Errorf("%w: %d ports, want 1 to %d", ErrConfig, n, classify.MaxPorts)
	}
	if err := c.validateOwners(); err != nil {
		return err
	}
	for i, p := range c.Ports {
		if err := p.validate(i); err != nil {
			return err
		}
		if p.Unmatched == classify.Forward && !c.Dynamic && p.Pair >= len(c.Ports) {
			return fmt.Errorf("%w: port %d forwards to port %d: name another of the %d ports", ErrConfig, i, p.Pair, len(c.Ports))
		}
	}
	return nil
}

// validate returns what is wrong with port i.
func (p *PortConfig) validate(i int) error {
	switch {
	case p.Ifindex <= 0:
		return fmt.Errorf("%w: port %d: interface index %d", ErrConfig, i, p.Ifindex)
	case p.Unmatched > classify.Drop:
		return fmt.Errorf("%w: port %d: unknown policy %d", ErrConfig, i, p.Unmatched)
	case p.Unmatched == classify.Forward && (p.Pair < 0 || p.Pair >= classify.MaxPorts || p.Pair == i):
		return fmt.Errorf("%w: port %d forwards to port %d: name another below %d", ErrConfig, i, p.Pair, classify.MaxPorts)
	}
	return nil
}
