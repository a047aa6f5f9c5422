package wasm

// State returns how function hop stands, and the message of its last fault, if
// it had any. Anyone may call it, until Close.
func (g *Group) State(hop int) (s State, lastFault string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.hops[hop]
	if msg := h.lastFault.Load(); msg != nil {
		lastFault = *msg
	}
	return State(h.cur.Load().state.Load()), lastFault
}
