package nftest

import (
	"sfc/dataplane/packet"
	"sfc/nf"
)

// framesBytes is the size of the frame region a burst needs.
const framesBytes = packet.BurstSize * packet.ChunkSize

// window plays the host's part for one instance: it lays packets out in the
// memory that host and function share and reads back what became of them.
type window struct {
	descs  *[packet.BurstSize]packet.Desc
	frames []byte // the frame region, at least framesBytes
	live   *live  // nil: packets name their flows themselves
}

// fill writes the packets, at most packet.BurstSize, into the first chunks and
// their descriptors. Longer frames than a chunk holds are cut. Where flows are
// live it begins a burst, which settle ends.
func (w window) fill(packets []Packet) []packet.Desc {
	if w.live != nil {
		packets = w.live.find(packets)
	}
	descs := w.descs[:len(packets)]
	for i, p := range packets {
		frame := p.Frame[:min(len(p.Frame), packet.MaxFrame)]
		room := w.frames[i*packet.ChunkSize:][:packet.ChunkSize]
		n := copy(room[packet.Headroom:], frame)
		clear(room[packet.Headroom+n:])
		descs[i] = packet.Desc{
			Chunk: nf.FramesStart + uint32(i*packet.ChunkSize), Off: packet.Headroom, Len: uint16(n),
			L3: inChunk(p.L3), L4: inChunk(p.L4),
			Proto: p.Proto, Flags: p.Flags, VLAN: p.VLAN,
			RxNs: p.RxNs, InPort: p.InPort,
			Slot: p.Flow - 1, // 0 becomes packet.NoSlot
		}
	}
	return descs
}

// inChunk turns an offset in the frame into one in the chunk; 0 stays "none".
func inChunk(off uint16) uint16 {
	if off == 0 {
		return 0
	}
	return off + packet.Headroom
}

// frame returns a copy of the frame that starts off bytes into chunk i.
func (w window) frame(i int, off, n uint16) []byte {
	start := i*packet.ChunkSize + int(off)
	return append([]byte{}, w.frames[start:start+int(n)]...)
}

// process runs packets through call burst by burst and returns what their
// descriptors say afterwards. Flows that end it hands to end.
func (w window) process(packets []Packet, call func(descs []packet.Desc), end func(flows []uint32)) []Result {
	out := make([]Result, 0, len(packets))
	for start := 0; start < len(packets); start += packet.BurstSize {
		descs := w.fill(packets[start:min(start+packet.BurstSize, len(packets))])
		call(descs)
		for i, d := range descs {
			r := Result{Verdict: d.Verdict, Reason: d.Reason, OutPort: d.OutPort, Off: d.Off}
			if int(d.Off)+int(d.Len) <= packet.ChunkSize {
				r.Frame = w.frame(i, d.Off, d.Len)
			}
			out = append(out, r)
		}
		if w.live != nil {
			end(w.live.settle())
		}
	}
	return out
}
