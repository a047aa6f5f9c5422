package agent

import (
	"maps"

	"sfc/ctrl/plane"
)

// past is what was counted before: by earlier processes, and by what chains ran
// as before they were made anew. What Stats says is never less than what it said
// before.
type past struct {
	Stats plane.Stats
}

// forget forgets a chain that nobody desires any more.
func (p *past) forget(tenant, name string) {
	for i := range p.Stats.Chains {
		if c := &p.Stats.Chains[i]; c.Tenant == tenant && c.Name == name {
			p.Stats.Chains = append(p.Stats.Chains[:i:i], p.Stats.Chains[i+1:]...)
			return
		}
	}
}

// without takes out what flow tables that are restored have counted: that they
// still know.
func (p *past) without(tenant, name string, s FlowStats) {
	for i := range p.Stats.Chains {
		c := &p.Stats.Chains[i]
		if c.Tenant != tenant || c.Name != name {
			continue
		}
		for k := range s.Created {
			c.FlowsCreated -= min(c.FlowsCreated, s.Created[k])
			c.FlowsExpired -= min(c.FlowsExpired, s.Expired[k])
			c.FlowsEvicted -= min(c.FlowsEvicted, s.Evicted[k])
			c.FlowsRefused -= min(c.FlowsRefused, s.Refused[k])
		}
	}
}

// add adds what a chain counted that is taken away, to be followed by another
// one of its name.
func (p *past) add(c plane.ChainStats) {
	c.Flows = 0
	for i := range p.Stats.Chains {
		if old := &p.Stats.Chains[i]; old.Tenant == c.Tenant && old.Name == c.Name {
			addChain(&c, old)
			p.Stats.Chains[i] = c
			return
		}
	}
	p.Stats.Chains = append(p.Stats.Chains, c)
}

// addTo adds the past to what was counted since.
func (p *past) addTo(s *plane.Stats) {
	for i := range min(len(s.Workers), len(p.Stats.Workers)) {
		addWorker(&s.Workers[i], &p.Stats.Workers[i])
	}
	byName := map[string]*plane.PortStats{}
	for i := range p.Stats.Ports {
		byName[p.Stats.Ports[i].Name] = &p.Stats.Ports[i]
	}
	for i := range s.Ports {
		if old := byName[s.Ports[i].Name]; old != nil {
			addPort(&s.Ports[i], old)
		}
	}
	chains := map[[2]string]*plane.ChainStats{}
	for i := range p.Stats.Chains {
		chains[[2]string{p.Stats.Chains[i].Tenant, p.Stats.Chains[i].Name}] = &p.Stats.Chains[i]
	}
	for i := range s.Chains {
		if old := chains[[2]string{s.Chains[i].Tenant, s.Chains[i].Name}]; old != nil {
			addChain(&s.Chains[i], old)
		}
	}
	tenants := map[string]*plane.TenantStats{}
	for i := range p.Stats.Tenants {
		tenants[p.Stats.Tenants[i].Name] = &p.Stats.Tenants[i]
	}
	for i := range s.Tenants {
		if old := tenants[s.Tenants[i].Name]; old != nil {
			s.Tenants[i].BusyNs += old.BusyNs
			s.Tenants[i].OverShare += old.OverShare
		}
	}
}

func addWorker(to, w *plane.WorkerStats) {
	to.Received += w.Received
	to.Sent += w.Sent
	to.Passed += w.Passed
	to.Dropped += w.Dropped
	to.HandedOut += w.HandedOut
	to.HandedIn += w.HandedIn
	to.Held += w.Held
	to.BusyNs += w.BusyNs
	to.Drops = sum(to.Drops, w.Drops)
	to.RxRingFull += w.RxRingFull
	to.RxFillEmpty += w.RxFillEmpty
	to.TxInvalid += w.TxInvalid
	to.Kicks += w.Kicks
}

func addPort(to, p *plane.PortStats) {
	to.Frames += p.Frames
	to.Redirected += p.Redirected
	to.Passed += p.Passed
	to.Forwarded += p.Forwarded
	to.Drops = sum(to.Drops, p.Drops)
}

func addChain(to, c *plane.ChainStats) {
	to.Packets += c.Packets
	to.Bytes += c.Bytes
	to.Sent += c.Sent
	to.Passed += c.Passed
	to.Drops = sum(to.Drops, c.Drops)
	to.FlowsCreated += c.FlowsCreated
	to.FlowsExpired += c.FlowsExpired
	to.FlowsEvicted += c.FlowsEvicted
	to.FlowsRefused += c.FlowsRefused
	to.Latency = addQuantiles(to.Latency, c.Latency)
	for i := range to.Functions {
		for k := range c.Functions {
			if to.Functions[i].Name == c.Functions[k].Name {
				addFunctionStats(&to.Functions[i], &c.Functions[k])
			}
		}
	}
}

func addFunctionStats(to, f *plane.FunctionStats) {
	if to.Packets == 0 {
		to.NsPerPacket = f.NsPerPacket
	}
	to.Packets += f.Packets
	to.Bursts += f.Bursts
	to.Sent += f.Sent
	to.Passed += f.Passed
	to.Dropped += f.Dropped
	to.Next += f.Next
	to.Drops, to.Faulted, to.Counters = sum(to.Drops, f.Drops), sum(to.Faulted, f.Faulted), sum(to.Counters, f.Counters)
	to.Skipped += f.Skipped
	to.Traps += f.Traps
	to.Overruns += f.Overruns
	to.LogSuppressed += f.LogSuppressed
	to.Latency = addQuantiles(to.Latency, f.Latency)
}

// addQuantiles adds counts. The quantiles are those of the later times; of the
// earlier ones only what was measured before there were any.
func addQuantiles(now, before plane.Quantiles) plane.Quantiles {
	if now.Count == 0 {
		return before
	}
	now.Count += before.Count
	now.Max = max(now.Max, before.Max)
	return now
}

// sum returns the sums of two maps, without changing either.
func sum(a, b map[string]uint64) map[string]uint64 {
	if len(b) == 0 {
		return a
	}
	out := maps.Clone(b)
	for k, n := range a {
		out[k] += n
	}
	return out
}
