package nf

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func mustManifest(tb testing.TB, text string) *Manifest {
	tb.Helper()
	m, err := ParseManifest([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func withSchema(schema string) string {
	return `{"name":"a","version":"1.0.0","abi":1,"config_schema":` + schema + `}`
}

func TestCheckConfig(t *testing.T) {
	m := mustManifest(t, fullManifest)
	for _, ok := range []string{
		`{"rules":[]}`,
		`{"rules":[{"action":"deny","src":"2001:db8::/32","proto":"tcp","ports":[0,65535],"note":"abc"},{"action":"permit","proto":47}],"log":true}`,
	} {
		if err := m.CheckConfig([]byte(ok)); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, tt := range []struct{ name, in, want string }{
		{"empty counts as {}", ``, `config: no field "rules": it is required`},
		{"not JSON", `{"rules":[}`, "config is not JSON: line 1, column"},
		{"second line", "{\n  \"rules\": nil}", "config is not JSON: line 2, column"},
		{"field twice", `{"rules":[],"rules":[]}`, "config.rules: given twice"},
		{"field twice inside", `{"rules":[{},{"action":"deny","action":"permit"}]}`, "config.rules[1].action: given twice"},
		{"number", `{"rules":[{"proto":1e400}]}`, "config.rules[0].proto: 1e400 is too long a number"},
		{"too long", strings.Repeat(" ", ConfigMax) + "{}", "config of 1048578 bytes: at most 1048576"},
		{"type", `{"rules":{}}`, "config.rules: {}: must be of type array"},
		{"enum", `{"rules":[{"action":"permit"},{"action":"drop"}]}`, `config.rules[1].action: "drop": must be one of "permit", "deny"`},
		{"unknown field", `{"rules":[{"action":"deny","prto":"tcp"}]}`, `config.rules[0]: unknown field "prto": did you mean "proto"?`},
		{"format", `{"rules":[{"action":"deny","src":"10.0.0.0/33"}]}`, `config.rules[0].src: "10.0.0.0/33": must be of format ip-prefix`},
		{"maximum", `{"rules":[{"action":"deny","ports":[1,65536]}]}`, "config.rules[0].ports[1]: 65536: must be at most 65535"},
		{"items", `{"rules":[{"action":"deny","ports":[1]}]}`, "config.rules[0].ports: an array of 1 elements: must have at least 2 elements, has 1"},
		{"pattern", `{"rules":[{"action":"deny","note":"A"}]}`, `note: "A": must match ^[a-z]*$`},
		{"length", `{"rules":[{"action":"deny","note":"abcdefghi"}]}`, `must have at most 8 characters, has 9`},
		{"alternatives", `{"rules":[{"action":"deny","proto":"icmp"}]}`, `config.rules[0].proto: "icmp": must be of type integer, or must be one of "tcp", "udp"`},
		{"odd names", `{"rules":[{"action":"deny","a b/c~d":{"iner":1}}]}`, `config.rules[0]["a b/c~d"]: unknown field "iner": did you mean "inner"?`},
		{"control characters", "{\"rules\":[{\"action\":\"\\u001b[2J\u009b\"}]}", `"\x1b[2J\u009b"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantRefusal(t, m.CheckConfig([]byte(tt.in)), ErrConfig, tt.want)
		})
	}
}

func TestCheckConfigWithoutSchema(t *testing.T) {
	m := mustManifest(t, `{"name":"hop","version":"1.0.0","abi":1}`)
	for _, ok := range []string{"", "{}", " { } "} {
		if err := m.CheckConfig([]byte(ok)); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	wantRefusal(t, m.CheckConfig([]byte(`{"a":1}`)), ErrConfig, `config an object of 1 fields: function "hop" takes no configuration`)
	wantRefusal(t, m.CheckConfig([]byte(`7`)), ErrConfig, "config 7")
}

// Errors come in the document's order, each once, a bounded number of them.
func TestCheckConfigOrder(t *testing.T) {
	m := mustManifest(t, fullManifest)
	rules := strings.TrimSuffix(strings.Repeat(`{"action":"x"},`, 1000), ",")
	first := m.CheckConfig([]byte(`{"rules":[` + rules + `]}`))
	errs := Refusals(first)
	if len(errs) != 17 {
		t.Fatalf("%d errors, want 16 and a count", len(errs))
	}
	for i, e := range errs[:16] {
		if want := fmt.Sprintf("config.rules[%d].action: ", i); !strings.HasPrefix(e.Error(), want) {
			t.Errorf("error %d is %q, want %q", i, e, want)
		}
	}
	if !strings.Contains(errs[16].Error(), "984 more errors") {
		t.Errorf("last error %q", errs[16])
	}
	for range 20 {
		if again := m.CheckConfig([]byte(`{"rules":[` + rules + `]}`)); again.Error() != first.Error() {
			t.Fatalf("got %q, then %q", first, again)
		}
	}
}

// The dearest configurations are refused, or checked in seconds. Those here
// take a thirty-second of what is allowed.
func TestCheckConfigIsBounded(t *testing.T) {
	long := `["` + strings.Repeat("a", ConfigMax/32) + `"]`
	pattern := `{"items":{"pattern":"(a|a|a){1,60}(a?){60}$b"}}`
	array := func(n int) string { return `[` + strings.TrimSuffix(strings.Repeat("1,", n), ",") + `]` }
	alternatives := `{"items":{"anyOf":[` + strings.TrimSuffix(strings.Repeat(`{"minimum":2,"multipleOf":0.37},`, 100), ",") + `]}}`
	for _, tt := range []struct{ name, schema, config string }{
		{"pattern", pattern, long},
		{"alternatives", alternatives, array(maxSteps / 304 / 32)},
		{"alternatives of too many", alternatives, array(maxSteps / 304)},
		{"unique", `{"uniqueItems":true}`, array(100_000)},
		{"nested", `{}`, strings.Repeat("[", 60) + array(100_000) + strings.Repeat("]", 60)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := mustManifest(t, withSchema(tt.schema))
			start := time.Now()
			err := m.CheckConfig([]byte(tt.config))
			took := time.Since(start)
			t.Logf("cost %+v, %d bytes: %v, %d errors", m.schema.cost, len(tt.config), took, len(Refusals(err)))
			if took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
