package chains

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sfc/dataplane/classify"
	"sfc/nf"
)

// both gives a chain the functions acl and hop and the way back through them.
func both(s Spec) Spec {
	s.Functions = append(s.Functions[:1:1], FunctionSpec{Name: "hop", Module: "hop.wasm", Config: []byte("{}")})
	s.Return = s.Mirror()
	return s
}

// The way back of a chain stands behind its way forward; the chains around it
// are what they would be without.
func TestReturnMirrored(t *testing.T) {
	web := Match{
		Port: "lan", VLAN: 7, Family: 4, Src: netip.MustParsePrefix("10.0.0.0/8"), Dst: netip.MustParsePrefix("192.0.2.1/32"),
		Protocol: 6, SrcPorts: classify.PortRange{Lo: 1024, Hi: 65535}, DstPorts: classify.PortRange{Lo: 443, Hi: 443},
	}
	specs := []Spec{
		chain("demo/first", "wan", to("dmz", "10.0.0.0/8")),
		both(chain("demo/web", "wan", web)),
		chain("demo/last", "dmz", to("lan", "10.0.0.0/8")),
	}
	plan, err := Compile(specs, []string{"lan", "wan", "dmz"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantPaths := []Path{
		{Index: 0, Chain: 0, Order: []int{0}, Egress: 1},
		{Index: 1, Chain: 1, Order: []int{0, 1}, Egress: 1},
		{Index: 2, Chain: 1, Return: true, Order: []int{1, 0}, Egress: 0},
		{Index: 3, Chain: 2, Order: []int{0}, Egress: 2},
	}
	if d := cmp.Diff(wantPaths, plan.Paths); d != "" {
		t.Errorf("paths (-want +got):\n%s", d)
	}
	back := classify.Rule{
		Path: 2, Ports: 0b010, VLAN: 7, Family: 4, Src: web.Dst, Dst: web.Src, Proto: 6, SrcPorts: web.DstPorts, DstPorts: web.SrcPorts,
	}
	if d := cmp.Diff(back, plan.Rules[2], prefixes); d != "" {
		t.Errorf("rule of the way back (-want +got):\n%s", d)
	}
	if got := plan.Chains[1].Ports; got != 0b011 {
		t.Errorf("ports %b, want 11", got)
	}
	if len(plan.Rules) != 4 || len(plan.Warnings) != 0 {
		t.Errorf("%d rules, warnings %q", len(plan.Rules), plan.Warnings)
	}
}

func TestReturnPaths(t *testing.T) {
	ports := []string{"lan", "wan", "dmz"}
	explicit := func(s Spec, r Return) Spec {
		s = both(s)
		s.Return = &r
		return s
	}
	tests := []struct {
		name  string
		spec  Spec
		ports []string
		path  Path
		in    []uint64 // ports of the rules of the way back
	}{
		{"every packet of the one other port", both(chain("a/a", "wan")), ports[:2], Path{Order: []int{1, 0}, Egress: 0}, []uint64{0b010}},
		{"two matches on one port", both(chain("a/a", "wan", to("lan", "10.0.0.0/8"), to("lan", "11.0.0.0/8"))), ports, Path{Order: []int{1, 0}, Egress: 0}, []uint64{0b010, 0b010}},
		{"another order, another port in", explicit(chain("a/a", "wan", at("lan")), Return{Functions: []string{"acl"}, Match: []Match{at("dmz"), to("", "10.0.0.0/8")}}),
			ports, Path{Order: []int{0}, Egress: 0}, []uint64{0b100, 0b010}},
		{"no functions", explicit(chain("a/a", "wan", at("lan")), Return{}), ports, Path{Egress: 0}, []uint64{0b010}},
		{"many ports in, one out", explicit(chain("a/a", "wan"), Return{Egress: "dmz"}), ports, Path{Egress: 2}, []uint64{0b010}},
		{"back by another port", explicit(chain("a/a", "wan", at("lan")), Return{Egress: "dmz"}), ports, Path{Egress: 2}, []uint64{0b010}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := Compile([]Spec{tt.spec}, tt.ports, nil)
			if err != nil {
				t.Fatal(err)
			}
			tt.path.Index, tt.path.Return = 1, true
			if d := cmp.Diff(tt.path, plan.Paths[1]); d != "" {
				t.Errorf("path (-want +got):\n%s", d)
			}
			var in []uint64
			for _, r := range plan.Rules {
				if r.Path == 1 {
					in = append(in, r.Ports)
				}
			}
			if d := cmp.Diff(tt.in, in); d != "" {
				t.Errorf("ports of the rules (-want +got):\n%s", d)
			}
			if c := plan.Chains[0]; c.Ports&(1<<tt.path.Egress) == 0 {
				t.Errorf("ports %b lack the egress of the way back", c.Ports)
			}
		})
	}
}

func TestReturnErrors(t *testing.T) {
	ports := []string{"lan", "wan", "dmz"}
	with := func(s Spec, r Return) Spec {
		s.Return = &r
		return s
	}
	tests := []struct {
		name  string
		specs []Spec
		want  string
	}{
		{"several ports in", []Spec{both(chain("a/a", "wan"))}, `chain a/a: return: the chain takes packets in from ["lan" "dmz"], so the way out is not clear; name it as spec.return.egress`},
		{"egress", []Spec{with(chain("a/a", "wan", at("lan")), Return{Egress: "lna"})}, `return egress "lna" is no port; did you mean "lan"?`},
		{"port", []Spec{with(chain("a/a", "wan", at("lan")), Return{Match: []Match{at("lan"), at("dzm")}})}, `return match 1: "dzm" is no port; did you mean "dmz"?`},
		{"its own two ways", []Spec{both(chain("a/a", "wan", at("wan")))}, "chain a/a: return match 0 claims packets that match 0 claims too, so their direction is not clear"},
		{"another chain's way forward", []Spec{both(chain("a/a", "wan", at("lan"))), chain("a/b", "lan", to("wan", "10.0.0.0/8"))}, "chain a/b: match 0 claims packets that return match 0 of chain a/a claims too"},
		{"another chain's way back", []Spec{both(chain("a/a", "wan", at("lan"))), both(chain("a/b", "wan", at("dmz")))}, "chain a/b: return match 0 claims packets that return match 0 of chain a/a claims too"},
		{"forward back where it came from", []Spec{unmatched(with(chain("a/a", "wan", at("lan")), Return{Egress: "wan"}), UnmatchedForward)}, `unmatched: forward would send packets of port "wan" back`},
		{"policies on the way back", []Spec{unmatched(both(chain("a/a", "wan", to("lan", "10.0.0.0/8"))), UnmatchedDrop), unmatched(chain("b/a", "dmz", to("wan", "10.0.0.0/8")), UnmatchedPass)},
			`chain b/a: unmatched: pass contradicts drop of chain a/a on port "wan"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := Compile(tt.specs, ports, nil)
			if err == nil || plan != nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is\n  %v\nwant one with\n  %s", err, tt.want)
			}
		})
	}
	if _, err := Compile([]Spec{both(chain("a/a", "wan", at("lan"))), prio(both(chain("a/b", "wan", at("dmz"))), 1)}, ports, nil); err != nil {
		t.Errorf("priority decides, but: %v", err)
	}
}

// What a chain says of unmatched packets holds where its way back comes in too.
func TestReturnPolicies(t *testing.T) {
	for _, u := range []Unmatched{UnmatchedDrop, UnmatchedForward} {
		plan, err := Compile([]Spec{unmatched(both(chain("a/a", "wan", at("lan"))), u)}, []string{"lan", "wan", "dmz"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := []Port{
			{Name: "lan", Unmatched: u, Forward: -1}, {Name: "wan", Unmatched: u, Forward: -1}, {Name: "dmz", Unmatched: UnmatchedPass, Forward: -1},
		}
		if u == UnmatchedForward {
			want[0].Forward, want[1].Forward = 1, 0
		}
		if d := cmp.Diff(want, plan.Ports); d != "" {
			t.Errorf("%v (-want +got):\n%s", u, d)
		}
	}
}

// Functions say in their manifests whether they need both directions and
// whether they add tuples; the plan warns of what will not work.
func TestReturnWarnings(t *testing.T) {
	mods := func(m nf.Manifest) ModuleSet {
		return ModuleSet{"acl.wasm": {Manifest: &m}, "hop.wasm": {Manifest: &nf.Manifest{}}}
	}
	state := nf.Manifest{FlowStateBytes: 8, BothDirections: true}
	nat := nf.Manifest{FlowStateBytes: 8, BothDirections: true, Capabilities: []string{nf.CapabilityBind}}
	explicit := both(chain("a/a", "wan", to("lan", "10.0.0.0/8")))
	explicit.Return.Match = []Match{at("wan")}
	without := both(chain("a/a", "wan", at("lan")))
	without.Return.Functions = []string{"hop"}
	tests := []struct {
		name  string
		spec  Spec
		mods  ModuleSet
		binds bool
		want  string
	}{
		{"nothing needed", chain("a/a", "wan", at("lan")), mods(nf.Manifest{}), false, ""},
		{"needed, not there", chain("a/a", "wan", at("lan")), mods(state), false, `chain a/a: function acl needs both directions of a flow, but nothing comes in on the egress "wan"; add return: mirrored`},
		{"needed, both come in forward", chain("a/a", "wan", at("lan"), at("wan")), mods(state), false, ""},
		{"needed, there", both(chain("a/a", "wan", to("lan", "10.0.0.0/8"))), mods(state), false, ""},
		{"needed, left out on the way back", without, mods(state), false, "chain a/a: function acl needs both directions of a flow, but is not on the way back; add it to return.functions"},
		{"translation, not there", chain("a/a", "wan", at("lan")), mods(nat), true, "function acl needs both directions"},
		{"translation, any address", both(chain("a/a", "wan", at("lan"))), mods(nat), true, ""},
		{"translation, mirrored address", both(chain("a/a", "wan", to("lan", "10.0.0.0/8"))), mods(nat), true, "mirrors the addresses of match 0"},
		{"translation, addresses given", explicit, mods(nat), true, ""},
		{"modules not looked at", chain("a/a", "wan", at("lan")), nil, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := Compile([]Spec{tt.spec}, []string{"lan", "wan"}, tt.mods)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(plan.Warnings, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("warnings %q, want %q", got, tt.want)
			}
			if plan.Chains[0].Binds != tt.binds {
				t.Errorf("binds is %v", plan.Chains[0].Binds)
			}
		})
	}
}
