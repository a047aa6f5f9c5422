package agent

import (
	"context"

	"sfc/ctrl/plane"
	"sfc/nf/wasm"
)

// Observe is plane.Plane's.
func (d *Dataplane) Observe(context.Context) (plane.Observed, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	d.takeNotice()
	return d.observe(), nil
}

// observe says what runs. The caller holds changing.
func (d *Dataplane) observe() plane.Observed {
	o := plane.Observed{Revision: d.revision, Restarts: d.opts.Restarts, Started: d.opts.Began}
	for _, p := range d.ports {
		if p != nil {
			o.Ports = append(o.Ports, p.status())
		}
	}
	for _, c := range d.sorted() {
		o.Chains = append(o.Chains, d.status(c))
	}
	return o
}

func (p *livePort) status() plane.PortStatus {
	if p.link == nil {
		s := plane.PortStatus{Name: p.want.Name, Reason: reasonPort, Message: "it was not opened yet"}
		if p.problem != nil {
			s.Reason, s.Message = p.problem.reason, p.problem.message
		}
		return s
	}
	s := p.link.Status()
	s.Name = p.want.Name
	return s
}

// status says how a chain runs, or why it does not.
func (d *Dataplane) status(c *liveChain) plane.ChainStatus {
	s := plane.ChainStatus{Tenant: c.want.Tenant, Name: c.want.Name}
	if p := c.problem; p != nil {
		s.Reason, s.Message = p.reason, p.message
	}
	run := c.run
	if run == nil {
		return s
	}
	s.Generation = run.spec.Generation
	there := d.openPorts()
	s.Active = run.part.Chain.Ports&there == run.part.Chain.Ports
	if !s.Active && s.Reason == "" {
		s.Reason, s.Message = "PortDown", "a port that it takes packets in from, or sends them out by, is not open"
	}
	if c.unanswered != "" && s.Reason == "" {
		s.Reason, s.Message = reasonAddress, c.unanswered
	}
	for i := range run.hops {
		s.Functions = append(s.Functions, run.functionStatus(i))
	}
	return s
}

// functionStatus says which version of a function runs, and how: as it is on
// the worker where it is worst.
func (r *running) functionStatus(i int) plane.FunctionStatus {
	f := &r.hops[i]
	s := plane.FunctionStatus{
		Name: r.part.Chain.Functions[i].Name, Code: f.code.digest, Version: f.code.module.Manifest.Version, State: wasm.Running.String(),
	}
	for k := range r.posts {
		state, fault := r.posts[k].group.State(i)
		if state != wasm.Running {
			s.State = "suspended"
		}
		if fault != "" {
			s.Message = fault
		}
	}
	if f.trial != nil {
		s.Canary = f.trial.code.digest
	}
	for _, l := range f.last {
		if l.Status().Phase == wasm.Probation && s.State == wasm.Running.String() {
			s.State = "probation"
		}
	}
	return s
}
