package xsk

import (
	"fmt"
	"math/bits"
	"time"

	"sfc/dataplane/packet"
)

// Mode is how frames get between the interface and the UMEM.
type Mode uint8

const (
	// Auto takes zero copy when the driver has it, else copy.
	Auto Mode = iota
	// ZeroCopy refuses to open without zero copy.
	ZeroCopy
	// Copy never asks for zero copy.
	Copy
)

// Options configure a [Socket]. The zero value selects the defaults.
type Options struct {
	// RingSize is the number of descriptors of the socket's RX and TX ring.
	// Power of two, 64 to 32,768. Default 2048.
	RingSize uint32
	// FillRing is the number of descriptors of the queue's fill and completion
	// ring. The queue's first socket decides. Power of two, RingSize to 32,768.
	// It should have room for FillTarget and 64 more (NAPI_POLL_WEIGHT): the
	// kernel shows received frames before it shows which descriptors it took
	// for them, so that in between the target would not fit.
	// Default twice RingSize.
	FillRing uint32
	// FillTarget is how many chunks the queue keeps ready for frames to come,
	// those in the worker's own RX ring included. At most FillRing. The
	// queue's first socket decides. Default a quarter of the UMEM's chunks, or
	// RingSize when that is less: then two ports leave half of the chunks for
	// frames in hand and in the TX rings. With several workers take what
	// [Sizing.Size] says.
	FillTarget uint32
	// Reserve is how many of FillTarget the other queues of the UMEM leave to
	// this one: they take no free chunk that it needs to get so far. The
	// queue's first socket decides.
	// Default 2 * packet.BurstSize, or FillTarget when that is less.
	Reserve uint32
	// Mode is copy or zero copy. A socket that joins an open one of its UMEM
	// takes that one's mode and wakeup setting: the kernel allows no other.
	// Default Auto.
	Mode Mode
	// NoNeedWakeup binds without XDP_USE_NEED_WAKEUP: then every Flush with
	// frames to send makes a system call. Default false: only when the kernel
	// asks.
	NoNeedWakeup bool
	// TxBudget is how many frames one system call sends in copy mode, 32 to
	// RingSize. Linux 6.17 or later; an older kernel sends 32, and Info says
	// so. Default 256 or RingSize, whichever is less.
	TxBudget uint32
	// BindWait bounds how long Open waits for a queue that another socket
	// still occupies: the kernel takes a closed one down in the background.
	// Default 2 s; negative: do not wait.
	BindWait time.Duration
	// Unbound has Create leave the bind to who adopts the socket: see
	// [Grant.Unbound]. Default: only where the kernel demands it.
	Unbound bool

	// borrow shares the mapping of the queue's rings with its first socket, as
	// a kernel before 6.4 demands.
	borrow bool
}

const (
	minRing      = packet.BurstSize
	defaultRing  = 2048
	maxRing      = 32768
	minTxBudget  = 32 // TX_BATCH_SIZE in net/xdp/xsk.c, what a kernel without the option does
	wantTxBudget = 256
)

// withDefaults fills in what is zero, for a UMEM of so many chunks.
func (o Options) withDefaults(chunks int) Options {
	if o.RingSize == 0 {
		o.RingSize = defaultRing
	}
	if o.FillRing == 0 {
		o.FillRing = min(2*o.RingSize, maxRing)
	}
	if o.FillTarget == 0 {
		o.FillTarget = min(o.RingSize, max(uint32(chunks/4), 1))
	}
	if o.Reserve == 0 {
		o.Reserve = min(2*packet.BurstSize, o.FillTarget)
	}
	if o.TxBudget == 0 {
		o.TxBudget = min(wantTxBudget, o.RingSize)
	}
	if o.BindWait == 0 {
		o.BindWait = 2 * time.Second
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.RingSize < minRing || o.RingSize > maxRing || bits.OnesCount32(o.RingSize) != 1:
		return fmt.Errorf("ring size %d: want a power of two from %d to %d", o.RingSize, minRing, maxRing)
	case o.FillRing < o.RingSize || o.FillRing > maxRing || bits.OnesCount32(o.FillRing) != 1:
		return fmt.Errorf("fill ring of %d: want a power of two from the ring size, %d, to %d", o.FillRing, o.RingSize, maxRing)
	case o.FillTarget > o.FillRing:
		return fmt.Errorf("fill target %d: want at most the fill ring's size, %d", o.FillTarget, o.FillRing)
	case o.Reserve > o.FillTarget:
		return fmt.Errorf("reserve %d: want at most the fill target, %d", o.Reserve, o.FillTarget)
	case o.Mode > Copy:
		return fmt.Errorf("mode %d: want Auto, ZeroCopy or Copy", o.Mode)
	case o.TxBudget < minTxBudget || o.TxBudget > o.RingSize:
		return fmt.Errorf("transmit budget %d: want %d to the ring size, %d", o.TxBudget, minTxBudget, o.RingSize)
	}
	return nil
}
