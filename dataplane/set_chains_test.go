package dataplane

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// comings are chains of a played set that come and go.
type comings struct {
	*played
	gates  []sync.RWMutex // held while packets of a chain are sent
	there  []bool         // gates guards them
	shares [][]*Share     // by worker, of two tenants
	tables []*flow.Table  // of chains that have gone
}

// chainPaths are the paths of a chain on a worker, there and back.
func (c *comings) chainPaths(chain uint16, worker int) []IndexedPath {
	table, err := flow.New(flow.Options{Key: c.key, Max: uint32(c.flows), Buckets: steer.Buckets, Sparse: true})
	if err != nil {
		c.t.Fatal(err)
	}
	c.flowTables[worker*c.chains+int(chain)] = table
	descs := new([packet.BurstSize]packet.Desc)
	r := &counter{b: c.played, descs: descs, region: c.region, state: make([]uint32, c.flows)}
	p := Path{Runner: r, Descs: descs, Flows: table, Egress: 1, Tenant: c.shares[worker][chain%2]}
	if c.arena {
		p.Arena = make([]byte, packet.BurstSize*packet.ChunkSize)
		r.region = p.Arena
	}
	back := p
	back.Egress = 0
	return []IndexedPath{{2 * chain, p}, {2*chain + 1, back}}
}

// add adds a chain, as an agent does: owners, workers, then steering.
func (c *comings) add(chain uint16) error {
	for b := range uint16(steer.Buckets) {
		c.owners.Flip(chain, b, c.owners.Owner(chain, b))
	}
	if err := c.set.AddChain(chain, func(w int) []IndexedPath { return c.chainPaths(chain, w) }); err != nil {
		return err
	}
	c.gates[chain].Lock()
	defer c.gates[chain].Unlock()
	c.there[chain] = true
	return nil
}

// remove removes one: steering first.
func (c *comings) remove(chain uint16) error {
	c.gates[chain].Lock()
	c.there[chain] = false
	c.gates[chain].Unlock()
	before, err := c.set.Account(chain)
	if err != nil {
		return err
	}
	if err := c.set.RemoveChain(chain); err != nil {
		return err
	}
	if before.Dropped != before.Functions {
		return fmt.Errorf("chain %d: packets dropped by the engine: %v", chain, before.Engine)
	}
	for w := range c.workers {
		t := c.flowTables[w*c.chains+int(chain)]
		c.tables = append(c.tables, t)
		if err := errors.Join(t.Verify(), t.Close()); err != nil {
			return err
		}
	}
	return nil
}

// while runs f while the chain is there.
func (c *comings) while(chain uint16, f func()) {
	c.gates[chain].RLock()
	defer c.gates[chain].RUnlock()
	if c.there[chain] {
		f()
	}
}

// TestRandomComings adds and removes chains while buckets move and packets of
// all kinds go both ways, some of which have to wait for their tenants' turn:
// every packet has one fate, none is dropped by the engine, and every flow
// keeps its order.
func TestRandomComings(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("TEST_SEED=%d", seed)
	for _, arena := range []bool{false, true} {
		t.Run(fmt.Sprintf("arena=%t", arena), func(t *testing.T) { randomComings(t, seed, arena) })
	}
}

func randomComings(t *testing.T, seed uint64, arena bool) {
	const chains = 4
	rnd := rand.New(rand.NewPCG(seed, 1))
	workers := 2 + rnd.IntN(2)
	c := &comings{gates: make([]sync.RWMutex, chains), there: make([]bool, chains)}
	for range workers {
		x, _ := NewShare(300)
		y, _ := NewShare(100)
		c.shares = append(c.shares, []*Share{x, y})
	}
	c.played = makePlayed(t, playedOptions{workers: workers, flows: 2048, chains: chains, arena: arena, verdicts: true, forgetful: true,
		config: func(cfg *Config) { cfg.Paths, cfg.MaxPaths, cfg.MaxChains = nil, 2*chains, chains }})
	for _, table := range c.flowTables { // of chains that are not there
		table.Close()
	}
	c.window = 128
	for chain := range uint16(chains / 2) { // before Start, and after
		if err := c.add(chain); err != nil {
			t.Fatal(err)
		}
	}
	c.start()
	plain := c.sources(1200)
	var odd []*fragmentSource
	for i := range 200 {
		odd = append(odd, c.fragmentsOf(&plain[i], i%2 == 1))
	}
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var all sync.WaitGroup
	send := rand.New(rand.NewPCG(seed, 2))
	all.Go(func() { // the sender
		for !stopped() {
			s := &plain[200+send.IntN(1000)]
			c.while(s.chain, func() { c.send(s, send.IntN(2)*min(int(s.n), 1), send) })
			if f := odd[send.IntN(len(odd))]; send.IntN(8) == 0 {
				c.while(f.chain, func() { c.sendFragments(f) })
			}
		}
	})
	var moves, flows int
	all.Go(func() { // the mover
		rnd := rand.New(rand.NewPCG(seed, 3))
		for !stopped() {
			of := &plain[rnd.IntN(len(plain))]
			r, err := c.set.Move(of.chain, of.at[0].Bucket, rnd.IntN(workers))
			if err != nil && !errors.Is(err, ErrAbsent) || r.Refused > 0 {
				t.Errorf("%+v, %v", r, err)
				return
			}
			moves++
			flows += r.Flows
		}
	})
	queued := make([]uint64, workers)
	all.Go(func() { // who makes tenants wait
		rnd := rand.New(rand.NewPCG(seed, 4))
		for !stopped() {
			i := rnd.IntN(workers)
			s, w := c.shares[i][rnd.IntN(2)], c.set.workers[i]
			_, _ = w.Do(func() {
				queued[i] += s.turned
				s.turned = 0
				s.spent = !s.spent
				s.divert = s.spent || s.queue.n > 0
			})
			time.Sleep(200 * time.Microsecond)
		}
	})
	comings := 0
	for end := time.Now().Add(5 * time.Second); comings < 16 && time.Now().Before(end); comings++ {
		chain := uint16(rnd.IntN(chains))
		var err error
		if c.set.HasChain(chain) {
			err = c.remove(chain)
		} else {
			err = c.add(chain)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rnd.IntN(8)) * time.Millisecond)
	}
	close(stop)
	all.Wait()
	c.settle()
	for chain := range uint16(chains) {
		if !c.set.HasChain(chain) {
			continue
		}
		if err := c.remove(chain); err != nil {
			t.Error(err)
		}
	}
	if err := c.set.Stop(); err != nil {
		t.Fatal(err)
	}
	c.flowTables = nil // verified when their chains went
	c.account()
	n := c.set.Counters()
	if n.Received != c.offers || slices.Max(n.Engine[:]) != 0 {
		t.Errorf("offered %d packets: %+v", c.offers, n)
	}
	waited := uint64(0)
	for _, q := range queued {
		waited += q
	}
	t.Logf("%d workers, %d packets, %d comings, %d moves of %d flows, %d handed over, %d held, %d queued",
		workers, n.Received, comings, moves, flows, n.HandedIn, n.Held, waited)
	if comings < 4 || moves == 0 || flows == 0 || n.HandedIn == 0 || waited == 0 {
		t.Error("nothing was tested")
	}
}
