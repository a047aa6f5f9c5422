package nf

import (
	"fmt"
	"strings"
	"testing"
)

const fullManifest = `{
	"name": "acl", "version": "1.2.3-rc.1+build", "abi": 1,
	"flow_state_bytes": 16, "both_directions": true,
	"counters": ["rule_hits", "misses"], "drop_reasons": ["denied"],
	"capabilities": ["log"],
	"config_schema": {
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"type": "object", "required": ["rules"], "additionalProperties": false,
		"properties": {
			"rules": {"type": "array", "maxItems": 1000, "items": {"$ref": "#/$defs/rule"}},
			"log": {"type": "boolean", "default": false}
		},
		"$defs": {
			"rule": {
				"type": "object", "required": ["action"], "additionalProperties": false,
				"properties": {
					"action": {"enum": ["permit", "deny"]},
					"src": {"type": "string", "format": "ip-prefix"},
					"proto": {"anyOf": [{"enum": ["tcp", "udp"]}, {"type": "integer", "minimum": 0, "maximum": 255}]},
					"ports": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"$ref": "#/$defs/port"}},
					"note": {"type": "string", "maxLength": 8, "pattern": "^[a-z]*$"},
					"a b/c~d": {"type": "object", "properties": {"inner": {"const": 1}}, "additionalProperties": false}
				}
			},
			"port": {"type": "integer", "minimum": 0, "maximum": 65535}
		}
	}
}`

func TestParseManifest(t *testing.T) {
	m, err := ParseManifest([]byte(fullManifest))
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "acl" || m.Version != "1.2.3-rc.1+build" || m.ABI != 1 || m.FlowStateBytes != 16 || !m.BothDirections ||
		len(m.Counters) != 2 || m.DropReasons[0] != "denied" || m.Capabilities[0] != "log" || len(m.ConfigSchema) == 0 {
		t.Errorf("got %+v", m)
	}
	if _, err := ParseManifest([]byte(`{"name":"a","version":"0.0.0","abi":1}`)); err != nil {
		t.Errorf("the smallest manifest: %v", err)
	}
}

func TestParseManifestRefuses(t *testing.T) {
	many := func(n int, format string) string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(names, ",")
	}
	with := func(fields string) string { return `{"name":"a","version":"1.0.0","abi":1,` + fields + `}` }
	schema := func(s string) string { return with(`"config_schema":` + s) }
	for _, tt := range []struct {
		name, in string
		kind     error
		want     string
	}{
		{"empty", ``, ErrManifest, "JSON ends too early"},
		{"too long", strings.Repeat(" ", ManifestMax+1), ErrManifest, "manifest of 262145 bytes: at most 262144"},
		{"not UTF-8", "{\"name\":\"\xff\"}", ErrManifest, "not UTF-8"},
		{"array", `[]`, ErrManifest, "[] is not an object"},
		{"null", `null`, ErrManifest, "null is not an object"},
		{"two values", with(`"counters":[]`) + `{}`, ErrManifest, "data after the JSON value"},
		{"field twice", with(`"abi":1`), ErrManifest, "manifest.abi: given twice"},
		{"other ABI", `{"abi":2,"future":{}}`, ErrABI, "manifest: abi 2: this engine runs ABI version 1"},
		{"ABI a string", `{"name":"a","version":"1.0.0","abi":"1"}`, ErrManifest, `manifest: abi is "1": give an integer`},
		{"ABI a fraction", `{"name":"a","version":"1.0.0","abi":1.5}`, ErrManifest, `manifest: abi is 1.5: give an integer`},
		{"no name", `{"version":"1.0.0","abi":1}`, ErrManifest, `manifest: no field "name": add it: a string`},
		{"no version", `{"name":"a","abi":1}`, ErrManifest, `manifest: no field "version"`},
		{"no abi", `{"name":"a","version":"1.0.0"}`, ErrManifest, `manifest: no field "abi"`},
		{"null name", `{"name":null,"version":"1.0.0","abi":1}`, ErrManifest, "name is null: give a string"},
		{"name upper case", `{"name":"ACL","version":"1.0.0","abi":1}`, ErrManifest, `name "ACL": use 1 to 63 lower-case`},
		{"name too long", `{"name":"` + strings.Repeat("a", 64) + `","version":"1.0.0","abi":1}`, ErrManifest, "RFC 1123"},
		{"version with v", `{"name":"a","version":"v1.0.0","abi":1}`, ErrManifest, `version "v1.0.0": use a semantic version`},
		{"unknown field", with(`"drop_reason":["a"]`), ErrManifest, `unknown field "drop_reason": did you mean "drop_reasons"?`},
		{"unlike any field", with(`"xyzzy":1`), ErrManifest, `unknown field "xyzzy": known: abi, both_directions, capabilities`},
		{"state odd", with(`"flow_state_bytes":12`), ErrManifest, "flow_state_bytes 12: use a multiple of 8 from 0 to 4096"},
		{"state too large", with(`"flow_state_bytes":4104`), ErrManifest, "flow_state_bytes 4104"},
		{"state negative", with(`"flow_state_bytes":-8`), ErrManifest, "flow_state_bytes -8"},
		{"directions without state", with(`"both_directions":true`), ErrManifest, "both_directions without flow state"},
		{"condition without state", with(`"flow_state_when":{"key":"flow"}`), ErrManifest, "flow_state_when without flow state"},
		{"condition not strings", with(`"flow_state_bytes":8,"flow_state_when":{"key":1}`), ErrManifest, "give an object of strings"},
		{"condition name", with(`"flow_state_bytes":8,"flow_state_when":{"Key":"a"}`), ErrManifest, `flow_state_when "Key": "a": use field names`},
		{"condition long", with(`"flow_state_bytes":8,"flow_state_when":{` + many(9, `"k%d":"a"`) + `}`), ErrManifest, "flow_state_when: 9 fields"},
		{"layout without state", with(`"flow_state_layout":"a/1"`), ErrManifest, "flow_state_layout without flow state"},
		{"layout name", with(`"flow_state_bytes":8,"flow_state_layout":"A 1"`), ErrManifest, `flow_state_layout "A 1": use 1 to 63 of a-z`},
		{"live not bool", with(`"live_configure":1`), ErrManifest, "live_configure is 1: give true or false"},
		{"counters not strings", with(`"counters":[1]`), ErrManifest, "counters is [1]: give an array of strings"},
		{"counters null inside", with(`"counters":["a",null]`), ErrManifest, "give an array of strings"},
		{"counter syntax", with(`"counters":["Hits"]`), ErrManifest, `counters[0] "Hits": use 1 to 63 of a-z`},
		{"counter twice", with(`"counters":["a","b","a"]`), ErrManifest, `counters[2]: "a" twice`},
		{"too many counters", with(`"counters":[` + many(513, `"c%d"`) + `]`), ErrManifest, "counters: 513 names: at most 512"},
		{"too many reasons", with(`"drop_reasons":[` + many(64, `"r%d"`) + `]`), ErrManifest, "drop_reasons: 64 names: at most 63"},
		{"capability", with(`"capabilities":["logs"]`), ErrManifest, `unknown capability "logs": did you mean "log"?`},
		{"capability twice", with(`"capabilities":["log","log"]`), ErrManifest, `capabilities[1]: "log" twice`},
		{"schema true", schema(`true`), ErrManifest, "config_schema is true: give an object"},
		{"schema keyword", schema(`{"properties":{"a":{"maxlength":3}}}`), ErrManifest, `config_schema.properties.a: keyword "maxlength" is not supported: did you mean "maxLength"?`},
		{"schema type", schema(`{"type":"int"}`), ErrManifest, `config_schema.type: "int"`},
		{"schema wrong value", schema(`{"minItems":-1}`), ErrManifest, "config_schema.minItems: -1: must be at least 0"},
		{"schema remote", schema(`{"$ref":"https://example.com/s.json"}`), ErrManifest, `reference "https://example.com/s.json": only #/$defs/NAME is followed`},
		{"schema dangling", schema(`{"$ref":"#/$defs/rul","$defs":{"rule":{}}}`), ErrManifest, `definition "rul" that does not exist: did you mean "rule"?`},
		{"schema recursive", schema(`{"$defs":{"a":{"items":{"$ref":"#/$defs/b"}},"b":{"items":{"$ref":"#/$defs/a"}}}}`), ErrManifest, "contains itself"},
		{"schema of itself", schema(`{"items":{"$ref":"#"}}`), ErrManifest, `reference "#"`},
		{"schema other dialect", schema(`{"$schema":"http://json-schema.org/draft-07/schema#"}`), ErrManifest, "use https://json-schema.org/draft/2020-12/schema"},
		{"schema with id", schema(`{"$id":"http://example.com"}`), ErrManifest, `keyword "$id" is not supported`},
		{"schema defs below", schema(`{"items":{"$defs":{}}}`), ErrManifest, "$defs below the top"},
		{"schema pattern", schema(`{"pattern":"(?=x)"}`), ErrManifest, "use Go's syntax (RE2)"},
		{"schema pattern name", schema(`{"patternProperties":{"[":{}}}`), ErrManifest, "use Go's syntax (RE2)"},
		{"schema pattern long", schema(`{"pattern":"` + strings.Repeat("a", 513) + `"}`), ErrManifest, "pattern of 513 characters"},
		{"schema pattern explodes", schema(`{"pattern":"((a{30}){30}){30}"}`), ErrManifest, "pattern"},
		{"schema patterns add up", schema(`{"allOf":[` + many(9, `{"pattern":"a{1,250}b{1,25%d}"}`) + `]}`), ErrManifest, "config_schema takes too many steps"},
		{"schema format", schema(`{"format":"ip"}`), ErrManifest, `format "ip" is not checked: known: hostname, ip-prefix, ipv4, ipv6`},
		{"schema enum long", schema(`{"enum":[` + many(5000, `%d`) + `]}`), ErrManifest, "takes too many steps"},
		{"schema deep", schema(strings.Repeat(`{"items":`, 70) + `{}` + strings.Repeat(`}`, 70)), ErrManifest, "nested deeper than 64"},
		{"schema number", schema(`{"maximum":1e999999999}`), ErrManifest, "config_schema.maximum: 1e999999999 is too long a number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseManifest([]byte(tt.in))
			wantRefusal(t, err, tt.kind, tt.want)
		})
	}
}

// Everything wrong is reported at once.
func TestParseManifestReportsAll(t *testing.T) {
	_, err := ParseManifest([]byte(`{"name":"A","version":"1","abi":1,"flow_state_bytes":1,"counters":["A","B"]}`))
	if got := Refusals(err); len(got) != 5 {
		t.Errorf("%d errors, want 5: %v", len(got), err)
	}
}
