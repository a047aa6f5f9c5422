package bench

import (
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/dataplane/packet"
	"sfc/dataplane/ring"
)

// Paced traffic while ownership changes. Each worker is also a queue of a device
// and steers: when its port is asked for frames it makes those that are due by
// the clock, takes the owner of each from the table of owners as the steering
// program does, keeps its own and leaves the others in a ring, where the owner
// finds them as in its socket. No thread but the workers' takes part, so
// nothing competes with them for their cores. As on a machine whose interrupts
// come to the workers' cores, a worker that is held up steers late: times count
// from when a packet was due.
//
// Packets carry number, place in their stream and the time they were due, so
// that where they leave each stream can be seen to be whole and in order.

// stream is a direction of a flow.
type stream struct {
	shot shot
	port int
	// next is the place of the next packet. Written by the one worker that makes
	// them.
	next uint32
	// seen is the place of the last that left.
	seen atomic.Uint32
	// moved says that it is of the bucket that changes hands.
	moved bool
}

// Offsets of what a packet carries, in the payload of UDP.
const (
	streamAt = l4At + packet.UDPLen
	placeAt  = streamAt + 4
	dueAt    = placeAt + 4
)

// paced is what the paced ports of all workers share.
type paced struct {
	r       *rig
	streams []stream
	kind    kind
	workers []*pacedWorker
	stop    atomic.Bool

	lost, reordered atomic.Uint64
}

// pacedWorker is one worker's part. It is the worker's own, but for the rings.
type pacedWorker struct {
	*paced
	index int
	begun bool
	start uint64
	every float64 // ns between two packets at a port
	ports [2]pacedPort
	delay [2]*hdrhistogram.Histogram // from due to sent, in ns; [1]: of the bucket that moves
	done  [2]atomic.Bool             // ports that make no more
}

// pacedPort is a worker's port.
type pacedPort struct {
	order []uint32 // streams that come in here, by turns
	at    int
	made  uint64
	// in and out are from and to the other workers, by index; nil: oneself.
	in, out []*ring.Ring[packet.Frame]
}

// pacedSlots is the size of the ring between two workers, as a socket's.
const pacedSlots = 2048

// newPaced makes traffic of all flows of a rig, perSecond packets altogether. Of
// them half are of the flows of a bucket.
func newPaced(tb testing.TB, r *rig, bucket uint16, perSecond int) *paced {
	tb.Helper()
	n := len(r.ports)
	j := &paced{r: r, kind: newKind(packet.ProtoUDP, 64, 0, 0, 0), streams: make([]stream, 2*len(r.flows))}
	for w := range n {
		pw := &pacedWorker{paced: j, index: w, every: 1e9 * float64(2*n) / float64(perSecond)}
		for i := range pw.ports {
			pw.delay[i] = hdrhistogram.New(1, 60_000_000_000, 3)
			pw.ports[i].in, pw.ports[i].out = make([]*ring.Ring[packet.Frame], n), make([]*ring.Ring[packet.Frame], n)
		}
		j.workers = append(j.workers, pw)
	}
	for from, a := range j.workers {
		for to, b := range j.workers {
			for i := range a.ports {
				if from == to {
					continue
				}
				r, err := ring.New[packet.Frame](pacedSlots)
				if err != nil {
					tb.Fatal(err)
				}
				a.ports[i].out[to], b.ports[i].in[from] = r, r
			}
		}
	}
	buf := make([]byte, packet.MaxFrame)
	moved, others := make([][]uint32, 2*n), make([][]uint32, 2*n) // by worker and port
	for i := range j.streams {
		s := &j.streams[i]
		t := r.flows[i/2]
		if s.port = i % 2; s.port == portOut {
			t = r.far[i/2]
		}
		var err error
		if s.shot, _, err = r.aim(s.port, &j.kind, 0, t, buf); err != nil {
			tb.Fatal(err)
		}
		s.shot.l4Sum = 0 // none: what the packet carries changes
		s.moved = s.shot.bucket == bucket
		at := i/2%n*2 + s.port
		if s.moved {
			moved[at] = append(moved[at], uint32(i))
		} else {
			others[at] = append(others[at], uint32(i))
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for at := range moved {
		p := &j.workers[at/2].ports[at%2]
		for k := range max(len(others[at]), len(moved[at])) {
			p.order = append(p.order, moved[at][k%len(moved[at])], others[at][k%len(others[at])])
		}
		rng.Shuffle(len(p.order), func(a, b int) { p.order[a], p.order[b] = p.order[b], p.order[a] })
	}
	return j
}

// receive implements [job].
func (j *pacedWorker) receive(p *port, f []packet.Frame) (n int, more bool) {
	now, q := p.clock.Now(), &j.ports[p.index]
	if !j.begun {
		j.begun, j.start = true, now
	}
	for _, r := range q.in {
		if r != nil {
			n += r.Pop(f[n:])
		}
	}
	if j.stop.Load() {
		j.done[p.index].Store(true)
		return n, true
	}
	due := uint64(float64(now-j.start) / j.every)
	for ; q.made < due && n < len(f) && q.room(); q.made++ {
		number := q.order[q.at]
		s := &j.streams[number]
		if !p.shoot(&s.shot, &j.kind, &f[n], now) {
			break // no chunk: later
		}
		if q.at++; q.at == len(q.order) {
			q.at = 0
		}
		s.next++
		b := f[n].Bytes(p.mem.Region)
		binary.LittleEndian.PutUint32(b[streamAt:], number)
		binary.LittleEndian.PutUint32(b[placeAt:], s.next)
		binary.LittleEndian.PutUint64(b[dueAt:], j.start+uint64(float64(q.made+1)*j.every))
		owner := j.r.e.Owners().Take(0, s.shot.bucket)
		if owner == j.index {
			n++
		} else {
			q.out[owner].Push(&f[n]) // there is room
		}
	}
	return n, true
}

// room says whether all other workers have room: who sends waits for it, so that
// nothing is lost before it reaches the engine.
func (q *pacedPort) room() bool {
	for _, r := range q.out {
		if r != nil && r.Len() == pacedSlots {
			return false
		}
	}
	return true
}

// sent implements [job].
func (j *pacedWorker) sent(p *port, f []packet.Frame) {
	now := p.clock.Now()
	for _, fr := range f {
		b := fr.Bytes(p.mem.Region)
		s := &j.streams[binary.LittleEndian.Uint32(b[streamAt:])]
		place := binary.LittleEndian.Uint32(b[placeAt:])
		switch last := s.seen.Swap(place); {
		case place <= last:
			j.reordered.Add(1)
		case place != last+1:
			j.lost.Add(uint64(place - last - 1)) // or late: then it counts as reordered too
		}
		h := j.delay[0]
		if s.moved {
			h = j.delay[1]
		}
		_ = h.RecordValue(int64(max(now-binary.LittleEndian.Uint64(b[dueAt:]), 1))) // a minute is out of range, and not worth an error
	}
}

// begin starts the traffic.
func (j *paced) begin(tb testing.TB) {
	tb.Helper()
	for w, of := range j.r.ports {
		for _, p := range of {
			if err := p.give(j.workers[w]); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// end stops the traffic and waits until all packets have left.
func (j *paced) end(tb testing.TB) {
	tb.Helper()
	j.stop.Store(true)
	quiet := func() bool {
		for _, w := range j.workers {
			for i := range w.ports {
				if !w.done[i].Load() {
					return false
				}
				for _, r := range w.ports[i].in {
					if r != nil && r.Len() > 0 {
						return false
					}
				}
			}
		}
		return true
	}
	for end := time.Now().Add(stall); !quiet(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatal("traffic does not end")
		}
	}
	time.Sleep(50 * time.Millisecond) // what was taken last
	for i := range j.streams {
		s := &j.streams[i]
		j.lost.Add(uint64(s.next - s.seen.Load()))
	}
}

// delays are those of all workers; [1] of the bucket that moves.
func (j *paced) delays() (of [2]*hdrhistogram.Histogram) {
	for i := range of {
		of[i] = hdrhistogram.New(1, 60_000_000_000, 3)
		for _, w := range j.workers {
			of[i].Merge(w.delay[i])
		}
	}
	return of
}
