package dataplane

import (
	"errors"
	"fmt"

	"sfc/dataplane/packet"
)

// Account is what became of a chain's packets. Packets = Sent + Passed +
// Dropped at any quiet moment.
type Account struct {
	// Packets and Bytes that came in.
	Packets, Bytes        uint64
	Sent, Passed, Dropped uint64
	// Engine counts drops by the engine's reasons, faults of functions
	// included; Functions those for reasons of the functions' own. Together
	// they are Dropped.
	Engine    [packet.NumReasons]uint64
	Functions uint64
	// Latency is from a packet's arrival at its port to its verdict, of one
	// packet of each burst, or of every eighth while the worker has one tenant.
	Latency Latency
}

// Add adds another worker's account.
func (a *Account) Add(o *Account) {
	a.Packets += o.Packets
	a.Bytes += o.Bytes
	a.Sent += o.Sent
	a.Passed += o.Passed
	a.Dropped += o.Dropped
	a.Functions += o.Functions
	for r, n := range o.Engine {
		a.Engine[r] += n
	}
	a.Latency.Add(&o.Latency)
}

// drop counts a drop of the engine's.
func (a *Account) drop(r packet.Reason) {
	a.Dropped++
	a.Engine[r]++
}

// outcome counts the drop of a packet that functions decided about.
func (a *Account) outcome(o packet.Outcome) {
	if o.Fault == 0 && o.Hop != packet.HopEngine || int(o.Reason) >= packet.NumReasons {
		a.Dropped++
		a.Functions++
		return
	}
	a.drop(packet.Reason(o.Reason))
}

// accountChunk is how many chains' accounts a worker copies at a time: some
// microseconds.
const accountChunk = 32

// Account returns the account of a chain, over all workers, as it is now.
func (s *Set) Account(chain uint16) (sum Account, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.has(chain) {
		return sum, fmt.Errorf("account of chain %d: %w", chain, ErrAbsent)
	}
	list := []uint16{chain}
	err = s.accounts(list, func(_ int, a *Account) { sum.Add(a) })
	return sum, err
}

// Accounts calls visit with the account of every chain, over all workers, as
// they are now. The account is visit's until it returns. Workers are
// interrupted between bursts, for some microseconds at a time.
func (s *Set) Accounts(visit func(chain uint16, a *Account)) error {
	sums := make([]Account, accountChunk)
	for from := 0; ; {
		s.mu.Lock()
		var list []uint16
		all := s.workers[0].chains
		for ; from < len(all) && len(list) < accountChunk; from++ {
			if all[from] != nil {
				list = append(list, uint16(from))
			}
		}
		clear(sums)
		err := s.accounts(list, func(i int, a *Account) { sums[i].Add(a) })
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		for i, chain := range list {
			visit(chain, &sums[i])
		}
	}
}

// accounts calls add with the accounts of chains, by their place in the list.
// The caller holds mu.
func (s *Set) accounts(list []uint16, add func(i int, a *Account)) error {
	copies := make([]Account, len(list))
	for _, w := range s.workers {
		read := func() {
			for i, chain := range list {
				copies[i] = w.chains[chain].account
			}
		}
		if err := w.ask(read); err != nil {
			return err
		}
		for i := range copies {
			add(i, &copies[i])
		}
	}
	return nil
}

// ask runs f where it may read what is the worker's: on its thread, or when it
// does not run, here.
func (w *Worker) ask(f func()) error {
	_, err := w.Do(f)
	if errors.Is(err, ErrStopped) {
		f()
		return nil
	}
	return err
}
