package reconcile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/functions"
	"sfc/ctrl/plane"
	"sfc/dataplane/classify"
)

// view makes a tenant's part of a snapshot: versions 1.0.0 (code a), 1.1.0 (b),
// 1.2.0 (c) of function fw, all with 64 bytes of flow state, and 1.0.0 of
// function plain (p) with none; alias prod is 1.0.0, try has 1.1.0 as canary.
func view(spec api.TenantSpec, chains ...*chain) tenantView {
	x := functions.NewIndex()
	version := func(name, version, digest string, state int) {
		x.SetVersion(name+"/"+version, &api.Function{
			Metadata: api.Metadata{Name: name},
			Spec:     api.FunctionSpec{Version: version, Digest: digestPrefix + digest, Manifest: api.ManifestSummary{FlowStateBytes: state}},
		})
	}
	version("fw", "1.0.0", "a", 64)
	version("fw", "1.1.0", "b", 64)
	version("fw", "1.2.0", "c", 64)
	version("plain", "1.0.0", "p", 0)
	x.SetAlias("fw/prod", &api.Alias{Metadata: api.Metadata{Name: "prod"}, Spec: api.AliasSpec{Function: "fw", Version: "1.0.0"}})
	x.SetAlias("fw/try", &api.Alias{Metadata: api.Metadata{Name: "try"}, Spec: api.AliasSpec{Function: "fw", Version: "1.0.0", Canary: &api.Canary{Version: "1.1.0", Percent: 10}}})
	x.SetAlias("fw/same", &api.Alias{Metadata: api.Metadata{Name: "same"}, Spec: api.AliasSpec{Function: "fw", Version: "1.0.0", Canary: &api.Canary{Version: "1.0.0", Percent: 10}}})
	sortChains(chains)
	return tenantView{
		tenant: &api.Tenant{Metadata: api.Metadata{Name: "acme"}, Spec: spec}, index: x,
		ports: map[string]string{"in": "", "out": "", "broken": "port broken has no interface"}, chains: chains,
	}
}

var order int

// asks makes a chain of functions that all have the names of their references.
func asks(name string, flows int, refs ...string) *chain {
	o := &api.Chain{
		Metadata: api.Metadata{Name: name, UID: name, Generation: 1, CreatedAt: time.Unix(int64(order), 0)},
		Spec:     api.ChainSpec{Egress: "out", Match: []api.ChainMatch{{Port: "in"}}, Flows: flows},
	}
	order++
	for i, ref := range refs {
		o.Spec.Functions = append(o.Spec.Functions, api.ChainFunction{Name: fmt.Sprint("f", i), Module: ref})
	}
	return newChain("acme", o)
}

// ran makes a chain that ran something before.
func (c *chain) ran(refs ...string) *chain {
	before := asks(c.name, int(c.flows), refs...)
	v := view(api.TenantSpec{})
	c.good, _ = resolveChain(&v, before)
	return c
}

func (c *chain) change(f func(*chain)) *chain {
	f(c)
	return c
}

func TestDesire(t *testing.T) {
	ready := map[string]codeState{"a": {ready: true}, "b": {ready: true}, "p": {ready: true}, "c": {message: "it does not compile"}}
	for _, tt := range []struct {
		name  string
		spec  api.TenantSpec
		chain *chain
		codes map[string]codeState
		want  string // what is sent
		why   string // reason of the first problem
	}{
		{"a version", api.TenantSpec{}, asks("x", 0, "fw@1.0.0"), ready, "a", ""},
		{"an alias", api.TenantSpec{}, asks("x", 0, "fw@prod"), ready, "a", ""},
		{"a digest is no name", api.TenantSpec{}, asks("x", 0, "sha256:a"), ready, "", reasonReference},
		{"a canary", api.TenantSpec{}, asks("x", 0, "fw@try"), ready, "a+10% b", ""},
		{"a canary of the same", api.TenantSpec{}, asks("x", 0, "fw@same"), ready, "a", ""},
		{"no functions", api.TenantSpec{}, asks("x", 0), ready, "forwards", ""},
		{"no version", api.TenantSpec{}, asks("x", 0, "fw@9.0.0"), ready, "", reasonFunction},
		{"no alias", api.TenantSpec{}, asks("x", 0, "fw@beta"), ready, "", reasonFunction},
		{"no function", api.TenantSpec{}, asks("x", 0, "fw@prod", "gone@prod"), ready, "", reasonFunction},
		{"no version, something ran", api.TenantSpec{}, asks("x", 0, "fw@9.0.0").ran("fw@1.0.0"), ready, "a", reasonFunction},
		{"not compiled yet", api.TenantSpec{}, asks("x", 0, "fw@prod"), nil, "", reasonCompiling},
		{"canary not compiled yet", api.TenantSpec{}, asks("x", 0, "fw@try").ran("fw@prod"), map[string]codeState{"a": {ready: true}}, "a", reasonCompiling},
		{"does not compile", api.TenantSpec{}, asks("x", 0, "fw@1.2.0"), ready, "", reasonCompile},
		{"does not compile, something ran", api.TenantSpec{}, asks("x", 0, "fw@1.2.0").ran("fw@1.0.0"), ready, "a", reasonCompile},
		{"runs already, code unknown", api.TenantSpec{}, asks("x", 0, "fw@1.0.0").ran("fw@1.0.0"), nil, "a", reasonCompiling},
		{"unsigned", api.TenantSpec{RequireSigned: true}, asks("x", 0, "fw@1.0.0"), ready, "", reasonSignature},
		{"unsigned, and runs", api.TenantSpec{RequireSigned: true}, asks("x", 0, "fw@1.0.0").ran("fw@1.0.0"), ready, "a", reasonSignature},
		{"flows fit", api.TenantSpec{Flows: 1000}, asks("x", 1000, "fw@1.0.0"), ready, "a", ""},
		{"flows do not", api.TenantSpec{Flows: 1000}, asks("x", 1001, "fw@1.0.0"), ready, "", reasonQuota},
		{"flows that nobody keeps", api.TenantSpec{Flows: 1000}, asks("x", 2000, "plain@1.0.0"), ready, "p", ""},
		{"flows by default", api.TenantSpec{Flows: 1000}, asks("x", 0, "fw@1.0.0"), ready, "", reasonQuota},
		{"memory fits", api.TenantSpec{Memory: 64_000}, asks("x", 1000, "fw@1.0.0"), ready, "a", ""},
		{"memory does not", api.TenantSpec{Memory: 64_000}, asks("x", 1000, "fw@1.0.0", "fw@1.1.0"), ready, "", reasonQuota},
		{"quota lowered", api.TenantSpec{Flows: 10}, asks("x", 1000, "fw@1.0.0").ran("fw@1.0.0"), ready, "a", ""},
		{"same flows, other version", api.TenantSpec{Flows: 10}, asks("x", 1000, "fw@1.1.0").ran("fw@1.0.0"), ready, "b", ""},
		{"no port", api.TenantSpec{}, asks("x", 0).change(func(c *chain) { c.ports = []string{"up"} }), ready, "", reasonPort},
		{"port without an interface", api.TenantSpec{}, asks("x", 0).change(func(c *chain) { c.ports = []string{"broken"} }), ready, "", reasonPortDenied},
		{"refused a moment ago", api.TenantSpec{}, asks("x", 0, "fw@1.1.0").ran("fw@1.0.0").change(func(c *chain) {
			c.failed = failure{key: "x 1 false b", problem: problem{"FunctionFailed", ""}, held: true}
		}), ready, "a", "FunctionFailed"},
		{"another was refused", api.TenantSpec{}, asks("x", 0, "fw@1.1.0").ran("fw@1.0.0").change(func(c *chain) {
			c.failed = failure{key: "x 1 false c", problem: problem{"FunctionFailed", ""}, held: true}
		}), ready, "b", ""},
		{"its time has come", api.TenantSpec{}, asks("x", 0, "fw@1.1.0").ran("fw@1.0.0").change(func(c *chain) {
			c.failed = failure{key: "x 1 false b", problem: problem{"FunctionFailed", ""}}
		}), ready, "b", ""},
		{"the store is damaged", api.TenantSpec{}, (&chain{name: "x", gone: true}).ran("fw@1.0.0"), ready, "a", reasonSpace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := desire(&snapshot{tenants: []tenantView{view(tt.spec, tt.chain)}, codes: tt.codes})
			got := ""
			for i := range d.desired.Chains {
				got = describeAll(&d.desired.Chains[i])
			}
			v := d.verdicts[tt.chain]
			if why := cmpProblem(v.resolved, v.compiled, v.held); got != tt.want || why.reason != tt.why || why.reason != "" && why.reason != "FunctionFailed" && why.message == "" {
				t.Errorf("sent %q, want %q; %+v, want %s", got, tt.want, why, tt.why)
			}
		})
	}
}

func describeAll(c *plane.Chain) string {
	var all []string
	for _, d := range c.Code {
		all = append(all, d)
	}
	slices.Sort(all)
	text := fmt.Sprint(all)
	text = text[1 : len(text)-1]
	if text == "" {
		text = "forwards"
	}
	for _, y := range c.Canaries {
		text += fmt.Sprintf("+%d%% %s", y.Percent, y.Code)
	}
	return text
}

// What runs is charged first, then who came first; who is refused takes nothing
// from the others.
func TestQuotaOrder(t *testing.T) {
	ready := map[string]codeState{"a": {ready: true}, "b": {ready: true}}
	first, second, third := asks("first", 500, "fw@1.0.0"), asks("second", 800, "fw@1.0.0"), asks("third", 300, "fw@1.0.0")
	grown := asks("grown", 400, "fw@1.0.0").ran("fw@1.0.0")
	grown.good.flows = 200
	grown.generation = 2
	s := &snapshot{tenants: []tenantView{view(api.TenantSpec{Flows: 1000}, third, second, first, grown)}, codes: ready}
	d := desire(s)
	var got []string
	for _, c := range d.desired.Chains {
		got = append(got, fmt.Sprintf("%s/%d", c.Name, c.Generation))
	}
	// 200 run, 500 for the first, none for the second, 300 for the third; nothing
	// is left to grow.
	if want := []string{"first/1", "third/1", "grown/1"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for c, want := range map[*chain]string{first: "", second: reasonQuota, third: "", grown: reasonQuota} {
		if got := d.verdicts[c].held.reason; got != want {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
	}
	// The same snapshot gives the same decision.
	if again := desire(s); fingerprint(&again) != fingerprint(&d) {
		t.Error("another decision the second time")
	}
}

// A tenant's chains are bounded, also when its spec does not say: the oldest run,
// and what runs goes on whatever the bound is.
func TestChainsQuota(t *testing.T) {
	ready := map[string]codeState{"p": {ready: true}}
	for _, tt := range []struct {
		spec       api.TenantSpec
		runs, asks int
		want       int
	}{
		{api.TenantSpec{}, 0, 300, api.DefaultTenantChains},
		{api.TenantSpec{Chains: 2}, 0, 3, 2},
		{api.TenantSpec{Chains: 1000}, 0, 300, 300},
		{api.TenantSpec{Chains: 2}, 3, 1, 3},
		{api.TenantSpec{Chains: 4}, 3, 2, 4},
	} {
		var list []*chain
		for i := range tt.asks {
			list = append(list, asks(fmt.Sprint("asks", i), 0, "plain@1.0.0"))
		}
		for i := range tt.runs { // younger, but they run
			list = append(list, asks(fmt.Sprint("runs", i), 0, "plain@1.0.0").ran("plain@1.0.0"))
		}
		d := desire(&snapshot{tenants: []tenantView{view(tt.spec, list...)}, codes: ready})
		if len(d.desired.Chains) != tt.want {
			t.Errorf("%+v: %d chains are sent, want %d", tt, len(d.desired.Chains), tt.want)
		}
		for i, c := range list {
			v := d.verdicts[c]
			sent := i >= tt.asks || i < tt.want-tt.runs
			held := problem{}
			if !sent {
				held = problem{reasonQuota, fmt.Sprintf("acme may have %d chains, and has %d: delete one, or have the limit raised", cmp.Or(int(tt.spec.Chains), api.DefaultTenantChains), tt.want)}
			}
			if (v.sent != nil) != sent || v.held != held {
				t.Fatalf("%+v: chain %s is sent: %v, want %v; %+v, want %+v", tt, c.name, v.sent != nil, sent, v.held, held)
			}
		}
	}
}

// What a tenant's spec leaves out has a bound where it takes from others.
func TestTenantDefaults(t *testing.T) {
	for _, tt := range []struct {
		spec        api.TenantSpec
		rules, logs int
	}{
		{api.TenantSpec{}, classify.MaxRules / 4, 100},
		{api.TenantSpec{Chains: 2, LogLines: 7}, classify.MaxRules / 4, 7},
		{api.TenantSpec{Chains: 512, LogLines: 1000}, classify.MaxRules / 2, 1000},
		{api.TenantSpec{Chains: 1 << 60}, classify.MaxRules, 100},
	} {
		p := planeTenant(&api.Tenant{Spec: tt.spec})
		if p.Rules != tt.rules || p.LogLines != tt.logs {
			t.Errorf("%+v: %d rules and %d lines, want %d and %d", tt.spec, p.Rules, p.LogLines, tt.rules, tt.logs)
		}
	}
}

// Modules are needed by chains only once all else about them is in order.
func TestNeeded(t *testing.T) {
	d := desire(&snapshot{tenants: []tenantView{view(api.TenantSpec{},
		asks("x", 0, "fw@try"), asks("y", 0, "fw@1.2.0", "fw@9.0.0"),
		asks("z", 0, "plain@1.0.0").change(func(c *chain) { c.ports = []string{"up"} }))}})
	if want := map[string]string{"a": "acme", "b": "acme"}; fmt.Sprint(d.needed) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", d.needed, want)
	}
}

// Ports that chains name, and whether they claim packets of all.
func TestNamedPorts(t *testing.T) {
	c := newChain("acme", &api.Chain{Spec: api.ChainSpec{
		Egress: "out", Match: []api.ChainMatch{{Port: "in"}, {Dst: "10.0.0.0/8"}},
		Return:    &api.ChainReturn{ChainReturnPath: api.ChainReturnPath{Egress: "back", Match: []api.ChainMatch{{Port: "far"}}}},
		Addresses: []api.ChainAddress{{Port: "nat"}},
	}})
	if want := []string{"back", "far", "in", "nat", "out"}; !slices.Equal(c.ports, want) || !c.everywhere {
		t.Errorf("%v, everywhere %v", c.ports, c.everywhere)
	}
	if c = asks("x", 0); c.everywhere {
		t.Error("a match of one port is everywhere")
	}
}

func TestBackoff(t *testing.T) {
	const first, most = 10 * time.Millisecond, time.Second
	for attempts := 1; attempts < 200; attempts++ {
		want := min(most, first<<min(attempts-1, 20))
		for range 20 {
			if got := backoff(first, most, attempts); got < want*3/4-1 || got > want*5/4+1 {
				t.Fatalf("%d attempts: %v, about %v", attempts, got, want)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil || errors.Unwrap(err) != nil {
		t.Error(err)
	}
}
