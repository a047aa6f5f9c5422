package agent

import (
	"errors"
	"fmt"

	"sfc/bpf"
	"sfc/chains"
	"sfc/ctrl/plane"
)

// livePort is a port that is desired, at its index.
type livePort struct {
	want    plane.Port
	link    PortLink // nil: it is not open
	problem *problem
	base    bpf.Counters // of links that it had before
	up      bool         // its link was up when it was looked at last
	// answered is what the kernel answers for there, refused why it does not for
	// some of it, by index. Both belong to the holder of changing.
	answered answered
	refused  map[int]string
}

// portIndex returns the index of the port with a name; -1 when there is none.
// Names that no port has any more keep their index as long as a chain runs that
// names it, so that nothing else goes by a port that is not meant.
func (d *Dataplane) portIndex(name string) int {
	for i, p := range d.ports {
		if p != nil && p.want.Name == name {
			return i
		}
	}
	return -1
}

// portNames returns the names of all ports by index, for chains.Compile.
func (d *Dataplane) portNames() []string {
	names := make([]string, len(d.ports))
	for i, p := range d.ports {
		names[i] = chains.NoPort
		if p != nil {
			names[i] = p.want.Name
		}
	}
	return names
}

// openPorts are those that are open, a bit each.
func (d *Dataplane) openPorts() (set uint64) {
	for i, p := range d.ports {
		if p != nil && p.link != nil {
			set |= 1 << i
		}
	}
	return set
}

// changePorts brings the ports to what is desired. Those that go, go in order:
// their frames are left to nobody first, then the workers give them up.
func (d *Dataplane) changePorts(want []plane.Port) (changed bool, err error) {
	byName := map[string]*plane.Port{}
	for i := range want {
		byName[want[i].Name] = &want[i]
	}
	var leaving []int
	for i, p := range d.ports {
		if p == nil {
			continue
		}
		w := byName[p.want.Name]
		if w == nil || p.link != nil && (*w != p.want || p.link.Status().Reason == reasonGone) {
			leaving = append(leaving, i)
		}
	}
	if len(leaving) > 0 {
		changed = true
		if err := d.leavePorts(leaving, byName); err != nil {
			return changed, err
		}
	}
	for i := range want {
		if d.portIndex(want[i].Name) >= 0 {
			continue
		}
		k := d.freePort()
		if k < 0 {
			d.events.ofPlane(reasonCapacity, levelError, fmt.Sprintf("port %s: there are %d ports, no more are possible", want[i].Name, len(d.ports)))
			continue
		}
		d.mu.Lock()
		d.ports[k] = &livePort{want: want[i]}
		d.mu.Unlock()
		changed = true
	}
	for i, p := range d.ports {
		if p == nil || p.link != nil {
			continue
		}
		if w := byName[p.want.Name]; w != nil {
			p.want = *w
		}
		if d.enterPort(i, p) {
			changed = true
		}
	}
	return changed, nil
}

// reasonGone is the reason of a port whose interface is gone: it is opened again
// when there is one of its name.
const reasonGone = "InterfaceGone"

func (d *Dataplane) freePort() int {
	for i, p := range d.ports {
		if p == nil && !d.portInUse(i) {
			return i
		}
	}
	return -1
}

// portInUse says whether a chain that runs names the port with this index.
func (d *Dataplane) portInUse(i int) bool {
	for _, c := range d.chains {
		if c.run == nil {
			continue
		}
		if c.run.part.Chain.Ports>>i&1 != 0 {
			return true
		}
	}
	return false
}

// leavePorts closes ports, and takes those away that nothing desires.
func (d *Dataplane) leavePorts(list []int, want map[string]*plane.Port) error {
	links, routed := map[int]PortLink{}, map[int]plane.Port{}
	d.mu.Lock()
	for _, i := range list {
		p := d.ports[i]
		routed[i] = p.want
		if p.link != nil {
			links[i] = p.link
			if c, err := p.link.Counters(); err == nil {
				p.base = sumCounters(p.base, c)
			}
			p.link, p.up, p.answered, p.refused = nil, false, answered{}, nil
			d.portsDirty = true
		}
		if want[p.want.Name] == nil {
			d.ports[i] = nil
		}
	}
	d.mu.Unlock()
	if len(links) == 0 {
		return nil
	}
	if err := d.opts.Kernel.Update(d.claimed()); err != nil {
		return fmt.Errorf("leave %d ports: %w", len(links), err)
	}
	if err := d.opts.Kernel.Grace(); err != nil {
		return fmt.Errorf("leave %d ports: %w", len(links), err)
	}
	for i := range links {
		if rx, tx, err := d.set.RemovePort(i); err != nil {
			return fmt.Errorf("leave port %d: %w", i, err)
		} else if rx+tx > 0 {
			d.events.add(plane.Event{Kind: "port", Reason: "FramesLeft", Level: levelWarning, Worker: -1,
				Text: fmt.Sprintf("port %d: %d received and %d sent frames were under way when it was closed", i, rx, tx)})
		}
		was := routed[i]
		if err := errors.Join(d.unfollow(i, &was), d.opts.Kernel.ClosePort(i)); err != nil {
			return fmt.Errorf("close port %d: %w", i, err)
		}
	}
	return nil
}

// enterPort opens a port and says whether it is open now.
func (d *Dataplane) enterPort(i int, p *livePort) bool {
	peer := -1
	if p.want.Peer != "" {
		peer = d.portIndex(p.want.Peer)
	}
	if peer < 0 && p.want.Unmatched == chains.UnmatchedForward.String() {
		d.mu.Lock()
		defer d.mu.Unlock()
		p.problem = problemOf(reasonPeer, fmt.Errorf("packets that no chain claims are to be forwarded to port %q, which is not attached: attach it", p.want.Peer))
		return false
	}
	link, err := d.opts.Kernel.OpenPort(i, p.want, peer)
	if err == nil {
		if err = d.follow(i, &p.want, link.Ifindex()); err == nil {
			err = d.set.AddPort(i, p.want.Routed, link.Ends)
		}
		if err != nil { // it tells more than these
			_, _ = d.unfollow(i, &p.want), d.opts.Kernel.ClosePort(i)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		p.problem = problemOf(reasonPort, err)
		return false
	}
	p.link, p.problem, d.portsDirty, p.up = link, nil, true, link.Status().Up
	d.events.add(plane.Event{Kind: "port", Reason: "PortOpen", Level: levelInfo, Worker: -1, Text: "port " + p.want.Name + " is open"})
	return true
}

func sumCounters(a, b bpf.Counters) bpf.Counters {
	a.Redirected += b.Redirected
	a.Passed += b.Passed
	a.Forwarded += b.Forwarded
	a.NoPath += b.NoPath
	a.TooLong += b.TooLong
	a.Malformed += b.Malformed
	a.ExtHeaders += b.ExtHeaders
	a.NoSocket += b.NoSocket
	a.NoPair += b.NoPair
	a.NoMeta += b.NoMeta
	a.NotIP += b.NotIP
	a.NeighbourDiscovery += b.NeighbourDiscovery
	a.Unmatched += b.Unmatched
	return a
}
