package dataplane

import (
	"math/rand/v2"
	"slices"
	"time"
)

// settle waits until every packet that was sent has its fate.
func (b *played) settle() {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if c := b.set.Counters(); c.Sent+c.Passed+c.Dropped >= b.offers {
			return
		}
	}
}

// finish waits until everything that was sent has left, stops the workers and
// checks the books.
func (b *played) finish(sources []source) {
	b.t.Helper()
	b.settle()
	if err := b.set.Stop(); err != nil {
		b.t.Fatal(err)
	}
	b.account()
	c := b.set.Counters()
	if c.Received != b.offers || !b.verdicts && c.Sent != b.offers || slices.Max(c.Engine[:]) != 0 {
		b.t.Fatalf("offered %d packets: %+v", b.offers, c)
	}
	live := uint32(0)
	for _, table := range b.flowTables {
		live += table.Live()
	}
	used := uint32(0)
	for i := range sources {
		if sources[i].n > 0 {
			used++
		}
	}
	if live != used && !b.forgetful {
		b.t.Errorf("%d flows in the tables, %d were sent", live, used)
	}
}

// account checks, when the workers have stopped, that every packet has one
// fate, every chunk one holder, and every table is as it should be.
func (b *played) account() {
	b.t.Helper()
	if wrong := b.wrong.Load(); wrong != nil {
		b.t.Fatal(*wrong)
	}
	for i, w := range b.set.workers {
		c := w.Counters()
		if c.Received+c.HandedIn != c.Sent+c.Passed+c.Dropped+c.HandedOut {
			b.t.Errorf("worker %d: the account is not even: %+v", i, c)
		}
	}
	if c := b.set.Counters(); c.HandedIn != c.HandedOut {
		b.t.Errorf("%d packets were handed over, %d taken", c.HandedOut, c.HandedIn)
	}
	for i, table := range b.flowTables {
		if err := table.Verify(); err != nil {
			b.t.Errorf("table %d: %v", i, err)
		}
	}
	free := 0
	if err := b.depot.Check(func(uint32) { free++ }); err != nil {
		b.t.Error(err)
	}
	for _, p := range b.ports {
		rx, tx := p.Waiting()
		free += rx + tx
	}
	if free != b.depot.Total() {
		b.t.Errorf("%d chunks of %d are accounted for", free, b.depot.Total())
	}
}

// traffic sends packets of random flows, both ways, until stop is closed.
func (b *played) traffic(sources []source, stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for {
		select {
		case <-stop:
			return
		default:
		}
		for range 100 {
			s := &sources[rnd.IntN(len(sources))]
			back := rnd.IntN(2)
			if s.n == 0 {
				back = 0
			}
			b.send(s, back, rnd)
		}
	}
}
