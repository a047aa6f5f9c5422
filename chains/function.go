package chains

import "sfc/dataplane/packet"

// Function is a service function (RFC 7665) inside this process: the host's
// counterpart of a guest's sfc_process.
//
// Process decides over every descriptor of descs: it writes Verdict (and
// Reason when it drops) and may change Off, Len, OutPort, Mark and the packet's
// bytes, which it finds in the frame region it was made with, at descriptor's
// Chunk - nf.FramesStart + Off. It must not keep descs. One value belongs to
// one worker, so Process is never called concurrently on it.
type Function interface {
	Process(descs []packet.Desc)
	Close() error
}

// Runner takes bursts along one service path. [Forwarder] runs functions of
// this process, nf/wasm's Group runs guests; a worker cannot tell them apart.
//
// The caller has filled b (frames, ports, times) and the path's descriptors.
// Process writes b.Out for every packet and b.Frames for those that are sent.
// It allocates nothing. Only the worker that owns the path calls it.
type Runner interface {
	Process(b *packet.Burst)
	// Tick is called about every 100 ms between bursts; nowNs is the same
	// clock as Burst.NowNs.
	Tick(nowNs uint64)
	// FlowEnd is called between bursts when flows have ended, before their
	// slots are given to others: functions are told, and what they kept in
	// the slots is cleared.
	FlowEnd(slots []uint32)
	// FlowBytes is how many bytes TakeFlow needs for a flow now: it changes
	// when functions are replaced. Anyone may ask.
	FlowBytes() int
	// TakeFlow copies what they keep in a slot to dst, of FlowBytes bytes: the
	// flow goes to another worker. ClearFlow clears the slot when it is there.
	TakeFlow(slot uint32, dst []byte)
	ClearFlow(slot uint32)
	// GiveFlow puts into an empty slot what TakeFlow took out of another, here
	// or on another worker of the chain, whatever FlowBytes is here.
	GiveFlow(slot uint32, src []byte)
}
