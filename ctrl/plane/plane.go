// Package plane is what control and data plane say to each other: what is to
// run ([Desired]), what does ([Observed]), and what is asked about it. All of it
// is plain data that goes through a socket as JSON; [Plane] is who answers.
//
// Control says everything each time, and the data plane finds out what is new.
// So it does not matter which of the two was restarted, or what was missed.
package plane

import (
	"context"
	"encoding/json"
	"os"
	"time"
)

// Version is that of this package's messages. Both sides must have the same;
// an upgrade replaces them one after the other, so it changes only when a field
// changes its meaning, not when one is added.
const Version = 1

// Plane is a data plane. Its methods are safe for concurrent use; changes are
// made one after the other.
type Plane interface {
	// PutCode hands over a compiled module (see nf/wasm.Artifact), a sealed
	// memfd. To hand it over again is no error. The caller keeps code.
	PutCode(ctx context.Context, digest string, code *os.File) error
	// Apply brings the data plane to what is desired, as far as it can: what
	// fails is said per chain, and a chain that cannot change stays as it is.
	// Codes named must have been put; those that nothing uses any more are
	// forgotten. The error is for what concerns no single chain.
	Apply(ctx context.Context, d Desired) (Observed, error)
	// Observe says what runs.
	Observe(ctx context.Context) (Observed, error)
	// Stats is the account of everything.
	Stats(ctx context.Context) (Stats, error)
	// Flows lists flows of chains.
	Flows(ctx context.Context, q FlowQuery) ([]Flow, error)
	// Events returns what happened after the event with this number, at least
	// one; it waits until there is one or ctx ends, which is no error.
	Events(ctx context.Context, after uint64) ([]Event, error)
	// Trace follows packets; it returns when there are r.Count, or ctx ends,
	// which is no error.
	Trace(ctx context.Context, r TraceRequest) ([]Trace, error)
	// Capture writes pcapng to out until r.Count packets, out is closed at the
	// other end, or ctx ends, which is no error. The caller keeps out.
	Capture(ctx context.Context, r CaptureRequest, out *os.File) (CaptureReport, error)
}

// Desired is everything that is to run.
type Desired struct {
	// Revision is told back in Observed; it grows with every change.
	Revision uint64
	// Ports that chains may name. The data plane opens and closes them.
	Ports   []Port
	Tenants []Tenant
	Chains  []Chain
}

// Port is an interface that packets come in from and go out on.
type Port struct {
	// Name is what chains call it.
	Name string
	// Interface is the name of the network interface, in the network namespace
	// of the data plane.
	Interface string
	// Peer is the name of the port that unclaimed packets go to when Unmatched
	// is forward; "" for none.
	Peer string `json:",omitzero"`
	// Unmatched is pass, forward or drop. Empty: pass.
	Unmatched string `json:",omitzero"`
	// Mode is how the steering program sits there: auto, native or generic.
	// Empty: auto.
	Mode string `json:",omitzero"`
	// Queues is how many receive queues are served. 0: all it has.
	Queues int `json:",omitzero"`
	// Routed says that frames which leave get the addresses of their next hop,
	// as opposed to inline.
	Routed bool `json:",omitzero"`
}

// Tenant is what a tenant may use. Zero fields: no limit.
type Tenant struct {
	Name string
	// Share is the part of each worker's time that the tenant is guaranteed,
	// in 1/1000. What others leave it may use as well. 0: what is left over.
	Share int `json:",omitzero"`
	// MemoryBytes bounds the memory of all its functions and flows, all workers
	// together.
	MemoryBytes int64 `json:",omitzero"`
	// Flows bounds the flows of all its chains together.
	Flows int `json:",omitzero"`
	// Rules bounds the match rules of all its chains together.
	Rules int `json:",omitzero"`
	// LogLines bounds the log lines of all its functions per second.
	LogLines int `json:",omitzero"`
}

// Chain is a chain that is to run.
type Chain struct {
	Tenant, Name string
	// Generation is told back in ChainStatus; it grows when the chain's spec
	// does.
	Generation int64
	// Spec is the chain as a chain file has it, in JSON (chains.Parse), its
	// functions' module fields being keys of Code.
	Spec json.RawMessage
	// Code are digests of codes that were put, by the module's name in Spec.
	Code map[string]string
	// Canaries are functions of which some flows are to meet another version.
	Canaries []Canary `json:",omitzero"`
	// Drain says that the chain takes no new flows.
	Drain bool `json:",omitzero"`
}

// Canary is a version that some of a function's flows meet.
type Canary struct {
	// Function is its name in the chain.
	Function string
	// Code is the digest of the version under trial.
	Code string
	// Percent of the flows' buckets, 1 to 99.
	Percent int
}

// Observed is what runs.
type Observed struct {
	// Revision of the last Desired that was applied.
	Revision uint64
	// Restarts is how often the data plane was started again after a crash
	// without losing what it kept.
	Restarts int
	Started  time.Time
	Ports    []PortStatus
	Chains   []ChainStatus
}

// PortStatus is a port as it is.
type PortStatus struct {
	Name string
	// Up: it is attached, and its link is there and up.
	Up bool
	// Attach is native or generic, Bind copy or zero copy, as the kernel says.
	Attach, Bind string
	Queues       int
	// Reason and Message say why it is not up; Reason is one CamelCase word.
	Reason, Message string `json:",omitzero"`
}

// ChainStatus is a chain as it runs, or why it does not.
type ChainStatus struct {
	Tenant, Name string
	// Generation is that of the spec in force; 0 when the chain does not run.
	Generation int64
	// Active: packets that it claims reach it, on all workers.
	Active bool
	// Reason and Message say why it is not what is desired; Reason is one
	// CamelCase word. Empty when it is.
	Reason, Message string `json:",omitzero"`
	Functions       []FunctionStatus
}

// FunctionStatus is the version of a function that runs.
type FunctionStatus struct {
	Name string
	// Code is the digest, Version the manifest's.
	Code, Version string
	// State is running, suspended or probation.
	State string
	// Canary is the digest of the version under trial, "" for none.
	Canary string `json:",omitzero"`
	// Message is that of the last fault.
	Message string `json:",omitzero"`
}

// Event is something that an operator may want to read.
type Event struct {
	// Seq numbers events from 1 on, without gaps unless some were lost.
	Seq  uint64
	Time time.Time
	// Kind is log, fault, alarm, replaced, port, move or plane.
	Kind string
	// Reason is one CamelCase word.
	Reason string
	// Level is debug, info, warning or error.
	Level string
	// Tenant, Chain and Function are empty where it concerns none.
	Tenant, Chain, Function string `json:",omitzero"`
	Worker                  int    // -1: none
	Text                    string
}
