package dataplane

import (
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/chains"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// How the flows of a bucket change hands, from A to B:
//
//	1  B holds what comes for the bucket from now on.
//	2  The owner is exchanged: what steering sends from now on comes to B. The
//	   exchange says how many packets it sent to A (steer.Owners).
//	3  A goes on until it has had that many, and they have left its TX rings.
//	4  A takes the flows out of its table, and what the functions keep of them
//	   out of their slots, and leaves them to B.
//	5  B puts them in, and lets go of what it held.
//
// Nothing is lost, since every packet is at one of the two. Order is kept, since
// B begins when A is through. At any time one of the two has the flows, and
// nobody else looks at them.
//
// A packet that was sent and never comes (the RX ring was full) would keep A
// waiting in step 3. So, after a while, the set asks the kernel to wait for all
// programs under way, and A then goes on until it has emptied its rings once.

// bucketWord is what a worker has to do with a bucket: how many packets of it
// came since it was given to this worker, and above that a state.
type bucketWord uint64

const (
	owned    bucketWord = 0       // process them
	arriving bucketWord = 1 << 62 // hold them: the flows are on their way
	away     bucketWord = 2 << 62 // another worker's

	stateBits bucketWord = 3 << 62
)

// count takes note of a packet that was sent to this worker, and says whether
// the worker is to process it now.
func (c *chain) count(bucket uint16) bool {
	b := &c.buckets[bucket&(steer.Buckets-1)]
	*b++
	return *b < arriving
}

// setUp makes the chain of path p; the first of its paths decides.
func (c *chain) setUp(p Path, owners *steer.Owners, self int) {
	if c.runner != nil {
		return
	}
	c.index, c.runner, c.flows, c.pins = p.Chain, p.Runner, p.Flows, p.Pins
	if p.Flows != nil {
		c.lookup = new(flowLookup)
		if c.binder = p.Binder; c.binder != nil {
			c.binder.ApplyBinds(p.Flows) // it learns of the room there is
		}
	}
	if owners == nil {
		return
	}
	c.buckets = new([steer.Buckets]bucketWord)
	for b := range c.buckets {
		if owners.Owner(c.index, uint16(b)) != self {
			c.buckets[b] = away
		}
	}
}

// MaxHeld is how many packets a worker may hold for flows on their way to it.
const MaxHeld = 4096

// moving is a worker's part in flows that change hands.
type moving struct {
	leaving []*transfer
	held    []item
	since   []uint64 // when held packets came
	// holds is for how long packets were held, in ns.
	holds *hdrhistogram.Histogram
}

func (m *moving) setUp(many bool) {
	m.holds = hdrhistogram.New(1, 60_000_000_000, 3)
	if many {
		m.held = make([]item, 0, MaxHeld)
		m.since = make([]uint64, 0, MaxHeld)
		m.leaving = make([]*transfer, 0, 1)
	}
}

// busy says whether flows wait to leave.
func (m *moving) busy() bool { return len(m.leaving) > 0 }

// parcelFlows is how many flows travel at a time. Those of a larger bucket go
// in several parcels.
const parcelFlows = 2048

// transfer is the flows of a bucket on their way. The worker that has the
// parcel may touch it.
type transfer struct {
	chain, bucket uint16
	from, to      *Worker

	want    uint64 // packets that from has to have had
	force   bool   // they will not all come: see above
	backlog int    // when force is set: packets that lie in its rings

	records        []flow.Record
	state          []byte // what functions keep, size for each record
	size           int    // FlowBytes of the sender, which may change from parcel to parcel
	n              int
	more           bool
	flows, refused int
	begun          uint64 // when from was told, ns

	// Made beforehand, since workers do not allocate.
	takeIn, giveMore func()
	done             chan struct{}
}

// foreign takes a packet that was sent here and is not to be processed now.
func (w *Worker) foreign(it *item) {
	c := w.lanes[it.meta.Path].chain
	if c.buckets[it.meta.Bucket&(steer.Buckets-1)]&stateBits == arriving {
		w.hold(it)
		return
	}
	// Sent before the flows left, and very late: their owner gets it.
	if owner := w.cfg.Owners.Take(c.index, it.meta.Bucket); owner != w.cfg.Index {
		w.handTo(owner, it)
		return
	}
	w.place(&w.lanes[it.meta.Path], it)
}

// hold keeps a packet until its flow has come.
func (w *Worker) hold(it *item) {
	m := &w.moves
	if len(m.held) == cap(m.held) {
		w.drop(it, packet.ReasonHeldFull)
		return
	}
	w.local.Held++
	m.held = append(m.held, *it)
	m.since = append(m.since, w.clock.Now())
}

// settleMoves lets the flows go whose packets this worker has had. Since the
// last call it took n packets.
func (w *Worker) settleMoves(n int) int {
	m := &w.moves
	for _, t := range m.leaving {
		got := w.chains[t.chain].buckets[t.bucket]
		if t.force {
			if t.backlog -= n; n == 0 {
				t.backlog = 0
			}
		}
		if uint64(got) < t.want && !(t.force && t.backlog <= 0) || !w.drained() {
			continue
		}
		m.leaving = slices.DeleteFunc(m.leaving, func(o *transfer) bool { return o == t })
		w.pack(t)
		break // the others next turn: traffic goes on in between
	}
	return 0
}

// drained says whether all that was sent has left.
func (w *Worker) drained() bool {
	for _, p := range w.cfg.Ports {
		if !p.TxDrained() {
			p.Flush()
			return false
		}
	}
	return true
}

// expectNoMore is for a transfer of which not all packets will come: what lies
// in the rings now is all there will be.
func (w *Worker) expectNoMore(t *transfer) {
	if !slices.Contains(w.moves.leaving, t) {
		return // they have come after all
	}
	t.force = true
	for _, p := range w.cfg.Ports {
		t.backlog += p.Census().Rx
	}
	for _, r := range w.peers.in {
		if r != nil {
			t.backlog += r.Len()
		}
	}
}

// pack takes flows out of the table and sends them off. The bucket is the other
// worker's with the last of them.
func (w *Worker) pack(t *transfer) {
	c := &w.chains[t.chain]
	t.n, t.more = 0, false
	if c.flows != nil {
		size, room := t.fit(c.runner.FlowBytes())
		for slot := c.flows.First(uint32(t.bucket)); slot != flow.NoSlot; slot = c.flows.First(uint32(t.bucket)) {
			if t.more = t.n == room; t.more {
				break
			}
			r, ok := c.flows.Extract(slot)
			if !ok {
				break // First says that there is one
			}
			t.records[t.n] = r
			c.runner.TakeFlow(slot, t.state[t.n*size:][:size])
			t.n++
		}
	}
	if !t.more {
		c.buckets[t.bucket] = away
	}
	t.to.post(t.takeIn)
}

// fit prepares the parcel for flows of so many bytes each, and returns these
// and how many flows there is room for. A function that was replaced since the
// parcel was made may keep more; only if not one flow fits is there new memory.
func (t *transfer) fit(bytes int) (size, room int) {
	t.size = bytes
	if bytes == 0 {
		return 0, len(t.records)
	}
	if len(t.state) < bytes {
		t.state = make([]byte, parcelFlows*bytes)
	}
	return bytes, min(len(t.records), len(t.state)/bytes)
}

// unpack puts flows into the table. With the last of them the bucket is this
// worker's.
func (w *Worker) unpack(t *transfer) {
	c := &w.chains[t.chain]
	if c.flows != nil {
		size := t.size
		for i := range t.n {
			slot := c.flows.Insert(&t.records[i])
			if slot == flow.NoSlot {
				t.refused++
				continue
			}
			c.runner.GiveFlow(slot, t.state[i*size:][:size])
		}
		t.flows += t.n
		c.drain() // of flows that had to make room
	}
	if t.more {
		t.from.post(t.giveMore)
		return
	}
	c.buckets[t.bucket] &^= stateBits
	w.letGo(t.chain, t.bucket)
	close(t.done)
}

// letGo processes what was held for a bucket.
func (w *Worker) letGo(chain, bucket uint16) {
	m, now, kept := &w.moves, w.clock.Now(), 0
	for i := range m.held {
		it := &m.held[i]
		if l := &w.lanes[it.meta.Path]; l.Chain == chain && it.meta.Bucket == bucket {
			_ = m.holds.RecordValue(int64(max(now-m.since[i], 1))) // a minute is out of range, and not worth an error
			w.place(l, it)
			continue
		}
		m.held[kept], m.since[kept] = *it, m.since[i]
		kept++
	}
	m.held, m.since = m.held[:kept], m.since[:kept]
	w.finish()
}

// giveUp drops what the worker holds when it stops.
func (w *Worker) giveUp() {
	w.inbox.close()
	for i := range w.early.n {
		w.drop(&w.early.items[i], packet.ReasonShutdown)
	}
	w.early.n = 0
	for i := range w.moves.held {
		w.drop(&w.moves.held[i], packet.ReasonShutdown)
	}
	w.moves.held, w.moves.since = w.moves.held[:0], w.moves.since[:0]
	w.finish()
}

// newTransfer makes a transfer of a chain's flows, to be used once.
func newTransfer(r chains.Runner, flows bool) *transfer {
	t := &transfer{done: make(chan struct{})}
	if flows {
		t.records = make([]flow.Record, parcelFlows)
		t.state = make([]byte, parcelFlows*r.FlowBytes())
	}
	t.takeIn = func() { t.to.unpack(t) }
	t.giveMore = func() { t.from.pack(t) }
	return t
}
