package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sfc/ctrl/plane"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/testbed/gate"
)

// A tenant's memory is that of its flow tables and frames, too: as much as they
// can come to. What does not fit is refused with the numbers, and leaves nothing.
func TestPlaneTenantMemory(t *testing.T) {
	gate.Leaks(t)
	const workers, flows = 1, 20_000
	r := openRig(t, PlaneOptions{Workers: workers, Probation: -1}, "firewall", "flowstat")
	tenant := plane.Tenant{Name: "acme", MemoryBytes: 64 << 20}
	apply := func(chains ...plane.Chain) plane.Observed {
		t.Helper()
		r.put(t)
		o, err := r.Apply(context.Background(), plane.Desired{Revision: 1, Ports: twoPorts, Tenants: []plane.Tenant{tenant}, Chains: chains})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	table := flow.TableBytes(flow.Options{Max: flows, Buckets: steer.Buckets})
	a := edit(chainOf("acme", "a", 5, guards...), set("flows", flows))
	if o := apply(a); reasons(o) != "acme/a:true: " {
		t.Fatalf("two functions and %d flows in 64 MiB: %+v", flows, o.Chains)
	}
	used := r.rt.TenantUsage("acme")
	if want := int64(workers * (table + packet.BurstSize*packet.ChunkSize)); used.HostBytes != want {
		t.Errorf("%d bytes of tables and frames, want %d", used.HostBytes, want)
	}
	if s, err := r.Stats(context.Background()); err != nil || len(s.Tenants) != 1 || s.Tenants[0].MemoryBytes != used.MemoryBytes() {
		t.Errorf("the tenant is said to have %+v of %d bytes, %v", s.Tenants, used.MemoryBytes(), err)
	}
	t.Logf("%.1f MiB, of them %.1f of tables and frames", float64(used.MemoryBytes())/(1<<20), float64(used.HostBytes)/(1<<20))
	kept := r.opts.Keep.Names()
	for what, c := range map[string]plane.Chain{
		"its table of 1000000 flows": edit(chainOf("acme", "b", 6, guards...), set("flows", 1_000_000)),
		"its frames":                 chainOf("acme", "b", 6, guards...),
	} {
		if what == "its frames" {
			tenant.MemoryBytes = used.MemoryBytes()
		}
		s := apply(a, c).Chains[1]
		if s.Active || s.Reason != reasonQuota || !strings.Contains(s.Message, what) || !strings.Contains(s.Message, "fewer flows") {
			t.Errorf("%s: %+v", what, s)
		}
		if now := r.rt.TenantUsage("acme"); now != used {
			t.Errorf("%s: %+v is used, before it was %+v", what, now, used)
		}
		if now := r.opts.Keep.Names(); !slices.Equal(now, kept) {
			t.Errorf("%s: %v is kept, before it was %v", what, now, kept)
		}
		tenant.MemoryBytes = 64 << 20
	}
	// The functions do not fit, the table did: that is given back as well.
	tenant.MemoryBytes = used.MemoryBytes() + int64(table)
	if s := apply(a, edit(chainOf("acme", "b", 6, guards...), set("flows", flows/2))).Chains[1]; s.Reason != reasonQuota || !strings.Contains(s.Message, "function fw") {
		t.Errorf("functions over the quota: %+v", s)
	}
	if now, names := r.rt.TenantUsage("acme"), r.opts.Keep.Names(); now != used || !slices.Equal(names, kept) {
		t.Errorf("they left %+v of %+v, %v of %v", now, used, names, kept)
	}
	apply()
	if u := r.rt.TenantUsage("acme"); u.MemoryBytes() != 0 {
		t.Errorf("without chains: %+v", u)
	}
}

// A tenant's match rules are bounded; what runs stays, and another tenant is not
// concerned.
func TestPlaneTenantRules(t *testing.T) {
	gate.Leaks(t)
	r := openRig(t, PlaneOptions{Workers: 1, Probation: -1}, "firewall", "flowstat")
	apply := func(rules int, chains ...plane.Chain) plane.Observed {
		t.Helper()
		r.put(t)
		o, err := r.Apply(context.Background(), plane.Desired{Revision: 1, Ports: twoPorts, Tenants: []plane.Tenant{{Name: "acme", Rules: rules}}, Chains: chains})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	a, b, c := chainOf("acme", "a", 5, guards...), chainOf("acme", "b", 6, guards...), chainOf("else", "c", 7, guards...)
	apply(0, a)
	each := r.chains["acme/a"].run.part.Rules()
	o := apply(2*each-1, b, a, c)
	if got := reasons(o); got != "acme/b:false:QuotaExceeded acme/a:true: else/c:true: " && got != "acme/a:true: acme/b:false:QuotaExceeded else/c:true: " {
		t.Errorf("a rule too many: %s", got)
	}
	for _, s := range o.Chains {
		if s.Name == "b" && !strings.Contains(s.Message, fmt.Sprintf("it needs %d match rules, and the tenant's other chains have %d: at most %d", each, each, 2*each-1)) {
			t.Error(s.Message)
		}
	}
	if got := reasons(apply(1, a)); got != "acme/a:true: " {
		t.Errorf("fewer than run: %s", got)
	}
	if o := apply(2*each, a, b); !o.Chains[0].Active || !o.Chains[1].Active {
		t.Errorf("as many as there may be: %s", reasons(o))
	}
}

// What runs goes on in the next process, also over a quota that was lowered.
func TestPlaneRestoredOverQuota(t *testing.T) {
	gate.Leaks(t)
	s, k := newShelf(t), &inMemory{t: t}
	open := func() *rig {
		t.Helper()
		d, err := OpenPlane(PlaneOptions{Kernel: k, Keep: s.store(), Workers: 1, Cores: []int{-1}})
		if err != nil {
			t.Fatal(err)
		}
		return &rig{d, k, codesOf(t, "firewall", "flowstat")}
	}
	a := chainOf("acme", "a", 5, guards...)
	r := open()
	r.apply(t, a)
	want := plane.Desired{Revision: 2, Ports: twoPorts, Tenants: []plane.Tenant{{Name: "acme", MemoryBytes: 1 << 20}}, Chains: []plane.Chain{a}}
	r.put(t)
	if o, err := r.Apply(context.Background(), want); err != nil || reasons(o) != "acme/a:true: " {
		t.Fatalf("a quota lowered: %+v, %v", o.Chains, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	k.kept = true
	r = open()
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	if len(r.chains) != 1 || r.chains["acme/a"].run == nil {
		t.Fatalf("restored over the quota: %v", r.chains)
	}
	r.put(t)
	want.Chains = append(want.Chains, chainOf("acme", "b", 6, guards...))
	if o, err := r.Apply(context.Background(), want); err != nil || reasons(o) != "acme/a:true: acme/b:false:QuotaExceeded " {
		t.Errorf("one more: %+v, %v", o.Chains, err)
	}
}
