package wasm

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/nf"
)

// oneInstance is what an instance of a test function may have: stack and heap of
// a page at most, and the private part of its window.
const oneInstance = nf.ConfigStart + nf.ConfigMax - nf.PrivateStart + nf.PageBytes

// What a tenant uses is what its groups have, whatever becomes of them: spares,
// replacements, faults; and it is nothing when they are gone.
func TestTenantUsage(t *testing.T) {
	b := newBed(t, v1, 2, GroupOptions{Flows: 1000, Spares: 2})
	rt, g := b.f.rt, b.f.group
	expect := func(when string, instances int, slots int64) {
		t.Helper()
		want := TenantUsage{Groups: 1, Instances: instances, InstanceBytes: int64(instances) * oneInstance, SlotBytes: slots, ScrapBytes: 16 << 20}
		for range 200 { // of 10 ms: the janitor comes every 100
			if rt.TenantUsage("test") == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%s: %+v, want %+v", when, rt.TenantUsage("test"), want)
	}
	expect("at first", 6, 2*8192)
	b.send([]uint32{1}, markTrap)
	expect("a fault later", 6, 2*8192)
	r := b.prepare(v3, ReplaceOptions{})
	expect("a version prepared", 9, 2*8192+16384)
	r.Discard()
	expect("and discarded", 6, 2*8192)
	if u := rt.TenantUsage("another"); u != (TenantUsage{}) {
		t.Errorf("a tenant without groups has %+v", u)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if u := rt.TenantUsage("test"); u != (TenantUsage{}) || len(rt.tenants) != 0 {
		t.Errorf("closed: %+v, %d tenants", u, len(rt.tenants))
	}
}

// What would go over a tenant's quota is refused with the numbers, and leaves
// nothing; what is there goes on. Another tenant is not concerned.
func TestTenantMemoryQuota(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{Flows: 1000})
	rt := b.f.rt
	used := rt.TenantUsage("test")
	hop := Hop{Name: "fw", Module: b.module(v2), Config: config(1)}
	group := func(tenant string, flows int) error {
		g, err := rt.NewGroup(b.f.mem, []Hop{hop}, GroupOptions{Tenant: tenant, Flows: flows})
		if err != nil {
			return err
		}
		return g.Close()
	}
	limit := func(tenant string, bytes int64) {
		t.Helper()
		if err := rt.SetTenant(tenant, TenantLimits{MemoryBytes: bytes}); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, err error, text string) {
		t.Helper()
		if !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", what, err, text)
		}
		if now := rt.TenantUsage("test"); now != used {
			t.Errorf("%s: %+v is used, before it was %+v", what, now, used)
		}
	}
	limit("test", used.MemoryBytes()+oneInstance+8192)
	refused("a second instance", group("test", 1000), fmt.Sprintf("%.2f MiB", float64(used.MemoryBytes()+oneInstance+8192)/(1<<20)))
	refused("flow state", group("test", 1_000_000), "flow state of function fw takes 7.63 MiB")
	_, err := b.f.group.Prepare(0, Hop{Module: b.module(v3), Config: config(1)}, ReplaceOptions{})
	refused("a replacement", err, "test has ")
	limit("test", 1)
	b.expect("over the quota", 1, map[uint32]uint64{1: 1})
	limit("test", used.MemoryBytes()+2*oneInstance+8192)
	if err := group("test", 1000); err != nil {
		t.Errorf("what fits: %v", err)
	}
	if err := group("another", 1_000_000); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	limit("small", 1<<20)
	if err := group("small", 10); !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), "16.00 MiB more") {
		t.Errorf("scrap over the quota: %v", err)
	}
	limit("small", 0)
	if len(rt.tenants) != 1 {
		t.Errorf("%d tenants are known", len(rt.tenants))
	}
	for _, l := range []TenantLimits{{MemoryBytes: -1}, {LogLines: -1}, {LogLines: 1 << 30}} {
		if rt.SetTenant("x", l) == nil {
			t.Errorf("%+v was set", l)
		}
	}
}

// Memory that the host keeps for a tenant counts like that of its functions.
func TestClaimMemory(t *testing.T) {
	rt := openRuntime(t)
	if err := rt.SetTenant("t", TenantLimits{MemoryBytes: 3 << 20}); err != nil {
		t.Fatal(err)
	}
	release, err := rt.ClaimMemory("t", "a table", 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.ClaimMemory("t", "another table", 1<<20+1); !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), "has 2.00 MiB of 3.00 MiB, and another table takes 1.00 MiB more") {
		t.Errorf("a byte too much: %v", err)
	}
	if err := rt.SetTenant("t", TenantLimits{}); err != nil {
		t.Fatal(err)
	}
	if u := rt.TenantUsage("t"); u != (TenantUsage{HostBytes: 2 << 20}) || u.MemoryBytes() != 2<<20 {
		t.Errorf("without limits: %+v", u)
	}
	release()
	if u := rt.TenantUsage("t"); u != (TenantUsage{}) || len(rt.tenants) != 0 {
		t.Errorf("given back: %+v, %d tenants", u, len(rt.tenants))
	}
}

// A module that grows while it is configured is counted as large as it is then,
// and refused when that is too much.
func TestTenantGrowth(t *testing.T) {
	rt := openRuntime(t)
	m, err := rt.Compile(assemble(t, "grows", []byte(`(module
  (@custom "sfc.manifest" "{\"name\":\"grows\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4200)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param i32 i32) (result i32) (drop (memory.grow (i32.const 100))) (i32.const 0))
  (func (export "sfc_process") (param i32)))`)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	mem := newMemory(t, packet.BurstSize)
	hops := []Hop{{Name: "grows", Module: m, Config: []byte("{}")}}
	g, err := rt.NewGroup(mem, hops, GroupOptions{Tenant: "t"})
	if err != nil {
		t.Fatal(err)
	}
	u := rt.TenantUsage("t")
	if u.InstanceBytes != 2*(oneInstance+100*nf.PageBytes) {
		t.Errorf("two instances that have grown: %+v", u)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := rt.SetTenant("t", TenantLimits{MemoryBytes: u.MemoryBytes() - 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.NewGroup(mem, hops, GroupOptions{Tenant: "t"}); !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), "the memory of function grows") {
		t.Errorf("over the quota by a byte: %v", err)
	}
	if now := rt.TenantUsage("t"); now != (TenantUsage{}) {
		t.Errorf("a group that was refused left %+v", now)
	}
}

// The functions of a tenant share its log lines, across groups; those of another
// tenant have their own.
func TestTenantLogLines(t *testing.T) {
	const lines = 7
	rt := openRuntime(t)
	if err := rt.SetTenant("test", TenantLimits{LogLines: lines}); err != nil {
		t.Fatal(err)
	}
	var rec recorder
	for range 3 {
		f := newFixture(t, fixtureOptions{runtime: rt, group: GroupOptions{Events: rec.add}}, "logs_without_end")
		f.fill(1, 60)
		f.group.Process(&f.burst)
		defer f.group.Close()
	}
	time.Sleep(300 * time.Millisecond) // for the janitors
	got := len(rec.of(EventLog))
	if got < lines || got > lines+3 { // some more have become due meanwhile
		t.Errorf("%d lines of three functions, want %d", got, lines)
	}
	if u := rt.TenantUsage("test"); u.LogSuppressed == 0 {
		t.Error("no line was over the limit")
	}
}
