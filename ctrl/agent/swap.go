package agent

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sfc/chains"
	"sfc/nf"
	"sfc/nf/wasm"
)

// SwapOptions say what a function is replaced by.
type SwapOptions struct {
	// Module is the file of the new version; empty: the same module, with
	// another configuration.
	Module string
	// Config is its configuration, a JSON object; nil: the one in force.
	Config []byte
	// ResetState lets it begin with empty flow state, where the old one's does
	// not fit.
	ResetState bool
	// Probation is how long a fault puts the old version back. Default 5 s.
	Probation time.Duration
}

// SwapReport says how a function was replaced.
type SwapReport struct {
	// From and To are versions, State what became of flow state: none, kept,
	// migrated or reset.
	From, To, State string
	// Holds are how long each worker's packets waited.
	Holds []time.Duration
}

// swaps remembers the configurations of functions that were replaced.
type swaps struct {
	mu      sync.Mutex // one replacement at a time, none during Disconnect
	over    bool       // the engine was disconnected
	configs map[[2]int]swapped
	// last are the replacements of the last Swap; with several workers,
	// agree watches them until gone is closed.
	last     []*wasm.Replacement
	agreeing sync.WaitGroup
	gone     chan struct{}
}

// swapped is a function's configuration, and the one before, which is in force
// again when the new version went back.
type swapped struct{ now, before []byte }

// Swap replaces a function of a chain on all workers, while traffic runs: the
// new version is checked, compiled, instantiated and configured beside the old
// one, for every worker, before it is put in its place anywhere, which is
// between two bursts of each. A version that faults in its probation goes back
// by itself, and then on all workers; see wasm.FunctionStats. Anyone may call
// it once the engine has started.
func (e *Engine) Swap(chain, hop int, o SwapOptions) (*SwapReport, error) {
	e.swaps.mu.Lock()
	defer e.swaps.mu.Unlock()
	switch {
	case e.set == nil || e.swaps.over:
		return nil, ErrNotConnected
	case chain < 0 || chain >= len(e.plan.Chains):
		return nil, fmt.Errorf("chain %d: there are %d", chain, len(e.plan.Chains))
	case hop < 0 || hop >= len(e.plan.Chains[chain].Functions):
		return nil, fmt.Errorf("chain %s has %d functions, none is number %d", e.plan.Chains[chain].Title(), len(e.plan.Chains[chain].Functions), hop)
	}
	before := e.configOf(chain, hop)
	config := o.Config
	if config == nil {
		config = before
	}
	prepare, done, err := e.prepare(chain, hop, config, o)
	if err != nil {
		return nil, err
	}
	defer done()
	all, holds, err := rollOut(e.lineUp(chain), prepare)
	if err != nil {
		return nil, err
	}
	ready := all[0]
	rep := &SwapReport{Holds: holds}
	e.swaps.last = ready
	if len(ready) > 1 {
		e.swaps.agreeing.Add(1)
		line := e.lineUp(chain)
		go func() {
			defer e.swaps.agreeing.Done()
			agree(line, ready, e.swaps.gone)
		}()
	}
	s := ready[0].Status()
	rep.From, rep.To, rep.State = s.From, s.To, s.State
	if e.swaps.configs == nil {
		e.swaps.configs = map[[2]int]swapped{}
	}
	e.swaps.configs[[2]int{chain, hop}] = swapped{config, before}
	return rep, nil
}

// lineUp returns who runs a chain.
func (e *Engine) lineUp(chain int) []post {
	line := make([]post, len(e.workers))
	for i, w := range e.workers {
		line[i] = post{w.run, w.chains[chain].group}
	}
	return line
}

// prepare returns what makes the new version on one worker, and what to call
// when all have it.
func (e *Engine) prepare(chain, hop int, config []byte, o SwapOptions) (func(*wasm.Group) (*wasm.Replacement, error), func(), error) {
	f := &e.plan.Chains[chain].Functions[hop]
	opts := wasm.ReplaceOptions{ResetState: o.ResetState, Probation: o.Probation}
	if o.Module == "" {
		if o.Config == nil {
			return nil, nil, fmt.Errorf("function %s: nothing new: give a module, a configuration, or both", f.Name)
		}
		manifest := e.workers[0].chains[chain].group.Manifest(hop)
		if err := checkConfig(f.Name, manifest, config); err != nil {
			return nil, nil, err
		}
		return func(g *wasm.Group) (*wasm.Replacement, error) { return g.Reconfigure(hop, config, opts) }, func() {}, nil
	}
	m, err := chains.LoadModule(o.Module, e.opts.Limits)
	if err != nil {
		return nil, nil, fmt.Errorf("function %s: %w", f.Name, err)
	}
	if err := checkConfig(f.Name, m.Manifest, config); err != nil {
		return nil, nil, err
	}
	code, err := e.rt.Compile(m.Wasm)
	if err != nil {
		return nil, nil, fmt.Errorf("function %s: module %s: %w", f.Name, o.Module, err)
	}
	h := wasm.Hop{Name: f.Name, Module: code, Config: config, Open: f.Fault == chains.FaultOpen}
	return func(g *wasm.Group) (*wasm.Replacement, error) { return g.Prepare(hop, h, opts) }, code.Close, nil
}

func checkConfig(name string, m *nf.Manifest, config []byte) error {
	errs := nf.Refusals(m.CheckConfig(config))
	for i, err := range errs {
		errs[i] = fmt.Errorf("function %s: %w", name, err)
	}
	return errors.Join(errs...)
}

// configOf returns the configuration in force.
func (e *Engine) configOf(chain, hop int) []byte {
	s, was := e.swaps.configs[[2]int{chain, hop}]
	if !was {
		return e.plan.Chains[chain].Functions[hop].Config
	}
	back := slices.ContainsFunc(e.workers, func(w *worker) bool {
		r := w.chains[chain].group.Stats()[hop].Replacement
		return r != nil && r.Phase == wasm.RolledBack
	})
	if back {
		return s.before
	}
	return s.now
}
