package wasm

import (
	"errors"
	"fmt"

	"sfc/dataplane/packet"
)

// A version on trial (a canary) runs beside the one in service:
//
//	Prepare   any goroutine   with ReplaceOptions.Canary
//	Canary    the worker      flows of some buckets meet the new version
//	Install   the worker      it is promoted: all flows do, on probation
//	RollBack  the worker      none does; so it is after its first fault
//
// A flow's bucket decides, so that a flow meets the same version all the time,
// and on every worker. Versions of one layout share the slots, and nothing is
// lost whatever becomes of the trial. Else each has its own: the state of a flow
// is handed over (or reset, as ReplaceOptions say) when it meets the version on
// trial first, and what the version in service had kept stays where it is. When
// the trial fails, its flows go on from there, as after the roll-back of a
// replacement; new ones begin anew. So they do after a crash of the process.

// ErrNotCanary: the replacement was not prepared for a trial, or is over.
var ErrNotCanary = errors.New("the replacement cannot be tried: prepare it with ReplaceOptions.Canary")

// Canary lets flows meet the new version, in percent of the buckets, 1 to 99;
// called again, it changes how many. With fewer, flows of two layouts that meet
// the old version again find what that knew of them. The worker calls it between
// two bursts: no system call, nothing allocated.
func (r *Replacement) Canary(percent int) error {
	g, h := r.g, r.hop
	phase := Phase(r.phase.Load())
	switch {
	case percent < 1 || percent > 99:
		return fmt.Errorf("canary of %d percent: 1 to 99 are possible; Install takes all", percent)
	case r.canary == nil || phase != Prepared && phase != OnTrial:
		return ErrNotCanary
	case phase == OnTrial:
		if r.migration != nil {
			r.migration.leaveUnmet(r.canary)
		}
		r.canary.setSplit(percent)
		r.percent.Store(int32(percent))
		return nil
	}
	if err := r.free(); err != nil {
		return err
	}
	if !r.phase.CompareAndSwap(int32(Prepared), int32(OnTrial)) {
		return ErrUsed
	}
	r.percent.Store(int32(percent))
	r.canary.setSplit(percent)
	h.trial = r
	h.last.Store(r)
	g.c.setCanary(h.index, r.canary, r.to, r.migration)
	g.countFlowBytes()
	g.note()
	return nil
}

// onTrial returns the replacement whose version some flows meet, or nil.
func (h *hop) onTrial() *Replacement {
	if r := h.trial; r != nil && Phase(r.phase.Load()) == OnTrial {
		return r
	}
	return nil
}

// ownSlots reports whether the version on trial has slots of its own.
func (r *Replacement) ownSlots() bool { return r.to.slots != r.from.slots }

// CanaryStats are the counters of a version on trial, which are among those of
// its function, too.
type CanaryStats struct {
	Version string
	// Percent of the buckets whose flows meet it.
	Percent         int
	Packets, Bursts uint64
	Verdicts        [packet.NumVerdicts]uint64
	NsPerPacket     float64
	Latency         Latency
}

// canaryStats returns those of the function's last replacement, as long as it is
// on trial. The group's mu is held.
func (h *hop) canaryStats() *CanaryStats {
	r := h.last.Load()
	if r == nil || Phase(r.phase.Load()) != OnTrial {
		return nil
	}
	raw := r.to.stats.read()
	s := &CanaryStats{Version: r.to.spec.Module.Manifest.Version, Percent: int(r.percent.Load()), Packets: raw[statPackets], Bursts: raw[statBursts]}
	copy(s.Verdicts[:], raw[statVerdicts:])
	s.NsPerPacket, s.Latency = raw.times()
	return s
}
