package agent

import (
	"context"
	"errors"
	"time"

	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/packet"
	"sfc/dataplane/xsk"
	"sfc/nf/wasm"
)

// Stats is plane.Plane's. What it says is kept, so that it does not fall when
// the process is killed.
func (d *Dataplane) Stats(context.Context) (plane.Stats, error) {
	d.mu.RLock()
	s, err := d.count()
	d.mu.RUnlock()
	if err != nil {
		return s, err
	}
	d.keeping.Lock()
	defer d.keeping.Unlock()
	return s, d.keepRecord(&d.counted, &past{s})
}

// count sums everything up. The caller holds mu.
func (d *Dataplane) count() (plane.Stats, error) {
	s := plane.Stats{Time: time.Now()}
	accounts := map[uint16]dataplane.Account{}
	err := d.set.Accounts(func(chain uint16, a *dataplane.Account) { accounts[chain] = *a })
	if err != nil {
		return s, err
	}
	for i := range d.workers {
		s.Workers = append(s.Workers, d.countWorker(i))
	}
	for _, p := range d.ports {
		if p != nil {
			s.Ports = append(s.Ports, countPort(p))
		}
	}
	flows := map[string]int{}
	for _, c := range d.sorted() {
		if c.run == nil {
			continue
		}
		a := accounts[c.run.seat.Chain]
		one := d.countChain(c.run, &a)
		flows[one.Tenant] += one.Flows
		s.Chains = append(s.Chains, one)
	}
	if s.Tenants, err = d.countTenants(flows); err != nil {
		return s, err
	}
	d.past.addTo(&s)
	return s, nil
}

func (d *Dataplane) countWorker(i int) plane.WorkerStats {
	w := d.workers[i]
	c := w.run.Counters()
	s := plane.WorkerStats{
		Core: d.opts.Cores[i], Received: c.Received, Sent: c.Sent, Passed: c.Passed, Dropped: c.Dropped,
		HandedOut: c.HandedOut, HandedIn: c.HandedIn, Held: c.Held, Drops: map[string]uint64{},
	}
	drops(s.Drops, &c.Engine)
	var sum xsk.Stats
	var tid int
	w.between(func() {
		tid = threadID()
		for _, p := range d.ports {
			if p == nil || p.link == nil {
				continue
			}
			for _, end := range p.link.Ends(i) {
				socket, ok := end.(*xsk.Socket)
				if !ok {
					continue
				}
				s.Queues++
				if one, err := socket.Stats(); err == nil { // one whose interface is gone says nothing
					sum = sum.Add(one)
				}
			}
		}
	})
	s.RxRingFull, s.RxFillEmpty, s.TxInvalid, s.Kicks = sum.RxRingFull, sum.RxFillEmpty, sum.TxInvalidDescs, sum.Wakeups
	if busy, err := runTime(tid); err == nil { // the thread of a worker that has ended is gone
		s.BusyNs = uint64(busy)
	}
	return s
}

func drops(to map[string]uint64, engine *[packet.NumReasons]uint64) {
	for r, n := range engine {
		if n > 0 {
			to[packet.Reason(r).String()] += n
		}
	}
}

func countPort(p *livePort) plane.PortStats {
	s := plane.PortStats{Name: p.want.Name, Drops: map[string]uint64{}}
	c := p.base
	if p.link != nil {
		if now, err := p.link.Counters(); err == nil { // without them, those before
			c = sumCounters(c, now)
		}
	}
	s.Frames, s.Redirected, s.Passed, s.Forwarded = c.Frames(), c.Redirected, c.Passed, c.Forwarded
	for reason, n := range c.Drops() {
		if n > 0 {
			s.Drops[reason] = n
		}
	}
	return s
}

// countChain sums a chain up, over all workers.
func (d *Dataplane) countChain(r *running, a *dataplane.Account) plane.ChainStats {
	c := &r.part.Chain
	s := plane.ChainStats{
		Tenant: c.Tenant, Name: c.Name, Packets: a.Packets, Bytes: a.Bytes, Sent: a.Sent, Passed: a.Passed,
		Drops: map[string]uint64{}, MaxFlows: c.Flows,
		Latency: plane.Quantiles{Count: a.Latency.Count, P50: a.Latency.Quantile(.5), P99: a.Latency.Quantile(.99), Max: a.Latency.Max},
	}
	drops(s.Drops, &a.Engine)
	var flows FlowStats
	var functions []wasm.FunctionStats
	for i, w := range d.workers {
		p := &r.posts[i]
		if p.flows != nil {
			w.between(func() { flows.add(p.flows) })
		}
		stats := p.group.Stats()
		if functions == nil {
			functions = stats
			continue
		}
		for k := range stats {
			addFunction(&functions[k], &stats[k])
		}
	}
	s.Flows = flows.Live
	for k := range flows.Created {
		s.FlowsCreated += flows.Created[k]
		s.FlowsExpired += flows.Expired[k]
		s.FlowsEvicted += flows.Evicted[k]
		s.FlowsRefused += flows.Refused[k]
	}
	for i := range functions {
		s.Functions = append(s.Functions, r.countFunction(i, &functions[i]))
		for reason, n := range functions[i].Drops {
			s.Drops[c.Functions[i].Name+"."+reason] += n
		}
	}
	return s
}

// flowStats sums the flow tables up, of workers that do not run.
func (r *running) flowStats() (s FlowStats) {
	for i := range r.posts {
		if t := r.posts[i].flows; t != nil {
			s.add(t)
		}
	}
	return s
}

func (r *running) countFunction(i int, f *wasm.FunctionStats) plane.FunctionStats {
	status := r.functionStatus(i)
	s := plane.FunctionStats{
		Name: status.Name, Version: status.Version, Code: status.Code, State: status.State,
		Packets: f.Packets, Bursts: f.Bursts,
		Sent: f.Verdicts[packet.Tx], Passed: f.Verdicts[packet.Pass], Dropped: f.Verdicts[packet.Drop], Next: f.Verdicts[packet.Next],
		Drops: f.Drops, Faulted: f.Faulted, Skipped: f.Skipped, Traps: f.Traps, Overruns: f.Overruns,
		NsPerPacket: f.NsPerPacket, Counters: f.Counters, LogSuppressed: f.LogSuppressed,
		Latency: quantiles(&f.Latency),
	}
	if y := f.Canary; y != nil && status.Canary != "" {
		s.Canary = &plane.CanaryStats{
			Version: y.Version, Code: status.Canary, Percent: y.Percent, Packets: y.Packets, Bursts: y.Bursts,
			Sent: y.Verdicts[packet.Tx], Passed: y.Verdicts[packet.Pass], Dropped: y.Verdicts[packet.Drop], Next: y.Verdicts[packet.Next],
			NsPerPacket: y.NsPerPacket, Latency: quantiles(&y.Latency),
		}
	}
	return s
}

func quantiles(l *wasm.Latency) plane.Quantiles {
	q := plane.Quantiles{P50: l.Quantile(.5), P99: l.Quantile(.99), Max: l.MaxNs}
	for _, n := range l.Counts {
		q.Count += n
	}
	return q
}

// countTenants says what tenants used, with what flows they have.
func (d *Dataplane) countTenants(flows map[string]int) ([]plane.TenantStats, error) {
	var list []plane.TenantStats
	var shares [][]*dataplane.Share // by worker
	for name, t := range d.tenants {
		used := d.rt.TenantUsage(name)
		list = append(list, plane.TenantStats{Name: name, Share: t.want.Share, Flows: flows[name], MemoryBytes: used.MemoryBytes()})
		for i, s := range t.shares {
			if shares == nil {
				shares = make([][]*dataplane.Share, len(t.shares))
			}
			shares[i] = append(shares[i], s)
		}
	}
	for i := range shares {
		used, err := d.set.Usage(i, shares[i])
		if err != nil && !errors.Is(err, dataplane.ErrStopped) {
			return nil, err
		}
		for k := range used {
			list[k].BusyNs += used[k].BusyNs
			list[k].OverShare += used[k].OverShare
		}
	}
	return list, nil
}
