package dataplane

import (
	"encoding/binary"

	"sfc/dataplane/packet"
	"sfc/dataplane/route"
)

// nextHop makes a frame ready to leave by a routed port. When it says false the
// frame has its fate, which is in o: given to this host, or dropped.
func (w *Worker) nextHop(a *Account, f packet.Frame, o *packet.Outcome) bool {
	frame := f.Bytes(w.cfg.Region)
	reason := packet.ReasonNoRoute
	switch w.cfg.Routes.Rewrite(int(o.Port), frame, etherPayload(frame)) {
	case route.Ready:
		return true
	case route.Local:
		o.Verdict = packet.Pass
		w.pass(a, frame, o)
		w.cfg.Pool.Put(f.Chunk)
		return false
	case route.NoNeighbour:
		reason = packet.ReasonNoNeighbour
	}
	*o = packet.Outcome{Verdict: packet.Drop, Hop: packet.HopEngine, Reason: uint16(reason)}
	a.drop(reason)
	w.dropEngine(f, reason)
	return false
}

// etherPayload returns the offset of what an Ethernet frame carries behind its
// VLAN tags, of which there are two at most.
func etherPayload(frame []byte) int {
	at := 12
	for range 2 {
		if at+2 > len(frame) {
			break
		}
		if t := binary.BigEndian.Uint16(frame[at:]); t != 0x8100 && t != 0x88a8 {
			break
		}
		at += 4
	}
	return at + 2
}
