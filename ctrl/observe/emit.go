package observe

import (
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"sfc/ctrl/plane"
)

// emitter writes an account as metrics.
type emitter struct {
	ch      chan<- prometheus.Metric
	reasons int
}

func (m *emitter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	m.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (m *emitter) counter(d *prometheus.Desc, n uint64, labels ...string) {
	m.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (m *emitter) seconds(d *prometheus.Desc, ns uint64, labels ...string) {
	m.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(ns)/1e9, labels...)
}

// byReason writes a bounded number of reasons, the first by name, and the sum
// of the others.
func (m *emitter) byReason(d *prometheus.Desc, drops map[string]uint64, labels ...string) {
	var rest uint64
	over := false
	for i, reason := range slices.Sorted(maps.Keys(drops)) {
		if i >= m.reasons || reason == other {
			rest += drops[reason]
			over = true
			continue
		}
		m.counter(d, drops[reason], append(slices.Clone(labels), reason)...)
	}
	if over {
		m.counter(d, rest, append(slices.Clone(labels), other)...)
	}
}

// quantiles writes those that are known.
func (m *emitter) quantiles(d *prometheus.Desc, q plane.Quantiles, labels ...string) {
	if q.Count == 0 {
		return
	}
	for _, v := range []struct {
		name string
		ns   uint64
	}{{"p50", q.P50}, {"p99", q.P99}, {"max", q.Max}} {
		m.gauge(d, float64(v.ns)/1e9, append(slices.Clone(labels), v.name)...)
	}
}

func (m *emitter) workers(list []plane.WorkerStats) {
	for i := range list {
		w, name := &list[i], strconv.Itoa(i)
		for _, o := range []struct {
			outcome string
			n       uint64
		}{
			{"received", w.Received}, {"sent", w.Sent}, {"passed", w.Passed}, {"dropped", w.Dropped},
			{"handed_out", w.HandedOut}, {"handed_in", w.HandedIn}, {"held", w.Held},
		} {
			m.counter(workerPackets, o.n, name, o.outcome)
		}
		m.byReason(workerDrops, w.Drops, name)
		m.seconds(workerBusy, w.BusyNs, name)
		m.counter(workerRing, w.RxRingFull, name, "rx_ring_full")
		m.counter(workerRing, w.RxFillEmpty, name, "rx_fill_empty")
	}
}

func (m *emitter) ports(list []plane.PortStats) {
	for i := range list {
		p := &list[i]
		m.counter(portFrames, p.Redirected, p.Name, "redirected")
		m.counter(portFrames, p.Passed, p.Name, "passed")
		m.counter(portFrames, p.Forwarded, p.Name, "forwarded")
		m.byReason(portDrops, p.Drops, p.Name)
	}
}

func (m *emitter) chain(s *plane.ChainStats) {
	m.counter(chainPackets, s.Packets, s.Tenant, s.Name)
	m.counter(chainBytes, s.Bytes, s.Tenant, s.Name)
	m.counter(chainOut, s.Sent, s.Tenant, s.Name, "sent")
	m.counter(chainOut, s.Passed, s.Tenant, s.Name, "passed")
	m.byReason(chainDrops, s.Drops, s.Tenant, s.Name)
	if s.MaxFlows > 0 {
		m.gauge(chainFlows, float64(s.Flows), s.Tenant, s.Name)
		m.gauge(chainFlowsMax, float64(s.MaxFlows), s.Tenant, s.Name)
		m.counter(chainFlowLife, s.FlowsCreated, s.Tenant, s.Name, "created")
		m.counter(chainFlowLife, s.FlowsExpired, s.Tenant, s.Name, "expired")
		m.counter(chainFlowLife, s.FlowsEvicted, s.Tenant, s.Name, "evicted")
		m.counter(chainFlowLife, s.FlowsRefused, s.Tenant, s.Name, "refused")
	}
	m.quantiles(chainLatency, s.Latency, s.Tenant, s.Name)
	for i := range s.Functions {
		m.function(s, &s.Functions[i])
	}
}

func (m *emitter) function(c *plane.ChainStats, f *plane.FunctionStats) {
	l := []string{c.Tenant, c.Name, f.Name}
	with := func(more ...string) []string { return append(slices.Clone(l), more...) }
	m.counter(functionPackets, f.Packets, l...)
	for _, o := range []struct {
		outcome string
		n       uint64
	}{{"next", f.Next}, {"sent", f.Sent}, {"passed", f.Passed}, {"dropped", f.Dropped}, {"skipped", f.Skipped}} {
		m.counter(functionOut, o.n, with(o.outcome)...)
	}
	m.byReason(functionDrops, f.Drops, l...)
	m.counter(functionFaults, f.Traps, with("trap")...)
	m.counter(functionFaults, f.Overruns, with("overrun")...)
	m.gauge(functionTime, f.NsPerPacket/1e9, l...)
	m.quantiles(functionLatency, f.Latency, l...)
	m.gauge(functionState, 1, with(f.Version, f.State)...)
	m.counter(functionLog, f.LogSuppressed, l...)
}

func (m *emitter) tenants(list []plane.TenantStats) {
	for i := range list {
		t := &list[i]
		m.seconds(tenantBusy, t.BusyNs, t.Name)
		m.gauge(tenantShare, float64(t.Share)/1000, t.Name)
		m.counter(tenantOver, t.OverShare, t.Name)
		m.gauge(tenantFlows, float64(t.Flows), t.Name)
		m.gauge(tenantMemory, float64(t.MemoryBytes), t.Name)
	}
}
