package nftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/nf/native"
	"sfc/nf/wasm"
)

// liveKey is the secret of every flow table here, so that runners find alike.
var liveKey = [2]uint64{1, 2}

// Room is how much a function may give its flows. The zero value is enough for a
// test, and quick to make.
type Room struct {
	// Flows, Tuples and Claims are how many there may be at a time. Default
	// 2048, 2048 and 4096.
	Flows, Tuples, Claims int

	// beside is another worker of the same chain, whose tuples and claims are
	// the same; nil: there is none.
	beside *live
}

// live is the engine's part for a function that binds tuples to flows: which
// flow a packet belongs to depends on what the function did before. Every runner
// of such a function has one of its own; the Flow of its packets is not looked
// at. As [native.Host] it does what nf/wasm/bind.c does.
type live struct {
	reader       *flow.Reader
	table        *flow.Table
	pins, claims *steer.Pins
	second       bool // they are another's

	n        int // packets of the burst under way
	lastNs   uint64
	queries  [packet.BurstSize]flow.Query
	results  [packet.BurstSize]flow.Result
	promised []promise
}

// promise is a tuple that the flow table is still to be told of.
type promise struct {
	slot, ident uint32
	tuple       [flow.TupleSize]byte
}

var _ native.Host = (*live)(nil)

func newLive(room Room) (_ *live, err error) {
	if room.Flows == 0 {
		room.Flows = 2048
	}
	if room.Tuples == 0 {
		room.Tuples = 2048
	}
	if room.Claims == 0 {
		room.Claims = 4096
	}
	l := &live{}
	if room.beside != nil {
		l.pins, l.claims, l.second = room.beside.pins, room.beside.claims, true
	} else if l.pins, err = newPins(room.Tuples); err != nil {
		return nil, err
	} else if l.claims, err = newPins(room.Claims); err != nil {
		return nil, err
	}
	if l.reader, err = flow.NewReader(flow.ReaderOptions{Key: liveKey}); err != nil {
		return nil, err
	}
	l.table, err = flow.New(flow.Options{
		Key: liveKey, Max: uint32(room.Flows), Bindings: uint32(room.Tuples), Pins: l.pins, Claims: l.claims, Sparse: true,
	})
	return l, err
}

func newPins(entries int) (*steer.Pins, error) {
	p, err := steer.NewPins(make([]byte, steer.PinsSize(entries)))
	if err != nil {
		return nil, err
	}
	return p.Share(entries), nil
}

// grants is what a group of the engine's needs to know.
func (l *live) grants() wasm.Grants {
	return wasm.Grants{Pins: l.pins, Claims: l.claims, Key: liveKey, Ledger: l.table.Ledger()}
}

// find returns the packets of a burst with their flows. What a packet lies about
// itself the flow table is not told; what the steering program would not have
// taken for IP has no flow.
func (l *live) find(packets []Packet) []Packet {
	found := make([]Packet, len(packets))
	for i, p := range packets {
		frame := p.Frame
		if p.Whole != nil {
			frame = p.Whole
		}
		in, result := packet.Parse(frame)
		m := packet.Meta{RxNs: p.RxNs, Hash: packet.FlowHash(liveKey, &in), L3: in.L3, L4: in.L4, Flags: in.Flags, Proto: in.Proto, VLAN: in.VLAN}
		if result != packet.ParsedIP {
			m.Flags = 0
		}
		l.reader.Read(frame, &m, &l.queries[i])
		l.lastNs = p.RxNs
	}
	l.n = len(packets)
	l.table.Lookup(&l.queries, l.n, &l.results)
	for i, p := range packets {
		p.Flow = l.results[i].Slot + 1 // packet.NoSlot becomes 0
		p.Flags |= l.results[i].Flags
		found[i] = p
	}
	return found
}

// settle ends a burst: tuples that were promised here are bound, and the flows
// whose time has come end. It returns these.
func (l *live) settle() (ended []uint32) {
	l.n = 0
	for i := range l.promised {
		p := &l.promised[i]
		l.table.Adopt(p.slot, p.ident, &p.tuple)
	}
	l.promised = l.promised[:0]
	l.table.Age(l.lastNs, 4096)
	var slots [256]uint32
	for n := l.table.Drain(slots[:]); n > 0; n = l.table.Drain(slots[:]) {
		for _, slot := range slots[:n] {
			ended = append(ended, slot+1)
		}
	}
	return ended
}

// close verifies the tables, and that nothing is held when all flows are gone.
func (l *live) close() error {
	if l == nil {
		return nil
	}
	l.settle()
	err := errors.Join(l.table.Verify(), l.table.Close())
	if pins, claims := l.pins.Live(), l.claims.Live(); !l.second && (pins != 0 || claims != 0) {
		err = errors.Join(err, fmt.Errorf("%d tuples and %d claims are left behind", pins, claims))
	}
	return err
}

// holder is the account of the flow of packet i; nil when it has none.
func (l *live) holder(i int) (h *steer.Holder, slot uint32) {
	if i < 0 || i >= l.n || l.results[i].Slot == packet.NoSlot {
		return nil, 0
	}
	slot = l.results[i].Slot
	if h = &l.table.Ledger().Flows[slot]; h.Ident == 0 {
		return nil, 0
	}
	return h, slot
}

// FlowBind is native.Host's.
func (l *live) FlowBind(i int, t flow.Tuple) int32 {
	return l.bind(i, [flow.TupleSize]byte(flow.AppendTuple(nil, &t)))
}

// bind is FlowBind of a tuple as a function writes it.
func (l *live) bind(i int, raw [flow.TupleSize]byte) int32 {
	h, slot := l.holder(i)
	if h == nil {
		return native.BindNoFlow
	}
	t, ok := flow.ParseTuple(&raw)
	if !ok {
		return native.BindBad
	}
	in := packet.Info{Flags: packet.FlagIPv6, Proto: t.Proto, SrcPort: t.SrcPort, DstPort: t.DstPort}
	if t.Src.Is4() {
		in.Flags = packet.FlagIPv4
	}
	copy(in.Src[:], t.Src.AsSlice())
	copy(in.Dst[:], t.Dst.AsSlice())
	key, value := steer.PinKey(packet.FlowHash64(liveKey, &in), 0), steer.PinValue(h.Ident, 0, h.Bucket)
	limit := int(h.Binds)+int(h.Pending) >= steer.MaxBinds
	if limit || len(l.promised) >= int(l.table.Ledger().Head.Room) {
		switch have, ok := l.pins.Lookup(key); {
		case ok && have == value:
			return native.BindOK
		case ok:
			return native.BindTaken
		case limit:
			return native.BindLimit
		}
		return native.BindFull
	}
	switch l.pins.Add(key, value) {
	case steer.PinTaken:
		return native.BindTaken
	case steer.PinFull:
		return native.BindFull
	case steer.PinOK:
		h.Pending++
		l.promised = append(l.promised, promise{slot, h.Ident, raw})
	case steer.PinHeld:
	}
	return native.BindOK
}

// claimKey is the 64-bit key of a claim.
func claimKey(hi, lo uint64) uint64 {
	h := fnv.New64a()
	h.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, hi), lo))
	return h.Sum64() | 1
}

// Claim is native.Host's.
func (l *live) Claim(i int, hi, lo, value uint64) int32 {
	h, _ := l.holder(i)
	if h == nil {
		return native.BindNoFlow
	}
	key := claimKey(hi, lo)
	for _, held := range h.Claims {
		if held != key {
			continue
		}
		if have, ok := l.claims.Lookup(key); ok && have == value {
			return native.BindOK
		}
		return native.BindTaken
	}
	if h.Claims[0] != 0 && h.Claims[1] != 0 {
		return native.BindLimit
	}
	switch l.claims.Insert(key, value) {
	case steer.PinTaken:
		return native.BindTaken
	case steer.PinFull:
		return native.BindFull
	case steer.PinOK, steer.PinHeld:
		h.Claim(key)
	}
	return native.BindOK
}

// ClaimFind is native.Host's.
func (l *live) ClaimFind(hi, lo uint64) uint64 {
	value, _ := l.claims.Lookup(claimKey(hi, lo))
	return value
}
