package nftest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sfc/dataplane/arena"
	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/nf/wasm"
)

// budget is long enough for a loaded machine that runs tests side by side.
const budget = 10 * time.Second

// Sandboxed runs a module as the engine does: a path of one function.
type Sandboxed struct {
	rt     *wasm.Runtime
	module *wasm.Module
	mem    wasm.Memory
	w      window
	group  *wasm.Group // nil until configured
	burst  packet.Burst
	room   Room
	lines  []string // records, written by the group's goroutine
}

// NewSandboxed compiles a module. The runtime is the caller's; the caller closes
// the Sandboxed first.
func NewSandboxed(rt *wasm.Runtime, module []byte) (_ *Sandboxed, err error) {
	s := &Sandboxed{rt: rt}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.module, err = rt.Compile(module); err != nil {
		return nil, err
	}
	if s.mem.Control, err = wasm.NewControl(); err != nil {
		return nil, err
	}
	if s.mem.Frames, err = arena.Open("frames", framesBytes, arena.Options{}); err != nil {
		return nil, err
	}
	s.w = window{descs: s.mem.Descs(), frames: s.mem.Frames.Bytes()}
	return s, nil
}

// Configure is Runner's: it makes a new instance.
func (s *Sandboxed) Configure(config []byte) error {
	if err := s.closeGroup(); err != nil {
		return err
	}
	hop := wasm.Hop{Name: s.module.Manifest.Name, Module: s.module, Config: config}
	opts := wasm.GroupOptions{Tenant: "test", TimeEvery: 1, Budget: budget, ConfigureBudget: budget, Flows: MaxFlows}
	s.lines = nil
	opts.Records = func(r wasm.Record) { s.lines = append(s.lines, string(r.AppendJSON(nil))) }
	if slices.Contains(s.module.Manifest.Capabilities, nf.CapabilityBind) {
		l, err := newLive(s.room)
		if err != nil {
			return err
		}
		s.w.live, opts.Grants = l, l.grants()
	}
	group, err := s.rt.NewGroup(s.mem, []wasm.Hop{hop}, opts)
	if err != nil {
		return errors.Join(err, s.closeGroup())
	}
	s.group = group
	return nil
}

// Process is Runner's. A packet that the function lets through has the verdict
// Next; a fault shows as Abort.
func (s *Sandboxed) Process(packets []Packet) []Result {
	out := make([]Result, 0, len(packets))
	for start := 0; start < len(packets); start += packet.BurstSize {
		n := len(s.Fill(packets[start:min(start+packet.BurstSize, len(packets))]))
		s.Burst(n)
		for i := range n {
			o, f := s.burst.Out[i], s.burst.Frames[i]
			r := Result{Verdict: o.Verdict, Reason: o.Reason, OutPort: o.Port, Off: f.Off, Frame: s.w.frame(i, f.Off, f.Len)}
			switch {
			case o.Fault != 0:
				r.Verdict = packet.Abort
			case o.Hop == packet.HopEngine: // the end of the path
				r.Verdict = packet.Next
			}
			out = append(out, r)
		}
		if s.w.live != nil {
			s.FlowEnd(s.w.live.settle())
		}
	}
	return out
}

// Fill lays out one burst, at most packet.BurstSize packets, for [Sandboxed.Burst].
func (s *Sandboxed) Fill(packets []Packet) []packet.Desc {
	descs := s.w.fill(packets)
	s.burst.N = uint32(len(descs))
	for i, d := range descs {
		s.burst.Slot[i] = d.Slot
		s.burst.Frames[i] = packet.Frame{Chunk: d.Chunk - nf.FramesStart, Off: d.Off, Len: d.Len}
	}
	return descs
}

// Burst runs the function once over the first n packets laid out.
func (s *Sandboxed) Burst(n int) {
	s.burst.N = uint32(n)
	s.group.Process(&s.burst)
	if s.w.live != nil {
		s.group.ApplyBinds(s.w.live.table)
	}
}

// Reconfigure is Reconfigurer's: as while packets flow.
func (s *Sandboxed) Reconfigure(config []byte) error {
	r, err := s.group.Reconfigure(0, config, wasm.ReplaceOptions{Probation: -1})
	if err != nil {
		return err
	}
	if err := r.Install(); err != nil {
		r.Discard()
		return err
	}
	s.Burst(0) // ends the probation
	return nil
}

// Limit is Limiter's.
func (s *Sandboxed) Limit(room Room) { s.room = room }

// FlowEnd is Runner's.
func (s *Sandboxed) FlowEnd(flows []uint32) { s.group.FlowEnd(slots(flows)) }

// FlowState is Keeper's.
func (s *Sandboxed) FlowState(n int) []byte {
	all := s.group.FlowState(0)
	return all[:min(n*s.module.Manifest.FlowStateBytes, len(all))]
}

// Records is Recorder's.
func (s *Sandboxed) Records() []string {
	if lost := s.Stats().RecordsLost; lost > 0 {
		s.lines = append(s.lines, fmt.Sprintf("and %d lost", lost))
	}
	if err := s.closeGroup(); err != nil {
		return []string{err.Error()}
	}
	return s.lines
}

// Stats returns the engine's own counters for the function.
func (s *Sandboxed) Stats() wasm.FunctionStats { return s.group.Stats()[0] }

// Spent is the time in the function since it was configured, in ns.
func (s *Sandboxed) Spent() float64 {
	stats := s.Stats()
	return stats.NsPerPacket * float64(stats.Packets)
}

// Counters is Counter's.
func (s *Sandboxed) Counters() []uint64 {
	values, names := s.Stats().Counters, s.module.Manifest.Counters
	out := make([]uint64, nf.NumCounters)
	for i, name := range names {
		out[i] = values[name]
	}
	return out
}

func (s *Sandboxed) closeGroup() error {
	group, l := s.group, s.w.live
	s.group, s.w.live = nil, nil
	if group != nil {
		if err := group.Close(); err != nil {
			return fmt.Errorf("close the instance: %w", err)
		}
	}
	return l.close()
}

// Close frees instance, module and memory.
func (s *Sandboxed) Close() error {
	errs := []error{s.closeGroup()}
	if s.module != nil {
		s.module.Close()
		s.module = nil
	}
	for _, r := range []*arena.Region{s.mem.Frames, s.mem.Control} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	return errors.Join(errs...)
}
