package nftest

import (
	"sfc/dataplane/packet"
	"sfc/nf/native"
)

// Reference runs a function of nf/native.
type Reference struct {
	name string
	w    window
	fn   *native.Function
}

// NewReference returns the reference of the catalogue's function called name.
func NewReference(name string) *Reference {
	return &Reference{name: name, w: window{new([packet.BurstSize]packet.Desc), make([]byte, framesBytes)}}
}

// Configure is Runner's.
func (r *Reference) Configure(config []byte) (err error) {
	r.fn, err = native.New(r.name, config, r.w.frames)
	return err
}

// Process is Runner's. It needs a configuration that was not refused.
func (r *Reference) Process(packets []Packet) []Result {
	return r.w.process(packets, r.fn.Process)
}

// FlowEnd is Runner's.
func (r *Reference) FlowEnd(flows []uint32) { r.fn.FlowEnd(slots(flows)) }

// Counters is Counter's.
func (r *Reference) Counters() []uint64 { return r.fn.Counters() }
