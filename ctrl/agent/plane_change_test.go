package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/plane"
	"sfc/testbed/gate"
)

// edit changes the spec of a chain.
func edit(c plane.Chain, change func(spec map[string]any)) plane.Chain {
	var doc map[string]any
	if err := json.Unmarshal(c.Spec, &doc); err != nil {
		panic(err)
	}
	change(doc["spec"].(map[string]any))
	c.Spec, _ = json.Marshal(doc)
	c.Generation++
	return c
}

func set(field string, v any) func(map[string]any) {
	return func(spec map[string]any) { spec[field] = v }
}

// How a chain comes to be what is desired, and what becomes of its flows.
func TestPlaneWaysToChange(t *testing.T) {
	gate.Leaks(t)
	r := openRig(t, PlaneOptions{Workers: 2, Probation: -1}, "firewall", "flowstat", "hop")
	c := chainOf("acme", "a", 5, guards...)
	r.apply(t, c)
	at := func() *running { return r.chains["acme/a"].run }
	first, group := at(), at().posts[0].group
	if first == nil {
		t.Fatal("it does not run")
	}
	for i := range 20 {
		r.k.offer(0, tagged(5, i))
	}
	flows := func() int {
		t.Helper()
		s, err := r.Stats(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s.Chains[0].Flows
	}
	for end := time.Now().Add(5 * time.Second); flows() != 20 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	for _, step := range []struct {
		name   string
		change func(map[string]any)
		kind   kind
	}{
		{"other packets", set("match", []map[string]any{{"port": "in", "vlan": 6}}), reroute},
		{"another priority", set("priority", 3), reroute},
		{"another way out", set("egress", "in"), reroute},
		{"back again", set("egress", "out"), reroute},
		{"another configuration", func(s map[string]any) {
			s["functions"].([]any)[0].(map[string]any)["config"] = map[string]any{"default": "deny"}
		}, version},
		{"fewer flows", set("flows", 512), rebuild},
		{"another fault policy", func(s map[string]any) { s["functions"].([]any)[1].(map[string]any)["fault"] = "open" }, rebuild},
		{"one function less", func(s map[string]any) { s["functions"] = s["functions"].([]any)[:1] }, rebuild},
	} {
		c = edit(c, step.change)
		if step.name == "another way out" { // what comes in goes out there again
			c = edit(c, func(s map[string]any) { delete(s, "return") })
		}
		before := at()
		o := r.apply(t, c)
		if s := o.Chains[0]; !s.Active || s.Reason != "" || s.Generation != c.Generation {
			t.Fatalf("%s: %+v", step.name, s)
		}
		kept := at() == before
		if want := step.kind != rebuild; step.name != "another way out" && kept != want {
			t.Errorf("%s: kept what ran: %v, want %v", step.name, kept, want)
		}
		if kept && at().posts[0].group != before.posts[0].group {
			t.Errorf("%s: other functions", step.name)
		}
		r.takeNotice()
	}
	if at() == first || group == at().posts[0].group {
		t.Error("it is what it was in the beginning")
	}
	s, err := r.Stats(context.Background())
	if err != nil || s.Chains[0].Packets != 20 || s.Chains[0].FlowsCreated != 20 {
		t.Errorf("counters of what ran before are gone: %+v, %v", s.Chains[0], err)
	}
	if n := countTaken(r.seats.chains); n != 1 {
		t.Errorf("%d places are taken", n)
	}
}

func countTaken(list []bool) (n int) {
	for _, taken := range list {
		if taken {
			n++
		}
	}
	return n
}

// A chain that cannot change stays as it is, and so do all others.
func TestPlaneRefusals(t *testing.T) {
	gate.Leaks(t)
	r := openRig(t, PlaneOptions{Chains: 4, Paths: 8, Probation: -1}, "firewall", "flowstat", "nat44")
	a, b := chainOf("acme", "a", 5, guards...), chainOf("else", "b", 6, guards...)
	tenants := []plane.Tenant{{Name: "acme", Flows: 2500}}
	apply := func(chains ...plane.Chain) plane.Observed {
		t.Helper()
		r.put(t)
		o, err := r.Apply(context.Background(), plane.Desired{Revision: 1, Ports: twoPorts, Tenants: tenants, Chains: chains})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	apply(a, b)
	run := r.chains["acme/a"].run
	for reason, c := range map[string]plane.Chain{
		reasonSpec:     edit(a, set("egress", "nowhere")),
		reasonConflict: edit(a, set("match", []map[string]any{{"port": "in", "vlan": 6}})),
		reasonQuota:    edit(a, set("flows", 2501)),
		reasonCode:     edit(a, func(s map[string]any) { s["functions"].([]any)[0].(map[string]any)["module"] = "other" }),
		reasonFunction: func() plane.Chain {
			c := edit(a, set("functions", []map[string]any{{"name": "nat", "module": "nat44", "config": map[string]any{"inside": []string{"10.0.0.0/8"}, "pool": []string{"10.0.0.1"}}}}))
			c.Code = map[string]string{"nat44": "nat44"}
			return c
		}(),
	} {
		o := apply(c, b)
		s := o.Chains[0]
		if s.Reason != reason || s.Message == "" || !s.Active || s.Generation != a.Generation || len(s.Functions) != 2 {
			t.Errorf("%s: %+v", reason, s)
		}
		if reason == reasonConflict && strings.Contains(s.Message, "else") {
			t.Errorf("another tenant's name is told: %s", s.Message)
		}
		if o.Chains[1].Reason != "" || !o.Chains[1].Active || r.chains["acme/a"].run != run {
			t.Errorf("%s: the others are %+v", reason, o.Chains[1])
		}
		if !r.k.offer(0, tagged(5, 1)) || !r.k.offer(0, tagged(6, 1)) {
			t.Errorf("%s: packets are not claimed", reason)
		}
	}
	tenants[0].MemoryBytes = 1 << 20
	if s := apply(a, b, edit(chainOf("acme", "c", 7, guards...), set("flows", 8))).Chains[1]; s.Reason != reasonQuota || s.Active {
		t.Errorf("over the memory quota: %+v", s)
	}
	tenants[0].MemoryBytes = 0
	// Two chains exchange what they claim, in one step.
	a2, b2 := edit(a, set("match", []map[string]any{{"port": "in", "vlan": 6}})), edit(b, set("match", []map[string]any{{"port": "in", "vlan": 5}}))
	if got := reasons(apply(a2, b2)); got != "acme/a:true: else/b:true: " {
		t.Error(got)
	}
	// More than there is room for: some run, the others say why they do not.
	var many []plane.Chain
	for i := range 10_000 {
		many = append(many, chainOf("many", fmt.Sprintf("c%04d", i), 10+i%4000, fn{"stat", "flowstat", ""}))
	}
	start := time.Now()
	o := apply(many...)
	t.Logf("%d chains desired took %v", len(many), time.Since(start))
	active := 0
	for _, s := range o.Chains {
		switch {
		case s.Active:
			active++
		case s.Reason != reasonCapacity:
			t.Fatalf("%+v", s)
		}
	}
	if active != 4 || len(o.Chains) != len(many) {
		t.Errorf("%d of %d run", active, len(o.Chains))
	}
	// What the kernel refuses changes nothing.
	r.k.refuse = errors.New("no memory")
	if _, err := r.Apply(context.Background(), plane.Desired{Ports: twoPorts, Chains: many[:3]}); !errors.Is(err, r.k.refuse) {
		t.Errorf("%v", err)
	}
	r.k.refuse = nil
	if n := countTaken(r.seats.chains); n != 4 {
		t.Errorf("%d places are taken", n)
	}
	apply()
	if n := countTaken(r.seats.chains) + countTaken(r.seats.paths); n != 0 {
		t.Errorf("%d places are taken", n)
	}
}

// A version that faults in its probation goes back on all workers, and is not
// tried again until something else is desired. So does one on trial.
func TestPlaneVersionsGoBack(t *testing.T) {
	gate.Leaks(t)
	r := openRig(t, PlaneOptions{Workers: 2, Probation: time.Minute}, "firewall", "flowstat")
	a := chainOf("acme", "a", 5, guards...)
	r.apply(t, a)
	status := func() plane.ChainStatus {
		t.Helper()
		o, err := r.Observe(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return o.Chains[0]
	}
	await := func(what string, ok func(plane.ChainStatus) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(status()); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, status())
			}
		}
	}
	next := edit(a, func(s map[string]any) {
		s["functions"].([]any)[0].(map[string]any)["config"] = map[string]any{"default": "deny"}
	})
	if s := r.apply(t, next).Chains[0]; s.Reason != "" || s.Functions[0].State != "probation" {
		t.Fatalf("%+v", s)
	}
	f := &r.chains["acme/a"].run.hops[0]
	if _, err := r.workers[1].run.Do(func() { _ = f.last[1].RollBack("it trapped") }); err != nil {
		t.Fatal(err)
	}
	await("went back", func(s plane.ChainStatus) bool {
		return s.Reason == reasonBack && strings.Contains(s.Message, "it trapped")
	})
	await("all went back", func(s plane.ChainStatus) bool { return s.Functions[0].State == "running" })
	if s := r.apply(t, next).Chains[0]; s.Reason != reasonBack || s.Functions[0].State != "running" {
		t.Errorf("tried again: %+v", s)
	}
	if s := r.apply(t, a).Chains[0]; s.Reason != "" {
		t.Errorf("%+v", s)
	}
	// The same module under another digest, for some flows first.
	again := codeOf(t, "firewall")
	r.codes["firewall2"] = again
	tried := a
	tried.Canaries = []plane.Canary{{Function: "fw", Code: "firewall2", Percent: 20}}
	if s := r.apply(t, tried).Chains[0]; s.Reason != "" || s.Functions[0].Canary != "firewall2" || s.Functions[0].Code != "firewall" {
		t.Fatalf("%+v", s)
	}
	tried.Canaries = []plane.Canary{{Function: "fw", Code: "firewall2", Percent: 60}}
	if s := r.apply(t, tried).Chains[0]; s.Reason != "" || r.chains["acme/a"].run.hops[0].trial.percent != 60 {
		t.Fatalf("%+v", s)
	}
	f = &r.chains["acme/a"].run.hops[0]
	if _, err := r.workers[0].run.Do(func() { _ = f.trial.ready[0].RollBack("it trapped, too") }); err != nil {
		t.Fatal(err)
	}
	await("trial over", func(s plane.ChainStatus) bool { return s.Reason == reasonBack && s.Functions[0].Canary == "" })
	if s := r.apply(t, tried).Chains[0]; s.Reason != reasonBack {
		t.Errorf("tried again: %+v", s)
	}
	// A trial that ends well: the version is everybody's.
	r.apply(t, a)
	tried.Canaries = []plane.Canary{{Function: "fw", Code: "firewall2", Percent: 50}}
	if s := r.apply(t, tried).Chains[0]; s.Reason != "" || s.Functions[0].Canary == "" {
		t.Fatalf("%+v", s)
	}
	whole := a
	whole.Code = map[string]string{"firewall": "firewall2", "flowstat": "flowstat"}
	if s := r.apply(t, whole).Chains[0]; s.Reason != "" || s.Functions[0].Canary != "" || s.Functions[0].Code != "firewall2" {
		t.Errorf("%+v", s)
	}
}

// A chain that drains goes on with the flows that it has.
func TestPlaneDrain(t *testing.T) {
	gate.Leaks(t)
	r := openRig(t, PlaneOptions{Workers: 2}, "firewall", "flowstat")
	a := chainOf("acme", "a", 5, guards...)
	r.apply(t, a)
	send := func(from, to int) {
		for i := from; i < to; i++ {
			r.k.offer(0, tagged(5, i))
		}
	}
	await := func(packets, sent uint64, flows int) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			s, err := r.Stats(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			c := s.Chains[0]
			if c.Packets == packets && c.Sent == sent && c.Flows == flows {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%+v", c)
			}
		}
	}
	send(0, 20)
	await(20, 20, 20)
	drained := a
	drained.Drain = true
	if s := r.apply(t, drained).Chains[0]; s.Reason != "" || !s.Active {
		t.Fatalf("%+v", s)
	}
	send(0, 40)
	await(60, 40, 20)
	r.apply(t, a)
	send(0, 40)
	await(100, 80, 40)
}
