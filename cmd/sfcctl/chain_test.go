package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const chainHead = "apiVersion: sfc/v1\nkind: Chain\nmetadata: {name: web, tenant: acme}\n"

func TestChainValidateHuman(t *testing.T) {
	path := writeFile(t, "web.yaml", []byte(chainHead+"spec: {match: [{port: in}], functions: [], egress: out}\n"))
	want := result{exitOK, path + ": chain acme/web is valid: 0 functions, egress out, budget 1ms\n", ""}
	if got := sfcctl(t, "chain", "validate", path); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestChainValidateProblems(t *testing.T) {
	typo := writeFile(t, "typo.yaml", []byte(chainHead+"spec:\n  functions: []\n  egress: out\n  budgte: 1ms\n  unmatched: 7\n"))
	a := writeFile(t, "a.yaml", []byte(chainHead+"spec: {functions: [], egress: out}\n"))
	b := writeFile(t, "b.yaml", []byte(strings.Replace(chainHead, "web", "api", 1)+"spec: {functions: [], egress: out}\n"))
	gone := writeFile(t, "gone.yaml", []byte(chainHead+"spec: {functions: [{module: none.wasm}], egress: out}\n"))
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"two typing errors", []string{typo}, []string{
			"sfcctl: " + typo + `:7:3: spec.budgte: field is unknown; did you mean "budget"?`,
			"\n" + typo + ":8:14: spec.unmatched: 7 is an integer; put it in quotes\n"}},
		{"missing file", []string{"no/such.yaml"}, []string{"sfcctl: read chain: open no/such.yaml: no such file or directory; give the path of a chain file\n"}},
		{"two chains want the same", []string{a, b}, []string{"chain acme/api: match 0 claims packets that match 0 of chain acme/web claims too"}},
		{"unknown port", []string{"--ports", "in,lan", a}, []string{`chain acme/web: egress "out" is no port; known: in, lan`}},
		{"configuration that the function refuses", []string{chainFile(t, catalog+"acl/acl.wasm", `{default: permit, rules: [{action: deny, src: 10.0.0.0/33}]}`)}, []string{
			"configuration refused: function guest: sfc_configure returned ", `near "`, "see the function's page for its codes"}},
		{"missing module", []string{gone}, []string{"function none: read module: open " + filepath.Join(filepath.Dir(gone), "none.wasm"), "build it first"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := sfcctl(t, append([]string{"chain", "validate"}, tt.args...)...)
			if got.status != exitFailed || got.stdout != "" {
				t.Errorf("status %d, stdout %q", got.status, got.stdout)
			}
			for _, w := range tt.want {
				if !strings.Contains(got.stderr, w) {
					t.Errorf("stderr is\n%s\nwant %q in it", got.stderr, w)
				}
			}
			if strings.Count(got.stderr, "sfcctl:") != 1 {
				t.Errorf("error is not printed once:\n%s", got.stderr)
			}
		})
	}
	if got := sfcctl(t, "chain", "validate", "--no-modules", gone); got.status != exitOK {
		t.Errorf("--no-modules: %+v", got)
	}
}

func TestChainValidateJSON(t *testing.T) {
	good := writeFile(t, "good.yaml", []byte(chainHead+"spec: {functions: [], egress: out, unmatched: forward, budget: 2ms}\n"))
	got := sfcctl(t, "chain", "validate", "--json", good)
	var report validationReport
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || got.status != exitOK {
		t.Fatalf("%+v: %v", got, err)
	}
	want := validationReport{
		Valid:  true,
		Chains: []chainReport{{File: good, Tenant: "acme", Name: "web", Functions: []functionReport{}, Egress: "out", BudgetNs: 2e6}},
		Ports: []portReport{
			{Name: "out", Memory: "exclusive", Unmatched: "forward", Forward: "in"},
			{Name: "in", Memory: "exclusive", Unmatched: "forward", Forward: "out"},
		},
		Warnings: []string{},
		Problems: []problemReport{},
	}
	if d := cmp.Diff(want, report); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}

	bad := writeFile(t, "bad.yaml", []byte("kind: Chain\n"))
	got = sfcctl(t, "chain", "validate", "--json", bad)
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil {
		t.Fatalf("%+v: %v", got, err)
	}
	if got.status != exitFailed || got.stderr != "sfcctl: 3 problems in 1 file\n" || report.Valid || len(report.Problems) != 3 {
		t.Errorf("%+v", got)
	}
	if p := report.Problems[0]; p.File != bad || p.Line != 1 || p.Column != 1 || p.Field != "apiVersion" || p.Cure == "" {
		t.Errorf("problem %+v", p)
	}
}

// The way back is shown as it was compiled, and what is hardly meant is warned
// of without being refused.
func TestChainValidateReturn(t *testing.T) {
	acl, err := filepath.Abs(catalog + "acl/acl.wasm")
	if err != nil {
		t.Fatal(err)
	}
	firewall := filepath.Join(filepath.Dir(filepath.Dir(acl)), "firewall", "firewall.wasm")
	spec := "spec: {match: [{port: in}], functions: [{module: " + acl + ", config: {default: permit}}, {module: " + firewall + ", config: {default: permit}}], egress: out"
	path := writeFile(t, "both.yaml", []byte(chainHead+spec+", return: mirrored}\n"))
	got := sfcctl(t, "chain", "validate", path)
	if got.status != exitOK || !strings.HasSuffix(got.stdout, "\n  return through firewall, acl, egress in\n") {
		t.Errorf("mirrored: %+v", got)
	}
	got = sfcctl(t, "chain", "validate", "--json", path)
	var report validationReport
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil {
		t.Fatal(err)
	}
	want := &returnReport{Functions: []string{"firewall", "acl"}, Matches: 1, Egress: "in"}
	if d := cmp.Diff(want, report.Chains[0].Return); d != "" {
		t.Errorf("return (-want +got):\n%s", d)
	}
	path = writeFile(t, "empty.yaml", []byte(chainHead+"spec: {match: [{port: lan}], functions: [], egress: out, return: {egress: dmz}}\n"))
	if got := sfcctl(t, "chain", "validate", path); got.status != exitOK || !strings.Contains(got.stdout, "return through no function, egress dmz\n") {
		t.Errorf("no functions: %+v", got)
	}
	path = writeFile(t, "one.yaml", []byte(chainHead+spec+"}\n"))
	got = sfcctl(t, "chain", "validate", path)
	if got.status != exitOK || !strings.HasSuffix(got.stdout, "\nwarning: chain acme/web: function firewall needs both directions of a flow, but nothing comes in on the egress \"out\"; add return: mirrored\n") {
		t.Errorf("one direction: %+v", got)
	}
}

// The examples that the documentation names must be valid, modules included.
func TestExamples(t *testing.T) {
	for file, want := range map[string]string{
		"edge.yaml":     "chain demo/edge is valid: 4 functions",
		"nat.yaml":      "chain demo/nat is valid: 3 functions",
		"stateful.yaml": "chain demo/stateful is valid: 4 functions",
	} {
		got := sfcctl(t, "chain", "validate", "--ports", "in,out", filepath.Join("..", "..", "testbed", "examples", file))
		if got.status != exitOK || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: %+v", file, got)
		}
	}
}
