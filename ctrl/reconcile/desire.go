package reconcile

import (
	"cmp"
	"slices"

	"sfc/ctrl/api"
	"sfc/ctrl/functions"
	"sfc/ctrl/plane"
)

// snapshot is all that decides what the data plane should be. desire changes
// nothing in it.
type snapshot struct {
	ports   []plane.Port // those whose interface is known, by name
	tenants []tenantView // by name
	// codes says how far each module is, by digest; missing: not asked for yet.
	codes map[string]codeState
}

// tenantView is a tenant in a snapshot.
type tenantView struct {
	tenant *api.Tenant
	index  *functions.Index
	// ports is what chains may name, and why not: "" when they may.
	ports map[string]string
	// everywhere is why a chain may not claim packets of all ports, "" when it
	// may.
	everywhere string
	chains     []*chain // by creation, then name
}

// codeState is how far a module is on its way to the data plane.
type codeState struct {
	ready   bool
	message string // why it does not get there; empty while it is on its way
}

// decision is what desire makes of a snapshot.
type decision struct {
	desired  plane.Desired // without a revision
	verdicts map[*chain]verdict
	// needed are digests of modules that chains wait for, with a tenant that has
	// them.
	needed map[string]string
}

// verdict is what becomes of a chain.
type verdict struct {
	// want is what its spec asks for, nil when that cannot be said.
	want *wanted
	// sent is what goes to the data plane: want, what ran last, or (nil) nothing.
	sent *wanted
	// names are those of want's modules now: an alias may move from one version
	// to another with the same module.
	names names
	// resolved and compiled say why sent is not want, where that is so.
	resolved, compiled, held problem
}

// problem is why something is not as desired. Its zero value: it is.
type problem struct{ reason, message string }

// Reasons that are found here. The data plane has more, which are passed on.
const (
	reasonReference    = "InvalidReference"
	reasonFunction     = "FunctionNotFound"
	reasonSignature    = "SignatureRequired"
	reasonPort         = "PortNotFound"
	reasonPortDenied   = "PortForbidden"
	reasonQuota        = "QuotaExceeded"
	reasonCompiling    = "Compiling"
	reasonCompile      = "CompileFailed"
	reasonSpec         = "InvalidSpec"
	reasonDown         = "DataPlaneUnavailable"
	reasonPending      = "Pending"
	reasonSpace        = "StoreDamaged"
	reasonCapacity     = "CapacityExceeded"
	reasonNoCapacity   = "NoCapacity"
	reasonCodeMissing  = "CodeMissing"
	reasonNotReported  = "NotReported"
	reasonOtherVersion = "OtherVersionRuns"
)

// desire decides what the data plane should be. It is a pure function: it looks
// at nothing but the snapshot.
func desire(s *snapshot) decision {
	d := decision{verdicts: map[*chain]verdict{}, needed: map[string]string{}}
	d.desired.Ports = s.ports
	for i := range s.tenants {
		t := &s.tenants[i]
		d.desired.Tenants = append(d.desired.Tenants, planeTenant(t.tenant))
		for _, c := range t.chains {
			v := d.judge(s, t, c)
			if v.sent != nil {
				// What ran last is needed again by a data plane that lost it.
				d.codes(s, t, v.sent)
			}
			d.verdicts[c] = v
		}
		d.quotas(t)
		for _, c := range t.chains {
			if v := d.verdicts[c]; v.sent != nil {
				d.desired.Chains = append(d.desired.Chains, v.sent.chain)
			}
		}
	}
	return d
}

// rulesPerChain is how many match rules a tenant may have for each chain that it
// may have: a data plane has room for 4,096 and 1,024 chains.
const rulesPerChain, mostChains = 4, 1024

func planeTenant(t *api.Tenant) plane.Tenant {
	return plane.Tenant{
		Name: t.Metadata.Name, Share: int(t.Spec.Share), MemoryBytes: int64(t.Spec.Memory),
		Flows: int(t.Spec.Flows), LogLines: int(cmp.Or(t.Spec.LogLines, api.DefaultTenantLogLines)),
		Rules: rulesPerChain * int(min(max(t.Spec.Chains, api.DefaultTenantChains), mostChains)),
	}
}

// judge decides over a chain, quotas aside.
func (d *decision) judge(s *snapshot, t *tenantView, c *chain) verdict {
	v := verdict{sent: c.good}
	if c.gone { // its spec cannot be read, and what ran last goes on
		v.resolved = problem{reasonSpace, "the tenant's chains cannot be read from the store"}
		return v
	}
	if v.resolved = c.invalid; v.resolved.reason != "" {
		return v
	}
	for _, name := range c.ports {
		why, known := t.ports[name]
		if !known {
			v.resolved = problem{reasonPort, "no port " + name + " is attached: attach it or name another"}
			return v
		} else if why != "" {
			v.resolved = problem{reasonPortDenied, why}
			return v
		}
	}
	if c.everywhere && t.everywhere != "" {
		v.resolved = problem{reasonPortDenied, t.everywhere}
		return v
	}
	if v.want, v.resolved = resolveChain(t, c); v.want == nil {
		return v
	}
	v.names = v.want.names
	if c.good != nil && c.good.key == v.want.key {
		v.want = c.good // the same, and the data plane has it
	}
	v.compiled = d.codes(s, t, v.want)
	switch {
	case v.want == c.good: // it stays what is sent, whatever the data plane says of it
	case c.failed.key == v.want.key && c.failed.held:
		v.held = c.failed.problem
	case v.compiled.reason == "":
		v.sent = v.want
	}
	return v
}

// codes says whether all modules of a chain are compiled, and asks for those that
// are not.
func (d *decision) codes(s *snapshot, t *tenantView, w *wanted) (p problem) {
	for _, digest := range w.digests() {
		state := s.codes[digest]
		if state.ready {
			continue
		}
		d.needed[digest] = t.tenant.Metadata.Name
		if state.message != "" {
			p = problem{reasonCompile, "module sha256:" + digest + ": " + state.message}
		} else if p.reason == "" {
			p = problem{reasonCompiling, "module sha256:" + digest + " is being compiled"}
		}
	}
	return p
}

// quotas takes back what would exceed the tenant's chains, flows or memory. What
// runs stays; changes and new chains come in the order of creation.
func (d *decision) quotas(t *tenantView) {
	limits := []struct {
		limit int64
		what  string
		cost  func(*wanted) int64
	}{
		{int64(cmp.Or(t.tenant.Spec.Chains, api.DefaultTenantChains)), quotaChains, func(*wanted) int64 { return 1 }},
		{int64(t.tenant.Spec.Flows), "flows", func(w *wanted) int64 { return w.flows }},
		{int64(t.tenant.Spec.Memory), "bytes of memory for the state of flows", func(w *wanted) int64 { return w.memory }},
	}
	for _, l := range limits {
		if l.limit == 0 {
			continue
		}
		cost := func(w *wanted) int64 {
			if w == nil {
				return 0
			}
			return l.cost(w)
		}
		var used int64
		for _, c := range t.chains {
			used += min(cost(c.good), cost(d.verdicts[c].sent))
		}
		for _, c := range t.chains {
			v := d.verdicts[c]
			add := cost(v.sent) - cost(c.good)
			if add <= 0 {
				continue
			}
			if used+add <= l.limit {
				used += add
				continue
			}
			v.held = problem{reasonQuota, quotaText(t.tenant.Metadata.Name, l.what, cost(v.sent), used+cost(c.good), l.limit)}
			if v.sent = c.good; c.good != nil && cost(c.good) > 0 {
				v.held.message += "; what ran before goes on"
			}
			d.verdicts[c] = v
		}
	}
}

// sortChains puts chains in the order in which they came.
func sortChains(cs []*chain) {
	slices.SortFunc(cs, func(a, b *chain) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.name, b.name))
	})
}
