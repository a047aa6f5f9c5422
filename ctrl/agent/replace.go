package agent

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sfc/chains"
	"sfc/nf/wasm"
)

// Change is another version of a function, or another configuration.
type Change struct {
	// Chain is the chain's index, Function the function's name in it.
	Chain    uint16
	Function string
	// Wasm is the new module. Nil stands for the one that runs.
	Wasm []byte
	// Config is the new configuration. Nil stands for the one in the chain's
	// spec.
	Config []byte
	wasm.ReplaceOptions
}

// ChangeReport says what came of a change.
type ChangeReport struct {
	// Pause is the longest that a worker's packets had to wait for it.
	Pause time.Duration
	// State says what became of flow state: none, kept, migrated or reset.
	State string
	// From and To are the versions of the modules.
	From, To string
	// Workers is how the replacement stands, by worker; ask again later.
	Workers []*wasm.Replacement
}

// ErrNoFunction: the chain has no function of that name.
var ErrNoFunction = errors.New("no such function")

// Replace puts another version of a function, or another configuration, in
// place while packets flow: prepared on all workers, then installed on one
// after the other between two bursts. When one cannot be made, none is
// installed. Anyone may call it while the workers run, one at a time.
func (e *Engine) Replace(c Change) (*ChangeReport, error) {
	if e.set == nil {
		return nil, ErrNotConnected
	}
	e.changing.Lock()
	defer e.changing.Unlock()
	if int(c.Chain) >= len(e.plan.Chains) {
		return nil, fmt.Errorf("%w: chain %d", ErrNoFunction, c.Chain)
	}
	chain := &e.plan.Chains[c.Chain]
	hop := slices.IndexFunc(chain.Functions, func(h chains.Hop) bool { return h.Name == c.Function })
	if hop < 0 {
		names := make([]string, len(chain.Functions))
		for i, f := range chain.Functions {
			names[i] = f.Name
		}
		return nil, fmt.Errorf("%w: chain %s has %q, not %q", ErrNoFunction, chain.Title(), names, c.Function)
	}
	prepare, free, err := e.preparation(chain.Functions[hop], hop, &c)
	if err != nil {
		return nil, fmt.Errorf("chain %s, function %s: %w", chain.Title(), c.Function, err)
	}
	defer free()
	var ready []*wasm.Replacement
	for _, w := range e.workers {
		r, err := prepare(w.chains[c.Chain].group)
		if err != nil {
			for _, r := range ready {
				r.Discard()
			}
			return nil, fmt.Errorf("chain %s, worker %d: %w", chain.Title(), w.index, err)
		}
		ready = append(ready, r)
	}
	rep := &ChangeReport{Workers: ready}
	for i, w := range e.workers {
		var failed error
		took, err := w.run.Do(func() { failed = ready[i].Install() })
		if err := errors.Join(err, failed); err != nil {
			for _, r := range ready[i:] {
				r.Discard()
			}
			return rep, fmt.Errorf("chain %s, worker %d: %w", chain.Title(), w.index, err)
		}
		rep.Pause = max(rep.Pause, took)
	}
	s := ready[0].Status()
	rep.State, rep.From, rep.To = s.State, s.From, s.To
	return rep, nil
}

// preparation returns what prepares a change on a worker, and what gives the
// module back once it is prepared on all: versions that run keep their code.
func (e *Engine) preparation(f chains.Hop, hop int, c *Change) (prepare func(*wasm.Group) (*wasm.Replacement, error), free func(), err error) {
	config := f.Config
	if c.Config != nil {
		config = c.Config
	}
	mod, free := e.modules[f.Module], func() {}
	if c.Wasm != nil {
		if mod, err = e.rt.Compile(c.Wasm); err != nil {
			return nil, nil, err
		}
		free = mod.Close
	}
	if err := mod.Manifest.CheckConfig(config); err != nil {
		free()
		return nil, nil, err
	}
	if c.Wasm == nil {
		return func(g *wasm.Group) (*wasm.Replacement, error) { return g.Reconfigure(hop, config, c.ReplaceOptions) }, free, nil
	}
	return func(g *wasm.Group) (*wasm.Replacement, error) {
		return g.Prepare(hop, wasm.Hop{Module: mod, Config: config, Open: f.Fault == chains.FaultOpen}, c.ReplaceOptions)
	}, free, nil
}
