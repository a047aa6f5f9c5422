package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"sfc/ctrl/plane"
	"sfc/nf"
	"sfc/nf/wasm"
	"sfc/testbed/gate"
)

// codeOf is the compiled form of a module of the catalogue, compiled once.
func codeOf(t testing.TB, name string) *os.File {
	t.Helper()
	file := catalog + name + "/" + name + ".wasm"
	module, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a, err := wasm.Build(context.Background(), module, nf.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(t.TempDir(), "code")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(enc); err != nil {
		t.Fatal(err)
	}
	return f
}

// codesOf are codes by the name of their module.
func codesOf(t testing.TB, names ...string) map[string]*os.File {
	t.Helper()
	codes := map[string]*os.File{}
	for _, name := range names {
		codes[name] = codeOf(t, name)
	}
	return codes
}

// rig is a data plane of a test.
type rig struct {
	*Dataplane
	k     *inMemory // nil over links
	codes map[string]*os.File
}

// put puts codes again: an Apply that does not name them has them forgotten.
func (r *rig) put(t *testing.T) {
	t.Helper()
	for name, f := range r.codes {
		if err := r.PutCode(context.Background(), name, f); err != nil {
			t.Fatal(err)
		}
	}
}

func openRig(t *testing.T, o PlaneOptions, codes ...string) *rig {
	t.Helper()
	r := &rig{k: &inMemory{t: t}}
	o.Kernel, o.Cores = r.k, make([]int, max(o.Workers, 1))
	for i := range o.Cores {
		o.Cores[i] = -1
	}
	var err error
	if r.Dataplane, err = OpenPlane(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if o.Workers > 1 {
		r.k.owners = r.Dataplane.owners
	}
	r.codes = codesOf(t, codes...)
	return r
}

var twoPorts = []plane.Port{{Name: "in", Interface: "in"}, {Name: "out", Interface: "out"}}

// fn is a function of a chain.
type fn struct{ name, module, config string }

// chainOf is a desired chain that takes a VLAN's packets from port in to out.
func chainOf(tenant, name string, vlan int, functions ...fn) plane.Chain {
	c := plane.Chain{Tenant: tenant, Name: name, Generation: 1, Code: map[string]string{}}
	list := []map[string]any{}
	for _, f := range functions {
		if f.config == "" {
			f.config = "{}"
		}
		list = append(list, map[string]any{"name": f.name, "module": f.module, "config": json.RawMessage(f.config)})
		c.Code[f.module] = f.module
	}
	c.Spec, _ = json.Marshal(map[string]any{
		"apiVersion": "sfc/v1", "kind": "Chain", "metadata": map[string]any{"name": name, "tenant": tenant},
		"spec": map[string]any{
			"match": []map[string]any{{"port": "in", "vlan": vlan}}, "egress": "out", "return": "mirrored", "flows": 1024, "functions": list,
		},
	})
	return c
}

func (r *rig) apply(t *testing.T, chains ...plane.Chain) plane.Observed {
	t.Helper()
	r.put(t)
	o, err := r.Apply(context.Background(), plane.Desired{Revision: 1, Ports: twoPorts, Chains: chains})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// reasons are the reasons of all chains.
func reasons(o plane.Observed) string {
	s := ""
	for _, c := range o.Chains {
		s += fmt.Sprintf("%s/%s:%v:%s ", c.Tenant, c.Name, c.Active, c.Reason)
	}
	return s
}

var guards = []fn{{"fw", "firewall", `{"default":"permit"}`}, {"stat", "flowstat", ""}}

// tagged is a UDP packet of a flow in a VLAN.
func tagged(vlan, flow int) []byte {
	f := udp(flow, false)
	out := append(append([]byte{}, f[:12]...), 0x81, 0, byte(vlan>>8), byte(vlan))
	return append(out, f[12:]...)
}

func TestPlaneChainsComeAndGo(t *testing.T) {
	gate.Leaks(t)
	r := openRig(t, PlaneOptions{Workers: 2}, "firewall", "flowstat", "hop")
	if o := r.apply(t); len(o.Ports) != 2 || !o.Ports[0].Up || len(o.Chains) != 0 {
		t.Fatalf("%+v", o)
	}
	if r.k.offer(0, tagged(5, 1)) {
		t.Fatal("a frame was claimed by nobody")
	}
	a, b := chainOf("acme", "a", 5, guards...), chainOf("acme", "b", 6, fn{"hop", "hop", ""})
	start := time.Now()
	o := r.apply(t, a)
	t.Logf("first chain took %v", time.Since(start))
	if got := reasons(o); got != "acme/a:true: " {
		t.Fatalf("%s %+v", got, o)
	}
	send := func(vlan, n int) {
		t.Helper()
		for i := range n {
			if !r.k.offer(0, tagged(vlan, i)) {
				t.Fatalf("vlan %d: not claimed", vlan)
			}
		}
	}
	send(5, 200)
	start = time.Now()
	o = r.apply(t, a, b)
	t.Logf("second chain took %v", time.Since(start))
	send(6, 100)
	send(5, 200)
	wait := func(n uint64) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); r.k.links[1].sent.Load() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				s, err := r.Stats(context.Background())
				t.Fatalf("%d of %d came: %+v %v", r.k.links[1].sent.Load(), n, s, err)
			}
		}
	}
	wait(500)
	s, err := r.Stats(context.Background())
	if err != nil || len(s.Chains) != 2 || s.Chains[0].Packets != 400 || s.Chains[0].Flows != 200 || s.Chains[1].Packets != 100 || s.Chains[0].Functions[0].Packets != 400 {
		t.Fatalf("%+v %v", s, err)
	}
	flows, err := r.Flows(context.Background(), plane.FlowQuery{Chain: "a", Worker: -1, Limit: 1000})
	if err != nil || len(flows) != 200 || flows[0].Proto != "udp" {
		t.Fatalf("%d flows, %v: %+v", len(flows), err, flows[0])
	}
	o = r.apply(t, b)
	if got := reasons(o); got != "acme/b:true: " {
		t.Fatal(got)
	}
	if r.k.offer(0, tagged(5, 1)) {
		t.Error("a chain that is gone has packets")
	}
	send(6, 100)
	wait(600)
	if n := r.seats.chains[0]; n {
		t.Error("the place of a chain that is gone is taken")
	}
	r.apply(t)
}
