package place

import "slices"

// keepLargest keeps bucket i if it is one of the largest, of which there are
// as many as there can be elephants.
func (b *Balancer) keepLargest(i int, load float64) {
	s := &b.snap
	n := len(b.largest)
	full := n == s.Workers-1
	if full && !b.before(i, load, b.largest[n-1]) {
		return
	}
	if full {
		n--
	}
	at := n
	for at > 0 && b.before(i, load, b.largest[at-1]) {
		at--
	}
	b.largest = slices.Insert(b.largest[:n], at, i)
}

// before reports whether bucket i is to stand before bucket k: larger, or of the
// same size and earlier by name, so that their order in the snapshot does not
// matter.
func (b *Balancer) before(i int, load float64, k int) bool {
	p, q := &b.snap.Buckets[i], &b.snap.Buckets[k]
	if other := b.snap.load(q); load != other {
		return load > other
	}
	return place(p) < place(q)
}

// findElephants returns the fair share of a worker, and notes the elephants and
// what they make of their owners' targets. An elephant takes a worker for
// itself, so the others share what is left; that makes the fair share smaller,
// and the next largest bucket may be an elephant in turn.
func (b *Balancer) findElephants(total float64) (fair float64) {
	s := &b.snap
	fair = total / float64(s.Workers)
	for k, i := range b.largest {
		e := &s.Buckets[i]
		load := s.load(e)
		if load <= fair*(1+b.opts.Slack) {
			break
		}
		total -= load
		fair = max(total, 0) / float64(s.Workers-1-k)
		b.elephants = append(b.elephants, Elephant{Chain: e.Chain, Bucket: e.Bucket, Owner: e.Owner, Packets: e.Packets, Load: load})
		b.target[e.Owner] = max(b.target[e.Owner], load)
	}
	for i := range b.elephants {
		b.elephants[i].Fair = fair
	}
	return fair
}
