package flow

import (
	"fmt"
	"time"

	"sfc/dataplane/steer"
)

// Limits of [Options].
const (
	// MaxSlots is the largest table.
	MaxSlots = 1 << 26
	// MaxBuckets is the largest number of ownership buckets.
	MaxBuckets = 1 << 16
	// MaxTimeout bounds every timeout: times are kept in 32 bits of
	// milliseconds, so that differences up to 2^31 ms can be told.
	MaxTimeout = 24 * 24 * time.Hour
)

// Options configure a [Table]. The zero value selects the defaults.
type Options struct {
	// Key is the secret of [sfc/dataplane/packet.FlowHash], the same that
	// the steering program and the [Reader] have.
	Key [2]uint64
	// Max is the number of slots, and so of flows. Default 65536.
	//
	// The last min(64, Max/4) of them are a reserve: when no more are free, a
	// new flow first evicts another, and is refused only if none may be
	// evicted and the reserve is used up.
	Max uint32
	// Bindings is the number of secondary keys, of all flows together.
	// Default 0: [Table.Bind] always says BindFull.
	Bindings uint32
	// Pins tells the steering program who owns the flows that secondary keys
	// belong to, and Claims has what functions claim for their flows. Tables of
	// one chain, whose number is Chain, share both. A flow's entries go when it
	// ends, not when it moves. Default nil: none.
	Pins, Claims *steer.Pins
	Chain        uint16
	// Buckets is the number of ownership buckets: a flow's bucket is the low
	// bits of [Query.Owner]. Power of two. Default 4096.
	Buckets uint32
	// Timeouts are how long an idle flow is kept.
	Timeouts Timeouts
	// IdleFloor protects flows that both sides have spoken in: when the table
	// is full, one that had a packet within this time is not evicted.
	// Default 2 min.
	IdleFloor time.Duration
	// Sweep is the time one pass of [Table.Age] over the table takes at
	// least. It bounds the work, not the precision: an idle flow has ended
	// for its next packet whether Age has come by or not. Default 4 s.
	Sweep time.Duration
	// Memory is where the table keeps what [Restore] needs: MemoryBytes of it,
	// aligned to 64 bytes, all zero for New. It stays the caller's, and must be
	// there until Close or Detach. Default nil: memory of the table's own.
	Memory []byte
	// Sparse leaves pages of the table unallocated until they are touched.
	// Default false: all memory is there when New returns. Of Memory, its owner
	// decides.
	Sparse bool
}

// Timeouts are how long a flow may be idle, by protocol and state. A field
// that is 0 selects its default.
type Timeouts struct {
	// TCPOpening: no handshake seen yet. Default 4 min, the least that RFC
	// 5382 (REQ-5) allows for "transitory" connections. Half-open flows are
	// evicted long before that when the table is full.
	TCPOpening time.Duration
	// TCPEstablished: default 2 h 4 min (RFC 5382, REQ-5).
	TCPEstablished time.Duration
	// TCPClosing: one side has sent FIN, the other may still send. Default
	// 4 min (RFC 5382, REQ-5).
	TCPClosing time.Duration
	// TCPClosed: FIN from both sides. Default 2 min, one maximum segment
	// lifetime (RFC 9293 section 3.4.2): time for what is still on its way.
	TCPClosed time.Duration
	// TCPReset: one side has sent RST. Default 10 s.
	TCPReset time.Duration
	// UDPOneWay: no answer yet. Default 2 min, the least that RFC 4787
	// (REQ-5) allows.
	UDPOneWay time.Duration
	// UDPTwoWay: default 5 min (RFC 4787, REQ-5, recommended).
	UDPTwoWay time.Duration
	// ICMP: queries and their replies. Default 60 s, the least that RFC 5508
	// (REQ-2) allows.
	ICMP time.Duration
	// OtherOneWay: any other protocol, no answer yet. Default 2 min.
	OtherOneWay time.Duration
	// OtherTwoWay: default 10 min, as nf_conntrack's generic timeout.
	OtherTwoWay time.Duration
}

// orDefault replaces zero values.
func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (o *Options) withDefaults() {
	orDefault(&o.Max, 65536)
	orDefault(&o.Buckets, 4096)
	orDefault(&o.IdleFloor, 2*time.Minute)
	orDefault(&o.Sweep, 4*time.Second)
	t := &o.Timeouts
	orDefault(&t.TCPOpening, 4*time.Minute)
	orDefault(&t.TCPEstablished, 2*time.Hour+4*time.Minute)
	orDefault(&t.TCPClosing, 4*time.Minute)
	orDefault(&t.TCPClosed, 2*time.Minute)
	orDefault(&t.TCPReset, 10*time.Second)
	orDefault(&t.UDPOneWay, 2*time.Minute)
	orDefault(&t.UDPTwoWay, 5*time.Minute)
	orDefault(&t.ICMP, time.Minute)
	orDefault(&t.OtherOneWay, 2*time.Minute)
	orDefault(&t.OtherTwoWay, 10*time.Minute)
}

// holders is for how many flows there is a [steer.Holder].
func (o *Options) holders() uint32 {
	if o.Bindings == 0 && o.Claims == nil {
		return 0
	}
	return o.Max
}

func (o *Options) validate() error {
	if o.Max > MaxSlots {
		return fmt.Errorf("flow table: %d slots: at most %d are possible", o.Max, MaxSlots)
	}
	if o.Bindings > MaxSlots {
		return fmt.Errorf("flow table: %d bindings: at most %d are possible", o.Bindings, MaxSlots)
	}
	if o.Buckets&(o.Buckets-1) != 0 || o.Buckets > MaxBuckets {
		return fmt.Errorf("flow table: %d ownership buckets: choose a power of two up to %d", o.Buckets, MaxBuckets)
	}
	if o.Sweep < time.Millisecond || o.Sweep > time.Hour {
		return fmt.Errorf("flow table: sweep of %v: choose between 1ms and 1h", o.Sweep)
	}
	if err := o.checkMemory(); err != nil {
		return err
	}
	t := &o.Timeouts
	for _, f := range []struct {
		name string
		d    time.Duration
	}{
		{"idle floor", o.IdleFloor},
		{"tcp opening timeout", t.TCPOpening},
		{"tcp established timeout", t.TCPEstablished},
		{"tcp closing timeout", t.TCPClosing},
		{"tcp closed timeout", t.TCPClosed},
		{"tcp reset timeout", t.TCPReset},
		{"udp one-way timeout", t.UDPOneWay},
		{"udp two-way timeout", t.UDPTwoWay},
		{"icmp timeout", t.ICMP},
		{"other one-way timeout", t.OtherOneWay},
		{"other two-way timeout", t.OtherTwoWay},
	} {
		if f.d < time.Millisecond || f.d > MaxTimeout {
			return fmt.Errorf("flow table: %s of %v: choose between 1ms and %v", f.name, f.d, MaxTimeout)
		}
	}
	return nil
}

// ms is a duration in milliseconds.
func ms(d time.Duration) int32 { return int32(d / time.Millisecond) }

// timeouts returns the timeout in ms by [kind].
func (o *Options) timeouts() (by [numKinds]int32) {
	t := &o.Timeouts
	set := func(c Class, opening, open, closing, closed, reset time.Duration) {
		for s, d := range map[State]time.Duration{Opening: opening, Open: open, Closing: closing, Closed: closed, Reset: reset} {
			by[makeKind(c, s)] = ms(d)
		}
	}
	set(TCP, t.TCPOpening, t.TCPEstablished, t.TCPClosing, t.TCPClosed, t.TCPReset)
	set(UDP, t.UDPOneWay, t.UDPTwoWay, 0, 0, 0)
	set(ICMP, t.ICMP, t.ICMP, 0, 0, 0)
	set(Other, t.OtherOneWay, t.OtherTwoWay, 0, 0, 0)
	return by
}
