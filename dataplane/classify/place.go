package classify

import (
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// Placing is what the steering program knows of the ownership of flows, and
// says for every packet that a path claims in which bucket it is counted and
// steered (bpf/steer_owners.h). It is for runs without the kernel, and the
// program's oracle. Safe
// for concurrent use.
type Placing struct {
	// Key is the secret of the flow hash.
	Key [2]uint64
	// Workers share the flows of each chain; with one, pins are not looked at.
	Workers int
	// Chains is the number of chains, and the row of steer.Owners for packets
	// whose headers do not tell their flow.
	Chains int
	// PathChain is the chain of each path; of paths past its end it is 0.
	PathChain []uint16
	// Pinned says of each chain whether its functions pin flows; of chains
	// past its end they do not.
	Pinned []bool
	// Pins are what they pinned; nil: nothing.
	Pins *steer.Pins
}

// Place is where a packet is counted and steered.
type Place struct {
	// Hash is packet.FlowHash64; Meta.Hash is its low half.
	Hash uint64
	// Row is the row of steer.Owners: the path's chain, or Placing.Chains.
	Row uint16
	// Bucket is the bucket in the row, as in Meta.Bucket.
	Bucket uint16
}

// Place returns where a packet that a path claims is counted and steered.
func (p *Placing) Place(path uint16, in *packet.Info) Place {
	hash := packet.FlowHash64(p.Key, in)
	at := Place{Hash: hash, Row: uint16(p.Chains), Bucket: steer.Bucket(uint32(hash))}
	if in.Flags&packet.FlagOdd != 0 {
		return at
	}
	at.Row = 0
	if int(path) < len(p.PathChain) {
		at.Row = p.PathChain[path]
	}
	if p.Workers <= 1 || p.Pins == nil || int(at.Row) >= len(p.Pinned) || !p.Pinned[at.Row] {
		return at
	}
	if v, ok := p.Pins.Lookup(steer.PinKey(hash, at.Row)); ok {
		if chain, bucket := steer.PinOwner(v); chain == at.Row {
			at.Bucket = steer.Bucket(uint32(bucket))
		}
	}
	return at
}
