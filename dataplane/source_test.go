package dataplane

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// source is a flow that packets are sent of.
type source struct {
	id    uint32
	flow  uint32 // hash of the flow's whole packets
	chain uint16
	n     uint32 // packets so far
	at    [2]packet.Meta
	wire  [2][]byte // there, and the way back
}

// sources makes flows, which the chains have in turn.
func (b *played) sources(n int) []source {
	list := make([]source, n)
	for i := range list {
		s := &list[i]
		s.id, s.chain = uint32(i), uint16(i%b.chains)
		for back := range 2 {
			f := make([]byte, 64)
			f[12], f[13] = 8, 0
			ip := f[14:]
			ip[0], ip[8], ip[9] = 0x45, 64, 17
			binary.BigEndian.PutUint16(ip[2:], 50)
			src, dst := []byte{10, 0, byte(i >> 8), byte(i)}, []byte{10, 1, 0, 1}
			sport, dport := uint16(1000+i%7), uint16(53)
			if back == 1 {
				src, dst, sport, dport = dst, src, dport, sport
			}
			copy(ip[12:], src)
			copy(ip[16:], dst)
			binary.BigEndian.PutUint16(ip[20:], sport)
			binary.BigEndian.PutUint16(ip[22:], dport)
			in := packet.Info{Flags: packet.FlagIPv4, Proto: 17, SrcPort: sport, DstPort: dport}
			copy(in.Src[:], src)
			copy(in.Dst[:], dst)
			h := packet.FlowHash(b.key, &in)
			s.wire[back], s.flow = f, h
			s.at[back] = packet.Meta{Hash: h, Path: 2*s.chain + uint16(back), L3: 14, L4: 34, Flags: packet.FlagIPv4, Proto: 17,
				Version: packet.MetaVersion, Bucket: steer.Bucket(h)}
		}
	}
	return list
}

// portsIn are pairs of ports whose flows, between 10.9.0.1 and 10.9.0.2, are of
// bucket 0: found once, since only one in a thousand is.
var portsIn = sync.OnceValue(func() (list [][2]uint16) {
	for i := 0; len(list) < 2*parcelFlows+100; i++ {
		in := packet.Info{Flags: packet.FlagIPv4, Proto: 17, SrcPort: uint16(i), DstPort: uint16(1 + i>>16)}
		copy(in.Src[:], []byte{10, 9, 0, 1})
		copy(in.Dst[:], []byte{10, 9, 0, 2})
		if steer.Bucket(packet.FlowHash(playedKey, &in)) == 0 {
			list = append(list, [2]uint16{in.SrcPort, in.DstPort})
		}
	}
	return list
})

// sameBucket makes flows of the first chain that are all of bucket 0.
func (b *played) sameBucket(n int) []source {
	list := make([]source, n)
	for i, ports := range portsIn()[:n] {
		list[i] = b.sources(1)[0]
		list[i].id = uint32(i)
		src, dst, sport, dport := []byte{10, 9, 0, 1}, []byte{10, 9, 0, 2}, ports[0], ports[1]
		for back, wire := range list[i].wire {
			copy(wire[26:], src)
			copy(wire[30:], dst)
			binary.BigEndian.PutUint16(wire[34:], sport)
			binary.BigEndian.PutUint16(wire[36:], dport)
			in := packet.Info{Flags: packet.FlagIPv4, Proto: 17, SrcPort: sport, DstPort: dport}
			copy(in.Src[:], src)
			copy(in.Dst[:], dst)
			m := &list[i].at[back]
			m.Hash = packet.FlowHash(playedKey, &in)
			m.Bucket = steer.Bucket(m.Hash)
			src, dst, sport, dport = dst, src, dport, sport
		}
	}
	return list
}

// send is the steering program for one packet.
func (b *played) send(s *source, back int, rnd *rand.Rand) {
	bucket := s.at[back].Bucket
	b.sendTo(s, back, rnd, func() int { return b.owners.Take(s.chain, bucket) })
}

func (b *played) sendTo(s *source, back int, rnd *rand.Rand, take func() int) {
	chunk, ok := b.chunk()
	if !ok {
		return
	}
	b.running.RLock()
	defer b.running.RUnlock()
	f := b.write(s, back, chunk)
	owner := take()
	if rnd.IntN(1000) < b.lose {
		b.pool.Put(chunk)
		b.lost++
		return
	}
	for !b.rings[owner].Push(&f) {
		if b.stopping.Load() {
			b.pool.Put(chunk)
			return
		}
		runtime.Gosched()
	}
	s.n++
	b.offers++
}

// chunk waits until a further packet may be under way, and for its chunk; false
// when workers stop.
func (b *played) chunk() (chunk uint32, ok bool) {
	for b.window > 0 && b.offers-b.left() >= b.window && !b.stopping.Load() {
		runtime.Gosched()
	}
	for chunk, ok = b.pool.Get(); !ok && !b.stopping.Load(); chunk, ok = b.pool.Get() {
		runtime.Gosched() // all are under way
	}
	return chunk, ok
}

// write puts the next packet of a flow into a chunk.
func (b *played) write(s *source, back int, chunk uint32) packet.Frame {
	f := packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: uint16(len(s.wire[back]))}
	data := f.Bytes(b.region)
	copy(data, s.wire[back])
	binary.LittleEndian.PutUint32(data[len(data)-20:], s.n)
	binary.LittleEndian.PutUint32(data[len(data)-16:], s.id)
	binary.LittleEndian.PutUint32(data[len(data)-12:], b.serial)
	m := s.at[back]
	m.Seq = b.serial
	b.serial++
	m.RxNs = b.clock.Now()
	*packet.MetaAt(b.region, f.Pos()) = m
	return f
}
