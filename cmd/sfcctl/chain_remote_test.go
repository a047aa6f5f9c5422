package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
)

// A chain names functions by version, alias, digest, or file, and says which of
// them it cannot have.
func TestChainCreate(t *testing.T) {
	d := acme(t)
	module, other := moduleFile(t, "flowstat", "1.0.0"), moduleFile(t, "flowstat", "1.1.0")
	d.fails([]string{"chain", "create", "-f", chainOf(t, "edge", "module: "+module)},
		"module "+module+" is not stored for tenant acme: sfcctl nf deploy "+module+" --tenant acme")
	d.ok("nf", "deploy", module)
	d.ok(words("nf alias set flowstat prod=1.0.0")...)
	var f api.List[api.Function]
	d.read(&f, "nf", "list")
	digest := f.Items[0].Spec.Digest
	for name, ref := range map[string]string{"path": module, "version": "flowstat@1.0.0", "alias": "flowstat@prod", "digest": digest} {
		file := chainOf(t, name, "{name: stat, module: "+ref+"}")
		d.says([]string{"chain", "create", "-f", file}, "chain acme/"+name+": created and active after ")
		d.says([]string{"chain", "create", "-f", file}, "active") // again
		d.says([]string{"chain", "describe", name}, "Chain: acme/"+name, "Active: yes", "Generation: 1, in force 1",
			"FUNCTION MODULE VERSION DIGEST STATE CANARY MESSAGE", " 1.0.0 "+digest[7:19]+" running", "Ready True Active")
	}
	d.fails([]string{"chain", "create", "-f", chainOf(t, "path", "module: "+module, "{name: again, module: flowstat@prod}")}, "conflict", `"path" exists already`, "sfcctl chain update")
	d.says(words("chain list"), "CHAIN FUNCTIONS EGRESS ACTIVE READY AGE", "alias stat out yes True ", "path stat out yes True ")
	var c api.Chain
	if d.read(&c, "chain", "create", "-f", chainOf(t, "digest", "{name: stat, module: "+digest+"}")); !c.Status.Active || c.Spec.Functions[0].Module != digest {
		t.Errorf("%+v", c)
	}
	if d.read(&c, "chain", "list"); d.ok("chain", "get", "alias") == "" {
		t.Error("get prints nothing")
	}
	d.fails([]string{"chain", "create", "-f", chainOf(t, "x", "module: "+other)}, "is not stored for tenant acme")
	d.fails([]string{"chain", "create", "-f", chainOf(t, "x", "module: flowstat@9.9.9")}, "chain acme/x is not ready: FunctionNotFound", "9.9.9")
	d.fails([]string{"chain", "create", "-f", chainOf(t, "y", "module: flowstat@dev")}, "chain acme/y is not ready", "dev")
	d.says(words("chain delete x y path version alias digest"), "chain acme/x deleted", "chain acme/digest deleted")
	d.fails(words("chain delete path"), "path", "not found")
	d.fails(words("chain describe path"), "path", "not found")
}

// What is wrong in a chain file is named by its field, before anything is sent or
// by the daemon.
func TestChainFileErrors(t *testing.T) {
	d := acme(t)
	d.ok("nf", "deploy", moduleFile(t, "flowstat", "1.0.0"))
	for function, want := range map[string]string{
		"{module: flowstat@1.0.0, confg: {}}":                                        "confg",
		"{module: flowstat@1.0.0, fault: half}":                                      "functions[0].fault",
		"{name: a, module: flowstat@1.0.0}\n    - {name: a, module: flowstat@1.0.0}": "functions[1].name",
	} {
		d.fails([]string{"chain", "create", "-f", chainOf(t, "edge", function)}, want)
	}
	d.fails(words("chain create -f /nowhere.yaml"), "/nowhere.yaml", "no such file")
	file := chainOf(t, "edge", "module: flowstat@1.0.0")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	nowhere := writeFile(t, "port.yaml", []byte(strings.Replace(string(text), "egress: out", "egress: wan", 1)))
	d.fails([]string{"chain", "create", "-f", nowhere}, "chain acme/edge is not ready: PortNotFound", "no port wan is attached: attach it or name another")
	if got := d.run("chain", "create"); got.status != exitUsage || !strings.Contains(got.stderr, "missing flag --file: chain file") {
		t.Errorf("%+v", got)
	}
	ghost := writeFile(t, "ghost.yaml", []byte(strings.Replace(string(text), "tenant: acme", "tenant: ghost", 1)))
	d.fails([]string{"chain", "create", "-f", ghost}, "ghost", "not found")
}

// An update changes what differs, under the same name, and waits until it is in
// force; what the data plane refuses is told with its reason, and what ran before
// goes on.
func TestChainUpdate(t *testing.T) {
	d := acme(t)
	d.ok("nf", "deploy", moduleFile(t, "flowstat", "1.0.0"))
	d.fails([]string{"chain", "update", "-f", chainOf(t, "edge", "module: flowstat@1.0.0")}, "edge", "not found")
	d.ok("chain", "create", "-f", chainOf(t, "edge", "module: flowstat@1.0.0"))
	changed := chainOf(t, "edge", "{module: flowstat@1.0.0, config: {tcp_rtt: true}}")
	d.says([]string{"chain", "update", "-f", changed}, "chain acme/edge: updated and active after ")
	var c api.Chain
	if d.read(&c, "chain", "update", "-f", changed); c.Metadata.Generation != 2 || c.Status.ObservedGeneration != 2 || string(c.Spec.Functions[0].Config) == "" {
		t.Errorf("%+v", c)
	}
	d.plane.mu.Lock()
	sent := string(d.plane.chains[0].Spec)
	d.plane.mu.Unlock()
	if !strings.Contains(sent, `"tcp_rtt":true`) {
		t.Errorf("sent: %s", sent)
	}
	d.plane.set(func() {
		d.plane.refuse = func(*plane.Chain) (string, string) { return "ConfigRefused", "function flowstat: code 7" }
	})
	start := time.Now()
	d.fails([]string{"chain", "update", "-f", chainOf(t, "edge", "{module: flowstat@1.0.0, fault: open}")},
		"chain acme/edge is not ready: ConfigRefused: function flowstat: code 7")
	if took := time.Since(start); took > readyTimeout+5*time.Second {
		t.Errorf("after %v", took)
	}
	d.says([]string{"chain", "update", "--no-wait", "-f", changed}, "chain acme/edge: accepted")
	d.says(words("chain describe edge"), "Programmed False ConfigRefused")
}

// A chain that drains is asked to, and asked to go on.
func TestChainDrain(t *testing.T) {
	d := acme(t)
	d.ok("nf", "deploy", moduleFile(t, "flowstat", "1.0.0"))
	d.ok("chain", "create", "-f", chainOf(t, "edge", "module: flowstat@1.0.0"))
	drains := func() bool {
		d.plane.mu.Lock()
		defer d.plane.mu.Unlock()
		return d.plane.chains[0].Drain
	}
	for range 2 {
		if d.says(words("chain drain edge"), "chain acme/edge takes no new flows"); !drains() {
			t.Error("it does not drain")
		}
	}
	d.says(words("chain describe edge"), "Drain: yes")
	if d.says(words("chain drain edge --undo"), "chain acme/edge takes new flows again"); drains() {
		t.Error("it drains")
	}
	d.fails(words("chain drain ghost"), "ghost", "not found")
}

// A version on trial shows where the chain is described.
func TestChainCanary(t *testing.T) {
	d := acme(t)
	for _, v := range []string{"1.0.0", "1.1.0"} {
		d.ok("nf", "deploy", moduleFile(t, "flowstat", v))
	}
	d.ok(words("nf alias set flowstat prod=1.0.0")...)
	d.ok("chain", "create", "-f", chainOf(t, "edge", "module: flowstat@prod"))
	d.ok(words("nf alias set flowstat prod=1.1.0@25%")...)
	d.await("1.0.0", "1.1.0", 25)
	d.ok(words("nf alias promote flowstat prod")...)
	d.await("1.1.0", "", 0)
	d.ok(words("nf alias set flowstat prod=1.0.0@5%")...)
	d.await("1.1.0", "1.0.0", 5)
	d.ok(words("nf alias abort flowstat prod")...)
	d.await("1.1.0", "", 0)
}

// await waits until chain edge runs a version of its function, and a canary.
func (d *daemon) await(version, canary string, percent int) {
	d.tb.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var list api.List[api.Chain]
		d.read(&list, "chain", "list")
		f := list.Items[0].Status.Functions
		if len(f) == 1 && f[0].Version == version && f[0].CanaryVersion == canary && f[0].CanaryPercent == percent && (f[0].CanaryDigest == "") == (canary == "") {
			break
		}
		if time.Now().After(end) {
			d.tb.Fatalf("it never ran %s with %q for %d%%: %+v", version, canary, percent, f)
		}
	}
}
