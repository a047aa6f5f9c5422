// Package observe shows a data plane to the outside: metrics for Prometheus, a
// dashboard that draws them, and traces of control operations.
package observe

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sfc/ctrl/plane"
)

// Options configure [NewCollector]. The zero value selects the defaults.
type Options struct {
	// MaxChains bounds how many chains have series of their own; the others'
	// packets, drops and flows are added up under the chain "_other" of the
	// tenant "_other". Those that are there first keep theirs. Default 2,000.
	MaxChains int
	// MaxReasons bounds the drop reasons of one chain or function; further
	// ones are added up under the reason "_other". Default 32.
	MaxReasons int
	// Timeout bounds the wait for the data plane. Default 2 s.
	Timeout time.Duration
}

// other is the label of what is not told apart.
const other = "_other"

// Collector makes metrics of a data plane's account at each scrape.
type Collector struct {
	stats func(context.Context) (plane.Stats, error)
	opts  Options

	mu    sync.Mutex
	known map[[2]string]bool // chains with series of their own
}

// NewCollector returns a collector that asks stats. Register it with a
// registry of its own, or the default one.
func NewCollector(stats func(context.Context) (plane.Stats, error), opts Options) *Collector {
	if opts.MaxChains == 0 {
		opts.MaxChains = 2000
	}
	if opts.MaxReasons == 0 {
		opts.MaxReasons = 32
	}
	if opts.Timeout == 0 {
		opts.Timeout = 2 * time.Second
	}
	return &Collector{stats: stats, opts: opts, known: map[[2]string]bool{}}
}

// desc describes a metric of this package.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sfc_"+name, help, labels, nil)
}

// The metrics. Counters never fall while the daemon's state lives, restarts of
// the data plane included.
var (
	up         = desc("up", "1 when the data plane answered.")
	scrapeTime = desc("scrape_seconds", "Time that the data plane took to answer.")

	workerPackets = desc("worker_packets_total", "Packets by what the worker did: received, sent, passed, dropped, handed_out, handed_in, held.", "worker", "outcome")
	workerDrops   = desc("worker_drops_total", "Packets that the engine dropped, by reason.", "worker", "reason")
	workerBusy    = desc("worker_busy_seconds_total", "CPU time of the worker's thread.", "worker")
	workerRing    = desc("worker_ring_drops_total", "Packets that the kernel dropped at the worker's sockets: rx_ring_full, rx_fill_empty.", "worker", "reason")

	portFrames = desc("port_frames_total", "Frames by what the steering program did: redirected, passed, forwarded.", "port", "outcome")
	portDrops  = desc("port_drops_total", "Frames that the steering program dropped, by reason.", "port", "reason")

	chainPackets  = desc("chain_packets_total", "Packets that the chain claimed.", "tenant", "chain")
	chainBytes    = desc("chain_bytes_total", "Their bytes.", "tenant", "chain")
	chainOut      = desc("chain_outcomes_total", "What became of them: sent, passed.", "tenant", "chain", "outcome")
	chainDrops    = desc("chain_drops_total", "Packets dropped, by reason; function.reason is a function's own.", "tenant", "chain", "reason")
	chainFlows    = desc("chain_flows", "Flows that are there.", "tenant", "chain")
	chainFlowsMax = desc("chain_flows_max", "Flows that have room.", "tenant", "chain")
	chainFlowLife = desc("chain_flow_events_total", "Flows that were created, expired, evicted, refused.", "tenant", "chain", "event")
	chainLatency  = desc("chain_latency_seconds", "Time from a packet's arrival to its verdict, since the start.", "tenant", "chain", "statistic")

	functionPackets = desc("function_packets_total", "Packets handed to the function.", "tenant", "chain", "function")
	functionOut     = desc("function_outcomes_total", "Its verdicts: next, sent, passed, dropped, skipped.", "tenant", "chain", "function", "outcome")
	functionDrops   = desc("function_drops_total", "Packets that the function dropped, by its reasons.", "tenant", "chain", "function", "reason")
	functionFaults  = desc("function_faults_total", "Traps and overruns of its budget.", "tenant", "chain", "function", "kind")
	functionTime    = desc("function_seconds_per_packet", "Mean time per packet of the bursts that were timed.", "tenant", "chain", "function")
	functionLatency = desc("function_burst_seconds", "Time per burst.", "tenant", "chain", "function", "statistic")
	functionState   = desc("function_state", "1 for the state that the function is in.", "tenant", "chain", "function", "version", "state")
	functionLog     = desc("function_log_suppressed_total", "Log lines over the rate.", "tenant", "chain", "function")

	tenantBusy   = desc("tenant_busy_seconds_total", "Time of workers in the tenant's chains.", "tenant")
	tenantShare  = desc("tenant_share_ratio", "Part of each worker that the tenant is guaranteed.", "tenant")
	tenantOver   = desc("tenant_over_share_total", "Packets dropped because the tenant had used its time and others needed theirs.", "tenant")
	tenantFlows  = desc("tenant_flows", "Flows of all its chains.", "tenant")
	tenantMemory = desc("tenant_memory_bytes", "Memory of its functions and flows.", "tenant")
)

// all are the metrics, for Describe and the dashboard's test.
var all = []*prometheus.Desc{
	up, scrapeTime, workerPackets, workerDrops, workerBusy, workerRing, portFrames, portDrops,
	chainPackets, chainBytes, chainOut, chainDrops, chainFlows, chainFlowsMax, chainFlowLife, chainLatency,
	functionPackets, functionOut, functionDrops, functionFaults, functionTime, functionLatency, functionState, functionLog,
	tenantBusy, tenantShare, tenantOver, tenantFlows, tenantMemory,
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range all {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Without an answer from the data
// plane there is sfc_up 0 and nothing else.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), c.opts.Timeout)
	defer cancel()
	start := time.Now()
	s, err := c.stats(ctx)
	m := emitter{ch: ch, reasons: c.opts.MaxReasons}
	m.gauge(scrapeTime, time.Since(start).Seconds())
	if err != nil {
		m.gauge(up, 0)
		return
	}
	m.gauge(up, 1)
	m.workers(s.Workers)
	m.ports(s.Ports)
	c.chains(&m, s.Chains)
	m.tenants(s.Tenants)
}

// chains gives a bounded number of chains series of their own.
func (c *Collector) chains(m *emitter, list []plane.ChainStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	there := make(map[[2]string]bool, len(list))
	for i := range list {
		there[[2]string{list[i].Tenant, list[i].Name}] = true
	}
	for k := range c.known {
		if !there[k] {
			delete(c.known, k)
		}
	}
	rest := plane.ChainStats{Tenant: other, Name: other, Drops: map[string]uint64{}}
	over := false
	for i := range list {
		s := &list[i]
		k := [2]string{s.Tenant, s.Name}
		if !c.known[k] && len(c.known) < c.opts.MaxChains {
			c.known[k] = true
		}
		if c.known[k] {
			m.chain(s)
			continue
		}
		over = true
		addChain(&rest, s)
	}
	if over {
		m.chain(&rest)
	}
}

// addChain adds a chain to what is not told apart. Reasons of functions would
// not be bounded, so they are one.
func addChain(to, s *plane.ChainStats) {
	to.Packets += s.Packets
	to.Bytes += s.Bytes
	to.Sent += s.Sent
	to.Passed += s.Passed
	to.Flows += s.Flows
	to.MaxFlows += s.MaxFlows
	to.FlowsCreated += s.FlowsCreated
	to.FlowsExpired += s.FlowsExpired
	to.FlowsEvicted += s.FlowsEvicted
	to.FlowsRefused += s.FlowsRefused
	for _, n := range s.Drops {
		to.Drops[other] += n
	}
}
