package wasm

// liveConfig is a replacement in which the instance stays: sfc_configure is
// called on it, and the version with the new configuration takes it over.
type liveConfig struct{ msg errBuf }

// Reconfigure prepares a new configuration of function hop: the same module in
// a new instance, flow state kept where the configuration does not change its
// size. The configuration was checked against the manifest's schema. A new
// instance has accepted it when Reconfigure returns.
//
// Where the manifest says live_configure, Install calls sfc_configure on the
// instance that serves packets, which keeps what it has in its memory, within
// the budget of a burst. Should it refuse what the new instance took, or fault,
// the new instance takes over.
//
// Probation is as for a new version: after a fault the old configuration is
// back, in an instance that never saw the new one.
func (g *Group) Reconfigure(hop int, config []byte, o ReplaceOptions) (*Replacement, error) {
	g.preparing.Lock()
	defer g.preparing.Unlock()
	p, err := g.hop(hop)
	if err != nil {
		return nil, err
	}
	spec := p.cur.Load().spec
	spec.Config = config
	r, err := g.prepare(p, spec, o)
	if err != nil {
		return nil, err
	}
	if spec.Module.Manifest.LiveConfigure && !o.Canary && r.from.spec.Module == spec.Module && r.from.slots == r.to.slots {
		r.live = new(liveConfig)
	}
	return r, nil
}

// configureLive gives the new configuration to the instance that runs, and the
// instance to the new version; its own becomes a spare.
func (r *Replacement) configureLive() {
	h, inst := r.hop, r.from.current.Load()
	if inst == nil {
		return // suspended: the new instance takes over
	}
	config := r.to.spec.Config
	code, f := inst.reconfigure(config, r.g.opts.Budget, &r.live.msg)
	if f == faultNone {
		h.mu.Lock()
		r.to.spares <- r.to.current.Swap(inst)
		r.from.current.Store(nil)
		h.mu.Unlock()
		return
	}
	why := "live configuration: " + r.live.msg.String()
	if f == faultRefused {
		why = "live configuration: " + refusal(h.name, config, code).Error()
	}
	why += "; a new instance took over"
	r.why.Store(&why)
	r.g.janitor.jobs <- job{version: r.from, dead: r.from.retire(), fault: why}
}
