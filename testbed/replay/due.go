package replay

import "slices"

// dueFrame is a frame that should come out.
type dueFrame struct {
	n       uint64  // packet number, unless
	orphan  *orphan // nobody knows which packet it is
	seq     uint32  // as its metadata says
	hash    uint64  // of its bytes
	skipped bool    // one sent later came out before
}

// dueQueue holds the frames that should come out at one end, in order.
type dueQueue struct{ q []dueFrame }

func (q *dueQueue) push(d dueFrame) { q.q = append(q.q, d) }

// take removes the first frame with this hash; late says that one sent after
// it had come out before.
func (q *dueQueue) take(hash uint64) (d dueFrame, late, ok bool) {
	i := slices.IndexFunc(q.q, func(d dueFrame) bool { return d.hash == hash })
	if i < 0 {
		return dueFrame{}, false, false
	}
	d = q.q[i]
	for k := range i {
		q.q[k].skipped = true
	}
	q.q = slices.Delete(q.q, i, i+1)
	return d, d.skipped, true
}

// removeLast removes the last frame with this number.
func (q *dueQueue) removeLast(seq uint32) (d dueFrame, ok bool) {
	for i := len(q.q) - 1; i >= 0; i-- {
		if q.q[i].seq == seq {
			d = q.q[i]
			q.q = slices.Delete(q.q, i, i+1)
			return d, true
		}
	}
	return dueFrame{}, false
}
