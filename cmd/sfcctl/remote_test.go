package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
)

// Who cannot get to the daemon is told why, and what to do.
func TestDaemonOutOfReach(t *testing.T) {
	d := startDaemon(t)
	d.says(words("status"), "sfcd 1.2.3: ok", "admin of the whole host")
	var h api.Health
	if d.read(&h, "status"); h.Status != "ok" {
		t.Errorf("%+v", h)
	}
	none := "unix://" + filepath.Join(t.TempDir(), "none.sock")
	for _, cmd := range []string{"status", "tenant list", "chain list --tenant acme", "top -n 1", "events", "trace edge --tenant acme", "port list", "audit"} {
		d.fails(append(words(cmd), "--server", none), "none.sock", "no such file", "is the daemon running? Name its socket by --server or SFC_SERVER")
	}
	d.fails(words("status --server http://x"), `server "http://x": unix:///PATH or https://HOST:PORT is expected`)
	d.fails(words("status --server https://x:1"), "server https://x:1: a token is needed: set SFC_TOKEN")
	d.vars["SFC_TOKEN"] = "sfc1.acme.ci.wrong"
	d.fails(words("tenant list"), "unauthorized")
	d.vars["SFC_CA_FILE"] = "/nowhere/ca.pem"
	d.fails(words("status"), "SFC_CA_FILE", "/nowhere/ca.pem")
}

// Which tenant is meant: a flag's, the environment's, the token's, the only one.
func TestWhichTenant(t *testing.T) {
	d := startDaemon(t)
	d.fails(words("chain list"), "there is no tenant yet: make one with sfcctl tenant create")
	d.says(words("tenant create acme --cpu 50% --memory 64Mi --flows 100k --modules 1"), "tenant acme created")
	d.says(words("chain list"), "CHAIN FUNCTIONS EGRESS ACTIVE READY AGE")
	d.ok(words("tenant create other")...)
	d.fails(words("chain list"), "which tenant? Name one with --tenant or SFC_TENANT: acme, other")
	d.ok(words("chain list --tenant other")...)
	d.fails(words("chain list --tenant ghost"), "/v1/tenants/ghost/chains", "not found")
	d.vars["SFC_TENANT"] = "acme"
	d.ok(words("chain list")...)
	delete(d.vars, "SFC_TENANT")
	secret := strings.TrimSpace(d.ok(words("tenant token create acme --role viewer")...))
	d.vars["SFC_TOKEN"] = secret
	d.ok(words("chain list")...) // the token's
	d.says(words("status"), "token:acme/viewer, viewer of tenant acme")
	d.fails(words("chain list --tenant other"), "not found")
	d.fails(words("chain delete edge"), "forbidden", "deployer")
	d.fails(words("port list"), "forbidden")
	d.ok(words("top -n 1 --interval 100ms")...) // its own chains
}

// A tenant from its beginning to its end; what is said twice is no error.
func TestTenantCommands(t *testing.T) {
	d := startDaemon(t)
	create := words("tenant create acme --cpu 50% --memory 64Mi --flows 100k --modules 20")
	d.ok(create...)
	d.ok(create...)
	d.fails(words("tenant create acme --cpu 60%"), "conflict", `"acme" exists already`, "sfcctl tenant update acme")
	d.says(words("tenant get acme"), "TENANT CPU MEMORY FLOWS MODULES CHAINS SIGNED AGE", "acme 50% 64Mi 100k 0 of 20 0 no ")
	d.ok(words("tenant update acme --cpu 25% --require-signed --chains 300")...)
	d.says(words("tenant get acme"), "0 of 20 0 of 300 yes ")
	var one api.Tenant
	d.read(&one, "tenant", "get", "acme")
	if one.Spec.Share != 250 || one.Spec.Memory != 64<<20 || one.Spec.Chains != 300 || !one.Spec.RequireSigned || one.Metadata.Generation != 2 {
		t.Errorf("%+v", one)
	}
	var list api.List[api.Tenant]
	if d.read(&list, "tenant", "list"); len(list.Items) != 1 {
		t.Errorf("%+v", list)
	}
	d.fails(words("tenant get ghost"), "ghost", "not found")
	for args, want := range map[string]string{
		"tenant create acme --cpu 150%":   "150%",
		"tenant create acme --memory 1Xi": "1Xi",
		"tenant create acme --flows -3":   "-3",
	} {
		if got := d.run(words(args)...); got.status != exitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", args, got)
		}
	}
	d.fails(words("tenant create Bad_Name"), "metadata.name", "Bad_Name")
	d.says(words("tenant delete acme"), "tenant acme deleted")
	d.fails(words("tenant delete acme"), "not found")
	if got := squeeze(d.ok("tenant", "list")); got != "TENANT CPU MEMORY FLOWS MODULES CHAINS SIGNED AGE\n" {
		t.Errorf("%q", got)
	}
	d.says(words("audit --limit 100"), "NUMBER TIME WHO OPERATION OBJECT STATUS RESULT", "createTenant /v1/tenants 201 ok", "deleteTenant /v1/tenants/acme 204 ok")
	var audit api.AuditList
	if d.read(&audit, "audit", "--limit", "2"); len(audit.Items) != 2 {
		t.Errorf("%+v", audit)
	}
}

// Secrets are told once, are good until they end, and are replaced.
func TestTokenCommands(t *testing.T) {
	d := startDaemon(t)
	d.ok(words("tenant create acme")...)
	first := strings.TrimSpace(d.ok(words("tenant token create acme --role deployer --name ci --expires 1h")...))
	if !strings.HasPrefix(first, "sfc1.acme.ci.") {
		t.Errorf("%q", first)
	}
	d.fails(words("tenant token create acme --role deployer --name ci --expires 1h"), "ci")
	d.says(words("tenant token list acme"), "TOKEN ROLE EXPIRES EXPIRED AGE", "ci deployer 20", " no ")
	second := strings.TrimSpace(d.ok(words("tenant token rotate acme ci --overlap 1h")...))
	for _, secret := range []string{first, second} {
		d.vars["SFC_TOKEN"] = secret
		d.ok("chain", "list")
	}
	delete(d.vars, "SFC_TOKEN")
	d.ok(words("tenant token rotate acme ci")...)
	d.vars["SFC_TOKEN"] = second
	d.fails(words("chain list"), "unauthorized")
	delete(d.vars, "SFC_TOKEN")
	d.says(words("tenant token delete acme ci"), "token ci deleted")
	host := strings.TrimSpace(d.ok(words("tenant token create --host --role viewer")...))
	d.vars["SFC_TOKEN"] = host
	d.says(words("status"), "viewer of the whole host")
	d.fails(words("tenant create more"), "forbidden")
	for args, want := range map[string]string{
		"tenant token create":               "0 arguments, 1 are expected: TENANT, or --host",
		"tenant token rotate ci":            "1 arguments, 2 are expected: TENANT NAME, or NAME with --host",
		"tenant token delete acme a --host": "2 arguments, 1 are expected",
	} {
		if got := d.run(words(args)...); got.status != exitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", args, got)
		}
	}
	delete(d.vars, "SFC_TOKEN")
	d.fails(words("tenant token create acme --role king"), "spec.role", "king")
}

// Ports of interfaces that are there and one that is not.
func TestPortCommands(t *testing.T) {
	d := startDaemon(t)
	d.says(words("port attach in --peer out --mode inline"), "port in is attached", "port out is attached")
	d.ok(words("port attach in --peer out --mode inline")...) // again
	d.says(words("port list"), "PORT INTERFACE UP XDP SOCKETS QUEUES MODE UNMATCHED PEER READY", "in in yes native copy 1 inline forward out True", "out out yes native copy 1 inline forward in True")
	d.says(words("port describe in"), "Driver: veth", "Native XDP: yes", "Zero copy: no", "Offloads changed: gro: off", "Ready True")
	var p api.Port
	if d.read(&p, "port", "describe", "out"); p.Spec.Peer != "in" || p.Status.Capabilities == nil {
		t.Errorf("%+v", p)
	}
	var list api.List[api.Port]
	if d.read(&list, "port", "list"); len(list.Items) != 2 {
		t.Errorf("%+v", list)
	}
	d.fails(words("port attach in --mode sideways"), "spec.mode", "sideways")
	start := time.Now()
	got := d.run(words("port attach eth9 --name gone")...)
	if got.status != exitFailed || !strings.Contains(got.stderr, "port gone is not ready") || !strings.Contains(got.stderr, "interface eth9: there is none") {
		t.Errorf("%+v", got)
	}
	if took := time.Since(start); took > readyTimeout {
		t.Errorf("after %v", took)
	}
	d.says(words("port detach in out gone"), "port in detached", "port out detached")
	d.fails(words("port detach in"), "in", "not found")
}

// A command that is interrupted while it waits ends at once.
func TestInterrupted(t *testing.T) {
	d := startDaemon(t)
	d.ok(words("tenant create acme")...)
	for _, line := range []string{"events --follow", "top", "capture edge -w /dev/null --tenant acme"} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		start := time.Now()
		got := d.runIn(ctx, words(line)...)
		cancel()
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: after %v: %+v", line, took, got)
		}
		if strings.HasPrefix(line, "capture") { // there is no such chain
			if got.status != exitFailed || !strings.Contains(got.stderr, "not found") {
				t.Errorf("%s: %+v", line, got)
			}
		} else if got.status != exitOK || got.stderr != "" {
			t.Errorf("%s: %+v", line, got)
		}
	}
}
