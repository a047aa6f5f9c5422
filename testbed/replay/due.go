package replay

import "slices"

// dueFrame is a frame that should come out.
type dueFrame struct {
	n       uint64  // packet number, unless
	orphan  *orphan // nobody knows which packet it is
	port    uint16  // that it went into, as its metadata says
	seq     uint32  // as its metadata says
	group   uint64  // frames of one group keep their order
	hash    uint64  // of its bytes
	skipped bool    // one that its worker sent later came out before
}

// dueQueue holds the frames that should come out at one end, in order.
type dueQueue struct{ q []dueFrame }

func (q *dueQueue) push(d dueFrame) { q.q = append(q.q, d) }

// take removes the first frame with this hash; late says that one of the same
// group behind it had come out before.
func (q *dueQueue) take(hash uint64) (d dueFrame, late, ok bool) {
	i := slices.IndexFunc(q.q, func(d dueFrame) bool { return d.hash == hash })
	if i < 0 {
		return dueFrame{}, false, false
	}
	d = q.q[i]
	for k := range i {
		if q.q[k].group == d.group {
			q.q[k].skipped = true
		}
	}
	q.q = slices.Delete(q.q, i, i+1)
	return d, d.skipped, true
}

// removeLast removes the last frame with this number on the port it went into.
func (q *dueQueue) removeLast(port uint16, seq uint32) (d dueFrame, ok bool) {
	for i := len(q.q) - 1; i >= 0; i-- {
		if q.q[i].seq == seq && q.q[i].port == port {
			d = q.q[i]
			q.q = slices.Delete(q.q, i, i+1)
			return d, true
		}
	}
	return dueFrame{}, false
}
