package chains

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sfc/dataplane/classify"
)

var prefixes = cmpopts.EquateComparable(netip.Prefix{})

const full = `
apiVersion: sfc/v1
kind: Chain
metadata: {name: web, tenant: acme}
spec:
  priority: -7
  match:
    - {port: in, vlan: 0, src: 10.0.0.0/8, dst: 192.0.2.1, protocol: tcp, srcPorts: 1024-65535, dstPorts: 443}
    - {port: wan0.12, vlan: 4094, family: ipv6, protocol: 58}
    - dst: "2001:db8::/32"
      dstPorts: "53"
    - {}
  functions:
    - module: ../fw/acl.wasm
      config: &config
        default: permit
        rules: [{action: deny, note: "a<b & \"c\"", n: -3, f: 0.5, on: yes, z: null, t: 2024-01-02}]
    - {name: second, module: /opt/acl.wasm, configFile: acl.json, fault: open}
    - {name: third, module: acl.wasm, config: *config, fault: closed}
    - {name: fourth, module: acl.wasm}
  egress: out
  return:
    functions: [third, acl]
    match: [{port: dmz, src: 192.0.2.0/24}, {vlan: 7}]
    egress: in
  budget: 500us
  flows: 1000
  unmatched: drop
`

func TestParse(t *testing.T) {
	got, err := Parse("conf/chains/web.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	config := []byte(`{"default":"permit","rules":[{"action":"deny","note":"a<b & \"c\"","n":-3,"f":0.5,"on":"yes","z":null,"t":"2024-01-02"}]}`)
	want := Spec{
		Name: "web", Tenant: "acme", Priority: -7,
		Match: []Match{
			{Port: "in", VLAN: 0, Family: 4, Src: netip.MustParsePrefix("10.0.0.0/8"), Dst: netip.MustParsePrefix("192.0.2.1/32"),
				Protocol: 6, SrcPorts: classify.PortRange{Lo: 1024, Hi: 65535}, DstPorts: classify.PortRange{Lo: 443, Hi: 443}},
			{Port: "wan0.12", VLAN: 4094, Family: 6, Protocol: 58},
			{VLAN: -1, Family: 6, Dst: netip.MustParsePrefix("2001:db8::/32"), Protocol: -1, DstPorts: classify.PortRange{Lo: 53, Hi: 53}},
			MatchAll(),
		},
		Functions: []FunctionSpec{
			{Name: "acl", Module: "conf/fw/acl.wasm", Config: config},
			{Name: "second", Module: "/opt/acl.wasm", ConfigFile: "conf/chains/acl.json", Fault: FaultOpen},
			{Name: "third", Module: "conf/chains/acl.wasm", Config: config},
			{Name: "fourth", Module: "conf/chains/acl.wasm", Config: []byte("{}")},
		},
		Return: &Return{
			Functions: []string{"third", "acl"},
			Match: []Match{
				{Port: "dmz", VLAN: -1, Family: 4, Src: netip.MustParsePrefix("192.0.2.0/24"), Protocol: -1},
				{VLAN: 7, Protocol: -1},
			},
			Egress: "in",
		},
		Egress: "out", Budget: 500 * time.Microsecond, Flows: 1000, Unmatched: UnmatchedDrop,
	}
	if d := cmp.Diff(want, got, prefixes); d != "" {
		t.Errorf("spec (-want +got):\n%s", d)
	}
}

func TestParseDefaults(t *testing.T) {
	got, err := Parse("x.yaml", []byte("{apiVersion: sfc/v1, kind: Chain, metadata: {name: a, tenant: b}, spec: {functions: [], egress: out}}"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Spec{Name: "a", Tenant: "b", Egress: "out", Budget: time.Millisecond, Flows: DefaultFlows}, got, prefixes); d != "" {
		t.Errorf("spec (-want +got):\n%s", d)
	}
}

// However the same way back is written, the specs are equal.
func TestParseReturn(t *testing.T) {
	mirrored := &Return{Functions: []string{"hop", "acl"}}
	tests := []struct {
		text string
		want *Return
	}{
		{"none", nil},
		{"mirrored", mirrored},
		{"{}", mirrored},
		{"{functions: [hop, acl], match: []}", mirrored},
		{"{functions: []}", &Return{}},
		{"{functions: [acl], match: [{}]}", &Return{Functions: []string{"acl"}, Match: []Match{MatchAll()}}},
	}
	for _, tt := range tests {
		for _, text := range []string{
			base + "  return: " + tt.text + "\n",
			strings.Replace(base, "spec:\n", "spec:\n  return: "+tt.text+"\n", 1), // before the functions
		} {
			got, err := Parse("x.yaml", []byte(text))
			if err != nil {
				t.Errorf("%s: %v", tt.text, err)
			} else if d := cmp.Diff(tt.want, got.Return, prefixes); d != "" {
				t.Errorf("%s (-want +got):\n%s", tt.text, d)
			}
		}
	}
}

// base is a good chain file; tests replace one line of it.
const base = `apiVersion: sfc/v1
kind: Chain
metadata:
  name: edge
  tenant: demo
spec:
  match:
    - {port: in}
  functions:
    - module: acl.wasm
    - module: hop.wasm
  egress: out
`

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name string
		line string // the line of base to replace, or "" to append
		with string
		want string
	}{
		{"unknown field at the top", "", "metdata: {}", `edge.yaml:13:1: metdata: field is unknown; did you mean "metadata"?`},
		{"unknown field of a function", "    - module: hop.wasm", "    - {module: hop.wasm, falt: open}", `edge.yaml:11:26: spec.functions[1].falt: field is unknown; did you mean "fault"? (known: name, module, config, configFile, fault)`},
		{"unknown field with nothing near", "  tenant: demo", "  tenant: demo\n  labels: {}", "edge.yaml:6:3: metadata.labels: field is unknown; known: name, tenant"},
		{"letter case", "  egress: out", "  Egress: out", `spec.Egress: field is unknown; did you mean "egress"?`},
		{"missing field", "  egress: out", "", "edge.yaml:7:3: spec.egress: field is missing"},
		{"wrong version", "apiVersion: sfc/v1", "apiVersion: sfc/v2", `edge.yaml:1:13: apiVersion: "sfc/v2" is unknown; write apiVersion: sfc/v1`},
		{"wrong kind", "kind: Chain", "kind: Pod", `"Pod" is unknown; write kind: Chain`},
		{"wrong type: number for text", "  name: edge", "  name: 12", "edge.yaml:4:9: metadata.name: 12 is an integer; put it in quotes"},
		{"wrong type: text for object", "metadata:", "metadata: x\nother:", `metadata: "x" is text; give an object`},
		{"wrong type: object for list", "    - {port: in}", "    port: in", "edge.yaml:8:5: spec.match: is an object; give a list"},
		{"wrong type: nothing for list", "    - {port: in}", "", "spec.match: is empty; give a list or remove the field"},
		{"wrong type: text for number", "  egress: out", "  egress: out\n  priority: high", `edge.yaml:13:13: spec.priority: "high" is text; give an integer`},
		{"number out of range", "  egress: out", "  egress: out\n  priority: 1000001", "1000001 is not a decimal number in range; give one between -1000000 and 1000000"},
		{"octal", "    - {port: in}", "    - {vlan: 0100}", "0100 is not a decimal number"},
		{"name", "  name: edge", "  name: Edge_1", `metadata.name: "Edge_1" is not a name; use 1 to 63 of a-z`},
		{"duplicate key", "  egress: out", "  egress: out\n  egress: in", "edge.yaml:13:3: spec.egress: field is given twice, first in line 12; remove one"},
		{"duplicate key in a config", "    - module: hop.wasm", "    - {module: hop.wasm, config: {a: 1, a: 2}}", "spec.functions[1].config.a: field is given twice"},
		{"duplicate function", "    - module: hop.wasm", "    - module: other/acl.wasm", `edge.yaml:11:7: spec.functions[1].name: function "acl" is there already, in line 10; give this one a name of its own`},
		{"name from the module", "    - module: hop.wasm", "    - module: My_Hop.wasm", `edge.yaml:11:15: spec.functions[1].module: function cannot be named "My_Hop" after its module; give it a name`},
		{"fault policy", "    - module: hop.wasm", "    - {module: hop.wasm, fault: opne}", `spec.functions[1].fault: "opne" is unknown; did you mean "open"?`},
		{"both configs", "    - module: hop.wasm", "    - {module: hop.wasm, config: {}, configFile: a}", "config is given too; keep one"},
		{"config that is no object", "    - module: hop.wasm", "    - {module: hop.wasm, config: [1]}", "spec.functions[1].config: is a list; give an object"},
		{"config with infinity", "    - module: hop.wasm", "    - {module: hop.wasm, config: {rate: .inf}}", "config.rate: .inf is no number of JSON"},
		{"config with hexadecimal", "    - module: hop.wasm", "    - {module: hop.wasm, config: {rate: 0x10}}", "0x10 is no number of JSON; write it in decimal"},
		{"config with a number for a field name", "    - module: hop.wasm", "    - {module: hop.wasm, config: {53: a}}", `edge.yaml:11:35: spec.functions[1].config: field name "53" is not text; put it in quotes`},
		{"empty module", "    - module: hop.wasm", `    - module: ""`, `"" is not a path`},
		{"unmatched", "  egress: out", "  egress: out\n  unmatched: unset", `"unset" is unknown; known: pass, forward, drop`},
		{"budget without unit", "  egress: out", "  egress: out\n  budget: 5", "spec.budget: 5 has no unit; give a duration between 100µs and 100ms, such as 1ms"},
		{"budget too long", "  egress: out", "  egress: out\n  budget: 1s", "spec.budget: 1s is out of range"},
		{"budget too short", "  egress: out", "  egress: out\n  budget: 99us", "spec.budget: 99µs is out of range"},
		{"budget nonsense", "  egress: out", "  egress: out\n  budget: soon", `"soon" is not a duration`},
		{"port", "    - {port: in}", "    - {port: a/b}", `"a/b" is not a port's name`},
		{"vlan", "    - {port: in}", "    - {vlan: 4095}", "give one between 0 and 4094"},
		{"return", "", "  return: mirored", `edge.yaml:13:11: spec.return: "mirored" is unknown; did you mean "mirrored"? (known: none, mirrored)`},
		{"return that is a list", "", "  return: [acl]", "edge.yaml:13:11: spec.return: is a list; write none, mirrored or an object with functions, match and egress"},
		{"return that is nothing", "", "  return:", "spec.return: is empty; write none, mirrored"},
		{"unknown field of a return", "", "  return: {function: []}", `spec.return.function: field is unknown; did you mean "functions"? (known: functions, match, egress)`},
		{"return through a stranger", "", "  return: {functions: [hop, alc]}", `edge.yaml:13:29: spec.return.functions[1]: "alc" is not a function of the chain; did you mean "acl"? (known: acl, hop)`},
		{"return through a function twice", "", "  return: {functions: [hop, hop]}", `spec.return.functions[1]: function "hop" is passed twice; name it once`},
		{"return through a number", "", "  return: {functions: [7]}", "spec.return.functions[0]: 7 is an integer; put it in quotes"},
		{"match of a return", "", "  return: {match: [{prot: in}]}", `spec.return.match[0].prot: field is unknown; did you mean "port"?`},
		{"egress of a return", "", "  return: {egress: a/b}", `spec.return.egress: "a/b" is not a port's name`},
		{"prefix", "    - {port: in}", "    - {src: 10.0.0.0/33}", `edge.yaml:8:13: spec.match[0].src: "10.0.0.0/33" is not an address or prefix`},
		{"prefix with host bits", "    - {port: in}", "    - {src: 10.1.2.3/8}", "bits set behind the prefix; write 10.0.0.0/8 or 10.1.2.3/32"},
		{"mapped address", "    - {port: in}", `    - {src: "::ffff:10.0.0.1"}`, "write the IPv4 address 10.0.0.1"},
		{"zone", "    - {port: in}", `    - {src: "fe80::1%eth0"}`, "is not an address or prefix"},
		{"two families", "    - {port: in}", `    - {src: 10.0.0.0/8, dst: "2001:db8::/32"}`, `"2001:db8::/32" is IPv6 in a match of IPv4`},
		{"family against prefix", "    - {port: in}", "    - {src: 10.0.0.0/8, family: ipv6}", "is IPv4 in a match of IPv6"},
		{"protocol", "    - {port: in}", "    - {protocol: tpc}", `"tpc" is unknown; did you mean "tcp"?`},
		{"protocol number", "    - {port: in}", "    - {protocol: 256}", "give one between 0 and 255"},
		{"ports of a protocol without", "    - {port: in}", "    - {protocol: icmp, dstPorts: 53}", "protocol 1 has no ports"},
		{"port range backwards", "    - {port: in}", "    - {protocol: tcp, dstPorts: 20-10}", "range 20-10 is empty; write 10-20"},
		{"port too high", "    - {port: in}", "    - {protocol: tcp, dstPorts: 65536}", `"65536" is not a port or range`},
		{"port zero", "    - {port: in}", "    - {protocol: tcp, dstPorts: 0}", "port 0 alone cannot be matched"},
		{"two documents", "", "---\nkind: Chain", "edge.yaml:13:1: a second document starts here; write one chain per file"},
		{"syntax", "  tenant: demo", "  tenant: [demo", "edge.yaml:5: did not find expected ',' or ']'"},
		{"syntax at the start", "apiVersion: sfc/v1", "apiVersion: [", "edge.yaml:3: did not find expected"},
		{"tab", "  tenant: demo", "\ttenant: demo", "edge.yaml:4: found a tab character that violates indentation"},
		{"unknown anchor", "  tenant: demo", "  tenant: *demo", "edge.yaml:5:11: unknown anchor 'demo' referenced"},
		{"merge key", "    - {port: in}", "    - <<: {port: in}", "spec.match[0].<<: merge keys are not read"},
		{"cycle", "    - module: hop.wasm", "    - {module: hop.wasm, config: &c {a: *c}}", "edge.yaml:11:41: spec.functions[1].config.a.a: alias *c stands inside its own anchor"},
		{"unknown tag", "  name: edge", "  name: !label edge", `edge.yaml:4:9: metadata.name: tag "!label" is unknown`},
		{"binary", "  name: edge", "  name: !!binary ZWRnZQ==", `tag "!!binary" is unknown`},
		{"tag on an object", "metadata:", "metadata: !meta", `tag "!meta" is unknown`},
		{"false boolean", "    - module: hop.wasm", "    - {module: hop.wasm, config: {a: !!bool maybe}}", `"maybe" is no boolean`},
		{"too many functions", "    - module: hop.wasm", functionLines(17), "list has 18 elements; give at most 16"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := base + tt.with + "\n"
			if tt.line != "" {
				text = strings.Replace(base, tt.line, tt.with, 1)
			}
			if text == base {
				t.Fatal("the test changes nothing")
			}
			_, err := Parse("edge.yaml", []byte(text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is\n  %v\nwant one with\n  %s", err, tt.want)
			}
			var p *Problem
			if !errors.As(err, &p) || p.File != "edge.yaml" || p.Line == 0 || p.Cure == "" {
				t.Errorf("problem lacks file, line or cure: %#v", p)
			}
		})
	}
	if _, err := Parse("edge.yaml", []byte(base)); err != nil {
		t.Errorf("the file the tests start from: %v", err)
	}
}

func functionLines(n int) string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("    - {name: f%d, module: f.wasm}", i))
	}
	return strings.Join(lines, "\n")
}

func TestParseReportsEverything(t *testing.T) {
	_, err := Parse("edge.yaml", []byte("kind: Pod\nmetadata: {name: A, tenant: b}\nspec: {egress: 1, functions: {}}\n"))
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != 5 {
		t.Fatalf("%d problems, want 5:\n%v", len(ps), err)
	}
	for i := 1; i < len(ps); i++ {
		if ps[i].Line < ps[i-1].Line {
			t.Errorf("problems are out of order:\n%v", err)
		}
	}
}

// Short files that describe much must neither take long nor be accepted.
func TestParseHostile(t *testing.T) {
	laughs := strings.Builder{}
	laughs.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&laughs, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	long := strings.Repeat("x", 500_000)
	tests := []struct{ name, text, want string }{
		{"billion laughs", laughs.String(), "file describes more than 131072 values, aliases expanded"},
		{"long text many times", strings.Replace(base, "    - module: hop.wasm", "    - {module: hop.wasm, config: {a: &a "+long+", b: [*a, *a, *a, *a]}}", 1), "configuration is longer than 1048576 bytes of JSON"},
		{"deep", strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "nested more than 64 deep"},
		{"deep blocks", strings.Repeat("- ", 3000), "nested more than 64 deep"},
		{"too long", strings.Repeat("#", MaxFile+1), "file has more than 1048576 bytes"},
		{"empty", "", "file is empty"},
		{"comment", "# nothing\n", "file is empty"},
		{"not text", "\x00\x01\x02", "control characters are not allowed"},
		{"wasm", "\x00asm\x01\x00\x00\x00", "control characters are not allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse("x.yaml", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %.300v, want one with %q", err, tt.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write("edge.yaml", strings.Replace(base, "hop.wasm", "hop.wasm\n      configFile: hop.json", 1))
	tests := []struct{ name, config, want string }{
		{"array", " [1]", `hop.json:1:4: configuration is not a JSON object; write one JSON object`},
		{"syntax", "{\n  \"a\": tru\n}", `hop.json:3:1: invalid character '\n' in literal true`},
		{"cut", `{"a": 1`, "breaks off"},
		{"empty", "", "configuration is empty"},
		{"two", `{} {}`, "something follows the JSON object"},
		{"rubbish behind", `{} x`, "something follows the JSON object"},
		{"long", `{"a":"` + strings.Repeat("x", 1<<20) + `"}`, "more than 1048576"},
	}
	for _, tt := range tests {
		write("hop.json", tt.config)
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "function hop") {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
	write("hop.json", "{ \"decrement\": true }\n")
	spec, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(spec.Functions[1].Config); got != `{"decrement":true}` {
		t.Errorf("config is %s", got)
	}
	if err := os.Remove(filepath.Join(dir, "hop.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing configuration file: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add(base)
	f.Add(base + "  return: mirrored\n")
	f.Add(base + "  return: {functions: [hop], match: [{port: dmz}, {}]}\n")
	f.Add("a: &a [*a]\n---\n")
	f.Add("? {a: b}\n: !!binary c\n<<: *x")
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := Parse("dir/x.yaml", []byte(text))
		if err != nil {
			var ps Problems
			if !errors.As(err, &ps) || len(ps) == 0 || len(ps) > maxProblems+1 {
				t.Fatalf("error is not a list of problems: %#v", err)
			}
			return
		}
		for i := range spec.Functions {
			if spec.Functions[i].ConfigFile != "" {
				spec.Functions[i].Config = []byte("{}")
			}
		}
		// What Parse accepts, Compile must be able to resolve.
		ports := []string{spec.Egress}
		for _, m := range spec.Match {
			ports = append(ports, m.Port)
		}
		if r := spec.Return; r != nil {
			for _, m := range r.Match {
				ports = append(ports, m.Port)
			}
			if r.Egress == "" {
				r.Egress = "spare"
			}
			ports = append(ports, r.Egress)
		}
		ports = unique(append(ports, "spare"))
		if len(ports) > classify.MaxPorts || spec.Unmatched == UnmatchedForward {
			return
		}
		plan, err := Compile([]Spec{spec}, ports, nil)
		if spec.Return != nil && err != nil && strings.Contains(err.Error(), "so their direction is not clear") {
			return
		}
		if err != nil {
			t.Fatalf("parsed, but: %v", err)
		}
		if _, err := classify.Compile(plan.Rules); err != nil {
			t.Fatalf("compiled, but the classifier says: %v", err)
		}
	})
}

func unique(names []string) (out []string) {
	seen := map[string]bool{"": true}
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}
