package wasm

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"sfc/chains"
	"sfc/dataplane/packet"
	"sfc/nf"
)

// script is testdata/good/script.wat in Go.
type script struct{ region []byte }

func (s script) Process(descs []packet.Desc) {
	le := binary.LittleEndian
	for i := range descs {
		d := &descs[i]
		p := s.region[d.Chunk-nf.FramesStart+256+d.Mark*scriptBytes:][:scriptBytes]
		d.Mark++
		if p[1]&1 != 0 {
			d.Off = le.Uint16(p[4:])
		}
		if p[1]&2 != 0 {
			d.Len = le.Uint16(p[6:])
		}
		if p[1]&4 != 0 {
			d.OutPort = le.Uint16(p[8:])
		}
		d.Verdict = packet.Verdict(p[0])
		d.Reason = le.Uint16(p[2:])
		if p[1]&8 != 0 {
			d.Chunk = uint32(le.Uint16(p[10:]))
		}
	}
}

func (script) Close() error { return nil }

// scriptBytes is what one hop's part of a script takes, scriptHops how many
// hops follow it.
const (
	scriptBytes = 12
	scriptHops  = 4
)

// settler runs the same scripts through a Group and a chains.Forwarder.
type settler struct {
	*fixture
	forwarder *chains.Forwarder
	seen      map[packet.Outcome]int
}

func newSettler(tb testing.TB) *settler {
	s := &settler{fixture: newFixture(tb, fixtureOptions{}, repeat("script", scriptHops)...), seen: map[packet.Outcome]int{}}
	fns, reasons := make([]chains.Function, scriptHops), make([]uint16, scriptHops)
	for i := range fns {
		fns[i], reasons[i] = script{s.mem.Frames.Bytes()}, 2
	}
	s.forwarder = chains.NewForwarder(s.mem.Descs(), 2, fns, reasons)
	return s
}

// compare sends n packets through both. write fills in what hop does with
// packet k; it is Next unless write says more.
func (s *settler) compare(t *testing.T, n int, write func(k, hop int, p []byte)) {
	t.Helper()
	region, descs := s.mem.Frames.Bytes(), s.mem.Descs()
	s.fill(n, 200)
	for k := range n {
		frame := s.burst.Frames[k].Bytes(region)
		for hop := range scriptHops {
			p := frame[scriptBytes*hop:][:scriptBytes]
			clear(p)
			p[0] = byte(packet.Next)
			write(k, hop, p)
		}
	}
	saved := *descs
	a := s.burst
	s.group.Process(&a)
	*descs = saved
	b := s.burst
	s.forwarder.Process(&b)
	for k := range n {
		o := a.Out[k]
		if o != b.Out[k] || (o.Verdict != packet.Drop && a.Frames[k] != b.Frames[k]) {
			t.Fatalf("packet %d of %d: C says %+v %+v, Go says %+v %+v", k, n, o, a.Frames[k], b.Out[k], b.Frames[k])
		}
		f := a.Frames[k]
		if f.Chunk != uint32(k)*packet.ChunkSize || f.Len < packet.MinFrame || int(f.Off)+int(f.Len) > packet.ChunkSize {
			t.Fatalf("packet %d: frame %+v leaves its chunk", k, f)
		}
		if o.Verdict == packet.Tx && o.Port >= 2 || o.Verdict != packet.Tx && o.Verdict != packet.Drop && o.Verdict != packet.Pass {
			t.Fatalf("packet %d: outcome %+v", k, o)
		}
		o.Port = 0
		s.seen[o]++
	}
}

// The C side and chains.Forwarder settle every verdict, honest or not, alike.
func TestGroupSettlesLikeForwarder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("TEST_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	s := newSettler(t)
	le := binary.LittleEndian
	for range 3000 {
		s.compare(t, 1+rng.IntN(packet.BurstSize), func(_, _ int, p []byte) {
			if rng.IntN(4) > 0 {
				return
			}
			p[0], p[1] = byte(rng.IntN(6)), byte(rng.IntN(16))
			le.PutUint16(p[2:], uint16(rng.IntN(4)))
			le.PutUint16(p[4:], uint16(rng.IntN(2100)))
			le.PutUint16(p[6:], uint16(rng.IntN(2100)))
			le.PutUint16(p[8:], uint16(rng.IntN(3)))
			le.PutUint16(p[10:], uint16(rng.Uint32()))
		})
	}
	if len(s.seen) < 20 {
		t.Errorf("only %d kinds of outcome were seen", len(s.seen))
	}
}

// FuzzSettle reads its input as mutations of descriptors: which packet, which
// hop, and what the hop writes. Packets that no mutation names go through.
func FuzzSettle(f *testing.F) {
	const mutation = 2 + scriptBytes
	f.Add(uint8(63), []byte("\x00\x00\x02\x03\x00\x00\x00\x01\x0d\x00\x00\x00\x00\x00"))                                                         // length 13
	f.Add(uint8(1), []byte("\x00\x03\x03\x07\x00\x00\xf0\x07\x10\x00\x01\x00\x00\x00\x00\x01\x01\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"))  // the chunk's last bytes; reason 65535
	f.Add(uint8(40), []byte("\x05\x02\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x06\x00\x02\x04\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00")) // another chunk; port 65535
	s := newSettler(f)
	f.Fuzz(func(t *testing.T, last uint8, data []byte) {
		n := int(last)%packet.BurstSize + 1
		scripts := map[[2]int][]byte{}
		for ; len(data) >= mutation; data = data[mutation:] {
			scripts[[2]int{int(data[0]) % n, int(data[1]) % scriptHops}] = data[2:mutation]
		}
		s.compare(t, n, func(k, hop int, p []byte) {
			if m, ok := scripts[[2]int{k, hop}]; ok {
				copy(p, m)
			}
		})
	})
}
