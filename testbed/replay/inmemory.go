package replay

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// delivery is a packet on its way to a worker.
type delivery struct {
	p   *parcel
	seq uint32
	at  classify.Place
}

// queuePort is a worker's end of a port in memory that it shares with others:
// what is counted for the worker waits in a queue, as in an RX ring.
type queuePort struct {
	memory
	queue chan delivery
	event int         // readable when something came while the queue was empty
	rung  atomic.Bool // event is
}

// Receive implements dataplane.Port.
func (q *queuePort) Receive(f []packet.Frame) int {
	for n := range f {
		d, ok := q.next()
		if !ok && n == 0 && q.rung.Load() {
			var count [8]byte
			_, _ = unix.Read(q.event, count[:]) // nothing there is fine
			q.rung.Store(false)
			d, ok = q.next() // what comes later rings again
		}
		if !ok {
			return n
		}
		f[n] = q.put(d.p, d.seq, d.at)
	}
	return len(f)
}

func (q *queuePort) next() (d delivery, ok bool) {
	select {
	case d = <-q.queue:
		return d, true
	default:
		return d, false
	}
}

// deliver puts a packet into the queue, which has room for all under way.
func (q *queuePort) deliver(d delivery) {
	q.queue <- d
	if !q.rung.Swap(true) {
		one := [8]byte{1}
		_, _ = unix.Write(q.event, one[:]) // a counter that is full rings as well
	}
}

// PollFD implements dataplane.Port.
func (q *queuePort) PollFD() int { return q.event }

// Waiting implements dataplane.Port.
func (q *queuePort) Waiting() (rx, tx int) { return len(q.queue), 0 }

// Census implements dataplane.Port: what waits has no chunk yet.
func (q *queuePort) Census() packet.Census { return packet.Census{} }

// steeringInMemory shares packets out to workers as the steering program does.
type steeringInMemory struct {
	placing *classify.Placing
	owners  *steer.Owners
	ports   [][]*queuePort // by worker and port
	// running is held while a packet is counted and delivered: what a grace
	// period waits for.
	running sync.Mutex
}

func (s *steeringInMemory) grace() error {
	s.running.Lock()
	defer s.running.Unlock()
	return nil
}

func (s *steeringInMemory) steer(p *parcel, seq uint32) {
	at := s.placing.Place(p.s.path, &p.s.info)
	s.running.Lock()
	defer s.running.Unlock()
	s.ports[s.owners.Take(at.Row, at.Bucket)][p.port].deliver(delivery{p, seq, at})
}

// connect gives every worker its ports.
func (s *steeringInMemory) connect(e *agent.Engine, t *tracker) error {
	var failed error
	err := e.ConnectMemory(func(m agent.Memory) (out []dataplane.Port) {
		own := make([]*queuePort, len(ports))
		for i := range own {
			own[i] = &queuePort{memory: newMemory(i, m, t), queue: make(chan delivery, window)}
			var err error
			if own[i].event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
				failed = fmt.Errorf("eventfd: %w", err)
			}
			out = append(out, own[i])
		}
		s.ports = append(s.ports, own)
		return out
	}, stackSink{}, s.grace)
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	s.placing, s.owners = e.Placing(), e.Owners()
	return nil
}

// close closes what the workers, which have stopped, polled.
func (s *steeringInMemory) close() {
	for _, own := range s.ports {
		for _, p := range own {
			if p.event > 0 {
				unix.Close(p.event)
			}
		}
	}
}

// Packets in memory meet their fate within microseconds, unless they are held:
// after feedSpins looks in vain the feed rests for feedWait.
const (
	feedSpins = 1000
	feedWait  = 50 * time.Microsecond
)

// runInMemory is runOffline with several workers, each on a thread of its own.
func runInMemory(e *agent.Engine, f *feed, t *tracker, d *disturbance, opts Options) (err error) {
	s := &steeringInMemory{}
	defer s.close()
	if err := s.connect(e, t); err != nil {
		return err
	}
	if err := t.open(); err != nil {
		return err
	}
	if err := e.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Stop()) }()
	d.start()
	defer d.stop()
	view, start := newOutlook(t, f.src, opts), time.Now()
	sent, vain := 0, 0
	for {
		var p *parcel
		var send bool
		if due(opts.Rate, sent, start) {
			p, send = f.take(-1)
		}
		if p != nil {
			sent, vain = sent+1, 0
		}
		switch {
		case p == nil:
			if view.look() && f.ended {
				return d.verdict(f.stopped)
			}
			if vain++; vain < feedSpins {
				_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // never fails
			} else {
				time.Sleep(feedWait)
			}
		case !send:
		case p.s.verdict != steerPath:
			steeredAlone(t, p)
		default:
			s.steer(p, t.sent(p.port)-1)
		}
	}
}
