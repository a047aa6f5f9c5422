package packet

// Census counts the chunks that one port holds, by where they are. At any
// moment when no packet is on its way through the worker,
//
//	pool.Free() + sum of Census.Total() over the ports + held = pool.Total()
//
// where held is what the worker has in hand.
type Census struct {
	// Fill is the number of chunks that wait to be received into: in the fill
	// ring, or taken from it by the kernel and not yet in the RX ring.
	Fill int
	// Rx is the number of received frames in the RX ring.
	Rx int
	// Tx is the number of frames to send: in the TX ring, or taken from it by
	// the kernel and not yet in the completion ring.
	Tx int
	// Completion is the number of sent frames in the completion ring.
	Completion int
}

// Total returns the number of chunks the port holds.
func (c Census) Total() int { return c.Fill + c.Rx + c.Tx + c.Completion }

// Add returns the sum of two ports' counts.
func (c Census) Add(o Census) Census {
	return Census{
		Fill:       c.Fill + o.Fill,
		Rx:         c.Rx + o.Rx,
		Tx:         c.Tx + o.Tx,
		Completion: c.Completion + o.Completion,
	}
}
