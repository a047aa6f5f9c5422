package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"syscall"
	"testing"
	"time"

	"sfc/ctrl/api"
)

// How often each is done.
const (
	planeKills      = 20
	controlKills    = 20
	supervisorKills = 10
	replacements    = 10
)

// farTooLong is a gap that no machine excuses; docs/benchmarks.md has the figure.
const farTooLong = 5 * time.Second

// rig is a daemon with a stateful chain, flows through it and a probe at 1 kHz.
type rig struct {
	*bed
	talks   *talks
	pulse   *pulse
	objects map[string]any // as they were made
}

// guard is a firewall that lets the client begin flows and nobody else, and a
// function that counts by flow.
func guard() api.ChainSpec {
	return api.ChainSpec{
		Match: []api.ChainMatch{{Port: "in", Family: "ipv4"}}, Egress: "out", Return: &api.ChainReturn{Word: "mirrored"}, Flows: 10_000,
		Functions: []api.ChainFunction{
			{Module: "firewall@1.0.0", Config: json.RawMessage(`{"default":"deny","rules":[{"action":"permit","src":"` + clientAddress + `/32"}]}`)},
			{Module: "flowstat@1.0.0"},
		},
	}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{bed: newBed(t)}
	r.tenant("acme", 500)
	r.upload("acme", "firewall", "1.0.0", module(t, "firewall"))
	r.upload("acme", "flowstat", "1.0.0", module(t, "flowstat"))
	r.attach(api.UnmatchedDrop)
	r.chain("acme", "edge", guard())
	r.active("acme", "edge")
	r.talks = newTalks(r.bed)
	r.pulse = newPulse(t, r.bed, 9_000, time.Millisecond)
	r.within(passWait, "the probe's first packet", func(context.Context) error {
		if r.pulse.first(time.Time{}).IsZero() {
			return errors.New("it has not come")
		}
		return nil
	})
	r.objects = r.read()
	return r
}

// read returns what users made, without what the daemon says about it.
func (r *rig) read() map[string]any {
	r.tb.Helper()
	all := map[string]any{}
	r.within(answerWait, "read the objects", func(ctx context.Context) error {
		tenants, err := r.api.Tenants().All(ctx)
		ports, portsErr := r.api.Ports().All(ctx)
		chains, chainsErr := r.api.Chains("acme").All(ctx)
		functions, functionsErr := r.api.AllFunctions(ctx, "acme", "")
		if err = errors.Join(err, portsErr, chainsErr, functionsErr); err != nil {
			return err
		}
		for _, o := range tenants.Items {
			all["tenant "+o.Metadata.Name] = [2]any{o.Metadata, o.Spec}
		}
		for _, o := range ports.Items {
			all["port "+o.Metadata.Name] = [2]any{o.Metadata, o.Spec}
		}
		for _, o := range chains.Items {
			all["chain "+o.Metadata.Name] = [2]any{o.Metadata, o.Spec}
			if !o.Status.Active {
				return fmt.Errorf("chain %s is not active: %+v", o.Metadata.Name, o.Status)
			}
		}
		for _, o := range functions.Items {
			all["function "+o.Metadata.Name] = [2]any{o.Metadata, o.Spec}
		}
		return nil
	})
	return all
}

// whole fails unless everything that users made is there, runs, and knows every
// flow.
func (r *rig) whole(when string) {
	r.tb.Helper()
	r.talks.alive(when)
	if now := r.read(); !reflect.DeepEqual(now, r.objects) {
		r.tb.Errorf("%s: the objects are\n%v\nand were\n%v", when, now, r.objects)
	}
}

// flows returns how many flows the chain has, and how many it ever made.
func (r *rig) flows() (now int, made uint64) {
	r.tb.Helper()
	r.within(answerWait, "read the account", func(ctx context.Context) error {
		s, err := r.api.Stats(ctx, "acme")
		if err == nil && len(s.Chains) != 1 {
			err = fmt.Errorf("%d chains", len(s.Chains))
		}
		if err == nil {
			now, made = s.Chains[0].Flows, s.Chains[0].FlowsCreated
		}
		return err
	})
	return now, made
}

// again starts a supervisor in the place of one that was killed.
func (r *rig) again() {
	r.tb.Helper()
	check(r.tb, r.cmd.Process.Kill())
	<-r.ended
	r.start()
	r.healthy()
}

// newProcess waits until a role has another process than old.
func (r *rig) newProcess(role string, old int) {
	r.tb.Helper()
	r.within(answerWait, "another "+role, func(context.Context) error {
		if r.role(role) == old {
			return errors.New("it is the old one")
		}
		return nil
	})
}

// disturbance is something that is done to the daemon under traffic.
type disturbance struct {
	what   string
	target string // for docs/benchmarks.md
	times  int
	// harmless says that not a packet may be lost.
	harmless bool
	do       func(i int)
}

func disturbances(r *rig) []disturbance {
	return []disturbance{
		{"control killed", "nothing lost", controlKills, true, func(i int) {
			pid := r.role("control")
			check(r.tb, syscall.Kill(pid, syscall.SIGKILL))
			r.newProcess("control", pid)
			r.healthy()
			if i%3 == 2 {
				r.again() // for a supervisor that knows of no death, or it would wait ever longer
			}
		}},
		{"supervisor killed and started again", "nothing lost", supervisorKills, true, func(int) {
			pid := r.role("dataplane")
			r.again()
			if now := r.role("dataplane"); now != pid {
				r.tb.Errorf("the data plane is process %d, it was %d", now, pid)
			}
		}},
		{"data plane and control replaced", "nothing lost", replacements, true, func(int) {
			plane, control := r.role("dataplane"), r.role("control")
			check(r.tb, r.cmd.Process.Signal(syscall.SIGHUP))
			r.newProcess("dataplane", plane)
			r.newProcess("control", control)
			r.healthy()
		}},
		{"data plane killed", "300 ms, no flow lost", planeKills, false, func(int) {
			pid := r.role("dataplane")
			check(r.tb, syscall.Kill(pid, syscall.SIGKILL))
			r.newProcess("dataplane", pid)
			r.healthy()
			r.again() // as above: each time is the first one
		}},
	}
}

// disturb does something again and again, and sees after each time that
// everything is there. It returns how many packets were lost in all, and the
// longest time each time without one that came.
func (r *rig) disturb(d disturbance) (lost int, gaps []time.Duration) {
	r.tb.Helper()
	_, made := r.flows()
	for i := range d.times {
		from, before := r.pulse.sent.Load(), r.losses()
		time.Sleep(50 * time.Millisecond)
		d.do(i)
		when := fmt.Sprintf("%s, time %d", d.what, i+1)
		r.whole(when)
		a := r.pulse.since(from)
		lost += a.lost
		gaps = append(gaps, a.gap)
		if d.harmless && a.lost > 0 {
			r.tb.Errorf("%s: %d of %d packets were lost; %v", when, a.lost, a.sent, r.losses().since(before))
		}
		if a.gap > farTooLong {
			r.tb.Errorf("%s: no packet for %v", when, a.gap)
		}
	}
	if now, all := r.flows(); all != made || now < udpFlows+tcpFlows+1 {
		r.tb.Errorf("%s: %d flows are there, %d were made: %d before", d.what, now, all, made)
	}
	r.pulse.order(r.tb)
	return lost, gaps
}

// Processes of the daemon are killed and replaced in the middle of traffic.
// Nothing that was established is lost; and nothing at all unless it was the
// data plane that died.
func TestKills(t *testing.T) {
	r := newRig(t)
	for _, d := range disturbances(r) {
		lost, gaps := r.disturb(d)
		t.Logf("%s: %d packets lost; without a packet for %s", d.what, lost, times(gaps))
	}
}
