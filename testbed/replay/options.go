// Package replay sends a capture through chains and accounts for every packet:
// live, through namespaces, XDP, AF_XDP sockets and a pinned worker, or
// offline, on the same code from burst to verdict, without root or kernel.
package replay

import (
	"errors"
	"fmt"
	"time"

	"sfc/chains"
	"sfc/ctrl/agent"
	"sfc/nf"
	"sfc/nf/wasm"
)

// Clock says what functions take for the time of a packet.
type Clock string

const (
	// ClockCapture is the capture's own time: functions that depend on time
	// decide alike in every run.
	ClockCapture Clock = "capture"
	// ClockWall is the time of arrival.
	ClockWall Clock = "wall"
)

// Options configure [Run]. In and a chain are required.
type Options struct {
	// Chains are chain files.
	Chains []string
	// Specs are chains beside those, each with its functions' Config set.
	Specs []chains.Spec
	// In is the capture that is sent.
	In string
	// Out receives the packets that came out, in the order they were sent, as
	// pcapng; Drops those that were dropped, each with function and reason as
	// comment. Empty: not written.
	Out, Drops string
	// Rate is the packets sent per second; 0 sends as fast as they are taken.
	Rate int
	// Loop is how many times the capture is sent. Default 1.
	Loop int
	// Clock defaults to ClockCapture.
	Clock Clock
	// Offline runs without root and kernel.
	Offline bool
	// Workers is how many workers share the flows. Default 1.
	Workers int
	// MoveEvery is how often flows are moved between workers, whether load asks
	// for it or not; 0: never. Balance moves them when load asks for it.
	MoveEvery time.Duration
	Balance   bool
	// SwapEvery is how often a function, each in turn, is replaced by another
	// instance of its module, its flow state kept; 0: never.
	SwapEvery time.Duration
	// Generic attaches the steering in generic (skb) mode. Default: native, or
	// an error.
	Generic bool
	// Keep leaves the namespaces behind, under names that "ip netns" knows,
	// until [Clean] or the next replay with Keep removes them.
	Keep bool
	// Burst is the most packets the worker takes at once offline. Default
	// packet.BurstSize.
	Burst int
	// Limits are checked on every module.
	Limits nf.Limits
	// Progress is called now and then with the packets whose fate is known
	// and how many there will be, as far as one can tell (0: unknown).
	Progress func(done, total int)
	// Events receives log lines, faults and alarms of functions.
	Events func(wasm.Event)

	// settled, when not nil, is shown every packet, in the order of sending,
	// when its fate is known.
	settled func(*record)
}

func (o Options) withDefaults() Options {
	if o.Loop == 0 {
		o.Loop = 1
	}
	if o.Workers == 0 {
		o.Workers = 1
	}
	if o.Clock == "" {
		o.Clock = ClockCapture
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	if o.Events == nil {
		o.Events = func(wasm.Event) {}
	}
	return o
}

// Validate checks what a command line can get wrong.
func (o Options) Validate() error {
	switch {
	case o.In == "":
		return errors.New("no capture given: name one with --in")
	case len(o.Chains)+len(o.Specs) == 0:
		return errors.New("no chain given: name a file with --chain")
	case o.Loop < 1:
		return fmt.Errorf("loop %d: send the capture at least once", o.Loop)
	case o.Rate < 0:
		return fmt.Errorf("rate %d: give packets per second, or max", o.Rate)
	case o.Clock != ClockCapture && o.Clock != ClockWall:
		return fmt.Errorf("clock %q: it is %s or %s", o.Clock, ClockCapture, ClockWall)
	case o.Generic && o.Offline:
		return errors.New("generic is a way to attach XDP, which an offline replay does without: drop one of the two")
	case o.Workers < 1 || o.Workers > agent.MaxWorkers:
		return fmt.Errorf("%d workers: there can be 1 to %d", o.Workers, agent.MaxWorkers)
	case o.MoveEvery < 0 || o.SwapEvery < 0:
		return fmt.Errorf("every %v: give a time above 0", min(o.MoveEvery, o.SwapEvery))
	case (o.MoveEvery > 0 || o.Balance) && o.Workers == 1:
		return errors.New("flows move between workers, and there is only one: give --workers 2 or more")
	case o.MoveEvery > 0 && o.Balance:
		return errors.New("flows are moved every so often, or when load asks for it: choose one")
	case o.Burst != 0 && o.Workers > 1:
		return errors.New("the size of bursts is chosen for one worker: several take what comes")
	case o.Keep && o.Offline:
		return errors.New("keep needs namespaces, which an offline replay has none of: drop one of the two")
	}
	inputs := append([]string{o.In}, o.Chains...)
	return checkOutputs(o, append(inputs, modules(o.Specs)...))
}

// Names of the ports of the testbed, in index order: the capture is sent into
// the first.
var ports = []string{"in", "out"}

const (
	portIn = iota
	portOut
)

// timeEvery has every burst timed: captures are short.
const timeEvery = 1

// settleTimeout is how long nothing may move before packets that functions
// damaged are sorted out.
const settleTimeout = 20 * time.Millisecond

// stallTimeout is how long a replay waits for a packet that is under way
// before it counts it as lost: long, for on a busy machine the worker may have
// no core for seconds.
const stallTimeout = 10 * time.Second
