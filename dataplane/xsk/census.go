package xsk

import (
	"errors"
	"fmt"

	"sfc/dataplane/packet"
)

// ErrChunks means that chunks of a UMEM are lost, or in two places.
var ErrChunks = errors.New("chunks of the UMEM do not add up")

// Census counts the chunks that the socket holds. What no socket of a queue
// holds alone counts for the one that was opened first: the sum over all
// sockets is what all queues hold. With several workers call it when they have
// stopped.
func (xsk *Socket) Census() packet.Census {
	q := xsk.queue
	if xsk.closed || !xsk.joined {
		return packet.Census{}
	}
	c := packet.Census{Rx: int(xsk.rx.ready()), Tx: int(xsk.tx.waiting())}
	if q.sockets[0] != xsk {
		return c
	}
	fill, sent := q.filled-q.goneRx, q.goneTx-q.reclaimed
	for _, s := range q.sockets {
		fill -= s.received + uint64(s.rx.ready())
		sent += s.transmitted - uint64(s.tx.waiting())
	}
	// The words of the shared rings are current, whoever used them last.
	c.Completion = int(xsk.comp.producer.Load() - xsk.comp.consumer.Load())
	c.Fill = int(fill)
	c.Tx += int(sent) - c.Completion
	return c
}

// holds returns how many chunks the queue's rings and the kernel have: what was
// put in and not taken out again. The kernel moves them from ring to ring all
// the time, which does not change their number.
func (q *queue) holds() int {
	n := q.filled - q.goneRx + q.goneTx - q.reclaimed
	for _, s := range q.sockets {
		n += s.transmitted - s.received
	}
	return int(n)
}

// Verify checks, when all workers have stopped, that every chunk is in exactly
// one place, whatever the kernel still does:
//
//	depot and pools + fill + rx + tx + completion + hand = total
//
// hand is how many chunks those outside of this package hold: frames that were
// received and wait somewhere.
func (u *UMEM) Verify(hand int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.where == nil {
		return errors.New("verify chunks: the UMEM is closed")
	}
	free, bad := 0, -1
	err := u.depot.Check(func(chunk uint32) {
		free++
		if u.where[chunk/packet.ChunkSize] != 0 {
			bad = int(chunk)
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrChunks, err)
	case bad >= 0:
		return fmt.Errorf("%w: chunk %#x is free, and by the record a socket's too", ErrChunks, bad)
	}
	held := 0
	for _, h := range u.where {
		if h != 0 {
			held++
		}
	}
	queues := 0
	for _, q := range u.queues {
		if q != nil {
			queues += q.holds()
		}
	}
	var sum packet.Census // to tell where they are, more or less
	for _, s := range u.sockets {
		if s != nil {
			sum = sum.Add(s.Census())
		}
	}
	switch {
	case held != queues:
		return fmt.Errorf("%w: by the record sockets hold %d, by their counts %d, by their rings %+v", ErrChunks, held, queues, sum)
	case free+held+hand != u.depot.Total():
		return fmt.Errorf("%w: free %d + fill %d + rx %d + tx %d + completion %d + hand %d, total %d",
			ErrChunks, free, sum.Fill, sum.Rx, sum.Tx, sum.Completion, hand, u.depot.Total())
	}
	return nil
}
