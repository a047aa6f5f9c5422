package chains

import (
	"reflect"
	"strings"
	"testing"
)

// partSpec is a chain of one match, as text says it.
func partSpec(t *testing.T, tenant, name, more string) *Spec {
	t.Helper()
	s, err := Parse("chain.yaml", []byte("apiVersion: sfc/v1\nkind: Chain\nmetadata: {name: "+name+", tenant: "+tenant+"}\nspec:\n  functions: []\n"+more))
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

func part(t *testing.T, s *Spec, ports ...string) *Part {
	t.Helper()
	p, err := CompilePart(s, ports, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Parts put together are what Compile makes of the same specs, whatever their
// indices are.
func TestPartsAgreeWithCompile(t *testing.T) {
	ports := []string{"in", "out"}
	specs := []Spec{
		*partSpec(t, "a", "low", "  egress: out\n  priority: -1\n  return: mirrored\n"),
		*partSpec(t, "a", "web", "  egress: out\n  match: [{port: in, protocol: tcp, dstPorts: \"80\"}]\n"),
		*partSpec(t, "b", "vlan", "  egress: out\n  priority: 7\n  match: [{port: in, vlan: 5}]\n"),
	}
	plan, err := Compile(specs, ports, nil)
	if err != nil {
		t.Fatal(err)
	}
	var placed []Placed
	next := uint16(0)
	for i := range specs {
		p := part(t, &specs[i], ports...)
		placed = append(placed, Placed{p, [2]uint16{next, next + 1}})
		next += uint16(len(p.Paths))
		for k, other := range placed[:i] {
			if err := p.Conflict(other.Part); err != nil {
				t.Errorf("%d and %d: %v", i, k, err)
			}
		}
	}
	if got := RulesOf(placed); !reflect.DeepEqual(got, plan.Rules) {
		t.Errorf("rules\n%+v\nwant\n%+v", got, plan.Rules)
	}
}

// A port that is gone leaves a hole: those behind it keep their index, and a
// match for every port does not mean it.
func TestPartWithHoles(t *testing.T) {
	s := partSpec(t, "a", "all", "  egress: out\n")
	p := part(t, s, "in", NoPort, "out", "up")
	if p.Ingress != 0b1001 || p.Paths[0].Egress != 2 {
		t.Errorf("ingress %b, egress %d", p.Ingress, p.Paths[0].Egress)
	}
	if _, err := CompilePart(s, []string{"in", NoPort}, nil); err == nil || !strings.Contains(err.Error(), `egress "out" is no port`) {
		t.Errorf("%v", err)
	}
}

// Who conflicts is told, but not about others' chains.
func TestPartConflicts(t *testing.T) {
	ports := []string{"in", "out"}
	mine := part(t, partSpec(t, "a", "mine", "  egress: out\n  addresses: [{port: out, prefix: 10.0.0.0/24}]\n"), ports...)
	for _, tt := range []struct{ tenant, more, want string }{
		{"a", "  egress: out\n  match: [{port: in, vlan: 5}]\n", "match 0 claims packets that match 0 of chain mine claims too"},
		{"b", "  egress: out\n  match: [{port: in, vlan: 5}]\n", "match 0 claims packets that another tenant's chain claims too"},
		{"b", "  egress: out\n  priority: 1\n", ""},
		{"b", "  egress: in\n", ""},
		{"b", "  egress: out\n  priority: 1\n  addresses: [{port: out, prefix: 10.0.0.7/32}]\n", "overlaps addresses of another tenant's chain"},
		{"b", "  egress: out\n  priority: 1\n  addresses: [{port: in, prefix: 10.0.0.7/32}]\n", ""},
	} {
		err := part(t, partSpec(t, tt.tenant, "other", tt.more), ports...).Conflict(mine)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) || tt.tenant == "b" && strings.Contains(got, "mine") {
			t.Errorf("%s %q: %q, want %q", tt.tenant, tt.more, got, tt.want)
		}
	}
}
