package chains

import "sfc/dataplane/packet"

// HopTracer is a [Runner] that can note what each function does with packets
// that somebody chose.
type HopTracer interface {
	// SetHopTrace has every Process write to t from now on, until it is called
	// with nil. The worker calls it between bursts. Runners of the same
	// functions share one trace. Without one it costs nothing.
	SetHopTrace(t *packet.HopTrace)
}
