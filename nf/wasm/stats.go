package wasm

import (
	"maps"
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
	EventAlarm EventKind = "alarm" // the function is out of service, or went back to the version before
	// EventReplaced is a new version that began its probation or was accepted.
	EventReplaced EventKind = "replaced"
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

// emit passes events on, one at a time.
func (g *Group) emit(events ...Event) {
	g.telling.Lock()
	defer g.telling.Unlock()
	for _, e := range events {
		g.opts.Events(e)
	}
}

// lines takes what guests logged out of a ring. Only one goroutine may do so at
// a time.
func lines(function string, ring *logRing) (events []Event) {
	for {
		level, text, ok := ring.next()
		if !ok {
			return events
		}
		events = append(events, Event{Function: function, Kind: EventLog, Level: min(level, 3), Text: escape(string(text))})
	}
}

// drainLogs passes on what guests logged while they ran, and what spares did
// while they were configured; the log of a version that is being made is read
// by who makes it.
func (g *Group) drainLogs() {
	var events []Event
	g.mu.Lock()
	for _, h := range g.hops {
		events = append(events, lines(h.name, h.runLog)...)
		for _, v := range h.versions {
			if v.ready {
				events = append(events, lines(h.name, v.configLog)...)
			}
		}
	}
	g.mu.Unlock()
	g.emit(events...)
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
	// Latency is that of the timed bursts.
	Latency Latency
	State   State
	// Version is that of the manifest in force.
	Version string
	// Canary is the version on trial, nil if there is none.
	Canary *CanaryStats
	// Replacement is how the last replacement stands, nil if there was none.
	Replacement *ReplacementStatus
	// StateLost counts flows that came from another worker with state that no
	// version here could read.
	StateLost uint64
	// LastFault is the message of the last trap, or empty.
	LastFault string
	// Counters are the function's own, by name.
	Counters map[string]uint64
	// LogSuppressed counts log lines over the rate.
	LogSuppressed uint64
	// Records counts what sfc.emit exported, RecordsLost what found no room
	// there or was no record. Both are 0 when nobody wants records.
	Records, RecordsLost uint64
}

// totals are counters of versions, those that numbers mean something else in by
// name.
type totals struct {
	raw             rawStats
	drops, counters map[string]uint64
	suppressed      uint64
}

// add adds a version's. The group's mu is held.
func (t *totals) add(v *version) {
	if t.drops == nil {
		t.drops, t.counters = map[string]uint64{}, map[string]uint64{}
	}
	raw := v.stats.read()
	longest := max(t.raw[statTimedMax], raw[statTimedMax])
	for i, n := range raw {
		t.raw[i] += n
	}
	t.raw[statTimedMax] = longest
	reasons := v.spec.Module.Manifest.DropReasons
	for k := range reasons {
		addTo(t.drops, reasons[k], raw[statReasons+k+1])
	}
	addTo(t.drops, undeclared, raw[statReasons])
	values := v.counterValues()
	for k, name := range v.spec.Module.Manifest.Counters {
		t.counters[name] += values[k]
	}
	t.suppressed += v.configLog.suppressed()
}

func addTo(m map[string]uint64, name string, n uint64) {
	if n > 0 {
		m[name] += n
	}
}

// sum is what all versions counted together.
func (h *hop) sum() totals {
	t := totals{raw: h.gone.raw, drops: map[string]uint64{}, counters: map[string]uint64{}, suppressed: h.gone.suppressed}
	maps.Copy(t.drops, h.gone.drops)
	maps.Copy(t.counters, h.gone.counters)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range h.versions {
		t.add(v)
	}
	return t
}

// Stats reads the counters of all functions, in the chain's order; none after
// Close. They are the function's, whatever its version was: names that the
// version in force shares with earlier ones go on, drops keep the names that
// they had.
func (g *Group) Stats() []FunctionStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]FunctionStats, len(g.hops))
	for i, h := range g.hops {
		out[i] = h.stats()
		out[i].Records, out[i].RecordsLost = g.records.counts(h)
	}
	return out
}

func (h *hop) stats() FunctionStats {
	v := h.cur.Load()
	all := h.sum()
	raw := &all.raw
	s := FunctionStats{
		Name: h.name, Version: v.spec.Module.Manifest.Version, Packets: raw[statPackets], Bursts: raw[statBursts],
		Skipped: raw[statSkipped], Traps: raw[statTraps], Overruns: raw[statOverruns],
		State:         State(v.state.Load()),
		LogSuppressed: h.runLog.suppressed() + all.suppressed,
		StateLost:     h.lost.Load(),
		Drops:         all.drops, Faulted: map[string]uint64{}, Counters: map[string]uint64{},
	}
	copy(s.Verdicts[:], raw[statVerdicts:])
	for r := range packet.Reason(16) {
		addTo(s.Faulted, r.String(), raw[statEngine+int(r)])
	}
	s.NsPerPacket, s.Latency = raw.times()
	s.Canary = h.canaryStats()
	if msg := h.lastFault.Load(); msg != nil {
		s.LastFault = *msg
	}
	for _, name := range v.spec.Module.Manifest.Counters {
		s.Counters[name] = all.counters[name]
	}
	if r := h.last.Load(); r != nil {
		status := r.Status()
		s.Replacement = &status
	}
	return s
}

// times returns the mean time per packet in ns, 0 when none was timed, and how
// long bursts took.
func (raw *rawStats) times() (nsPerPacket float64, l Latency) {
	if n := raw[statTimedPkts]; n > 0 {
		nsPerPacket = float64(raw[statTimedNs]) / float64(n)
	}
	l.MaxNs = raw[statTimedMax]
	copy(l.Counts[:], raw[statLatency:])
	return nsPerPacket, l
}

// undeclared names a drop whose number the manifest does not have.
const undeclared = "undeclared"

// counterValues are the counters of the function's own. The hop's mu is held,
// or the version is not in service.
func (v *version) counterValues() [nf.NumCounters]uint64 {
	values := v.counters
	if i := v.current.Load(); i != nil {
		for k, n := range i.counters() {
			values[k] += n
		}
	}
	return values
}

// ReasonName returns the stable name of a drop: "no_path" for the engine's
// own, "acl.denied" for a function's, "acl.fault" for the engine's about a
// function. Ask before the next function is replaced: numbers are those of the
// version in force.
func (g *Group) ReasonName(o packet.Outcome) string {
	if o.Hop == packet.HopEngine || int(o.Hop) >= len(g.hops) {
		return packet.Reason(o.Reason).String()
	}
	h := g.hops[o.Hop]
	if o.Fault != 0 {
		return h.name + "." + packet.Reason(o.Reason).String()
	}
	reasons := h.cur.Load().spec.Module.Manifest.DropReasons
	if r := h.last.Load(); o.Trial != 0 && r != nil {
		reasons = r.to.spec.Module.Manifest.DropReasons
	}
	if o.Reason == 0 || int(o.Reason) > len(reasons) {
		return h.name + "." + undeclared
	}
	return h.name + "." + reasons[o.Reason-1]
}
