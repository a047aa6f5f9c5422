package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sfc/ctrl/api"
	"sfc/ctrl/control"
	"sfc/ctrl/server"
	"sfc/nf"
)

// daemon is the control plane of a daemon inside the test, on a data plane that
// keeps what it is told.
type daemon struct {
	tb     testing.TB
	plane  *keptPlane
	socket string
	vars   map[string]string
}

func startDaemon(tb testing.TB) *daemon {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sfc") // a short path: a socket's has 107 bytes
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	d := &daemon{tb: tb, plane: newKeptPlane(), socket: filepath.Join(dir, "s"), vars: map[string]string{}}
	l, err := server.ListenUnix(d.socket, -1)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- control.Run(ctx, control.Options{
			DataDir: filepath.Join(dir, "data"), Listeners: []control.Listener{{Address: "unix://" + d.socket, Listener: l}},
			Plane: d.plane, Compiler: digestCompiler{dir}, Port: onePort, Version: "1.2.3",
		}, func() error { close(ready); return nil })
	}()
	select {
	case <-ready:
	case err := <-done:
		stop()
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	d.vars["SFC_SERVER"] = "unix://" + d.socket
	return d
}

// onePort knows every interface but eth9, and says the same of each.
func onePort(_ context.Context, p *api.Port) (string, *api.PortCapabilities, error) {
	name := p.Spec.Interface
	if name == "" {
		name = p.Metadata.Name
	}
	if name == "eth9" {
		return "", nil, fmt.Errorf("interface %s: there is none", name)
	}
	return name, &api.PortCapabilities{Driver: "veth", MAC: "02:00:00:00:00:01", MTU: 1500, Native: true, Queues: 4, OffloadsChanged: []string{"gro: off"}}, nil
}

// environment is what a command line meets.
func (d *daemon) environment(out, errs io.Writer, args []string) env {
	return env{
		args: args, stdin: strings.NewReader(""), stdout: out, stderr: errs,
		getenv:     func(name string) string { return d.vars[name] },
		isTerminal: func(io.Writer) bool { return false },
	}
}

// run runs a command line.
func (d *daemon) run(args ...string) result {
	d.tb.Helper()
	return d.runIn(context.Background(), args...)
}

func (d *daemon) runIn(ctx context.Context, args ...string) result {
	d.tb.Helper()
	var out, errs bytes.Buffer
	status := run(ctx, d.environment(&out, &errs, args))
	return result{status, out.String(), errs.String()}
}

// ok runs a command line that must succeed and returns what it printed.
func (d *daemon) ok(args ...string) string {
	d.tb.Helper()
	got := d.run(args...)
	if got.status != exitOK || got.stderr != "" {
		d.tb.Fatalf("%v: %+v", args, got)
	}
	return got.stdout
}

// says runs a command line that must succeed and print all of that.
func (d *daemon) says(args []string, want ...string) {
	d.tb.Helper()
	out := d.ok(args...)
	for _, w := range want {
		if !strings.Contains(squeeze(out), w) {
			d.tb.Errorf("%v printed\n%s\nwithout %q", args, out, w)
		}
	}
}

// squeeze makes one space of many, so that columns may have any width.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.Join(strings.Fields(l), " ")
	}
	return strings.Join(lines, "\n")
}

// fails runs a command line that must fail, with all of that in its one error.
func (d *daemon) fails(args []string, want ...string) {
	d.tb.Helper()
	got := d.run(args...)
	if got.status != exitFailed || got.stdout != "" || !strings.HasPrefix(got.stderr, "sfcctl: ") {
		d.tb.Errorf("%v: %+v, want status %d and an error alone", args, got, exitFailed)
	}
	for _, w := range want {
		if !strings.Contains(got.stderr, w) {
			d.tb.Errorf("%v: %s\nwithout %q", args, got.stderr, w)
		}
	}
}

// read runs a command line that must print JSON.
func (d *daemon) read(to any, args ...string) {
	d.tb.Helper()
	text := d.ok(append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), to); err != nil {
		d.tb.Fatalf("%v: %v in %s", args, err, text)
	}
}

// words splits a command line that has no spaces in its words.
func words(line string) []string { return strings.Fields(line) }

// moduleFile writes a module of the catalogue with another version.
func moduleFile(tb testing.TB, name, version string) string {
	tb.Helper()
	wasm, err := os.ReadFile(filepath.Join(catalog, name, name+".wasm"))
	if err != nil {
		tb.Fatal(err)
	}
	m, err := nf.Inspect(wasm)
	if err != nil {
		tb.Fatal(err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(m.Manifest, &fields); err != nil {
		tb.Fatal(err)
	}
	fields["version"] = version
	manifest, err := json.Marshal(fields)
	if err == nil {
		wasm, err = nf.AppendManifest(wasm, manifest)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return writeFile(tb, name+".wasm", wasm)
}

// chainOf writes a chain file of acme from port in to port out.
func chainOf(tb testing.TB, name string, functions ...string) string {
	tb.Helper()
	text := "apiVersion: sfc/v1\nkind: Chain\nmetadata: {name: " + name + ", tenant: acme}\nspec:\n  match: [{port: in}]\n  egress: out\n  functions:\n"
	for _, f := range functions {
		text += "    - " + f + "\n"
	}
	return writeFile(tb, name+".yaml", []byte(text))
}
