package agent

import (
	"fmt"
	"strings"

	"sfc/dataplane/steer"
)

// Chain returns the index of a chain: its name, or tenant/name where several
// tenants have one of that name. Empty is the only chain.
func (e *Engine) Chain(name string) (int, error) {
	found := -1
	for i := range e.plan.Chains {
		c := &e.plan.Chains[i]
		if name != "" && name != c.Name && name != c.Title() {
			continue
		}
		if found >= 0 {
			if name == "" {
				return 0, fmt.Errorf("there are %d chains: name one of %s", len(e.plan.Chains), e.titles())
			}
			return 0, fmt.Errorf("several tenants have a chain %s: say tenant/%s", name, name)
		}
		found = i
	}
	if found < 0 {
		return 0, fmt.Errorf("no chain %q; there is %s", name, e.titles())
	}
	return found, nil
}

func (e *Engine) titles() string {
	var titles []string
	for i := range e.plan.Chains {
		titles = append(titles, e.plan.Chains[i].Title())
	}
	return strings.Join(titles, ", ")
}

// Function returns the index of a function of a chain.
func (e *Engine) Function(chain int, name string) (int, error) {
	c := &e.plan.Chains[chain]
	var names []string
	for i, f := range c.Functions {
		if f.Name == name {
			return i, nil
		}
		names = append(names, f.Name)
	}
	return 0, fmt.Errorf("chain %s has no function %q; it has %s", c.Title(), name, strings.Join(names, ", "))
}

// Owned returns how many buckets of a chain each worker has: none when the
// engine is not connected. Anyone may call it.
func (e *Engine) Owned(chain int) []int {
	n := make([]int, e.opts.Workers)
	e.tables.RLock()
	defer e.tables.RUnlock()
	if e.owners == nil {
		return n
	}
	for b := range steer.Buckets {
		n[e.owners.Owner(uint16(chain), uint16(b))]++
	}
	return n
}
