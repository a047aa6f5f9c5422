package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sfc/ctrl/api"
)

// acme is a daemon with a tenant, and ports in and out.
func acme(t *testing.T) *daemon {
	t.Helper()
	d := startDaemon(t)
	d.ok(words("tenant create acme --modules 20")...)
	d.ok(words("port attach in --peer out")...)
	return d
}

// Versions are stored, shown, got back, and never change.
func TestDeployCommands(t *testing.T) {
	d := acme(t)
	one, two := moduleFile(t, "flowstat", "1.0.0"), moduleFile(t, "flowstat", "1.1.0")
	d.says([]string{"nf", "deploy", one}, "flowstat@1.0.0 of tenant acme is stored: sha256:", ", unsigned")
	d.ok("nf", "deploy", one) // again
	d.fails([]string{"nf", "deploy", two, "--version", "1.0.0"}, "flowstat", "1.0.0", "conflict")
	d.ok("nf", "deploy", two, "--source", "git 1234")
	d.says(words("nf list"), "FUNCTION VERSION DIGEST SIZE SIGNED BY ALIASES READY AGE", "flowstat 1.0.0 ", "flowstat 1.1.0 ")
	var list api.List[api.Function]
	if d.read(&list, "nf", "list", "flowstat"); len(list.Items) != 2 || list.Items[1].Spec.Provenance.Source != "git 1234" {
		t.Errorf("%+v", list)
	}
	out := filepath.Join(t.TempDir(), "got.wasm")
	d.says([]string{"nf", "get", "flowstat@1.1.0", "--out", out}, "got.wasm: ", "sha256:")
	got, err := os.ReadFile(out)
	if want, werr := os.ReadFile(two); err != nil || werr != nil || string(got) != string(want) {
		t.Errorf("%d bytes, %v, %v", len(got), err, werr)
	}
	d.fails(words("nf get flowstat@9.9.9"), "flowstat", "9.9.9", "not found")
	d.says(words("nf delete flowstat@1.1.0"), "flowstat@1.1.0 deleted")
	d.fails(words("nf delete flowstat@1.1.0"), "not found")
	if got := d.run(words("nf get stat")...); got.status != exitUsage || !strings.Contains(got.stderr, `"stat": give FUNCTION@VERSION, such as firewall@1.2.0`) {
		t.Errorf("%+v", got)
	}
	d.fails([]string{"nf", "deploy", writeFile(t, "x.wasm", []byte("nonsense"))}, "x.wasm")
	d.fails(words("nf deploy /nowhere.wasm"), "/nowhere.wasm", "no such file")
	d.fails([]string{"nf", "deploy", one, "--version", "one"}, "spec.version", "one")
	d.ok(words("tenant update acme --modules 1")...)
	d.fails([]string{"nf", "deploy", two}, "acme has 1 of 1", "sfcctl nf gc", "forbidden")
}

// Where signatures are asked for, what none of the tenant's keys signed is refused.
func TestSignCommands(t *testing.T) {
	d := acme(t)
	dir := t.TempDir()
	module := moduleFile(t, "flowstat", "1.0.0")
	for _, name := range []string{"release", "other"} {
		d.ok("nf", "keygen", "--out", filepath.Join(dir, name))
	}
	d.fails([]string{"nf", "keygen", "--out", filepath.Join(dir, "other")}, "other.key", "exists")
	d.says([]string{"tenant", "key", "add", "acme", "release", "--file", filepath.Join(dir, "release.pub")}, "key release of tenant acme is trusted")
	d.says(words("tenant key list acme"), "KEY PUBLIC KEY AGE", "release ")
	d.ok(words("tenant update acme --require-signed")...)
	d.fails([]string{"nf", "deploy", module}, "no signature", "sfcctl nf sign")
	d.fails([]string{"nf", "deploy", module, "--key", filepath.Join(dir, "other.key")}, "not trusted")
	d.says([]string{"nf", "sign", module, "--key", filepath.Join(dir, "release.key")}, "flowstat.wasm.sig signs ")
	d.says([]string{"nf", "deploy", module, "--signature", module + ".sig"}, "signed by release")
	d.fails([]string{"tenant", "key", "add", "acme", "bad", "--file", filepath.Join(dir, "release.key")}, "release.key")
	d.fails([]string{"nf", "deploy", module, "--key", filepath.Join(dir, "release.pub")}, "release.pub")
	d.fails([]string{"nf", "deploy", module, "--signature", module}, "flowstat.wasm")
	d.ok(words("tenant key delete acme release")...)
	d.fails([]string{"nf", "deploy", moduleFile(t, "flowstat", "1.1.0"), "--signature", module + ".sig"}, "not trusted")
}

// An alias moves, tries, goes on, goes back, and says what it is.
func TestAliasCommands(t *testing.T) {
	d := acme(t)
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		d.ok("nf", "deploy", moduleFile(t, "flowstat", v))
	}
	d.fails(words("nf alias set flowstat prod=1.1.0@10%"), "alias prod of flowstat stands for nothing yet: set it to a version for all flows first")
	d.says(words("nf alias set flowstat prod=1.0.0"), "flowstat@prod stands for 1.0.0")
	d.ok(words("nf alias set flowstat prod=1.0.0")...) // again
	d.says(words("nf alias set flowstat prod=1.1.0@10%"), "flowstat@prod stands for 1.0.0, and 1.1.0 for 10% of the flows")
	d.says(words("nf alias list"), "FUNCTION ALIAS STANDS FOR BEFORE MOVED", "flowstat prod 1.0.0, and 1.1.0 for 10% of the flows - ")
	d.says(words("nf alias promote flowstat prod"), "flowstat@prod stands for 1.1.0")
	d.fails(words("nf alias promote flowstat prod"), "promote alias prod of flowstat", "it has none")
	d.says(words("nf alias list flowstat"), "flowstat prod 1.1.0 1.0.0 ")
	d.ok(words("nf alias set flowstat prod=1.2.0@99%")...)
	d.says(words("nf alias abort flowstat prod"), "flowstat@prod stands for 1.1.0\n")
	d.ok(words("nf alias abort flowstat prod")...) // again
	d.says(words("nf alias rollback flowstat prod"), "flowstat@prod stands for 1.0.0")
	d.fails(words("nf alias set flowstat prod=1.2.0 --if 1.1.0"), "stands for 1.0.0, not 1.1.0: nothing is changed")
	d.says(words("nf alias set flowstat prod=1.2.0@100% --if 1.0.0"), "flowstat@prod stands for 1.2.0")
	d.fails(words("nf alias set flowstat prod=9.9.9"), "9.9.9", "not found")
	d.fails(words("nf alias rollback flowstat dev"), "not found")
	var a api.Alias
	if d.read(&a, "nf", "alias", "set", "flowstat", "dev=1.0.0"); a.Spec.Version != "1.0.0" || a.Metadata.Name != "dev" {
		t.Errorf("%+v", a)
	}
	d.fails(words("nf alias rollback flowstat dev"), "it never stood for anything but 1.0.0")
	d.ok("chain", "create", "-f", chainOf(t, "edge", "module: flowstat@dev"))
	d.fails(words("nf alias delete flowstat dev"), "a chain uses flowstat@dev", "conflict")
	d.says(words("nf alias delete flowstat prod"), "alias prod of flowstat deleted")
	for args, want := range map[string]string{
		"nf alias set flowstat prod":            "give ALIAS=VERSION",
		"nf alias set flowstat prod=1.0.0@0%":   `"0%" is no share of the flows`,
		"nf alias set flowstat prod=1.0.0@x":    `"x" is no share of the flows`,
		"nf alias delete flowstat prod=1.0.0":   "give the alias alone",
		"nf alias promote flowstat":             "missing argument: a function and an alias",
		"nf alias set flowstat prod=1.0.0@101%": "no share",
	} {
		if got := d.run(words(args)...); got.status != exitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

// What nothing uses is collected; what is used, could be gone back to or is new stays.
func TestCollectCommand(t *testing.T) {
	d := acme(t)
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"} {
		d.ok("nf", "deploy", moduleFile(t, "flowstat", v))
	}
	d.ok(words("nf alias set flowstat prod=1.0.0")...)
	d.ok(words("nf alias set flowstat prod=1.1.0")...)
	d.ok("chain", "create", "-f", chainOf(t, "edge", "module: flowstat@1.2.0"))
	d.says(words("nf gc"), "0 versions and 0 modules, 0 bytes, removed") // all are new
	var c api.Collected
	if d.read(&c, words("nf gc --grace 0s --dry-run")...); len(c.Versions) != 2 || c.Modules != 2 || c.Bytes == 0 || !c.DryRun {
		t.Errorf("%+v", c)
	}
	d.says(words("nf gc --grace 0s --dry-run"), "FUNCTION VERSION DIGEST SIZE AGE", "flowstat 1.3.0 ", "flowstat 1.4.0 ", "2 versions and 2 modules, ", " bytes, would be removed")
	d.says(words("nf gc --grace 0s"), "bytes, removed")
	var list api.List[api.Function]
	var left []string
	d.read(&list, "nf", "list")
	for i := range list.Items {
		left = append(left, list.Items[i].Spec.Version)
	}
	if got := strings.Join(left, " "); got != "1.0.0 1.1.0 1.2.0" {
		t.Errorf("left: %s", got)
	}
	if got := d.run(words("nf gc --grace -1h")...); got.status != exitUsage {
		t.Errorf("%+v", got)
	}
	d.fails(words("nf gc --grace 9000h"), "graceSeconds")
	d.vars["SFC_TOKEN"] = strings.TrimSpace(d.ok(words("tenant token create acme --role viewer")...))
	d.fails(words("nf gc"), "forbidden")
}
