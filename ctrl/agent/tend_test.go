package agent

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/plane"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// comes sends a frame of every flow until one came out at the other end.
func comes(t *testing.T, when string, from, to *netns.Link) {
	t.Helper()
	send, err := trafgen.OpenSender(from)
	if err != nil {
		t.Fatal(err)
	}
	defer send.Close()
	recv, err := trafgen.OpenReceiver(to)
	if err != nil {
		t.Fatal(err)
	}
	defer recv.Close()
	for end := time.Now().Add(5 * time.Second); ; {
		if _, err := send.Send([][]byte{tagged(5, 1)}); err != nil {
			t.Fatal(err)
		}
		if _, err := recv.Wait(5 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		frames, err := recv.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: nothing comes out", when)
		}
	}
}

// becomes waits until a port is up or not, without anything being applied.
func (r *rig) becomes(t *testing.T, port int, up bool) plane.PortStatus {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		o, err := r.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if o.Ports[port].Up == up && o.Chains[0].Active == (up || o.Ports[port].Reason == reasonLink) {
			return o.Ports[port]
		}
		if time.Now().After(end) {
			t.Fatalf("port %d is not up=%v: %+v", port, up, o)
		}
	}
}

// An interface goes and comes back under the same name, as another one; a link
// goes down and up. The data plane opens its ports again by itself, and the
// chain goes on.
func TestPlanePortsComeBack(t *testing.T) {
	gate.Root(t)
	ip := gate.Tool(t, "ip")
	gate.Leaks(t)
	w := newWire(t)
	host := w.far[0].NS
	r := planeOn(t, w, PlaneOptions{}, "firewall", "flowstat")
	if o := r.apply(t, chainOf("acme", "a", 5, guards...)); !o.Chains[0].Active {
		t.Fatal(reasons(o))
	}
	comes(t, "before", w.far[0], w.far[1])
	shell := func(args ...string) {
		t.Helper()
		if err := w.engine.Do(func() error { return exec.Command(ip, args...).Run() }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 { // the port that packets come in by, then the other one
		port := i % 2
		shell("link", "del", portNames[port])
		s := r.becomes(t, port, false)
		if s.Reason != reasonGone || !strings.Contains(s.Message, portNames[port]) {
			t.Errorf("without its interface: %+v", s)
		}
		far, _, err := netns.Veth(host, fmt.Sprint("far", port), w.engine, portNames[port], netns.VethOptions{})
		if err != nil {
			t.Fatal(err)
		}
		back := time.Now()
		stub, err := far.EnableNAPI()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stub.Close() })
		w.far[port] = far
		r.becomes(t, port, true)
		comes(t, "with the interface back", w.far[0], w.far[1])
		t.Logf("port %s: frames flow %v after its interface came back", portNames[port], time.Since(back))
	}
	for port := range 2 {
		shell("link", "set", portNames[port], "down")
		if s := r.becomes(t, port, false); s.Reason != reasonLink {
			t.Errorf("with its link down: %+v", s)
		}
		time.Sleep(100 * time.Millisecond) // for the event
		shell("link", "set", portNames[port], "up")
		r.becomes(t, port, true)
		comes(t, "with the link up again", w.far[0], w.far[1])
	}
	shell("link", "set", portNames[0], "name", "other")
	if s := r.becomes(t, 0, false); s.Reason != reasonGone {
		t.Errorf("with another name: %+v", s)
	}
	shell("link", "set", "other", "name", portNames[0])
	r.becomes(t, 0, true)
	comes(t, "with its name back", w.far[0], w.far[1])
	seen := map[string]int{}
	list, err := r.Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range list {
		if ev.Kind == "port" {
			seen[ev.Reason]++
		}
		if ev.Level == levelError {
			t.Errorf("%+v", ev)
		}
	}
	for reason, least := range map[string]int{reasonGone: 3, "PortOpen": 2 + 3, reasonLink: 2, "LinkUp": 2} {
		if seen[reason] < least {
			t.Errorf("%d events %s, want %d: %v", seen[reason], reason, least, seen)
		}
	}
}
