package wasm

import (
	"fmt"
	"slices"

	"sfc/dataplane/flow"
	"sfc/dataplane/steer"
	"sfc/nf"
)

// Grants is what functions of one chain on one worker may give their flows:
// tuples that find them, and keys that only they hold. All of it must be there
// when a function has nf.CapabilityBind.
type Grants struct {
	// Pins and Claims are the chain's shares of the tables, the same for all
	// its workers, and for its flow tables.
	Pins, Claims *steer.Pins
	// Chain is the chain's number.
	Chain uint16
	// Key is the secret of packet.FlowHash64.
	Key [2]uint64
	// Ledger is that of the flow table of the chain on this worker. It must
	// outlive the Group.
	Ledger *steer.Ledger
}

func (g *Grants) complete() bool { return g.Pins != nil && g.Claims != nil && g.Ledger != nil }

// openBinder makes the group's binder, when there is something to grant.
func (g *Group) openBinder() {
	if g.opts.Grants.complete() {
		g.binder = newBinder(g.opts.Grants)
		g.c.setBinder(g.binder)
	}
}

// closeBinder frees it.
func (g *Group) closeBinder() {
	if g.binder != nil {
		g.binder.close()
	}
}

// binds says whether a function gives something to its flows.
func binds(h Hop) bool { return slices.Contains(h.Module.Manifest.Capabilities, nf.CapabilityBind) }

// checkBinds refuses functions that bind where there is nothing to bind to.
func checkBinds(hops []Hop, g Grants) error {
	for _, h := range hops {
		if binds(h) && !g.complete() {
			return fmt.Errorf("function %s has the capability %s: its path needs pins, claims and a flow table", h.Name, nf.CapabilityBind)
		}
	}
	return nil
}

// Binds says whether functions of the group may give something to their
// flows: then call ApplyBinds after every Process.
func (g *Group) Binds() bool { return g.binder != nil }

// ApplyBinds tells the flow table of the tuples that functions were promised
// during the last Process. Call it before flows are aged. A function that
// trapped after it was promised a tuple or a key keeps it: it may have written
// so into the flow's state, which outlives it; all of it goes with the flow.
func (g *Group) ApplyBinds(t *flow.Table) {
	if g.binder != nil {
		g.binder.apply(t)
	}
}
