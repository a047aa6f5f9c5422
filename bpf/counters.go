package bpf

import (
	"errors"
	"iter"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// Counters say what became of a port's frames, since it was loaded.
type Counters struct {
	// Each frame is in exactly one of these.
	Redirected uint64 // claimed by a path, to its AF_XDP socket
	Passed     uint64 // to the kernel's stack
	Forwarded  uint64 // to the paired port
	NoPath     uint64 // dropped by policy: nothing claims it
	TooLong    uint64 // dropped: claimed, and longer than packet.MaxFrame or in several buffers
	Malformed  uint64 // dropped
	ExtHeaders uint64 // dropped: too many IPv6 extension headers
	NoSocket   uint64 // dropped: claimed, and its queue has no socket
	NoPair     uint64 // dropped: the paired port's interface is gone
	NoMeta     uint64 // dropped: claimed, and the driver leaves no room for metadata

	// Why a frame met the policy for unclaimed frames; the sum is that of
	// Passed, Forwarded, NoPath and NoPair.
	NotIP              uint64
	NeighbourDiscovery uint64
	Unmatched          uint64
}

// Frames returns how many frames arrived.
func (c Counters) Frames() uint64 {
	n := c.Redirected + c.Passed + c.Forwarded
	for _, dropped := range c.Drops() {
		n += dropped
	}
	return n
}

// Drops yields the name and count of each reason for which frames were dropped,
// also those that are 0. Names of engine reasons are those of [packet.Reason].
func (c Counters) Drops() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		_ = yield(packet.ReasonNoPath.String(), c.NoPath) &&
			yield(packet.ReasonTooLong.String(), c.TooLong) &&
			yield(packet.ReasonMalformed.String(), c.Malformed) &&
			yield(packet.ReasonExtHeaders.String(), c.ExtHeaders) &&
			yield(packet.ReasonNoSocket.String(), c.NoSocket) &&
			yield("no_pair", c.NoPair) &&
			yield("no_meta", c.NoMeta)
	}
}

// Counters returns the counters of a port. It reads shared memory and makes no
// system call. While traffic runs, the fields may be a few frames apart.
func (s *Steering) Counters(port int) (Counters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(port); err != nil {
		return Counters{}, err
	}
	return s.ports[port].view.counters(), nil
}

// Seq returns how many frames arrived at a port, modulo 2^32: the Meta.Seq that
// the next one gets.
func (s *Steering) Seq(port int) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(port); err != nil {
		return 0, err
	}
	return s.ports[port].view.seq(), nil
}

// Sizes of struct sfc_counters and struct sfc_seq in steer_meta.h.
const countersBytes, seqBytes = 128, 64

// counterView is the mapping of a port's counter maps into our memory.
type counterView struct {
	slots, next []byte // nil once closed
	cpus        int
	last        Counters
	lastSeq     uint32
}

// mapCounters maps the counters of one port, by the descriptors of its maps.
func mapCounters(counters, seq, cpus int) (_ *counterView, err error) {
	v := &counterView{cpus: cpus}
	if v.slots, err = mapMemory("counters", counters, cpus*countersBytes, unix.PROT_READ); err != nil {
		return nil, err
	}
	if v.next, err = mapMemory("seq", seq, seqBytes, unix.PROT_READ); err != nil {
		return nil, errors.Join(err, unix.Munmap(v.slots))
	}
	return v, nil
}

// close unmaps the counters and keeps their values. A nil view has none.
func (v *counterView) close() error {
	if v == nil || v.slots == nil {
		return nil
	}
	v.last, v.lastSeq = v.counters(), v.seq()
	err := errors.Join(unix.Munmap(v.slots), unix.Munmap(v.next))
	v.slots, v.next = nil, nil
	return err
}
