package bench

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// flood offers packets as fast as a worker takes them: into one port or both, by
// turns. It is one worker's.
type flood struct {
	_ [128]byte // two workers' floods share no cache line

	ways [2]way // by port
	// learned, when not nil, is what each packet showed when it left, by its
	// place among the shots: packets without payload, each sent once. Some may be
	// dropped.
	learned []tuple
	// ready is set when both ports have the job: what arrives at one leaves by
	// the other.
	ready atomic.Bool

	began, ended           uint64        // ns
	beganOnCore, endOnCore uint64        // ns that the thread has run
	total                  uint64        // packets of both ways
	left                   atomic.Uint64 // packets that have left
	done                   chan struct{}

	_ [128]byte
}

// way is the packets into one port.
type way struct {
	shots []shot
	kinds []kind
	at    int
	n     int // still to come
}

// newFlood makes a flood of n packets into each port that has shots.
func newFlood(n int, in, out way) *flood {
	f := &flood{ways: [2]way{in, out}, done: make(chan struct{})}
	for i := range f.ways {
		if w := &f.ways[i]; len(w.shots) > 0 {
			w.n = n
			f.total += uint64(n)
		}
	}
	if f.total == 0 {
		close(f.done)
	}
	return f
}

// receive implements [job]. It goes on until everything has left, so that the
// ports know whose the frames are.
func (j *flood) receive(p *port, f []packet.Frame) (n int, more bool) {
	w := &j.ways[p.index]
	if !j.ready.Load() {
		return 0, true
	}
	if w.n == 0 {
		return 0, j.left.Load() < j.total
	}
	now := p.clock.Now()
	if j.began == 0 {
		j.began, j.beganOnCore = now, onCoreNs()
	}
	most := min(len(f), packet.BurstSize, w.n)
	for n < most {
		s := &w.shots[w.at]
		if !p.shoot(s, &w.kinds[s.kind], &f[n], now) {
			break
		}
		if j.learned != nil {
			binary.LittleEndian.PutUint32(p.mem.Region[f[n].Pos()+numberAt:], uint32(w.at))
		}
		if w.at++; w.at == len(w.shots) {
			w.at = 0
		}
		n++
	}
	w.n -= n
	return n, true
}

// sent implements [job].
func (j *flood) sent(p *port, f []packet.Frame) {
	if j.learned != nil {
		for _, fr := range f {
			b := fr.Bytes(p.mem.Region)
			j.learned[binary.LittleEndian.Uint32(b[numberAt:])] = tupleOf(b)
		}
	}
	if j.left.Add(uint64(len(f))) == j.total {
		j.ended, j.endOnCore = p.clock.Now(), onCoreNs()
		close(j.done)
	}
}

// perPacket returns how long a packet took, in ns, and for how much of that the
// worker had the core.
func (j *flood) perPacket() (ns, onCore float64) {
	n := float64(j.total)
	return float64(j.ended-j.began) / n, float64(j.endOnCore-j.beganOnCore) / n
}

// onCoreNs is for how long the calling thread has run.
func onCoreNs() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // fails only for a clock that is not there
	return uint64(ts.Nano())
}
