package chains

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sfc/dataplane/classify"
	"sfc/nf"
)

// chain makes a spec with one function.
func chain(title, egress string, match ...Match) Spec {
	tenant, name, _ := strings.Cut(title, "/")
	return Spec{
		Name: name, Tenant: tenant, Match: match, Egress: egress, Budget: DefaultBudget, Flows: DefaultFlows,
		Functions: []FunctionSpec{{Name: "acl", Module: "acl.wasm", Config: []byte("{}")}},
	}
}

func at(port string) Match {
	m := MatchAll()
	m.Port = port
	return m
}

func to(port, prefix string) Match {
	m := at(port)
	m.Dst = netip.MustParsePrefix(prefix)
	m.Family = 4
	return m
}

func prio(s Spec, p int) Spec {
	s.Priority = p
	return s
}

func unmatched(s Spec, u Unmatched) Spec {
	s.Unmatched = u
	return s
}

func TestCompile(t *testing.T) {
	edge := chain("demo/edge", "out", at("in"))
	edge.Functions = append(edge.Functions, FunctionSpec{Name: "hop", Module: "hop.wasm", Config: []byte(`{"a":1}`), Fault: FaultOpen})
	specs := []Spec{
		edge,
		prio(chain("demo/web", "out", to("in", "10.0.0.0/8"), to("in", "192.0.2.0/24")), 5),
		prio(chain("acme/back", "in"), -3),
	}
	got, err := Compile(specs, []string{"in", "out", "dmz"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	acl := []Hop{{Name: "acl", Module: "acl.wasm", Config: []byte("{}")}}
	anyRule := classify.Rule{VLAN: classify.AnyVLAN, Proto: classify.AnyProto}
	rule := func(path uint16, ports uint64, dst string) classify.Rule {
		r := anyRule
		r.Path, r.Ports = path, ports
		if dst != "" {
			r.Dst, r.Family = netip.MustParsePrefix(dst), 4
		}
		return r
	}
	want := &Plan{
		Ports: []Port{
			{Name: "in", Memory: MemoryShared, Unmatched: UnmatchedPass, Forward: -1},
			{Name: "out", Memory: MemoryShared, Unmatched: UnmatchedPass, Forward: -1},
			{Name: "dmz", Memory: MemoryExclusive, Unmatched: UnmatchedPass, Forward: -1},
		},
		Chains: []Chain{
			{Index: 0, Name: "edge", Tenant: "demo", Ports: 0b011, Budget: time.Millisecond,
				Functions: append(acl[:1:1], Hop{Name: "hop", Module: "hop.wasm", Config: []byte(`{"a":1}`), Fault: FaultOpen})},
			{Index: 1, Name: "web", Tenant: "demo", Ports: 0b011, Budget: time.Millisecond, Functions: acl},
			{Index: 2, Name: "back", Tenant: "acme", Ports: 0b111, Budget: time.Millisecond, Functions: acl},
		},
		Paths: []Path{
			{Index: 0, Chain: 0, Order: []int{0, 1}, Egress: 1},
			{Index: 1, Chain: 1, Order: []int{0}, Egress: 1},
			{Index: 2, Chain: 2, Order: []int{0}, Egress: 0},
		},
		Rules: []classify.Rule{rule(1, 1, "10.0.0.0/8"), rule(1, 1, "192.0.2.0/24"), rule(0, 1, ""), rule(2, 0b110, "")},
	}
	if d := cmp.Diff(want, got, prefixes); d != "" {
		t.Errorf("plan (-want +got):\n%s", d)
	}
	if got.Chains[2].Title() != "acme/back" {
		t.Errorf("title is %s", got.Chains[2].Title())
	}
	again, err := Compile(specs, []string{"in", "out", "dmz"}, nil)
	if err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("equal arguments gave another plan, error %v", err)
	}
}

func TestCompileErrors(t *testing.T) {
	inOut := []string{"in", "out"}
	manyPorts := make([]string, 65)
	for i := range manyPorts {
		manyPorts[i] = fmt.Sprint("p", i)
	}
	bare := chain("demo/a", "out")
	bare.Functions[0].Config, bare.Functions[0].ConfigFile = nil, "x.json"
	tests := []struct {
		name  string
		specs []Spec
		ports []string
		want  string
	}{
		{"egress", []Spec{chain("demo/edge", "oot")}, inOut, `chain demo/edge: egress "oot" is no port; did you mean "out"? (known: in, out)`},
		{"port", []Spec{chain("demo/edge", "out", at("wan"))}, inOut, `chain demo/edge: match 0: "wan" is no port; known: in, out`},
		{"only port", []Spec{chain("demo/edge", "in")}, []string{"in"}, `match 0: the egress "in" is the only port; name it`},
		{"no ports", []Spec{chain("demo/edge", "in")}, nil, "0 ports: want 1 to 64"},
		{"many ports", []Spec{chain("demo/edge", "p1")}, manyPorts, "65 ports: want 1 to 64"},
		{"port twice", nil, []string{"in", "in"}, `port "in" is given twice`},
		{"chain twice", []Spec{chain("demo/edge", "out"), prio(chain("demo/edge", "out"), 1)}, inOut, "chain demo/edge: is given twice; rename one"},
		{"overlap", []Spec{chain("demo/a", "out", to("in", "10.0.0.0/8")), chain("acme/b", "out", to("in", "11.0.0.0/8"), to("in", "10.1.0.0/16"))}, inOut,
			"chain acme/b: match 1 claims packets that match 0 of chain demo/a claims too, at the same priority 0; give the chain that shall have them a higher priority"},
		{"unmatched", []Spec{unmatched(chain("demo/a", "out", to("in", "10.0.0.0/8")), UnmatchedDrop), unmatched(chain("acme/b", "out", to("in", "11.0.0.0/8")), UnmatchedPass)}, inOut,
			`chain acme/b: unmatched: pass contradicts drop of chain demo/a on port "in"; make them agree`},
		{"forward to two ports", []Spec{unmatched(chain("demo/a", "out", to("in", "10.0.0.0/8")), UnmatchedForward), unmatched(chain("acme/b", "dmz", to("in", "11.0.0.0/8")), UnmatchedForward)},
			[]string{"in", "out", "dmz"}, `unmatched: forward to "dmz" contradicts forward to "out" of chain demo/a`},
		{"forward to itself", []Spec{unmatched(chain("demo/a", "in", at("in")), UnmatchedForward)}, inOut, `would send packets of port "in" back`},
		{"configuration not read", []Spec{bare}, inOut, "configuration file x.json has not been read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := Compile(tt.specs, tt.ports, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is\n  %v\nwant one with\n  %s", err, tt.want)
			}
			if plan != nil {
				t.Error("a plan comes with the error")
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	tests := map[string]func(s *Spec){
		"must be labels":                     func(s *Spec) { s.Tenant = "" },
		"priority 1000001":                   func(s *Spec) { s.Priority = 1_000_001 },
		"4097 matches":                       func(s *Spec) { s.Match = make([]Match, 4097) },
		"17 functions":                       func(s *Spec) { s.Functions = make([]FunctionSpec, 17) },
		"budget 0s":                          func(s *Spec) { s.Budget = 0 },
		"unmatched policy 4 does not exist":  func(s *Spec) { s.Unmatched = 4 },
		`"A" is not a name`:                  func(s *Spec) { s.Functions[0].Name = "A" },
		`function "acl" is there twice`:      func(s *Spec) { s.Functions = append(s.Functions, s.Functions[0]) },
		"function acl has no module":         func(s *Spec) { s.Functions[0].Module = "" },
		"acl: fault policy 2 does not exist": func(s *Spec) { s.Functions[0].Fault = 2 },
		`return: function "hop" is not one of the chain's; known: acl`: func(s *Spec) { s.Return = &Return{Functions: []string{"hop"}} },
		`return: function "acl" is passed twice`:                       func(s *Spec) { s.Return = &Return{Functions: []string{"acl", "acl"}} },
		"return: 4097 matches":                                         func(s *Spec) { s.Return = &Return{Match: make([]Match, 4097)} },
		"acl: configuration is not JSON":                               func(s *Spec) { s.Functions[0].Config = []byte("{") },
	}
	for want, spoil := range tests {
		s := chain("demo/edge", "out")
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		spoil(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestTooManyRules(t *testing.T) {
	s := chain("demo/a", "out", make([]Match, 4000)...)
	for i := range s.Match {
		s.Match[i] = at("in")
	}
	if _, err := Compile([]Spec{s, prio(s, 1)}, []string{"in", "out"}, nil); err == nil {
		t.Error("a chain given twice is accepted")
	}
	b := prio(s, 1)
	b.Name = "b"
	if _, err := Compile([]Spec{s, b}, []string{"in", "out"}, nil); err == nil || !strings.Contains(err.Error(), "8000 match rules together; use at most 4096") {
		t.Errorf("error %v", err)
	}
}

// A thousand chains of equal priority are compared pair by pair: 500,000
// comparisons must not be felt.
func TestThousandChains(t *testing.T) {
	specs := make([]Spec, 1000)
	for i := range specs {
		specs[i] = chain(fmt.Sprintf("demo/c%d", i), "out",
			to("in", fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)), to("in", fmt.Sprintf("11.%d.%d.0/24", i/256, i%256)))
	}
	start := time.Now()
	plan, err := Compile(specs, []string{"in", "out"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if len(plan.Paths) != 1000 || len(plan.Rules) != 2000 {
		t.Errorf("%d paths and %d rules, want 1000 and 2000", len(plan.Paths), len(plan.Rules))
	}
	specs[999].Match[0] = to("in", "10.0.0.0/8")
	_, err = Compile(specs, []string{"in", "out"}, nil)
	if n := strings.Count(fmt.Sprint(err), "same priority"); n != maxConflicts {
		t.Errorf("%d conflicts reported, want %d", n, maxConflicts)
	}
}

func TestPolicies(t *testing.T) {
	ports := []string{"in", "out", "dmz"}
	type port struct {
		unmatched Unmatched
		forward   int
	}
	pass := port{UnmatchedPass, -1}
	drop := port{UnmatchedDrop, -1}
	forward := func(to int) port { return port{UnmatchedForward, to} }
	tests := []struct {
		name  string
		specs []Spec
		want  []port
	}{
		{"nobody says anything", []Spec{chain("a/a", "out", at("in"))}, []port{pass, pass, pass}},
		{"drop where packets come in", []Spec{unmatched(chain("a/a", "out", at("in")), UnmatchedDrop)}, []port{drop, pass, pass}},
		{"drop on every port but the egress", []Spec{unmatched(chain("a/a", "out"), UnmatchedDrop)}, []port{drop, pass, drop}},
		{"forward, and the answers back", []Spec{unmatched(chain("a/a", "out", at("in")), UnmatchedForward)}, []port{forward(1), forward(0), pass}},
		{"a chain on the other side that says nothing", []Spec{unmatched(chain("a/a", "out", at("in")), UnmatchedForward), chain("a/b", "in", at("out"))}, []port{forward(1), forward(0), pass}},
		{"a chain on the other side that says drop", []Spec{unmatched(chain("a/a", "out", at("in")), UnmatchedForward), unmatched(chain("a/b", "in", at("out")), UnmatchedDrop)}, []port{forward(1), drop, pass}},
		{"two ports forward to one: no way back", []Spec{unmatched(chain("a/a", "out"), UnmatchedForward)}, []port{forward(1), pass, forward(1)}},
		{"two chains agree", []Spec{unmatched(chain("a/a", "out", to("in", "10.0.0.0/8")), UnmatchedDrop), unmatched(chain("b/a", "dmz", to("in", "11.0.0.0/8")), UnmatchedDrop)}, []port{drop, pass, pass}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := Compile(tt.specs, ports, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range plan.Ports {
				if got := (port{p.Unmatched, p.Forward}); got != tt.want[i] {
					t.Errorf("port %s: %s to %d, want %s to %d", p.Name, got.unmatched, got.forward, tt.want[i].unmatched, tt.want[i].forward)
				}
			}
		})
	}
}

func TestMemoryModes(t *testing.T) {
	use := func(tenant string, ports uint64) Chain { return Chain{Tenant: tenant, Ports: ports} }
	tests := []struct {
		name   string
		chains []Chain
		want   string
	}{
		{"no chains", nil, "exclusive exclusive exclusive"},
		{"one tenant, two chains", []Chain{use("a", 0b011), use("a", 0b110)}, "exclusive exclusive exclusive"},
		{"two tenants on ports of their own", []Chain{use("a", 0b001), use("b", 0b110)}, "exclusive exclusive exclusive"},
		{"two tenants share one port", []Chain{use("a", 0b011), use("b", 0b110)}, "exclusive shared exclusive"},
		{"a third chain changes nothing back", []Chain{use("a", 0b001), use("b", 0b001), use("b", 0b001)}, "shared exclusive exclusive"},
	}
	for _, tt := range tests {
		var got []string
		for _, m := range memoryModes(tt.chains, 3) {
			got = append(got, m.String())
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
		}
	}
}

func TestSuggest(t *testing.T) {
	tests := []struct{ name, want string }{
		{"fualt", `did you mean "fault"? (known: fault, config, configFile)`},
		{"ConfigFile", `did you mean "configFile"? (known: fault, config, configFile)`},
		{"zzz", "known: fault, config, configFile"},
		{strings.Repeat("x", 10_000), "known: fault, config, configFile"},
		{"", "known: fault, config, configFile"},
	}
	for _, tt := range tests {
		if got := suggest(tt.name, []string{"fault", "config", "configFile"}); got != tt.want {
			t.Errorf("suggest(%.20q) = %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := suggest("x", nil); got != "none is known" {
		t.Error(got)
	}
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"opne", "open", 1}} {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// Flows are those of the spec when a function keeps flow state, and must fit
// its window.
func TestFlows(t *testing.T) {
	state := func(bytes int) ModuleSet {
		return ModuleSet{"acl.wasm": {Manifest: &nf.Manifest{Name: "acl", FlowStateBytes: bytes}}}
	}
	s := chain("demo/edge", "out", at("in"))
	s.Flows = 100_000
	for bytes, want := range map[int]int{0: 0, 8: 100_000, 1024: 100_000} {
		plan, err := Compile([]Spec{s}, []string{"in", "out"}, state(bytes))
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.Chains[0].Flows; got != want {
			t.Errorf("%d bytes of state: %d flows, want %d", bytes, got, want)
		}
	}
	_, err := Compile([]Spec{s}, []string{"in", "out"}, state(4096))
	if err == nil || !strings.Contains(err.Error(), "set spec.flows to at most 28672") {
		t.Errorf("4096 bytes of state for 100,000 flows: %v", err)
	}
}
