package agent

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/filter"
	"sfc/dataplane/packet"
)

// readEvery is how often what probes copied is read.
const readEvery = 2 * time.Millisecond

// probed is a chain as it was when somebody began to look at its packets.
type probed struct {
	d     *Dataplane
	run   *running
	chain *chains.Chain
	ports []string
	clock dataplane.Clock
}

// look begins to copy packets of a chain.
func (d *Dataplane) look(tenant, name string, options func(*chains.Chain) (dataplane.ProbeOptions, error), expression string) (*probed, *dataplane.Probe, error) {
	f, err := filter.Parse(expression)
	if err != nil {
		return nil, nil, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	c := d.chains[tenant+"/"+name]
	if c == nil || c.run == nil {
		return nil, nil, fmt.Errorf("chain %s/%s does not run", tenant, name)
	}
	p := &probed{d: d, run: c.run, chain: &c.run.part.Chain, ports: d.portNames(), clock: dataplane.NewClock()}
	o, err := options(p.chain)
	if err != nil {
		return nil, nil, err
	}
	o.Filter = f.Frame
	probe, err := d.set.Probe(c.run.seat.Chain, o)
	return p, probe, err
}

// follow reads a probe until visit or pause says that it has enough, ctx ends, or
// the chain is gone. pause is called when everything was read for now.
func (p *probed) follow(ctx context.Context, probe *dataplane.Probe, visit func(*dataplane.Record) (more bool), pause func() (more bool)) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for more := true; more; {
		probe.Read(func(r *dataplane.Record) { more = more && visit(r) })
		if !pause() || !more {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-p.run.gone:
			return
		case <-tick.C:
		}
	}
}

// wall is the time of a record.
func (p *probed) wall(ns uint64) time.Time {
	return time.Now().Add(-time.Duration(p.clock.Now() - ns))
}

func (p *probed) port(i uint16) string {
	if int(i) < len(p.ports) {
		return p.ports[i]
	}
	return ""
}

// function is the name of the function that a record names; "" for none.
func (p *probed) function(hop uint8) string {
	if int(hop) < len(p.chain.Functions) {
		return p.chain.Functions[hop].Name
	}
	return ""
}

// reason says why a packet was dropped; "" when it was not.
func (p *probed) reason(r *dataplane.Record) string {
	if r.Verdict != packet.Drop && r.Verdict != packet.Abort {
		return ""
	}
	o := packet.Outcome{Verdict: r.Verdict, Hop: r.Hop, Reason: r.Reason}
	if r.Fault {
		o.Fault = 1
	}
	p.d.mu.RLock()
	defer p.d.mu.RUnlock()
	select {
	case <-p.run.gone: // and its functions with it
		return packet.Reason(r.Reason).String()
	default:
		return p.run.posts[r.Worker].group.ReasonName(o)
	}
}

// flow tells of the flow that a record names.
func (p *probed) flow(r *dataplane.Record) (text string) {
	p.d.mu.RLock()
	defer p.d.mu.RUnlock()
	t := p.run.posts[r.Worker].flows
	if t == nil || r.Slot == packet.NoSlot {
		return ""
	}
	select {
	case <-p.run.gone:
		return ""
	default:
	}
	p.d.workers[r.Worker].between(func() {
		if f, ok := t.Describe(r.Slot); ok {
			proto, src, dst := tupleText(&f.Tuple)
			text = fmt.Sprintf("%s %s -> %s %v", proto, src, dst, f.State)
		}
	})
	return text
}

// flowFilter makes a filter of flows.
func flowFilter(expression string) (func(*FlowInfo) bool, error) {
	if expression == "" {
		return func(*FlowInfo) bool { return true }, nil
	}
	f, err := filter.Parse(expression)
	if err != nil {
		return nil, err
	}
	return func(i *FlowInfo) bool {
		t := &i.Tuple
		return f.Tuple(netip.AddrPortFrom(t.Src, t.SrcPort), netip.AddrPortFrom(t.Dst, t.DstPort), t.Proto)
	}, nil
}
