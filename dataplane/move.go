package dataplane

import (
	"time"

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
//	6  A forgets them: until now its memory had all of them, too, so that they
//	   survive the end of the process at any time (flow.Reconcile).
//
// Nothing is lost, since every packet is at one of the two. Order is kept, since
// B begins when A is through. At any time one of the two has the flows, and
// nobody else looks at them.
//
// A packet that was sent and never comes (the RX ring was full) would keep A
// waiting in step 3. So, after a while, the set asks the kernel to wait for all
// programs under way, and A then goes on until it has had what lay in its rings.
// A link that is down would keep it waiting, too: A gives it some time.

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

// parcelFlows is how many flows travel at a time. Those of a larger bucket go
// in several parcels.
const parcelFlows = 2048

// Bounds of a transfer's work on a worker.
const (
	// txPatience is how long the frames of flows that are to leave may take to
	// leave first. A TX ring of 2,048 frames takes some milliseconds; what
	// takes longer is a link that is down.
	txPatience = 50 * time.Millisecond
	// unpackTime is for how long a worker puts flows into its table before it
	// looks after packets again: functions may be asked to migrate their state.
	unpackTime = 500 * time.Microsecond
)

// transfer is the flows of a bucket on their way. The worker that has the
// parcel may touch it.
type transfer struct {
	chain, bucket uint16
	from, to      *Worker

	want uint64 // packets that from has to have had
	// forced: they will not all come. Then it has to have had so many of each
	// port and each worker: those that lay in its rings.
	forced       bool
	dueRx, dueIn []uint64
	// sending: it has had them all. Until sendBy it waits for so many to have
	// left by each port; stuck says that they did not.
	sending, stuck bool
	dueTx          []uint64
	sendBy         uint64

	records        []flow.Record
	state          []byte // what functions keep, size for each record
	size           int    // FlowBytes of the sender, which may change from parcel to parcel
	n, at          int    // records in the parcel, and how many the receiver has taken
	more           bool
	flows, refused int
	stopped        bool // a worker stopped meanwhile

	// Made beforehand, since workers do not allocate.
	takeIn, giveMore func()
	done             chan struct{}
}

// newTransfer makes a transfer to be used once.
func newTransfer(from, to *Worker) *transfer {
	t := &transfer{
		from: from, to: to,
		dueRx: make([]uint64, len(from.ports)), dueIn: make([]uint64, len(from.peers.in)), dueTx: make([]uint64, len(from.tx)),
		done: make(chan struct{}),
	}
	t.takeIn = func() { t.to.unpack(t) }
	t.giveMore = func() {
		t.from.depart(t)
		if t.more {
			t.from.pack(t)
		} else {
			close(t.done)
		}
	}
	return t
}

// reserve makes room for flows of so many bytes each: that of a transfer that
// is over, if it will do.
func (t *transfer) reserve(bytes int, old *transfer) {
	if old != nil && len(old.state) >= parcelFlows*bytes {
		t.records, t.state = old.records, old.state
		return
	}
	t.records, t.state = make([]flow.Record, parcelFlows), make([]byte, parcelFlows*bytes)
}

// settleMove lets flows go when this worker has had their packets, and they
// have left.
func (w *Worker) settleMove(t *transfer) {
	if !t.sending {
		if uint64(w.chains[t.chain].buckets[t.bucket]) < t.want && !(t.forced && w.emptied(t.dueRx, t.dueIn)) {
			return
		}
		w.flushQueue(w.chains[t.chain], t.bucket)
		t.sending = true
		t.sendBy = w.clock.Now() + uint64(txPatience)
		for p, q := range w.tx {
			if q != nil {
				t.dueTx[p] = q.given
			}
		}
	}
	if !w.sent(t) {
		if t.stuck = w.clock.Now() > t.sendBy; !t.stuck {
			return
		}
	}
	w.moves.leaving = nil
	w.pack(t)
}

// sent says whether all that had been given to the ports has left.
func (w *Worker) sent(t *transfer) bool {
	for p, q := range w.tx {
		if q == nil {
			continue
		}
		if _, waiting := q.port.Waiting(); q.given-uint64(waiting) < t.dueTx[p] {
			q.port.Flush()
			return false
		}
	}
	return true
}

// expectNoMore is for a transfer of which not all packets will come: what lies
// in the rings now is all there will be.
func (w *Worker) expectNoMore(t *transfer) {
	if w.moves.leaving != t || t.sending {
		return // they have come after all
	}
	t.forced = true
	w.lieInRings(t.dueRx, t.dueIn)
}

// lieInRings notes how many packets the worker will have had of each port, and
// of each other worker, once it has taken what lies in its rings now.
func (w *Worker) lieInRings(rx, in []uint64) {
	for i := range w.ports {
		n, _ := w.ports[i].Waiting()
		rx[i] = w.ports[i].taken + uint64(n)
	}
	for i, r := range w.peers.in {
		if r != nil {
			in[i] = w.peers.taken[i] + uint64(r.Len())
		}
	}
}

// emptied says whether the worker has had what lay in its rings.
func (w *Worker) emptied(rx, in []uint64) bool {
	for i, due := range rx {
		if w.ports[i].taken < due {
			return false
		}
	}
	for i, due := range in {
		if w.peers.taken[i] < due {
			return false
		}
	}
	return true
}

// pack takes flows out of the table and sends them off. From the first parcel
// on the bucket is the other worker's, who holds what is sent after it.
func (w *Worker) pack(t *transfer) {
	c := w.chains[t.chain]
	w.flushQueue(c, t.bucket) // what came late when not all was to come
	c.buckets[t.bucket] = away
	t.n, t.at, t.more = 0, 0, false
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
	if !t.to.post(t.takeIn) {
		w.strand(t)
	}
}

// fit prepares the parcel for flows of so many bytes each, and returns these
// and how many flows there is room for. A function that was replaced since the
// parcel was made may keep more; only if not one flow fits is there new memory,
// which is not to become a part of pack.
//
//go:noinline
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

// strand ends a transfer to a worker that has stopped: its flows are over, and
// what they hold is given back.
func (w *Worker) strand(t *transfer) {
	for i := range t.n {
		w.chains[t.chain].flows.Abandon(&t.records[i])
	}
	w.depart(t)
	t.refused += t.n
	t.stopped = true
	close(t.done)
}

// depart forgets the flows of a parcel that has been unpacked.
func (w *Worker) depart(t *transfer) {
	c := w.chains[t.chain]
	for i := range t.n {
		if slot, ok := c.flows.Leave(&t.records[i]); ok {
			c.runner.ClearFlow(slot)
		}
	}
}

// unpack puts flows into the table. With the last of them the bucket is this
// worker's.
func (w *Worker) unpack(t *transfer) {
	c := w.chains[t.chain]
	start := w.clock.Now()
	for ; t.at < t.n; t.at++ {
		if t.at%packet.BurstSize == 0 && w.clock.Now()-start > uint64(unpackTime) && w.post(t.takeIn) {
			return // packets first
		}
		slot := c.flows.Insert(&t.records[t.at])
		if c.flows.Pending() > 0 {
			w.drain(c) // flows that made room: their slots can be had now
		}
		if slot == flow.NoSlot {
			t.refused++
			continue
		}
		c.runner.GiveFlow(slot, t.state[t.at*t.size:][:t.size])
		c.flows.Arrive(slot)
	}
	t.flows += t.n
	more := t.more
	if !more {
		w.takeOver(c, t)
	}
	if t.from.post(t.giveMore) {
		return
	}
	t.stopped = true
	if more {
		w.takeOver(c, t) // the others end with its table
	}
	close(t.done)
}

// takeOver makes the bucket of a transfer this worker's.
func (w *Worker) takeOver(c *chain, t *transfer) {
	c.buckets[t.bucket] &^= stateBits
	w.letGo(t.chain, t.bucket)
}
