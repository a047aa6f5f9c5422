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
	room Room
}

// NewReference returns the reference of the catalogue's function called name.
func NewReference(name string) *Reference {
	return &Reference{name: name, w: window{descs: new([packet.BurstSize]packet.Desc), frames: make([]byte, framesBytes)}}
}

// Configure is Runner's.
func (r *Reference) Configure(config []byte) (err error) {
	if err := r.Close(); err != nil {
		return err
	}
	if r.fn, err = native.New(r.name, config, r.w.frames); err != nil {
		return err
	}
	if native.Asks(r.name) {
		if r.w.live, err = newLive(r.room); err != nil {
			return err
		}
		r.fn.Ask(r.w.live)
	}
	return nil
}

// Reconfigure is Reconfigurer's.
func (r *Reference) Reconfigure(config []byte) error { return r.fn.Reconfigure(r.name, config) }

// Limit is Limiter's.
func (r *Reference) Limit(room Room) { r.room = room }

// Close gives back what the last configuration took.
func (r *Reference) Close() error {
	l := r.w.live
	r.w.live = nil
	return l.close()
}

// Process is Runner's. It needs a configuration that was not refused.
func (r *Reference) Process(packets []Packet) []Result {
	return r.w.process(packets, r.fn.Process, r.FlowEnd)
}

// Records is Recorder's.
func (r *Reference) Records() []string { return r.fn.Records() }

// FlowEnd is Runner's.
func (r *Reference) FlowEnd(flows []uint32) { r.fn.FlowEnd(slots(flows)) }

// Counters is Counter's.
func (r *Reference) Counters() []uint64 { return r.fn.Counters() }
