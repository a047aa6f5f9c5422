package chains

import (
	"net/netip"
	"strings"
	"testing"
)

const addressHead = `apiVersion: sfc/v1
kind: Chain
metadata: {name: nat, tenant: demo}
spec:
  functions: []
  egress: out
  addresses:
`

func TestAddresses(t *testing.T) {
	s, err := Parse("nat.yaml", []byte(addressHead+`    - {port: out, prefix: 192.0.2.16/28}
    - {port: in, prefix: "2001:db8::1"}
`))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Compile([]Spec{s}, []string{"in", "out"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []PortAddress{{1, netip.MustParsePrefix("192.0.2.16/28")}, {0, netip.MustParsePrefix("2001:db8::1/128")}}
	if got := plan.Chains[0].Addresses; len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("addresses %v, want %v", got, want)
	}
}

func TestAddressErrors(t *testing.T) {
	for _, tt := range []struct{ entry, want string }{
		{"{port: out}", "prefix: field is missing"},
		{"{port: out, prefix: 192.0.2.1/24}", "has bits set behind the prefix"},
		{"{port: out, prefix: here}", "is not an address or prefix"},
		{"{prefix: 192.0.2.1}", "port: field is missing"},
		{"{port: out, prefix: 192.0.2.1, mac: 1}", "field is unknown"},
	} {
		_, err := Parse("nat.yaml", []byte(addressHead+"    - "+tt.entry+"\n"))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.entry, err, tt.want)
		}
	}
	spec := func(name, port, prefix string) Spec {
		return Spec{Name: name, Tenant: "demo", Egress: "out", Budget: DefaultBudget, Flows: DefaultFlows, Priority: len(name),
			Addresses: []Address{{port, netip.MustParsePrefix(prefix)}}}
	}
	for _, tt := range []struct {
		specs []Spec
		want  string
	}{
		{[]Spec{spec("a", "outt", "192.0.2.0/24")}, `address 0: "outt" is no port`},
		{[]Spec{spec("a", "out", "192.0.2.0/24"), spec("bb", "out", "192.0.2.7/32")}, "overlaps 192.0.2.0/24 of chain demo/a"},
		{[]Spec{spec("a", "out", "192.0.2.0/24"), spec("bb", "in", "192.0.2.7/32")}, ""},
	} {
		_, err := Compile(tt.specs, []string{"in", "out"}, nil)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("error %v, want %q", err, tt.want)
		}
	}
}
