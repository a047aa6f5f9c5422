package dataplane

import "sfc/dataplane/packet"

// Bounds of what waits because its tenant used up its time.
const (
	// QueueShare is how many packets of a tenant wait on a worker at most.
	QueueShare = 256
	// MaxQueued is the same for all tenants of a worker together.
	MaxQueued = 1024
)

// noItem ends a list of queued packets.
const noItem = 0xffff

// queue is a tenant's packets that wait, as a list in queues.items.
type queue struct {
	first, last uint16
	n           int
}

func (q *queue) clear() { *q = queue{first: noItem, last: noItem} }

// queues has the packets that wait of all tenants of a worker.
type queues struct {
	items [MaxQueued]item
	next  [MaxQueued]uint16
	free  uint16 // list of free items
	n     int    // that wait
	// of are the shares that have packets waiting.
	of []*Share
}

func (q *queues) setUp() {
	for i := range q.next {
		q.next[i] = uint16(i + 1)
	}
	q.next[MaxQueued-1] = noItem
	q.of = make([]*Share, 0, MaxQueued)
}

// push queues a packet; false when there is no room.
func (q *queues) push(s *Share, it *item) bool {
	if s.queue.n == QueueShare || q.free == noItem {
		return false
	}
	i := q.free & (MaxQueued - 1)
	q.free = q.next[i]
	q.items[i], q.next[i] = *it, noItem
	if s.queue.n == 0 {
		s.queue.first = i
		q.of = append(q.of, s)
	} else {
		q.next[s.queue.last&(MaxQueued-1)] = i
	}
	s.queue.last = i
	s.queue.n++
	q.n++
	return true
}

// take takes a packet out of a list: the one behind prev, or the first for
// noItem. The item stays as it is until something is pushed.
func (q *queues) take(s *Share, prev uint16) *item {
	i := s.queue.first
	if prev != noItem {
		i = q.next[prev&(MaxQueued-1)]
	}
	i &= MaxQueued - 1
	after := q.next[i]
	if prev == noItem {
		s.queue.first = after
	} else {
		q.next[prev&(MaxQueued-1)] = after
	}
	if after == noItem {
		s.queue.last = prev
	}
	q.next[i], q.free = q.free, i
	q.n--
	if s.queue.n--; s.queue.n == 0 {
		q.emptied(s)
	}
	return &q.items[i]
}

// emptied takes a share off the list of those that have packets waiting.
func (q *queues) emptied(s *Share) {
	for i := range q.of {
		if q.of[i] == s {
			last := len(q.of) - 1
			q.of[i] = q.of[last]
			q.of = q.of[:last]
			return
		}
	}
}

// queued takes a packet whose tenant may not have it processed now.
func (w *Worker) queued(l *lane, it *item) {
	s := l.chain.share
	w.sched.list(s)
	s.came++
	s.turned++
	if !w.sched.queues.push(s, it) {
		s.over++
		w.drop(it, packet.ReasonOverShare)
		return
	}
	s.divert = true
}

// serve processes a tenant's packets that wait, at most n, and returns how many
// it took.
func (w *Worker) serve(s *Share, n int) int {
	n = min(n, s.queue.n)
	for range n {
		it := w.sched.queues.take(s, noItem)
		w.put(w.lanes[it.meta.Path], it)
	}
	w.finish()
	s.divert = s.spent || s.queue.n > 0
	return n
}

// flushQueue processes what waits of a bucket of a chain, whoever's turn it is:
// its flows are to leave.
func (w *Worker) flushQueue(c *chain, bucket uint16) {
	if c.share.queue.n == 0 {
		return
	}
	w.eachQueued(c, func(it *item) bool { return it.meta.Bucket == bucket }, func(it *item) {
		w.put(w.lanes[it.meta.Path], it)
	})
	w.finish()
}

// eachQueued takes the packets of a chain that match out of its share's queue,
// in order, and gives them to f, which must not queue any.
func (w *Worker) eachQueued(c *chain, match func(*item) bool, f func(*item)) {
	s, q := c.share, &w.sched.queues
	prev := uint16(noItem)
	for i, left := s.queue.first, s.queue.n; left > 0; left-- {
		after := q.next[i&(MaxQueued-1)]
		if it := &q.items[i&(MaxQueued-1)]; w.of(it, c) && match(it) {
			f(q.take(s, prev))
		} else {
			prev = i
		}
		i = after
	}
	s.divert = s.spent || s.queue.n > 0
}
