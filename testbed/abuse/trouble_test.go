package abuse

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sfc/ctrl/agent"
	"sfc/dataplane/steer"
)

// trouble moves buckets between the workers and replaces functions, again and
// again, while traffic runs.
type trouble struct {
	b     *bed
	stop  chan struct{}
	wg    sync.WaitGroup
	moves atomic.Int64
	swaps atomic.Int64

	// To be read when it has ended.
	flows int           // that moved
	lost  int           // that found no room at their new owner
	hold  time.Duration // the longest of a swap
}

// stir starts trouble; end stops it.
func stir(b *bed, hops ...int) *trouble {
	t := &trouble{b: b, stop: make(chan struct{})}
	t.wg.Go(t.move)
	if len(hops) > 0 {
		t.wg.Go(func() { t.swap(hops) })
	}
	return t
}

func (t *trouble) move() {
	rnd := rand.New(rand.NewPCG(3, 4))
	for !t.over(200 * time.Microsecond) {
		r, err := t.b.e.Move(0, uint16(rnd.IntN(steer.Buckets)), rnd.IntN(len(t.b.lanes)))
		if err != nil {
			t.b.tb.Errorf("move: %v", err)
			return
		}
		if r.From != r.To {
			t.moves.Add(1)
			t.flows += r.Flows
			t.lost += r.Refused
		}
	}
}

// swap replaces functions by other instances of the same module.
func (t *trouble) swap(hops []int) {
	for i := 0; !t.over(50 * time.Millisecond); i++ {
		hop := hops[i%len(hops)]
		name := t.b.e.Plan().Chains[0].Functions[hop].Name
		file, err := filepath.Abs(filepath.Join("../../nf/catalog", name, name+".wasm"))
		if err == nil {
			var r *agent.SwapReport
			r, err = t.b.e.Swap(0, hop, agent.SwapOptions{Module: file, Probation: 10 * time.Millisecond})
			if err == nil {
				t.swaps.Add(1)
				for _, h := range r.Holds {
					t.hold = max(t.hold, h)
				}
			}
		}
		if err != nil {
			t.b.tb.Errorf("swap of %s: %v", name, err)
			return
		}
	}
}

// over waits for a while, and says whether the trouble is.
func (t *trouble) over(d time.Duration) bool {
	select {
	case <-t.stop:
		return true
	case <-time.After(d):
		return false
	}
}

// enough says that there was some trouble: on a busy machine it takes its time.
func (t *trouble) enough() bool { return t.moves.Load() >= 20 && t.swaps.Load() >= 2 }

// end stops the trouble and says what there was.
func (t *trouble) end() string {
	t.b.tb.Helper()
	close(t.stop)
	t.wg.Wait()
	holds, err := t.b.e.Holds()
	check(t.b.tb, err)
	return fmt.Sprintf("%d moves of %d flows (%d refused), %d swaps (longest hold %v), %d packets held: p50 %v, p99 %v, max %v",
		t.moves.Load(), t.flows, t.lost, t.swaps.Load(), t.hold.Round(time.Microsecond), holds.TotalCount(),
		time.Duration(holds.ValueAtQuantile(50)), time.Duration(holds.ValueAtQuantile(99)), time.Duration(holds.Max()))
}
