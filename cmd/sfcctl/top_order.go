package main

import (
	"cmp"
	"slices"

	"sfc/ctrl/api"
)

// pair is a chain in two accounts. before is never nil.
type pair struct{ now, before *api.ChainStats }

// rows is how many rows the chain's functions take.
func (p *pair) rows() int {
	n := len(p.now.Functions)
	for i := range p.now.Functions {
		if p.now.Functions[i].Canary != nil {
			n++
		}
	}
	return n
}

// pairs finds every chain of an account in the one before.
func pairs(now, before *api.Stats) []pair {
	type key struct{ tenant, name string }
	old := make(map[key]*api.ChainStats, len(before.Chains))
	for i := range before.Chains {
		b := &before.Chains[i]
		old[key{b.Tenant, b.Name}] = b
	}
	list := make([]pair, 0, len(now.Chains))
	for i := range now.Chains {
		n := &now.Chains[i]
		b := old[key{n.Tenant, n.Name}]
		if b == nil {
			b = &api.ChainStats{}
		}
		list = append(list, pair{n, b})
	}
	return list
}

// topOrders are what chains can be sorted by.
var topOrders = []string{"packets", "bytes", "drops", "flows", "latency", "name"}

// topLess returns how to compare chains, the first to be shown first; nil for a
// name that is none of topOrders.
func topLess(order string) func(a, b pair) int {
	by := func(of func(pair) uint64) func(a, b pair) int {
		return func(a, b pair) int { return cmp.Compare(of(b), of(a)) }
	}
	switch order {
	case "packets":
		return by(func(p pair) uint64 { return since(p.now.Packets, p.before.Packets) })
	case "bytes":
		return by(func(p pair) uint64 { return since(p.now.Bytes, p.before.Bytes) })
	case "drops":
		return by(func(p pair) uint64 { return since(total(p.now.Drops), total(p.before.Drops)) })
	case "flows":
		return by(func(p pair) uint64 { return uint64(p.now.Flows) })
	case "latency":
		return by(func(p pair) uint64 { return p.now.Latency.P99 })
	case "name":
		return func(pair, pair) int { return 0 }
	}
	return nil
}

// since is by how much a counter grew; one that was set back began anew.
func since(now, before uint64) uint64 { return now - min(before, now) }

func total(m map[string]uint64) (n uint64) {
	for _, k := range m {
		n += k
	}
	return n
}

// sortPairs sorts chains by an order, and by name where it is the same.
func sortPairs(list []pair, order string) {
	less := topLess(order)
	slices.SortFunc(list, func(a, b pair) int {
		return cmp.Or(less(a, b), cmp.Compare(a.now.Tenant, b.now.Tenant), cmp.Compare(a.now.Name, b.now.Name))
	})
}

// tenantPair is a tenant in two accounts.
type tenantPair struct{ now, before api.TenantStats }

// busiest returns the tenants, those first that took most time.
func busiest(now, before *api.Stats) []tenantPair {
	old := make(map[string]api.TenantStats, len(before.Tenants))
	for _, b := range before.Tenants {
		old[b.Name] = b
	}
	list := make([]tenantPair, 0, len(now.Tenants))
	for _, n := range now.Tenants {
		list = append(list, tenantPair{n, old[n.Name]})
	}
	slices.SortFunc(list, func(a, b tenantPair) int {
		return cmp.Or(cmp.Compare(since(b.now.BusyNs, b.before.BusyNs), since(a.now.BusyNs, a.before.BusyNs)), cmp.Compare(a.now.Name, b.now.Name))
	})
	return list
}
