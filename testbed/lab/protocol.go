package lab

import (
	"encoding/json"
	"time"
)

// Version is that of the requests: a lab and who asks it must agree.
const Version = 1

// Requests and replies are one JSON value each, one of both on a connection.
const (
	maxRequest = 1 << 20
	maxReply   = 64 << 20
)

// request is what is asked of a lab.
type request struct {
	Version int             `json:"version"`
	Op      string          `json:"op"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// reply is its answer: an error, or a result.
type reply struct {
	Version int             `json:"version"`
	Error   string          `json:"error,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

// What can be asked for.
const (
	opStatus = "status"
	opStats  = "stats"
	opFlows  = "flows"
	opMove   = "move"
	opSwap   = "swap"
	opEnter  = "enter"
)

// enterArgs ask for a host's namespace, which comes with the reply.
type enterArgs struct {
	Host Host `json:"host"`
}

// Status says what a lab is.
type Status struct {
	Name    string   `json:"name"`
	PID     int      `json:"pid"`
	Mode    Mode     `json:"mode"`
	UpNs    int64    `json:"up_ns"`
	Chains  []string `json:"chains"` // tenant/name
	Hosts   []Node   `json:"hosts"`
	Attach  string   `json:"attach"` // of XDP: native or generic
	Bind    string   `json:"bind"`   // copy or zero-copy
	Memory  string   `json:"memory"` // exclusive or shared
	Cores   []int    `json:"cores"`  // of the workers; -1: not pinned
	LogFile string   `json:"log_file,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// Node is a host.
type Node struct {
	Name      Host     `json:"name"`
	Addresses []string `json:"addresses"`
}

// Stats are the counters of a lab since it came up.
type Stats struct {
	// At is when they were read.
	At      time.Time       `json:"at"`
	Workers []WorkerStats   `json:"workers"`
	Ports   []PortStats     `json:"ports"`
	Chains  []FunctionsStat `json:"chains"`
	// Holds are of packets whose flows moved; nil when none had to wait.
	Holds *HoldStats `json:"holds,omitempty"`
}

// HoldStats say for how long packets were held.
type HoldStats struct {
	Packets uint64 `json:"packets"`
	P50Ns   int64  `json:"p50_ns"`
	P99Ns   int64  `json:"p99_ns"`
	MaxNs   int64  `json:"max_ns"`
}

// WorkerStats are one worker's.
type WorkerStats struct {
	Worker    int    `json:"worker"`
	Core      int    `json:"core"` // -1: not pinned
	Received  uint64 `json:"received"`
	Sent      uint64 `json:"sent"`
	Passed    uint64 `json:"passed"`
	Dropped   uint64 `json:"dropped"`
	HandedIn  uint64 `json:"handed_in"`  // by other workers
	HandedOut uint64 `json:"handed_out"` // to other workers
	Held      uint64 `json:"held"`
	Turns     uint64 `json:"turns"`
	Sleeps    uint64 `json:"sleeps"`
	// BusyNs is how long the worker has run on its core.
	BusyNs int64 `json:"busy_ns"`
	// Buckets is how many ownership buckets it has, by chain.
	Buckets []int             `json:"buckets"`
	Engine  map[string]uint64 `json:"engine_drops,omitempty"` // those no function decided, by reason
}

// PortStats are what the steering program counted.
type PortStats struct {
	Port       string            `json:"port"`
	Frames     uint64            `json:"frames"`
	Redirected uint64            `json:"redirected"` // to a worker
	Passed     uint64            `json:"passed"`     // to the engine's kernel
	Forwarded  uint64            `json:"forwarded"`  // to the other port
	Dropped    map[string]uint64 `json:"dropped,omitempty"`
	// Lost are frames that the kernel lost around the engine, by where: on the
	// link to the port (link_in) or from it (link_out), because the ring of its
	// end was full; at the sockets, because the worker was late to take frames
	// (rx_ring) or to give room for them (fill_ring), or because the link
	// refused what was sent (tx).
	Lost map[string]uint64 `json:"lost,omitempty"`
}

// FunctionsStat are a chain's functions.
type FunctionsStat struct {
	Chain     string         `json:"chain"` // tenant/name
	Functions []FunctionStat `json:"functions"`
	// Flows is nil when no function keeps flow state.
	Flows *FlowStats `json:"flows,omitempty"`
}

// FlowStats are those of a chain's flow tables, all workers together.
type FlowStats struct {
	Max      int    `json:"max"`
	Live     int    `json:"live"`
	Created  uint64 `json:"created"`
	Expired  uint64 `json:"expired"`
	Evicted  uint64 `json:"evicted"`
	Replaced uint64 `json:"replaced"`
	Refused  uint64 `json:"refused"`
}

// FunctionStat are one function's, all workers together.
type FunctionStat struct {
	Name        string            `json:"name"`
	Version     string            `json:"version"`
	Packets     uint64            `json:"packets"`
	Dropped     map[string]uint64 `json:"dropped,omitempty"`
	Counters    map[string]uint64 `json:"counters,omitempty"`
	NsPerPacket float64           `json:"ns_per_packet"`
	Faults      uint64            `json:"faults"`
	State       string            `json:"state"`
	LastFault   string            `json:"last_fault,omitempty"`
	// Replaced is how the last replacement stands: probation, accepted or
	// rolled_back; Why is the fault after which the old version came back.
	Replaced string `json:"replaced,omitempty"`
	Why      string `json:"why,omitempty"`
}
