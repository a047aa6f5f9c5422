package nftest

import (
	"encoding/binary"

	"sfc/dataplane/packet"
	"sfc/nf"
)

// framesBytes is the size of the frame region a burst needs.
const framesBytes = packet.BurstSize * packet.ChunkSize

// window plays the host's part for one instance: it lays packets out in the
// guest's memory and reads back what became of them.
type window struct {
	mem []byte // guest address 0 on, at least up to nf.SlotsStart
}

// fill writes the packets, at most packet.BurstSize, into the first chunks and
// their descriptors. Longer frames than a chunk holds are cut.
func (w window) fill(packets []Packet) []packet.Desc {
	descs := packet.DescsAt(w.mem[nf.DescStart:])[:len(packets)]
	for i, p := range packets {
		frame := p.Frame[:min(len(p.Frame), packet.MaxFrame)]
		chunk := uint32(nf.FramesStart + i*packet.ChunkSize)
		room := w.mem[chunk : chunk+packet.ChunkSize]
		n := copy(room[packet.Headroom:], frame)
		clear(room[packet.Headroom+n:])
		descs[i] = packet.Desc{
			Chunk: chunk, Off: packet.Headroom, Len: uint16(n),
			L3: inChunk(p.L3), L4: inChunk(p.L4),
			Proto: p.Proto, Flags: p.Flags, VLAN: p.VLAN,
			RxNs: p.RxNs, InPort: p.InPort,
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

// results reads what the function left behind.
func (w window) results(descs []packet.Desc) []Result {
	out := make([]Result, len(descs))
	for i, d := range descs {
		out[i] = Result{Verdict: d.Verdict, Reason: d.Reason, OutPort: d.OutPort, Mark: d.Mark, Off: d.Off}
		if start := d.Chunk + uint32(d.Off); int(d.Off)+int(d.Len) <= packet.ChunkSize {
			out[i].Frame = append([]byte{}, w.mem[start:start+uint32(d.Len)]...)
		}
	}
	return out
}

// process runs packets burst by burst through call, which runs one burst.
func (w window) process(packets []Packet, call func(descs []packet.Desc)) []Result {
	var out []Result
	for start := 0; start < len(packets); start += packet.BurstSize {
		descs := w.fill(packets[start:min(start+packet.BurstSize, len(packets))])
		call(descs)
		out = append(out, w.results(descs)...)
	}
	return out
}

// setConfig writes a configuration where functions find it.
func (w window) setConfig(config []byte) {
	copy(w.mem[nf.ConfigStart:nf.ConfigStart+nf.ConfigMax], config)
}

// counters returns a copy of the counters page.
func (w window) counters() []uint64 {
	out := make([]uint64, nf.NumCounters)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(w.mem[nf.CountersStart+8*i:])
	}
	return out
}
