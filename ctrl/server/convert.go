package server

import (
	"sfc/ctrl/api"
	"sfc/ctrl/plane"
)

// statsFor makes the account as a tenant may see it; "" sees all.
func statsFor(tenant string, st *plane.Stats) *api.Stats {
	out := &api.Stats{Time: st.Time, Chains: []api.ChainStats{}, Tenants: []api.TenantStats{}}
	if tenant == "" {
		for _, w := range st.Workers {
			out.Workers = append(out.Workers, api.WorkerStats(w))
		}
		for _, p := range st.Ports {
			out.Ports = append(out.Ports, api.PortStats(p))
		}
	}
	for i := range st.Chains {
		if c := &st.Chains[i]; tenant == "" || c.Tenant == tenant {
			out.Chains = append(out.Chains, chainStats(c))
		}
	}
	for _, t := range st.Tenants {
		if tenant == "" || t.Name == tenant {
			out.Tenants = append(out.Tenants, api.TenantStats{
				Name: t.Name, BusyNs: t.BusyNs, Share: api.Share(t.Share), OverShare: t.OverShare, Flows: t.Flows, MemoryBytes: t.MemoryBytes,
			})
		}
	}
	return out
}

func chainStats(c *plane.ChainStats) api.ChainStats {
	out := api.ChainStats{
		Tenant: c.Tenant, Name: c.Name, Packets: c.Packets, Bytes: c.Bytes, Sent: c.Sent, Passed: c.Passed, Drops: c.Drops,
		Flows: c.Flows, MaxFlows: c.MaxFlows,
		FlowsCreated: c.FlowsCreated, FlowsExpired: c.FlowsExpired, FlowsEvicted: c.FlowsEvicted, FlowsRefused: c.FlowsRefused,
		Latency: api.Quantiles(c.Latency),
	}
	for i := range c.Functions {
		f := &c.Functions[i]
		one := api.ChainFunctionStats{
			Name: f.Name, Version: f.Version, Code: f.Code, State: f.State,
			Packets: f.Packets, Bursts: f.Bursts, Sent: f.Sent, Passed: f.Passed, Dropped: f.Dropped, Next: f.Next,
			Drops: f.Drops, Faulted: f.Faulted, Skipped: f.Skipped, Traps: f.Traps, Overruns: f.Overruns,
			NsPerPacket: f.NsPerPacket, Latency: api.Quantiles(f.Latency), Counters: f.Counters, LogSuppressed: f.LogSuppressed,
		}
		if y := f.Canary; y != nil {
			one.Canary = &api.CanaryStats{
				Version: y.Version, Code: y.Code, Percent: y.Percent, Packets: y.Packets, Bursts: y.Bursts,
				Sent: y.Sent, Passed: y.Passed, Dropped: y.Dropped, Next: y.Next, NsPerPacket: y.NsPerPacket, Latency: api.Quantiles(y.Latency),
			}
		}
		out.Functions = append(out.Functions, one)
	}
	return out
}

// flow is a flow as the API has it; for a tenant without where it is.
func flow(f plane.Flow, forTenant bool) api.Flow {
	out := api.Flow{
		Tenant: f.Tenant, Chain: f.Chain, Proto: f.Proto, Src: f.Src, Dst: f.Dst,
		State: f.State, IdleMs: f.Idle.Milliseconds(), Bound: f.Bound,
	}
	if !forTenant {
		bucket := int(f.Bucket)
		out.Worker, out.Bucket = &f.Worker, &bucket
	}
	return out
}

func trace(t plane.Trace) api.Trace {
	out := api.Trace{
		Time: t.Time, Worker: t.Worker, Port: t.Port, Path: t.Path, Frame: present(t.Frame), Length: t.Length, Flow: t.Flow,
		Hops: []api.TraceHop{}, Verdict: t.Verdict, Reason: t.Reason, Egress: t.Egress, TookNs: t.TookNs,
	}
	for _, h := range t.Hops {
		hop := api.TraceHop{Function: h.Function, Version: h.Version, Verdict: h.Verdict, Reason: h.Reason, TookNs: h.TookNs, Burst: h.Burst}
		for _, c := range h.Changes {
			hop.Changes = append(hop.Changes, api.Change{Offset: c.Offset, Before: present(c.Before), After: present(c.After)})
		}
		out.Hops = append(out.Hops, hop)
	}
	return out
}

// present makes no bytes an empty text in JSON, not a null.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
