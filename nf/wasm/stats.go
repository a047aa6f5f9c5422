package wasm

import (
	"strconv"
	"strings"

	"sfc/dataplane/packet"
	"sfc/nf"
)

// EventKind sorts events.
type EventKind string

// Kinds of events.
const (
	EventLog   EventKind = "log"   // a line written by the function
	EventFault EventKind = "fault" // a trap or an overrun
	EventAlarm EventKind = "alarm" // the function is out of service
)

// Event is something a function did that an operator may want to read. What
// of Text is the guest's own (log lines, names in the backtrace of a trap) is
// escaped, so that it can do no harm to a terminal or a log file.
type Event struct {
	Function string
	Kind     EventKind
	Level    uint8 // of a log line: 0 debug, 1 info, 2 warning, 3 error
	Text     string
}

// escape returns s in printable ASCII.
func escape(s string) string {
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}

// printable returns one of Wasmtime's messages, which may have names of the
// guest's in it, as one line of printable ASCII.
func printable(msg string) string {
	return escape(strings.Join(strings.Fields(msg), " "))
}

// drainLogs passes on what guests logged.
func (g *Group) drainLogs() {
	for _, h := range g.hops {
		for _, ring := range []*logRing{h.configLog, h.runLog} {
			for {
				level, text, ok := ring.next()
				if !ok {
					break
				}
				g.opts.Events(Event{Function: h.spec.Name, Kind: EventLog, Level: min(level, 3), Text: escape(string(text))})
			}
		}
	}
}

// FunctionStats are the counters of one function of a path.
type FunctionStats struct {
	Name    string
	Packets uint64 // packets handed to the function
	Bursts  uint64
	// Verdicts counts by packet.Verdict; Abort is a forgotten packet.
	Verdicts [packet.NumVerdicts]uint64
	// Drops counts the function's own drops by reason of its manifest;
	// "undeclared" for numbers that the manifest does not have.
	Drops map[string]uint64
	// Faulted counts the packets that the engine dropped because of the
	// function, by reason.
	Faulted map[string]uint64
	// Skipped counts packets passed over by the fault policy open.
	Skipped         uint64
	Traps, Overruns uint64
	// NsPerPacket is the mean time of the timed bursts; 0 if none was.
	NsPerPacket float64
	State       State
	// LastFault is the message of the last trap, or empty.
	LastFault string
	// Counters are the function's own, by name.
	Counters map[string]uint64
	// LogSuppressed counts log lines over the rate.
	LogSuppressed uint64
}

// Stats reads the counters of all functions, in path order; none after Close.
func (g *Group) Stats() []FunctionStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]FunctionStats, len(g.hops))
	for i, h := range g.hops {
		raw := g.c.stats(i)
		s := FunctionStats{
			Name: h.spec.Name, Packets: raw[statPackets], Bursts: raw[statBursts],
			Skipped: raw[statSkipped], Traps: raw[statTraps], Overruns: raw[statOverruns],
			State:         State(h.state.Load()),
			LogSuppressed: h.runLog.suppressed() + h.configLog.suppressed(),
			Drops:         map[string]uint64{}, Faulted: map[string]uint64{}, Counters: map[string]uint64{},
		}
		copy(s.Verdicts[:], raw[statVerdicts:])
		reasons := h.spec.Module.Manifest.DropReasons
		for k := range reasons {
			if n := raw[statReasons+k+1]; n > 0 {
				s.Drops[reasons[k]] = n
			}
		}
		if n := raw[statReasons]; n > 0 {
			s.Drops[undeclared] = n
		}
		for r := range packet.Reason(16) {
			if n := raw[statEngine+int(r)]; n > 0 {
				s.Faulted[r.String()] = n
			}
		}
		if n := raw[statTimedPkts]; n > 0 {
			s.NsPerPacket = float64(raw[statTimedNs]) / float64(n)
		}
		if msg := h.lastFault.Load(); msg != nil {
			s.LastFault = *msg
		}
		values := h.counterValues()
		for k, name := range h.spec.Module.Manifest.Counters {
			s.Counters[name] = values[k]
		}
		out[i] = s
	}
	return out
}

// undeclared names a drop whose number the manifest does not have.
const undeclared = "undeclared"

func (h *hop) counterValues() [nf.NumCounters]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.counters
	if i := h.current.Load(); i != nil {
		for k, n := range i.counters() {
			v[k] += n
		}
	}
	return v
}

// ReasonName returns the stable name of a drop: "no_path" for the engine's
// own, "acl.denied" for a function's, "acl.fault" for the engine's about a
// function.
func (g *Group) ReasonName(o packet.Outcome) string {
	if o.Hop == packet.HopEngine || int(o.Hop) >= len(g.hops) {
		return packet.Reason(o.Reason).String()
	}
	h := g.hops[o.Hop]
	if o.Fault != 0 {
		return h.spec.Name + "." + packet.Reason(o.Reason).String()
	}
	reasons := h.spec.Module.Manifest.DropReasons
	if o.Reason == 0 || int(o.Reason) > len(reasons) {
		return h.spec.Name + "." + undeclared
	}
	return h.spec.Name + "." + reasons[o.Reason-1]
}
