package agent

import (
	"fmt"
	"time"

	"sfc/ctrl/plane"
	"sfc/ctrl/ports"
)

// Pace of looking after ports.
const (
	// tendAfter is how long interfaces have to come to rest after one changed:
	// a veth pair that is made comes with several changes.
	tendAfter = 50 * time.Millisecond
	// tendEvery is how often ports are looked after when nothing changes: those
	// that could not be opened are tried again.
	tendEvery = 5 * time.Second
)

// tend opens ports again when their interfaces come back, and tells of links
// that go up and down, until the data plane is closed. Control has no part in
// that.
func (d *Dataplane) tend() {
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if err := d.opts.Kernel.Watch(d.gone, poke); err != nil {
		d.events.ofPlane("Blind", levelWarning, fmt.Sprintf("changes of interfaces are noticed every %v only: %v", tendEvery, err))
	}
	d.aside.Go(func() {
		tick := time.NewTicker(tendEvery)
		defer tick.Stop()
		for {
			select {
			case <-d.gone:
				return
			case <-tick.C:
			case <-changed:
				d.tendPorts(false)
				select {
				case <-d.gone:
					return
				case <-time.After(tendAfter):
				}
			}
			d.tendPorts(true)
		}
	})
}

// tendPorts tells of changes of all ports, and mends what can be.
func (d *Dataplane) tendPorts(mend bool) {
	// Close has it, and waits for this goroutine.
	for !d.changing.TryLock() {
		select {
		case <-d.gone:
			return
		case <-time.After(time.Millisecond):
		}
	}
	defer d.changing.Unlock()
	var want []plane.Port
	for _, p := range d.ports {
		if p == nil {
			continue
		}
		want = append(want, p.want)
		if p.link != nil {
			d.tell(p)
		}
	}
	if !mend {
		return
	}
	if _, err := d.changePorts(want); err != nil {
		d.events.ofPlane(reasonPort, levelError, err.Error())
	}
	if d.portsDirty {
		if err := d.opts.Kernel.Update(d.claimed()); err != nil {
			d.events.ofPlane(reasonSteering, levelError, err.Error())
		} else {
			d.portsDirty = false
		}
	}
	d.answer()
}

// tell makes an event of a link that went up or down, or is gone.
func (d *Dataplane) tell(p *livePort) {
	s := p.link.Status()
	if s.Up == p.up {
		return
	}
	p.up = s.Up
	ev := plane.Event{Kind: "port", Reason: "LinkUp", Level: levelInfo, Worker: -1, Text: fmt.Sprintf("the link of port %s is up", p.want.Name)}
	if !s.Up {
		ev.Reason, ev.Level, ev.Text = s.Reason, levelWarning, fmt.Sprintf("port %s: %s", p.want.Name, s.Message)
	}
	d.events.add(ev)
}

// watchLinks calls changed whenever an interface of a namespace has come, gone
// or changed, until done is closed; in runs a function inside.
func watchLinks(in func(func() error) error, done <-chan struct{}, changed func()) error {
	var list <-chan ports.Change
	lost := make(chan struct{}, 1)
	open := func() (err error) {
		list, err = ports.Watch(done, func(error) {
			select {
			case lost <- struct{}{}:
			default:
			}
		})
		return err
	}
	if err := in(open); err != nil {
		return err
	}
	go func() {
		for {
			for range list {
				changed()
			}
			select {
			case <-done:
				return
			case <-lost: // the kernel had too much to tell
				changed()
			}
			select {
			case <-done:
				return
			case <-time.After(time.Second):
			}
			if in(open) != nil {
				return // every so often is left
			}
		}
	}()
	return nil
}
