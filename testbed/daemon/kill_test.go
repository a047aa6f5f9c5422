package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
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

// Processes of the daemon are killed and replaced in the middle of traffic.
// Nothing that was established is lost; and nothing at all unless it was the
// data plane that died.
func TestKills(t *testing.T) {
	r := newRig(t)
	_, made := r.flows()
	disturb := func(what string, times int, lossless bool, do func(i int)) {
		var gaps []time.Duration
		lost := 0
		for i := range times {
			time.Sleep(50 * time.Millisecond)
			from := r.pulse.sent.Load()
			time.Sleep(20 * time.Millisecond)
			before := r.losses()
			do(i)
			when := fmt.Sprintf("%s %d", what, i+1)
			r.whole(when)
			a := r.pulse.since(from)
			lost += a.lost
			gaps = append(gaps, a.gap)
			if lossless && a.lost > 0 {
				t.Errorf("%s: %d of %d packets were lost; %v", when, a.lost, a.sent, r.losses().since(before))
			}
			if a.gap > farTooLong {
				t.Errorf("%s: no packet for %v", when, a.gap)
			}
		}
		slices.Sort(gaps)
		t.Logf("%s, %d times: %d packets lost; without a packet for %v (median), %v (longest)", what, times, lost, gaps[times/2], gaps[times-1])
		if now, all := r.flows(); all != made || now < udpFlows+tcpFlows+1 {
			t.Errorf("%s: %d flows are there, %d were made: %d before", what, now, all, made)
		}
		r.pulse.order(t)
	}
	disturb("control killed", controlKills, true, func(i int) {
		pid := r.role("control")
		check(t, syscall.Kill(pid, syscall.SIGKILL))
		r.newProcess("control", pid)
		r.healthy()
		if i%3 == 2 {
			r.again() // for a supervisor that knows of no death, or it would wait ever longer
		}
	})
	disturb("supervisor killed and started", supervisorKills, true, func(int) {
		pid := r.role("dataplane")
		r.again()
		if now := r.role("dataplane"); now != pid {
			t.Errorf("the data plane is process %d, it was %d", now, pid)
		}
	})
	disturb("replaced", replacements, true, func(int) {
		plane, control := r.role("dataplane"), r.role("control")
		check(t, r.cmd.Process.Signal(syscall.SIGHUP))
		r.newProcess("dataplane", plane)
		r.newProcess("control", control)
		r.healthy()
	})
	disturb("data plane killed", planeKills, false, func(int) {
		pid := r.role("dataplane")
		check(t, syscall.Kill(pid, syscall.SIGKILL))
		r.newProcess("dataplane", pid)
		r.healthy()
		r.again() // as above: each time is the first one
	})
}
