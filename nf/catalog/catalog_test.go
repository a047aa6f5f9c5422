package catalog_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sfc/nf"
	"sfc/nf/build"
	"sfc/nf/catalog"
	"sfc/nf/native"
)

// compiler is the one that the committed modules are built with.
const compiler = "clang-19"

// The committed modules are what their sources give.
func TestModulesAreFresh(t *testing.T) {
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skipf("%s is not here: apt-get install clang-19 lld-19", compiler)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil { // functions share headers
		t.Fatal(err)
	}
	for _, name := range catalog.Names {
		t.Run(name, func(t *testing.T) {
			path, err := build.Build(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			fresh, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if have, _ := catalog.Module(name); !bytes.Equal(have, fresh) {
				t.Errorf("%s.wasm is not what its sources give: run go generate ./nf/catalog", name)
			}
		})
	}
}

// Every folder is listed, has its page, and has a reference in Go.
func TestCatalogueIsComplete(t *testing.T) {
	if !slices.Equal(catalog.Names, native.Names()) {
		t.Errorf("the catalogue has %v, nf/native %v", catalog.Names, native.Names())
	}
	folders, err := filepath.Glob("*/manifest.json")
	if err != nil || len(folders) != len(catalog.Names) {
		t.Errorf("%d folders for %d functions: %v", len(folders), len(catalog.Names), err)
	}
	for _, name := range catalog.Names {
		if _, err := os.Stat(filepath.Join(name, "README.md")); err != nil {
			t.Error(err)
		}
	}
	if _, ok := catalog.Module("no-such"); ok {
		t.Error("a module that is not in the catalogue")
	}
}

// What a schema refuses, the function refuses too; what the function's page
// gives as an example, both accept.
func TestSchemasAndFunctionsAgree(t *testing.T) {
	accept := map[string][]string{
		"acl": {`{}`, `{"rules":[{"action":"deny","src":"10.0.0.0/8","proto":"tcp","dst_ports":["22",80,"1024-65535"],
			"tcp_flags":{"set":["syn"],"clear":["ack"]}}],"default":"permit"}`, `{"rules":[{"action":"permit","proto":132,"src_ports":7}]}`},
		"dnsguard": {`{}`, `{"block":["ads.example","a.b."],"ports":[53,5353],"action":"count","malformed":"pass"}`},
		"firewall": {`{}`, `{"default":"deny","rules":[{"action":"permit","src":"10.0.0.0/8","proto":"tcp","dst_ports":[443,"8000-8999"]}]}`,
			`{"pickup":"loose","syn_limits":{"per_source":{"rate":10,"burst":100,"count":"half_open","prefix4":24,"prefix6":48,"max":16384,"seed":1},"per_destination":{"rate":1}}}`},
		"flowstat": {`{}`, `{"tcp_rtt":true}`, `{"tcp_rtt":false,"active_timeout":0}`},
		"lb4": {`{"services":[]}`, `{"services":[{"vip":"192.0.2.10","port":443,"proto":"tcp","mode":"nat","hash":"source","backends":[
			{"addr":"10.0.1.1","port":8443,"weight":100,"state":"draining"},{"addr":"10.0.1.2"}]}],"table_size":251,"seed":1,"others":"drop"}`,
			`{"services":[{"vip":"192.0.2.10","mode":"dsr","backends":[{"addr":"10.0.1.1","mac":"02:00:5e:10:00:0A"}]}],"src_mac":"02:00:5e:10:00:01"}`},
		"nat44": {`{"inside":["10.0.0.0/8"],"pool":["203.0.113.0/28","203.0.113.20-203.0.113.30"],"ports":"2000-60000","ports_per_subscriber":512,
			"mapping":"endpoint_independent","filtering":"address_dependent","hairpin":false,"others":"pass"}`,
			`{"inside":["10.0.0.1"],"pool":["203.0.113.1"],"mapping":"address_and_port_dependent"}`},
		"hop": {`{}`, `{"src_mac":"02:00:5e:10:00:01","dst_mac":"02:00:5E:10:00:02","decrement":false}`},
		"ratelimit": {`{"rate":1000}`, `{"rate":1,"unit":"bps","burst":12112,"prefix4":24,"prefix6":48,"max_sources":1,"seed":9223372036854775807,"key":"src"}`,
			`{"key":"flow","rate":1,"also":{"rate":1,"unit":"bps","burst":12112}}`},
	}
	refuse := map[string][]string{
		"acl": {`{"default":"drop"}`, `{"rules":{}}`, `{"rules":[{"src":"10.0.0.0/8"}]}`, `{"rules":[{"action":"deny","proto":256}]}`,
			`{"rules":[{"action":"deny","proto":"tcpp"}]}`, `{"rules":[{"action":"deny","dst_ports":[]}]}`, `{"rules":[{"action":"deny","src":"all"}]}`,
			`{"rules":[{"action":"deny","dst_ports":[1,2,3,4,5,6,7,8,9]}]}`, `{"rules":[{"action":"deny","tcp_flags":{"set":["xmas"]}}]}`},
		"dnsguard": {`{"block":"ads"}`, `{"block":[""]}`, `{"ports":[65536]}`, `{"action":"pass"}`, `{"block":["a b"]}`},
		"firewall": {`{"default":"drop"}`, `{"pickup":"any"}`, `{"syn_limits":{"per_source":{}}}`, `{"syn_limits":{"per_source":{"rate":1,"max":16385}}}`, `{"rules":[{"src":"10.0.0.0/8"}]}`, `{"tcp":true}`, `{"rules":[{"action":"deny","tcp_flags":{"set":["xmas"]}}]}`},
		"flowstat": {`{"tcp_rtt":1}`, `{"tcp_rtt":"true"}`, `{"rtt":true}`, `{"active_timeout":-1}`, `{"active_timeout":86401}`, `[]`},
		"lb4": {`{}`, `{"services":[{}]}`, `{"services":[{"vip":"192.0.2.10"}]}`, `{"services":[{"vip":"2001:db8::1","backends":[]}]}`,
			`{"services":[{"vip":"192.0.2.10","mode":"tunnel","backends":[]}]}`, `{"services":[],"table_size":1}`, `{"services":[],"table_size":70001}`,
			`{"services":[{"vip":"192.0.2.10","backends":[{"addr":"10.0.1.1","weight":101}]}]}`, `{"services":[{"vip":"192.0.2.10","backends":[{"port":80}]}]}`,
			`{"services":[{"vip":"192.0.2.10","backends":[{"addr":"10.0.1.1","state":"dead"}]}]}`},
		"nat44": {`{}`, `{"inside":["10.0.0.0/8"]}`, `{"inside":[],"pool":["203.0.113.1"]}`, `{"inside":["10.0.0.0/8"],"pool":["all"]}`,
			`{"inside":["10.0.0.1-10.0.0.2"],"pool":["203.0.113.1"]}`, `{"inside":["10.0.0.0/8"],"pool":["203.0.113.1"],"ports":"0-1"}`,
			`{"inside":["10.0.0.0/8"],"pool":["203.0.113.1"],"ports":1024}`, `{"inside":["10.0.0.0/8"],"pool":["203.0.113.1"],"mapping":"symmetric"}`,
			`{"inside":["10.0.0.0/8"],"pool":["203.0.113.1"],"ports_per_subscriber":-1}`, `{"inside":["2001:db8::/32"],"pool":["203.0.113.1"]}`},
		"hop":       {`{"src_mac":"02:00:5e:10:00"}`, `{"decrement":"yes"}`, `{"ttl":1}`},
		"ratelimit": {`{}`, `{"rate":0}`, `{"rate":1,"unit":"kbps"}`, `{"rate":1,"prefix6":129}`, `{"rate":1,"max_sources":0}`, `{"rate":1.5}`, `{"rate":1,"also":{}}`, `{"rate":1,"key":"dst"}`},
	}
	rule := `{"action":"permit","src":"2001:db8:ffff:ffff::/64","dst":"2001:db8::/32","proto":"tcp","src_ports":["1024-65535",7],"dst_ports":[80,443],"tcp_flags":{"set":["syn"],"clear":["ack"]}}`
	accept["acl"] = append(accept["acl"], `{"rules":[`+strings.Repeat(rule+",", 1022)+rule+`]}`)
	refuse["acl"] = append(refuse["acl"], `{"rules":[`+strings.Repeat(rule+",", 1023)+rule+`]}`)
	name := `"` + strings.Repeat("a.long.name.", 6) + `example"`
	accept["dnsguard"] = append(accept["dnsguard"], `{"block":[`+strings.Repeat(name+",", 9999)+name+`]}`)
	refuse["dnsguard"] = append(refuse["dnsguard"], `{"block":[`+strings.Repeat(name+",", 10000)+name+`]}`)
	for _, name := range catalog.Names {
		t.Run(name, func(t *testing.T) {
			wasm, _ := catalog.Module(name)
			module, err := nf.Inspect(wasm)
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := nf.ParseManifest(module.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			check := func(config string, want bool) {
				_, err := native.New(name, []byte(config), nil)
				if schema := manifest.CheckConfig([]byte(config)); (schema == nil) != want || (err == nil) != want {
					t.Errorf("%.300s: schema says %v, function %v; accept is %v", config, schema, err, want)
				}
			}
			for _, config := range accept[name] {
				check(config, true)
			}
			for _, config := range refuse[name] {
				check(config, false)
			}
		})
	}
}
