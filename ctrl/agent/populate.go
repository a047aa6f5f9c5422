package agent

import (
	"sfc/chains"
	"sfc/dataplane/arena"
	"sfc/dataplane/steer"
)

// populate makes functions and tables of every worker. owners and pins are the
// steering program's memory; nil without one.
func (e *Engine) populate(owners, pins []byte) (err error) {
	n := len(e.plan.Chains)
	if owners == nil {
		owners = make([]byte, steer.OwnersSize(n))
	}
	if e.owners, err = steer.NewOwners(owners, n, e.opts.Workers); err != nil {
		return err
	}
	if err := e.shareTables(pins); err != nil {
		return err
	}
	for i := range e.opts.Workers {
		w, err := e.newWorker(i)
		if err != nil {
			return err
		}
		e.workers = append(e.workers, w)
	}
	return nil
}

// grant is what the functions of a chain may give their flows, on all workers
// together.
type grant struct{ pins, claims *steer.Pins }

// holders is the number of flows that may hold tuples and claims.
func (e *Engine) holders() (n int) {
	for i := range e.plan.Chains {
		if c := &e.plan.Chains[i]; c.Binds {
			n += e.flowsOf(c)
		}
	}
	return n
}

// fairPins is a size in bytes up to which the table of pins has room for all
// tuples that flows may have. A larger one is for one tuple a flow, which is
// what translations need: two fill it further.
const fairPins = 32 << 20

// pinBytes is the size of the table of pins.
func (e *Engine) pinBytes() int {
	n := e.holders()
	return max(steer.PinsSize(n), min(steer.PinsSize(steer.MaxBinds*n), fairPins))
}

// flowsOf is how many flows the workers' tables of a chain can have together:
// flows may all be one worker's, so each table has room for all of them.
func (e *Engine) flowsOf(c *chains.Chain) int { return c.Flows * e.opts.Workers }

// shareTables makes the tables of pins and claims, and deals out their chains'
// shares.
func (e *Engine) shareTables(pins []byte) error {
	n := e.holders()
	e.grants = make([]grant, len(e.plan.Chains))
	if n == 0 {
		return nil
	}
	if pins == nil {
		mem, err := e.table64("pins", e.pinBytes())
		if err != nil {
			return err
		}
		pins = mem
	}
	var err error
	if e.pins, err = steer.NewPins(pins); err != nil {
		return err
	}
	mem, err := e.table64("claims", steer.PinsSize(steer.MaxClaims*n))
	if err != nil {
		return err
	}
	claims, err := steer.NewPins(mem)
	if err != nil {
		return err
	}
	for i := range e.plan.Chains {
		if c := &e.plan.Chains[i]; c.Binds {
			e.grants[i] = grant{e.pins.Share(steer.MaxBinds * e.flowsOf(c)), claims.Share(steer.MaxClaims * e.flowsOf(c))}
		}
	}
	return nil
}

// table64 is memory for a steer.Pins of that size.
func (e *Engine) table64(name string, bytes int) ([]byte, error) {
	mem, err := arena.OpenPrivate(name, bytes)
	if err != nil {
		return nil, err
	}
	e.connected.push(mem.Close)
	return mem.Bytes(), nil
}
