package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sfc/ctrl/store"
)

// modules has the modules compiled that chains need, and ahead of time those
// that they may need next. It belongs to the loop; only compile runs elsewhere.
type modules struct {
	compiler    Compiler
	open        func(ctx context.Context, tenant, digest string) (io.Reader, error)
	first, most time.Duration
	room        int // how many more may be compiled at once

	all    map[string]*module
	urgent []string // to be compiled, in this order
	ahead  []string
	built  chan built
}

// module is one on its way.
type module struct {
	tenant   string // who has it
	state    moduleState
	file     *os.File // while held
	err      error    // of the last attempt
	attempts int
	until    time.Time // not before this is it tried again
	urgent   bool
}

type moduleState uint8

const (
	moduleKnown   moduleState = iota // nothing was done about it
	moduleQueued                     // waits to be compiled, or is
	moduleFailed                     // waits to be tried again
	moduleBuilt                      // is compiled, and the compiler has it
	moduleHeld                       // is here, for the data plane
	modulePresent                    // is in the data plane
)

// built is what came of compiling.
type built struct {
	digest string
	file   *os.File
	err    error
}

func newModules(o *Options, open func(ctx context.Context, tenant, digest string) (io.Reader, error)) *modules {
	return &modules{
		compiler: o.Compiler, open: open, first: o.Retry, most: o.RetryMax, room: o.Compiles,
		all: map[string]*module{}, built: make(chan built, o.Compiles),
	}
}

// want asks for a module: urgently for a chain, or ahead of time.
func (m *modules) want(digest, tenant string, urgent bool, now time.Time) {
	mod := m.all[digest]
	if mod == nil {
		mod = &module{}
		m.all[digest] = mod
	}
	mod.tenant = tenant
	raise := urgent && !mod.urgent
	mod.urgent = mod.urgent || urgent
	switch mod.state {
	case moduleBuilt:
		if !urgent {
			return
		}
	case moduleFailed:
		if now.Before(mod.until) {
			return
		}
	case moduleQueued:
		if raise {
			m.urgent = append(m.urgent, digest)
		}
		return
	case moduleHeld, modulePresent:
		return
	}
	mod.state = moduleQueued
	if mod.urgent {
		m.urgent = append(m.urgent, digest)
	} else {
		m.ahead = append(m.ahead, digest)
	}
}

// start compiles as many as there is room for.
func (m *modules) start(ctx context.Context) {
	for m.room > 0 && len(m.urgent)+len(m.ahead) > 0 {
		from := &m.urgent
		if len(m.urgent) == 0 {
			from = &m.ahead
		}
		digest := (*from)[0]
		*from = (*from)[1:]
		mod := m.all[digest]
		if mod == nil || mod.state != moduleQueued || mod.until.Equal(running) {
			continue // it stood in both
		}
		mod.until = running
		m.room--
		tenant := mod.tenant
		go func() {
			file, err := m.compiler.Artifact(ctx, digest, func(ctx context.Context) (io.Reader, error) { return m.open(ctx, tenant, digest) })
			m.built <- built{digest, file, err}
		}()
	}
}

// running is the time until of a module that is being compiled.
var running = time.Unix(1, 0)

// done takes in what came of compiling.
func (m *modules) done(b built, now time.Time) {
	m.room++
	mod := m.all[b.digest]
	if b.err == nil && b.file == nil {
		b.err = errors.New("the compiler gave nothing")
	}
	mod.err, mod.until = b.err, time.Time{}
	if b.err != nil {
		mod.attempts++
		mod.state = moduleFailed
		mod.until = now.Add(backoff(m.first, m.most, mod.attempts))
		return
	}
	if mod.urgent {
		mod.state, mod.file = moduleHeld, b.file
		return
	}
	mod.state = moduleBuilt
	_ = b.file.Close()
}

// states says how far all modules are.
func (m *modules) states() map[string]codeState {
	all := make(map[string]codeState, len(m.all))
	for digest, mod := range m.all {
		s := codeState{ready: mod.state >= moduleHeld}
		if mod.state == moduleFailed || mod.state == moduleQueued && mod.err != nil {
			s.message = mod.err.Error()
		}
		all[digest] = s
	}
	return all
}

// present makes the modules that the data plane has be those.
func (m *modules) present(has map[string]bool) {
	for digest, mod := range m.all {
		if mod.state == modulePresent && !has[digest] {
			mod.state = moduleBuilt
		}
	}
	for digest := range has {
		mod := m.all[digest]
		if mod == nil {
			mod = &module{}
			m.all[digest] = mod
		}
		if mod.state < moduleHeld && mod.state != moduleQueued {
			mod.state = modulePresent
		}
	}
}

// put hands over those that are held and named. ok is false when one was refused:
// it is not ready after all.
func (m *modules) put(named map[string]bool, put func(digest string, file *os.File) error, now time.Time) (any, ok bool) {
	ok = true
	for digest := range named {
		mod := m.all[digest]
		if mod == nil || mod.state != moduleHeld {
			continue
		}
		if err := put(digest, mod.file); err != nil {
			m.release(mod, moduleFailed)
			mod.err = fmt.Errorf("hand it over: %w", err)
			mod.attempts++
			mod.until = now.Add(backoff(m.first, m.most, mod.attempts))
			ok = false
			continue
		}
		mod.err, mod.attempts = nil, 0
		m.release(mod, modulePresent)
		any = true
	}
	return any, ok
}

// settle lets go of what is held for nobody any more, and forgets modules that
// nobody has.
func (m *modules) settle(used, stored map[string]bool) {
	for digest, mod := range m.all {
		if mod.state == moduleHeld && !used[digest] {
			m.release(mod, moduleBuilt)
		}
		if mod.state != moduleQueued && mod.state != moduleHeld && !used[digest] {
			mod.urgent = false
			if !stored[digest] {
				delete(m.all, digest)
			}
		}
	}
}

func (m *modules) release(mod *module, state moduleState) {
	_ = mod.file.Close()
	mod.file, mod.state = nil, state
}

// due is when the next that failed is to be tried again, zero for never.
func (m *modules) due() (at time.Time) {
	for _, mod := range m.all {
		if mod.state == moduleFailed && (at.IsZero() || mod.until.Before(at)) {
			at = mod.until
		}
	}
	return at
}

// close waits for what is being compiled, whose context has ended, and lets go of
// everything.
func (m *modules) close(room int) {
	for m.room < room {
		b := <-m.built
		m.room++
		if b.file != nil {
			_ = b.file.Close()
		}
	}
	for _, mod := range m.all {
		if mod.file != nil {
			_ = mod.file.Close()
		}
	}
}

// opener opens modules out of tenants' spaces.
func opener(space func(tenant string) *store.Space) func(ctx context.Context, tenant, digest string) (io.Reader, error) {
	return func(ctx context.Context, tenant, digest string) (io.Reader, error) {
		sp := space(tenant)
		if sp == nil {
			return nil, fmt.Errorf("module sha256:%s: %w", digest, store.ErrNotFound)
		}
		m, err := sp.Modules(ctx)
		if err != nil {
			return nil, err
		}
		r, _, err := m.Open(ctx, digest)
		return r, err
	}
}

// known says that a module was compiled once, so that nobody needs to do it ahead
// of time.
func (m *modules) known(digest, tenant string) {
	if m.all[digest] == nil {
		m.all[digest] = &module{tenant: tenant, state: moduleBuilt}
	}
}

// forget notes that the data plane has forgotten all modules but those named in
// what was applied.
func (m *modules) forget(named map[string]bool) {
	for digest, mod := range m.all {
		if mod.state == modulePresent && !named[digest] {
			mod.state = moduleBuilt
		}
	}
}

// missing notes that the data plane does not have a module after all.
func (m *modules) missing(digest string) {
	if mod := m.all[digest]; mod != nil && mod.state == modulePresent {
		mod.state = moduleBuilt
	}
}
