package wasm

import (
	"sync"
	"time"
)

// attendant is the runtime's goroutine that has the janitors of groups go round
// which have something to tell of: log lines, a replacement that began. There is
// one for all, since hundreds of timers keep a machine busy that has nothing
// else to do.
type attendant struct {
	mu     sync.Mutex
	groups map[*Group]struct{}

	done chan struct{}
	wg   sync.WaitGroup
}

func (a *attendant) start(e *engine) {
	a.groups, a.done = map[*Group]struct{}{}, make(chan struct{})
	a.wg.Add(1)
	go a.run(e)
}

func (a *attendant) stop() {
	close(a.done)
	a.wg.Wait()
}

func (a *attendant) run(e *engine) {
	defer a.wg.Done()
	every := time.NewTicker(roundEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			if e.noted() {
				a.visit()
			}
		case <-a.done:
			return
		}
	}
}

// visit has those go round that are noted. A group is noted before the engine
// is: none is missed.
func (a *attendant) visit() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for g := range a.groups {
		if g.c.noted() {
			g.janitor.ask()
		}
	}
}

// attend looks after a group until neglect.
func (rt *Runtime) attend(g *Group) {
	rt.attendant.mu.Lock()
	defer rt.attendant.mu.Unlock()
	rt.attendant.groups[g] = struct{}{}
}

func (rt *Runtime) neglect(g *Group) {
	rt.attendant.mu.Lock()
	defer rt.attendant.mu.Unlock()
	delete(rt.attendant.groups, g)
}
