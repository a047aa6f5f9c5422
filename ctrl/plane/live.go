package plane

import "time"

// Stats is the account of a data plane, since it was started first: restarts
// do not set it back.
type Stats struct {
	Time    time.Time
	Workers []WorkerStats
	Ports   []PortStats
	Chains  []ChainStats
	Tenants []TenantStats
}

// WorkerStats is the account of a worker. Received + HandedIn = Sent + Passed +
// Dropped + HandedOut at any quiet moment.
type WorkerStats struct {
	Core                                      int // -1: not pinned
	Received, Sent, Passed, Dropped           uint64
	HandedOut, HandedIn, Held                 uint64
	Drops                                     map[string]uint64 // by the engine, by reason
	BusyNs                                    uint64            // time on the core
	Queues                                    int
	RxRingFull, RxFillEmpty, TxInvalid, Kicks uint64
}

// PortStats is what the steering program counted.
type PortStats struct {
	Name                          string
	Frames                        uint64
	Redirected, Passed, Forwarded uint64
	Drops                         map[string]uint64 // by reason
}

// ChainStats is the account of a chain, all workers together.
type ChainStats struct {
	Tenant, Name string
	// Packets that came in, and what became of them.
	Packets, Bytes                                         uint64
	Sent, Passed                                           uint64
	Drops                                                  map[string]uint64 // by reason, functions' own included
	Flows, MaxFlows                                        int
	FlowsCreated, FlowsExpired, FlowsEvicted, FlowsRefused uint64
	// Latency of bursts, from the packet's arrival to its verdict.
	Latency   Quantiles
	Functions []FunctionStats
}

// Quantiles of a time in ns.
type Quantiles struct {
	Count         uint64
	P50, P99, Max uint64
}

// FunctionStats is the account of a function, all workers together.
type FunctionStats struct {
	Name, Version, Code, State  string
	Packets, Bursts             uint64
	Sent, Passed, Dropped, Next uint64
	Drops, Faulted              map[string]uint64
	Skipped, Traps, Overruns    uint64
	NsPerPacket                 float64
	Latency                     Quantiles // per burst
	Counters                    map[string]uint64
	LogSuppressed               uint64
	Canary                      *CanaryStats `json:",omitzero"` // nil: nothing is tried
}

// CanaryStats is the account of a version on trial, all workers together, since
// its trial began in this data plane. It is part of its function's.
type CanaryStats struct {
	Version, Code               string
	Percent                     int // of the buckets whose flows meet it
	Packets, Bursts             uint64
	Sent, Passed, Dropped, Next uint64
	NsPerPacket                 float64
	Latency                     Quantiles // per burst
}

// TenantStats is what a tenant used.
type TenantStats struct {
	Name string
	// BusyNs is the time in its chains, Share what it is guaranteed, in 1/1000.
	BusyNs uint64
	Share  int
	// OverShare counts packets dropped because it used up its time while
	// others needed theirs.
	OverShare   uint64
	Flows       int
	MemoryBytes int64
}

// FlowQuery selects flows. Zero fields: any.
type FlowQuery struct {
	Tenant, Chain string
	// Filter is a tcpdump expression over the flow's own tuple.
	Filter string
	Worker int // -1: any
	Limit  int // 0: 100
}

// Flow is a flow of a chain.
type Flow struct {
	Tenant, Chain string
	Worker        int
	Bucket        uint16
	Proto         string
	Src, Dst      string // address, and port behind a colon
	State         string
	Idle          time.Duration
	Bound         []string `json:",omitzero"` // further tuples
}

// TraceRequest chooses packets to follow.
type TraceRequest struct {
	Tenant, Chain string
	// Filter is a tcpdump expression; empty: every packet.
	Filter string
	Count  int // 1 to 1000
}

// Trace is the way of a packet.
type Trace struct {
	Time   time.Time
	Worker int
	Port   string // ingress
	Path   string // forward or return
	// Frame is the packet as it came in, at most 256 bytes.
	Frame  []byte
	Length int
	Flow   string `json:",omitzero"` // its tuple and state
	Hops   []TraceHop
	// Verdict is what became of it in the end: sent, passed or dropped.
	Verdict, Reason, Egress string
	TookNs                  uint64
}

// TraceHop is what a function did with a packet.
type TraceHop struct {
	Function, Version string
	Verdict, Reason   string
	// Changes are the ranges of bytes that it changed.
	Changes []Change
	// TookNs is the time of the burst's run divided by its packets.
	TookNs uint64
	Burst  int
}

// Change is a range of bytes that a function changed, by offset in the frame.
type Change struct {
	Offset        int
	Before, After []byte
}

// CaptureRequest chooses packets to write down.
type CaptureRequest struct {
	Tenant, Chain string
	// At is where: ingress, egress, drops, or a function's name followed by
	// :in or :out. Empty: ingress.
	At string
	// Filter is a tcpdump expression; empty: every packet.
	Filter string
	Count  int // 0: no bound
	Snap   int // bytes per packet; 0: all
}

// CaptureReport says how a capture went.
type CaptureReport struct {
	Seen, Written uint64
	// Lost were chosen, and the reader was too slow.
	Lost uint64
}
