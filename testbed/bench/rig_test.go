package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/chains"
	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// rig is an engine whose workers run, each on a core of its own, with ports in
// memory and flows that it has seen begin.
type rig struct {
	e       *agent.Engine
	ports   [][2]*port // by worker
	placing *classify.Placing

	flows []tuple // as who begins them shows them
	far   []tuple // as their answers show them
	// refused are flows for which the chain's tables had no place.
	refused uint64
	// mib is the memory for all of it, in MiB; see footprint.
	mib float64
}

// openRig starts workers with one chain, on the given cores.
func openRig(tb testing.TB, spec chains.Spec, cores ...int) *rig {
	tb.Helper()
	r := &rig{}
	var err error
	if r.e, err = agent.Open(agent.Options{Specs: []chains.Spec{spec}, Ports: ports, Workers: len(cores), Cores: cores}); err != nil {
		tb.Fatal(err)
	}
	err = r.e.ConnectMemory(func(m agent.Memory) []dataplane.Port {
		var of [2]*port
		for i := range of {
			if of[i], err = newPort(m, i); err != nil {
				tb.Fatal(err)
			}
		}
		r.ports = append(r.ports, of)
		return []dataplane.Port{of[portIn], of[portOut]}
	}, nil, func() error { return nil })
	if err == nil {
		err = r.e.Start()
	}
	if err != nil {
		r.close(tb)
		tb.Fatal(err)
	}
	r.placing = r.e.Placing()
	return r
}

// close ends the engine. Nothing may have been dropped, and every chunk is back.
func (r *rig) close(tb testing.TB) {
	tb.Helper()
	if err := r.e.Stop(); err != nil {
		tb.Error(err)
	}
	var dropped, sent, received uint64
	for _, c := range r.e.Workers() {
		dropped, sent, received = dropped+c.Dropped, sent+c.Sent, received+c.Received
	}
	if dropped != r.refused || received != sent+dropped {
		tb.Errorf("%d packets received, %d sent, %d dropped: all but %d must pass; %s", received, sent, dropped, r.refused, r.drops())
	}
	if err := r.e.Close(); err != nil {
		tb.Error(err)
	}
	for _, of := range r.ports {
		for _, p := range of {
			unix.Close(p.wakeFD)
		}
	}
}

// drops says what functions dropped, and why.
func (r *rig) drops() string {
	var s strings.Builder
	for _, f := range r.e.Functions(0) {
		fmt.Fprintf(&s, "%s (%v) dropped %v, faulted %v %s; ", f.Name, f.State, f.Drops, f.Faulted, f.LastFault)
	}
	return s.String()
}

// aim returns the shot of a packet that arrives at a port, and the worker that
// steering sends it to.
func (r *rig) aim(in int, k *kind, number uint8, t tuple, buf []byte) (s shot, worker int, err error) {
	f := k.frame(t, buf)
	d := r.e.Table().Steer(uint16(in), classify.Drop, f)
	if d.Action != classify.Claim {
		return s, 0, fmt.Errorf("packet %v at port %s: %+v: it must be claimed", t, ports[in], d)
	}
	at := r.placing.Place(d.Path, &d.Info)
	sum := udpSumAt
	if k.proto == packet.ProtoTCP {
		sum = tcpSumAt
	}
	le := binary.LittleEndian
	return shot{
		addrs: le.Uint64(f[addrsAt:]), ports: le.Uint32(f[l4At:]), hash: uint32(at.Hash),
		ipSum: le.Uint16(f[ipSumAt:]), l4Sum: le.Uint16(f[sum:]),
		bucket: at.Bucket, path: uint8(d.Path), kind: number,
	}, r.e.Owners().Owner(at.Row, at.Bucket), nil
}

// ways deals the packets of tuples out to the workers that have their flows, in
// order. Kinds go round.
func (r *rig) ways(tb testing.TB, in int, kinds []kind, tuples []tuple) []way {
	tb.Helper()
	list := make([]way, len(r.ports))
	for i := range list {
		list[i] = way{kinds: kinds, shots: make([]shot, 0, len(tuples)/len(list)+len(tuples)/16)}
	}
	buf := make([]byte, packet.MaxFrame)
	for i, t := range tuples {
		k := i % len(kinds)
		s, worker, err := r.aim(in, &kinds[k], uint8(k), t, buf)
		if err != nil {
			tb.Fatal(err)
		}
		list[worker].shots = append(list[worker].shots, s)
	}
	return list
}

// stall is how long no packet may leave before a benchmark gives up.
const stall = 20 * time.Second

// wait returns when all packets have left, or none for so long after the first,
// and how many have.
func (j *flood) wait(patience time.Duration) (left uint64) {
	for begin := time.Now(); ; {
		select {
		case <-j.done:
			return j.total
		case <-time.After(patience):
			now := j.left.Load()
			if now == left && (now > 0 || time.Since(begin) > stall) {
				return now
			}
			left = now
		}
	}
}

// run gives every worker its flood and returns when all packets have left.
func (r *rig) run(tb testing.TB, floods []*flood) {
	tb.Helper()
	r.start(tb, floods)
	for i, f := range floods {
		if left := f.wait(stall); left != f.total {
			tb.Fatalf("worker %d: %d of %d packets have left; %s", i, left, f.total, r.drops())
		}
	}
}

func (r *rig) start(tb testing.TB, floods []*flood) {
	tb.Helper()
	for i, f := range floods {
		for _, p := range r.ports[i] {
			if err := p.give(f); err != nil {
				tb.Fatal(err)
			}
		}
	}
	for _, f := range floods {
		f.ready.Store(true)
	}
}

// open makes flows known and answered, and learns how their answers look. A few
// may be refused: tables that functions share are never quite full.
func (r *rig) open(tb testing.TB, t traffic, flows []tuple) {
	tb.Helper()
	r.flows = flows
	kinds, back := t.opening()
	for step, k := range kinds {
		in, tuples := portIn, r.flows
		if back[step] {
			in, tuples = portOut, r.far
		}
		ways := r.ways(tb, in, []kind{k}, tuples)
		floods := make([]*flood, len(ways))
		for i, w := range ways {
			var of [2]way
			of[in] = w
			floods[i] = newFlood(len(w.shots), of[portIn], of[portOut])
			if step == 0 {
				floods[i].learned = make([]tuple, len(w.shots))
			}
		}
		if step > 0 {
			r.run(tb, floods)
			continue
		}
		r.start(tb, floods)
		for _, f := range floods {
			f.wait(time.Second)
		}
		r.learn(ways, floods)
		if r.refused*1000 > uint64(len(flows)) {
			tb.Fatalf("%d of %d flows were refused; %s", r.refused, len(flows), r.drops())
		}
	}
}

// learn notes how the answers of flows look.
func (r *rig) learn(ways []way, floods []*flood) {
	r.flows, r.far = r.flows[:0:0], r.far[:0]
	for i, f := range floods {
		for k, s := range ways[i].shots {
			if f.learned[k] == (tuple{}) {
				r.refused++
				continue
			}
			r.flows = append(r.flows, s.tuple())
			r.far = append(r.far, f.learned[k].back())
		}
	}
}

// minShots is the least number of packets that a port repeats: with fewer flows
// each has several, in another order each time.
const minShots = 1 << 16

// shuffled returns tuples in random order, several times over when they are few.
func shuffled(rng *rand.Rand, tuples []tuple) []tuple {
	var list []tuple
	for len(list) < minShots || len(list) == 0 {
		from := len(list)
		list = append(list, tuples...)
		rng.Shuffle(len(tuples), func(i, k int) { list[from+i], list[from+k] = list[from+k], list[from+i] })
	}
	return list
}

// steady returns, by worker, the packets of all flows in both directions, each
// in a random order of its own.
func (r *rig) steady(tb testing.TB, t traffic) (in, out []way) {
	tb.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	return r.ways(tb, portIn, t.kinds(false), shuffled(rng, r.flows)),
		r.ways(tb, portOut, t.kinds(true), shuffled(rng, r.far))
}
