package control

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/kernelipc"
)

// lookEvery is how often the supervisor is asked how the processes are.
const lookEvery = time.Second

// children watches over the daemon's processes, to tell of one that dies again
// and again.
type children struct {
	ask func(context.Context) (kernelipc.Status, error)
	log *slog.Logger

	mu     sync.Mutex
	alarms map[string]kernelipc.ChildStatus // by role
}

// watch looks until ctx ends, and tells of each alarm that begins and ends.
func (c *children) watch(ctx context.Context, tell func(api.Event)) {
	if c.ask == nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, 5*lookEvery)
		s, err := c.ask(within)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// The next supervisor answers again.
			c.log.Debug("the supervisor does not answer", "err", err)
		default:
			c.see(s, tell)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// see takes in how the processes are.
func (c *children) see(s kernelipc.Status, tell func(api.Event)) {
	c.mu.Lock()
	before := c.alarms
	c.alarms = map[string]kernelipc.ChildStatus{}
	for _, child := range s.Children {
		if child.Alarm {
			c.alarms[child.Role] = child
		}
	}
	now := c.alarms
	c.mu.Unlock()
	for role, child := range now {
		if _, was := before[role]; !was {
			tell(api.Event{Kind: "control", Level: "error", Reason: "CrashLoop", Text: inWords(&child)})
		}
	}
	for role := range before {
		if _, is := now[role]; !is {
			tell(api.Event{Kind: "control", Level: "info", Reason: "CrashLoopOver", Text: "the process " + role + " has lived long enough"})
		}
	}
}

// problems says which processes die again and again.
func (c *children) problems() (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, role := range []string{kernelipc.RoleDataplane, kernelipc.RoleControl} {
		if child, alarmed := c.alarms[role]; alarmed {
			list = append(list, inWords(&child))
		}
	}
	return list
}

func inWords(c *kernelipc.ChildStatus) string {
	return fmt.Sprintf("the process %s dies again and again, %d times so far: %s", c.Role, c.Restarts, c.LastExit)
}
