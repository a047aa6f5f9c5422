// Package native holds the catalogue's functions once more in Go: slow and
// obvious, written from their documentation and not from their C. They are the
// oracle that the Wasm functions are compared with.
package native

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"sfc/dataplane/packet"
	"sfc/nf"
)

// Errors returned by [New].
var (
	// ErrUnknown means that the catalogue has no function of this name.
	ErrUnknown = errors.New("no such function in the catalogue")
	// ErrConfig means that the function refuses its configuration.
	ErrConfig = errors.New("configuration refused")
)

// Function is a catalogue function with its configuration and state. One value
// belongs to one worker; it is not safe for concurrent use.
type Function struct {
	frames   []byte
	decide   decider
	counters []uint64
	host     Host
}

// decider decides about one packet: verdict, and reason when it drops. It counts
// in c, whose indices are those of the function's manifest.
type decider interface {
	decide(p *view, c []uint64) (packet.Verdict, uint16)
}

// ender is a decider that keeps state per flow. Its packets name the flow in Slot.
type ender interface {
	// end closes the flow in a slot, which may be given to another then.
	end(slot uint32, c []uint64)
}

// recorder is a decider that exports records.
type recorder interface {
	// records takes those since it was called last, as JSON.
	records() []string
}

var makers = map[string]func(config map[string]any) (decider, error){
	"acl":       newACL,
	"dnsguard":  newDNSGuard,
	"firewall":  newFirewall,
	"flowstat":  newFlowStat,
	"hop":       newHop,
	"lb4":       newLB4,
	"nat44":     newNAT44,
	"ratelimit": newRateLimit,
}

// Names returns the functions' names, sorted.
func Names() []string { return slices.Sorted(maps.Keys(makers)) }

// New makes the function called name with a configuration in JSON. frames is the
// frame region that descriptors point into; the caller keeps it alive and hands
// it to one user at a time. Errors wrap [ErrUnknown] or [ErrConfig].
func New(name string, config, frames []byte) (*Function, error) {
	maker, ok := makers[name]
	if !ok {
		return nil, fmt.Errorf("function %q: %w: there are %v", name, ErrUnknown, Names())
	}
	object, err := parseConfig(config)
	if err != nil {
		return nil, fmt.Errorf("function %q: %w: %w", name, ErrConfig, err)
	}
	d, err := maker(object)
	if err != nil {
		return nil, fmt.Errorf("function %q: %w: %w", name, ErrConfig, err)
	}
	return &Function{frames: frames, decide: d, counters: make([]uint64, nf.NumCounters), host: nobody{}}, nil
}

// Ask gives the function a host to ask. Without one it is refused everything.
func (f *Function) Ask(h Host) { f.host = h }

// Asks says whether the function called name asks its host for anything.
func Asks(name string) bool { return name == "lb4" || name == "nat44" }

// heir is a decider that goes on with the flows of one that was configured
// otherwise.
type heir interface{ inherit(from decider) }

// Reconfigure gives the function another configuration; it keeps what it knows of
// its flows if it is made for that. Errors leave everything as it was.
func (f *Function) Reconfigure(name string, config []byte) error {
	next, err := New(name, config, nil)
	if err != nil {
		return err
	}
	if h, ok := next.decide.(heir); ok {
		h.inherit(f.decide)
	}
	f.decide = next.decide
	return nil
}

// Process writes a verdict, and a reason where it drops, into every descriptor,
// and may rewrite the frames' bytes.
func (f *Function) Process(descs []packet.Desc) {
	for i := range descs {
		d := &descs[i]
		start := int(d.Chunk) - nf.FramesStart + int(d.Off)
		v := view{Desc: d, frame: f.frames[start : start+int(d.Len)], index: i, host: f.host}
		d.Verdict, d.Reason = f.decide.decide(&v, f.counters)
	}
}

// FlowEnd tells the function that the flows in these slots have ended.
func (f *Function) FlowEnd(slots []uint32) {
	e, ok := f.decide.(ender)
	for _, slot := range slots {
		if ok {
			e.end(slot, f.counters)
		}
	}
}

// Records takes the records that the function exported since it was called last,
// each as the engine writes it: see wasm.Record.
func (f *Function) Records() []string {
	if r, ok := f.decide.(recorder); ok {
		return r.records()
	}
	return nil
}

// Counters returns the function's counters in the order of its manifest. The
// slice aliases the function's own.
func (f *Function) Counters() []uint64 { return f.counters }

// Close does nothing; it makes Function usable where functions own resources.
func (f *Function) Close() error { return nil }

// view is a packet: its descriptor and its frame's bytes.
type view struct {
	*packet.Desc
	frame []byte
	index int // in the burst
	host  Host
}

// at returns size bytes at an offset of the chunk, nil when they are not all in
// the frame or the offset says that there is no such header.
func (v *view) at(off uint16, size int) []byte {
	i := int(off) - int(v.Off)
	if off == 0 || i < 0 || i+size > len(v.frame) {
		return nil
	}
	return v.frame[i : i+size]
}

// ip returns the IP header without options, nil when the packet has none. Its
// length tells the version.
func (v *view) ip() []byte {
	if v.Flags&packet.FlagIPv4 != 0 {
		if h := v.at(v.L3, packet.IPv4Len); h != nil {
			return h
		}
	}
	if v.Flags&packet.FlagIPv6 != 0 {
		return v.at(v.L3, packet.IPv6Len)
	}
	return nil
}
