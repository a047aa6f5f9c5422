package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/filter"
	"sfc/dataplane/packet"
)

// readEvery is how often what probes copied is read.
const readEvery = 2 * time.Millisecond

// How many may look at packets at a time, of a tenant and of all: each look has
// memory of its own on every worker.
const (
	looksOfTenant = 8
	looksOfAll    = 32
)

// errLooks says that so many look at packets that no more can.
var errLooks = errors.New("too many captures and traces at a time: end one, or wait until it ends")

// looks counts who looks at packets, by tenant. The zero value counts none. Safe
// for concurrent use.
type looks struct {
	mu  sync.Mutex
	of  map[string]int
	all int
}

// begin counts one more; end counts it no longer, and may be called again.
func (l *looks) begin(tenant string) (end func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[tenant] >= looksOfTenant || l.all >= looksOfAll {
		return nil, errLooks
	}
	if l.of == nil {
		l.of = map[string]int{}
	}
	l.of[tenant]++
	l.all++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.of[tenant]--; l.of[tenant] == 0 {
			delete(l.of, tenant)
		}
	}), nil
}

// probed is a chain as it was when somebody began to look at its packets.
type probed struct {
	d     *Dataplane
	run   *running
	chain *chains.Chain
	ports []string
	clock dataplane.Clock
	end   func() // see looks.begin
}

// look begins to copy packets of a chain, until close.
func (d *Dataplane) look(tenant, name string, options func(*chains.Chain) (dataplane.ProbeOptions, error), expression string) (_ *probed, _ *dataplane.Probe, err error) {
	f, err := filter.Parse(expression)
	if err != nil {
		return nil, nil, err
	}
	end, err := d.looks.begin(tenant)
	if err != nil {
		return nil, nil, fmt.Errorf("chain %s/%s: %w", tenant, name, err)
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	d.mu.RLock()
	defer d.mu.RUnlock()
	c := d.chains[tenant+"/"+name]
	if c == nil || c.run == nil {
		return nil, nil, fmt.Errorf("chain %s/%s does not run", tenant, name)
	}
	p := &probed{d: d, run: c.run, chain: &c.run.part.Chain, ports: d.portNames(), clock: dataplane.NewClock(), end: end}
	o, err := options(p.chain)
	if err != nil {
		return nil, nil, err
	}
	o.Filter = f.Frame
	probe, err := d.set.Probe(c.run.seat.Chain, o)
	return p, probe, err
}

// close ends a look.
func (p *probed) close(probe *dataplane.Probe) error {
	defer p.end()
	return probe.Close()
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

// version is that of the function that a record names; "" for none.
func (p *probed) version(hop uint8) string {
	p.d.mu.RLock()
	defer p.d.mu.RUnlock()
	if int(hop) >= len(p.run.hops) {
		return ""
	}
	return p.run.hops[hop].code.module.Manifest.Version
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
