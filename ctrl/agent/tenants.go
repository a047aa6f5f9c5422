package agent

import (
	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/nf/wasm"
)

// liveTenant is what a tenant may use, and its shares of the workers' time.
type liveTenant struct {
	want   plane.Tenant
	shares []*dataplane.Share // by worker
}

// setTenants brings the tenants to what is desired. One that is not desired any
// more is without guarantees and limits, and forgotten when it has no chains.
func (d *Dataplane) setTenants(want []plane.Tenant) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	named := map[string]bool{}
	for _, w := range want {
		named[w.Name] = true
		t, err := d.tenant(w.Name)
		if err != nil {
			return err
		}
		if err := d.limit(t, w); err != nil {
			return err
		}
	}
	used := map[string]bool{}
	for _, c := range d.chains {
		used[c.want.Tenant] = true
	}
	for name, t := range d.tenants {
		if named[name] {
			continue
		}
		if err := d.limit(t, plane.Tenant{Name: name}); err != nil {
			return err
		}
		if !used[name] {
			delete(d.tenants, name)
		}
	}
	return nil
}

// limit sets what a tenant is guaranteed and bound to.
func (d *Dataplane) limit(t *liveTenant, w plane.Tenant) error {
	t.want = w
	for _, s := range t.shares {
		if err := s.Guarantee(w.Share); err != nil {
			return err
		}
	}
	return d.rt.SetTenant(w.Name, wasm.TenantLimits{MemoryBytes: w.MemoryBytes, LogLines: w.LogLines})
}

// tenant returns a tenant, which begins without guarantees and limits. The
// caller holds mu.
func (d *Dataplane) tenant(name string) (*liveTenant, error) {
	if t := d.tenants[name]; t != nil {
		return t, nil
	}
	t := &liveTenant{want: plane.Tenant{Name: name}}
	for range d.workers {
		s, err := dataplane.NewShare(0)
		if err != nil {
			return nil, err
		}
		t.shares = append(t.shares, s)
	}
	d.tenants[name] = t
	return t, nil
}
