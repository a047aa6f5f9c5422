package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
	"sfc/ctrl/ports"
	"sfc/ctrl/store"
)

// port is a port with its interface. It belongs to the loop.
type port struct {
	object       *api.Port
	iface        string // "" while there is none
	capabilities *api.PortCapabilities
	err          error // of the last look
	attempts     int
	until        time.Time // not before this is it looked for again; zero: found

	status  api.PortStatus
	written []byte
}

// absorbPort takes in a change of a port; e is nil when it is gone.
func (r *Reconciler) absorbPort(ctx context.Context, key string, e *store.Entry) {
	if e == nil {
		delete(r.ports, key)
		r.writer.set(r.status, api.StatusKey(api.BucketPorts, key), nil)
		return
	}
	o, err := read[api.Port](e)
	if err != nil {
		r.opts.Logger.Error("object cannot be read", "bucket", api.BucketPorts, "key", key, "err", err)
		return
	}
	p := r.ports[key]
	if p == nil {
		p = &port{}
		r.ports[key] = p
	} else if p.object.Metadata.UID != o.Metadata.UID || p.object.Metadata.Generation != o.Metadata.Generation {
		p.iface, p.attempts = "", 0
	}
	p.object = o
	r.findPort(ctx, p)
}

// findPort looks for a port's interface. One that was there before and is not
// now stays what it was: the data plane waits for it to come back.
func (r *Reconciler) findPort(ctx context.Context, p *port) {
	iface, capabilities, err := r.opts.Port(ctx, p.object)
	p.err, p.until = err, time.Time{}
	if err == nil {
		p.iface, p.capabilities, p.attempts = iface, capabilities, 0
		return
	}
	p.attempts++
	p.until = r.now().Add(backoff(r.opts.Retry, r.opts.RetryMax, p.attempts))
}

// findPorts looks again for the interfaces that were not there.
func (r *Reconciler) findPorts(ctx context.Context, now time.Time) {
	for _, p := range r.ports {
		if !p.until.IsZero() && !now.Before(p.until) {
			r.findPort(ctx, p)
		}
	}
}

// planePorts returns the ports whose interface is known, by name.
func (r *Reconciler) planePorts() []plane.Port {
	var all []plane.Port
	for name, p := range r.ports {
		if p.iface == "" {
			continue
		}
		s := &p.object.Spec
		all = append(all, plane.Port{
			Name: name, Interface: p.iface, Peer: s.Peer, Unmatched: s.Unmatched, Mode: s.Attach,
			Queues: s.Queues, Routed: s.Mode == api.ModeRouted,
		})
	}
	slices.SortFunc(all, func(a, b plane.Port) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// portView says which ports a tenant's chains may name, and why not the others.
func (r *Reconciler) portView(tenant string) (view map[string]string, everywhere string) {
	view = make(map[string]string, len(r.ports))
	for name, p := range r.ports {
		switch denied := len(p.object.Spec.Tenants) > 0 && !slices.Contains(p.object.Spec.Tenants, tenant); {
		case denied:
			// In words that do not say whether there is such a port.
			everywhere = "some ports are for other tenants: name the ports in spec.match"
		case p.iface == "":
			view[name] = fmt.Sprintf("port %s has no interface: %v", name, p.err)
		default:
			view[name] = ""
		}
	}
	return view, everywhere
}

// writePorts writes the statuses of ports that changed.
func (r *Reconciler) writePorts(o *plane.Observed, down problem, now time.Time) {
	seen := map[string]*plane.PortStatus{}
	if o != nil {
		for i := range o.Ports {
			seen[o.Ports[i].Name] = &o.Ports[i]
		}
	}
	for name, p := range r.ports {
		s := api.PortStatus{Interface: p.iface, Capabilities: p.capabilities, Conditions: slices.Clone(p.status.Conditions)}
		ready := api.Condition{Type: api.Ready, Status: api.False, ObservedGeneration: p.object.Metadata.Generation, LastTransitionTime: now.UTC()}
		switch ps := seen[name]; {
		case p.iface == "" && p.err != nil:
			ready.Reason, ready.Message = portReason(p.err), p.err.Error()
		case down.reason != "":
			ready.Status, ready.Reason, ready.Message = api.Unknown, down.reason, down.message
		case ps == nil:
			ready.Reason, ready.Message = reasonPending, "the data plane has not taken it in yet"
		default:
			s.Up, s.Attach, s.Bind, s.Queues = ps.Up, ps.Attach, ps.Bind, ps.Queues
			ready.Reason, ready.Message = ps.Reason, ps.Message
			if ps.Up {
				ready.Status, ready.Reason, ready.Message = api.True, cmp.Or(ps.Reason, "Up"), cmp.Or(ps.Message, "attached to "+p.iface)
			} else if ready.Reason == "" {
				ready.Reason, ready.Message = "LinkDown", "its link is down"
			}
		}
		before := s.Conditions.IsTrue(api.Ready)
		changed := s.Conditions.Set(ready)
		if changed && before != (ready.Status == api.True) && p.written != nil {
			r.event(level(ready.Status == api.True), ready.Reason, "", "", "port "+name+": "+ready.Message)
		}
		r.writeStatus(r.status, api.StatusKey(api.BucketPorts, name), &s, &p.written)
		p.status = s
	}
}

// writeStatus has a status written if it is not what was written last.
func (r *Reconciler) writeStatus(b *store.Bucket, key string, status any, written *[]byte) {
	value, err := json.Marshal(status)
	if err != nil {
		r.opts.Logger.Error("status cannot be written", "key", key, "err", err)
		return
	}
	if string(value) == string(*written) {
		return
	}
	*written = value
	r.writer.set(b, key, value)
}

// portReason says in a word why a port has no interface.
func portReason(err error) string {
	switch {
	case errors.Is(err, ports.ErrUnfit):
		return "InterfaceUnfit"
	case errors.Is(err, ports.ErrManagement):
		return "OnlyWayToHost"
	}
	return "InterfaceNotFound"
}
