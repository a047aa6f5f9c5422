package lab

import (
	"fmt"
	"maps"
	"os"
	"time"

	"sfc/chains"
	"sfc/ctrl/agent"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/nf/wasm"
	"sfc/testbed/netns"
)

// Status says what the lab is.
func (l *Lab) Status() Status {
	s := Status{
		Name: l.opts.Name, PID: os.Getpid(), Mode: l.opts.Mode, UpNs: time.Since(l.born).Nanoseconds(),
		Hosts: l.hosts(), LogFile: l.opts.LogFile, Notes: l.notes,
	}
	if l.eng == nil {
		return s
	}
	m := l.eng.Mode()
	s.Attach, s.Bind, s.Memory, s.Cores = m.Attach[portIn], m.Bind, chains.MemoryExclusive.String(), m.Cores
	if m.Shared {
		s.Memory = chains.MemoryShared.String()
	}
	for i := range l.eng.Plan().Chains {
		s.Chains = append(s.Chains, l.eng.Plan().Chains[i].Title())
	}
	return s
}

func (l *Lab) hosts() (nodes []Node) {
	for _, h := range Hosts {
		n := Node{Name: h, Addresses: []string{}}
		for _, a := range addresses[l.opts.Mode][h] {
			n.Addresses = append(n.Addresses, a.Addr().String())
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// Stats reads the counters.
func (l *Lab) Stats() (*Stats, error) {
	busy, err := l.eng.Busy()
	if err != nil {
		return nil, err
	}
	s := &Stats{At: time.Now()}
	if s.Holds, err = l.holds(); err != nil {
		return nil, err
	}
	cores := l.eng.Mode().Cores
	for i, c := range l.eng.Workers() {
		w := WorkerStats{
			Worker: i, Core: cores[i], Received: c.Received, Sent: c.Sent, Passed: c.Passed, Dropped: c.Dropped,
			HandedIn: c.HandedIn, HandedOut: c.HandedOut, Held: c.Held,
			Turns: c.Turns, Sleeps: c.Sleeps, BusyNs: busy[i].Nanoseconds(), Engine: map[string]uint64{},
		}
		for chain := range l.eng.Plan().Chains {
			w.Buckets = append(w.Buckets, l.eng.Owned(chain)[i])
		}
		for r, n := range c.Engine {
			if n > 0 {
				w.Engine[packet.Reason(r).String()] = n
			}
		}
		s.Workers = append(s.Workers, w)
	}
	for i, name := range portNames {
		c, err := l.eng.Steered(i)
		if err != nil {
			return nil, fmt.Errorf("port %s: %w", name, err)
		}
		p := PortStats{Port: name, Frames: c.Frames(), Redirected: c.Redirected, Passed: c.Passed, Forwarded: c.Forwarded, Dropped: map[string]uint64{}}
		for reason, n := range c.Drops() {
			if n > 0 {
				p.Dropped[reason] = n
			}
		}
		if p.Lost, err = l.lost(i); err != nil {
			return nil, err
		}
		s.Ports = append(s.Ports, p)
	}
	for _, stats := range l.eng.Stats() {
		c := FunctionsStat{Chain: stats.Tenant + "/" + stats.Name, Functions: []FunctionStat{}, Flows: flowStats(stats.Flows)}
		for i := range stats.Functions {
			c.Functions = append(c.Functions, functionStat(&stats.Functions[i]))
		}
		s.Chains = append(s.Chains, c)
	}
	return s, nil
}

// lost reads what the kernel lost around a port.
func (l *Lab) lost(port int) (map[string]uint64, error) {
	near, far := [2]*netns.Link{l.net.in, l.net.out}[port], l.net.far[port]
	here, err := near.Counters()
	if err != nil {
		return nil, err
	}
	there, err := far.Counters()
	if err != nil {
		return nil, err
	}
	stats, err := l.eng.SocketStats(port)
	if err != nil {
		return nil, err
	}
	lost := map[string]uint64{}
	for _, s := range stats {
		lost["rx_ring"] += s.RxRingFull + s.RxDropped
		lost["fill_ring"] += s.RxFillEmpty
		lost["tx"] += s.TxRefused + s.TxInvalidDescs
	}
	// A sender counts what finds the other end's ring full, a receiver what it
	// could not redirect, to a socket too.
	sockets := lost["rx_ring"] + lost["fill_ring"]
	lost["link_in"] = there.TxDropped + here.RxErrors + here.RxDropped - min(sockets, here.RxDropped)
	lost["link_out"] = here.TxDropped + there.RxErrors + there.RxDropped
	maps.DeleteFunc(lost, func(_ string, n uint64) bool { return n == 0 })
	return lost, nil
}

// flowStats sums the classes of flows up.
func flowStats(f *agent.FlowStats) *FlowStats {
	if f == nil {
		return nil
	}
	s := &FlowStats{Max: f.Max, Live: f.Live}
	for k := range flow.NumClasses {
		s.Created += f.Created[k]
		s.Expired += f.Expired[k]
		s.Evicted += f.Evicted[k]
		s.Replaced += f.Replaced[k]
		s.Refused += f.Refused[k]
	}
	return s
}

func functionStat(f *wasm.FunctionStats) FunctionStat {
	s := FunctionStat{
		Name: f.Name, Version: f.Version, Packets: f.Packets, Counters: f.Counters, NsPerPacket: f.NsPerPacket,
		Faults: f.Traps + f.Overruns, State: f.State.String(), LastFault: f.LastFault, Dropped: map[string]uint64{},
	}
	if r := f.Replacement; r != nil {
		s.Replaced, s.Why = r.Phase.String(), r.Why
	}
	for _, drops := range []map[string]uint64{f.Drops, f.Faulted} {
		for reason, n := range drops {
			s.Dropped[reason] += n
		}
	}
	return s
}
