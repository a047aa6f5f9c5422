package api

import "time"

// Event is something that an operator may want to read.
type Event struct {
	// Seq grows from event to event, also when the daemon is started again.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	// Kind is log, fault, alarm, replaced, port, move, plane or control.
	Kind string `json:"kind"`
	// Reason is one CamelCase word.
	Reason string `json:"reason"`
	Level  string `json:"level" enum:"debug,info,warning,error"`
	// Tenant, chain and function are empty where it concerns none.
	Tenant   string `json:"tenant,omitzero"`
	Chain    string `json:"chain,omitzero"`
	Function string `json:"function,omitzero"`
	// Worker is its number; left out for none, and for tenants.
	Worker *int   `json:"worker,omitzero"`
	Text   string `json:"text"`
}

// Stats is the account of the data plane since it was started first. Tenants
// see their chains and themselves only.
type Stats struct {
	Time    time.Time     `json:"time"`
	Workers []WorkerStats `json:"workers,omitzero"`
	Ports   []PortStats   `json:"ports,omitzero"`
	Chains  []ChainStats  `json:"chains"`
	Tenants []TenantStats `json:"tenants"`
}

// WorkerStats is the account of a worker. Received + handedIn = sent + passed +
// dropped + handedOut at any quiet moment.
type WorkerStats struct {
	// Core is -1 when the worker is not pinned.
	Core        int               `json:"core"`
	Received    uint64            `json:"received"`
	Sent        uint64            `json:"sent"`
	Passed      uint64            `json:"passed"`
	Dropped     uint64            `json:"dropped"`
	HandedOut   uint64            `json:"handedOut"`
	HandedIn    uint64            `json:"handedIn"`
	Held        uint64            `json:"held"`
	Drops       map[string]uint64 `json:"drops,omitzero"`
	BusyNs      uint64            `json:"busyNs"`
	Queues      int               `json:"queues"`
	RxRingFull  uint64            `json:"rxRingFull"`
	RxFillEmpty uint64            `json:"rxFillEmpty"`
	TxInvalid   uint64            `json:"txInvalid"`
	Kicks       uint64            `json:"kicks"`
}

// PortStats is what the steering program counted.
type PortStats struct {
	Name       string            `json:"name"`
	Frames     uint64            `json:"frames"`
	Redirected uint64            `json:"redirected"`
	Passed     uint64            `json:"passed"`
	Forwarded  uint64            `json:"forwarded"`
	Drops      map[string]uint64 `json:"drops,omitzero"`
}

// ChainStats is the account of a chain, all workers together.
type ChainStats struct {
	Tenant  string `json:"tenant"`
	Name    string `json:"name"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Sent    uint64 `json:"sent"`
	Passed  uint64 `json:"passed"`
	// Drops by reason, the functions' own included.
	Drops        map[string]uint64 `json:"drops,omitzero"`
	Flows        int               `json:"flows"`
	MaxFlows     int               `json:"maxFlows"`
	FlowsCreated uint64            `json:"flowsCreated"`
	FlowsExpired uint64            `json:"flowsExpired"`
	FlowsEvicted uint64            `json:"flowsEvicted"`
	FlowsRefused uint64            `json:"flowsRefused"`
	// Latency of bursts, from the packet's arrival to its verdict.
	Latency   Quantiles            `json:"latency"`
	Functions []ChainFunctionStats `json:"functions,omitzero"`
}

// Quantiles of a time in ns.
type Quantiles struct {
	Count uint64 `json:"count"`
	P50   uint64 `json:"p50"`
	P99   uint64 `json:"p99"`
	Max   uint64 `json:"max"`
}

// ChainFunctionStats is the account of a function, all workers together.
type ChainFunctionStats struct {
	Name        string            `json:"name"`
	Version     string            `json:"version"`
	Code        string            `json:"code"`
	State       string            `json:"state"`
	Packets     uint64            `json:"packets"`
	Bursts      uint64            `json:"bursts"`
	Sent        uint64            `json:"sent"`
	Passed      uint64            `json:"passed"`
	Dropped     uint64            `json:"dropped"`
	Next        uint64            `json:"next"`
	Drops       map[string]uint64 `json:"drops,omitzero"`
	Faulted     map[string]uint64 `json:"faulted,omitzero"`
	Skipped     uint64            `json:"skipped"`
	Traps       uint64            `json:"traps"`
	Overruns    uint64            `json:"overruns"`
	NsPerPacket float64           `json:"nsPerPacket"`
	// Latency per burst.
	Latency       Quantiles         `json:"latency"`
	Counters      map[string]uint64 `json:"counters,omitzero"`
	LogSuppressed uint64            `json:"logSuppressed"`
	// Canary is the account of the version on trial, if there is one.
	Canary *CanaryStats `json:"canary,omitzero"`
}

// CanaryStats is the account of a version on trial since its trial began, or the
// data plane was started. It is part of its function's.
type CanaryStats struct {
	Version string `json:"version"`
	Code    string `json:"code"`
	// Percent of the buckets whose flows meet it.
	Percent     int     `json:"percent"`
	Packets     uint64  `json:"packets"`
	Bursts      uint64  `json:"bursts"`
	Sent        uint64  `json:"sent"`
	Passed      uint64  `json:"passed"`
	Dropped     uint64  `json:"dropped"`
	Next        uint64  `json:"next"`
	NsPerPacket float64 `json:"nsPerPacket"`
	// Latency per burst.
	Latency Quantiles `json:"latency"`
}

// TenantStats is what a tenant used.
type TenantStats struct {
	Name string `json:"name"`
	// BusyNs is the time in its chains, Share what it is guaranteed.
	BusyNs uint64 `json:"busyNs"`
	Share  Share  `json:"share"`
	// OverShare counts packets dropped because it used up its time while others
	// needed theirs.
	OverShare   uint64 `json:"overShare"`
	Flows       int    `json:"flows"`
	MemoryBytes int64  `json:"memoryBytes"`
}

// Flow is a flow of a chain.
type Flow struct {
	Tenant string `json:"tenant"`
	Chain  string `json:"chain"`
	// Worker and bucket are left out for tenants.
	Worker *int   `json:"worker,omitzero"`
	Bucket *int   `json:"bucket,omitzero"`
	Proto  string `json:"proto"`
	// Src and Dst are address, and port behind a colon.
	Src    string `json:"src"`
	Dst    string `json:"dst"`
	State  string `json:"state"`
	IdleMs int64  `json:"idleMs"`
	// Bound are further tuples.
	Bound []string `json:"bound,omitzero"`
}

// FlowList is some of the flows.
type FlowList struct {
	Items []Flow `json:"items"`
}

// TraceRequest chooses packets to follow.
type TraceRequest struct {
	// Filter is a tcpdump expression. Left out: every packet.
	Filter string `json:"filter,omitzero"`
	// Count of packets, 1 to 1000. Default 1.
	Count int `json:"count,omitzero" minimum:"1" maximum:"1000"`
	// TimeoutSeconds is when to give up waiting, 1 to 300. Default 30.
	TimeoutSeconds int `json:"timeoutSeconds,omitzero" minimum:"1" maximum:"300"`
}

// TraceList is the ways of packets.
type TraceList struct {
	Items []Trace `json:"items"`
}

// Trace is the way of a packet.
type Trace struct {
	Time   time.Time `json:"time"`
	Worker int       `json:"worker"`
	// Port is where it came in.
	Port string `json:"port"`
	// Path is forward or return.
	Path string `json:"path"`
	// Frame is the packet as it came in, at most 256 bytes, in base64.
	Frame  []byte `json:"frame"`
	Length int    `json:"length"`
	// Flow is its tuple and state.
	Flow string     `json:"flow,omitzero"`
	Hops []TraceHop `json:"hops"`
	// Verdict is what became of it in the end: sent, passed or dropped.
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitzero"`
	Egress  string `json:"egress,omitzero"`
	TookNs  uint64 `json:"tookNs"`
}

// TraceHop is what a function did with a packet.
type TraceHop struct {
	Function string `json:"function"`
	Version  string `json:"version"`
	Verdict  string `json:"verdict"`
	Reason   string `json:"reason,omitzero"`
	// Changes are the ranges of bytes that it changed.
	Changes []Change `json:"changes,omitzero"`
	// TookNs is the time of the burst's run divided by its packets.
	TookNs uint64 `json:"tookNs"`
	Burst  int    `json:"burst"`
}

// Change is a range of bytes that a function changed, by offset in the frame.
type Change struct {
	Offset int    `json:"offset"`
	Before []byte `json:"before"`
	After  []byte `json:"after"`
}

// CaptureRequest chooses packets to write down.
type CaptureRequest struct {
	// At is where: ingress, egress, drops, or a function's name followed by :in
	// or :out. Default ingress.
	At string `json:"at,omitzero"`
	// Filter is a tcpdump expression. Left out: every packet.
	Filter string `json:"filter,omitzero"`
	// Count of packets. Left out: until the client goes.
	Count int `json:"count,omitzero" minimum:"0"`
	// Snap is the most bytes of a packet. Left out: all.
	Snap int `json:"snap,omitzero" minimum:"0"`
}

// AuditEntry is a line of the audit log.
type AuditEntry struct {
	Seq       uint64    `json:"seq"`
	Time      time.Time `json:"time"`
	RequestID string    `json:"requestId"`
	// Who asked, such as unix:uid=0 or token:acme/ci.
	Who string `json:"who"`
	// From is the address of a TCP client.
	From string `json:"from,omitzero"`
	// Operation is the route's, such as createChain.
	Operation string `json:"operation"`
	// Object is the path of the request.
	Object string `json:"object"`
	Tenant string `json:"tenant,omitzero"`
	// Status is the HTTP status of the answer.
	Status int `json:"status"`
	// Result is ok, or the reason of the problem.
	Result string `json:"result"`
}

// AuditList is a part of the audit log, the oldest first.
type AuditList struct {
	Items []AuditEntry `json:"items"`
	// Next is what to ask for as after to go on.
	Next uint64 `json:"next"`
}

// Health says whether the daemon serves.
type Health struct {
	Status string `json:"status" enum:"ok,degraded"`
	// Problems, when it is degraded.
	Problems []string `json:"problems,omitzero"`
}
