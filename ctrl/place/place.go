// Package place decides which worker owns which flows. It is pure: it does no
// I/O, reads no clock and draws no random numbers, so equal calls in equal order
// give equal moves.
//
// The model is RSS++ (Barbette et al., CoNEXT 2019): flows are balanced in
// groups, the ownership buckets of dataplane/steer, and what is sought is little
// imbalance with few buckets moved, since each move costs a hold.
package place

// Bucket is an ownership bucket and its load in the last interval.
type Bucket struct {
	// Chain and Bucket name it, as in [sfc/dataplane/steer.Owners].
	Chain, Bucket uint16
	// Owner is the worker that owns it. A bucket whose owner is none of the
	// snapshot's workers counts for nobody and stays where it is.
	Owner int
	// Packets is how many packets came for it in the interval.
	Packets uint64
	// Flows is how many flows a move takes along.
	Flows uint32
}

// Snapshot is what a balancer looks at.
type Snapshot struct {
	// Workers is how many there are, numbered from 0.
	Workers int
	// Buckets are those of all chains, in any order, each at most once. Those
	// without packets may be left out.
	Buckets []Bucket
	// Cost is what one packet of a chain costs, by chain index, in a unit of
	// the caller's choice such as nanoseconds. A chain that it does not reach,
	// or whose cost is 0, costs 1.
	Cost []uint64
}

// load returns the load of a bucket: packets times cost.
func (s *Snapshot) load(b *Bucket) float64 {
	if int(b.Chain) < len(s.Cost) && s.Cost[b.Chain] > 0 {
		return float64(b.Packets) * float64(s.Cost[b.Chain])
	}
	return float64(b.Packets)
}

// Move is a bucket that shall change hands.
type Move struct {
	Chain, Bucket uint16
	From, To      int
	// Packets and Flows are the bucket's in the snapshot.
	Packets uint64
	Flows   uint32
}

// Elephant is a bucket whose load alone is more than a worker's fair share:
// whoever owns it is overloaded, so it is told of and not moved about. More
// workers do not help, only fewer packets or cheaper functions.
type Elephant struct {
	Chain, Bucket uint16
	Owner         int
	Packets       uint64
	// Load is the bucket's, Fair what each worker without an elephant bears
	// when all is balanced; both in the unit of [Snapshot.Cost].
	Load, Fair float64
}

// Options configure a [Balancer]. The zero value selects the defaults.
type Options struct {
	// Slack is by how much of its fair share a worker may be overloaded before
	// anything moves, from 0.01 to 1. Default 0.1. Once something moves, it
	// is balanced to half of it.
	Slack float64
	// MaxMoves is the most moves per interval. Default 16.
	MaxMoves int
	// Rest is for how many intervals a bucket stays where it was moved to.
	// Default 8; negative means none.
	Rest int
}

func (o Options) withDefaults() Options {
	if o.Slack == 0 {
		o.Slack = 0.1
	}
	o.Slack = min(max(o.Slack, 0.01), 1)
	if o.MaxMoves <= 0 {
		o.MaxMoves = 16
	}
	if o.Rest == 0 {
		o.Rest = 8
	}
	return o
}
