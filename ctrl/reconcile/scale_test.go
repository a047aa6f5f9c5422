package reconcile

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
	"sfc/ctrl/store"
)

// fill makes n chains at once, as many clients would.
func (g *rig) fill(n int) {
	g.tb.Helper()
	b := g.bucket("acme", api.BucketChains)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				c := &api.Chain{
					Metadata: api.Metadata{Name: fmt.Sprint("c", i), UID: fmt.Sprint("u", i), Generation: 1, CreatedAt: time.Unix(int64(i), 0).UTC()},
					Spec: api.ChainSpec{
						Egress: "out", Match: []api.ChainMatch{{Port: "in", Dst: fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)}},
						Functions: []api.ChainFunction{{Name: "stat", Module: "flowstat@prod"}},
					},
				}
				value, err := json.Marshal(c)
				if err == nil {
					err = g.create(b, c.Metadata.Name, value)
				}
				if err != nil {
					g.tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// count returns how many chains have a condition of Ready.
func (g *rig) count(ready string) (n int) {
	page, err := g.bucket("acme", api.BucketStatus).List("chains/", 0, "")
	if err != nil {
		g.tb.Fatal(err)
	}
	for _, e := range page.Entries {
		var s api.ChainStatus
		if err := json.Unmarshal(e.Value, &s); err != nil {
			g.tb.Fatal(err)
		}
		if c := s.Conditions.Find(api.Ready); c != nil && c.Status+"/"+c.Reason == ready {
			n++
		}
	}
	return n
}

// Many chains on a data plane with room for a tenth: all get their status, memory
// stays bounded, and an alias takes all of them along. 10,000 with
// SFC_VERIFY=all, which takes a quarter of a minute and more.
func TestManyChains(t *testing.T) {
	n, room := 2_000, 200
	if os.Getenv("SFC_VERIFY") == "all" {
		n, room = 10_000, 1024
	}
	g := newRig(t, func(o *Options) { o.Observe, o.Retry, o.RetryMax = time.Second, 100*time.Millisecond, time.Minute })
	g.plane.room = room
	g.tenant("acme", api.TenantSpec{Chains: api.Count(n)})
	g.deploy("acme", "1.0.0", "1.1.0")
	g.alias("acme", "prod=1.0.0")
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	g.start()
	begin := time.Now()
	g.fill(n)
	stored := time.Since(begin)
	slow := func(f func() bool) time.Duration {
		t.Helper()
		for !f() {
			time.Sleep(20 * time.Millisecond)
			if time.Since(begin) > 2*time.Minute {
				t.Fatalf("after %v: %d ready, %d without room", time.Since(begin), g.count("True/Active"), g.count("False/NoCapacity"))
			}
		}
		return time.Since(begin)
	}
	slow(func() bool { return g.count("True/Active") == room && g.count("False/NoCapacity") == n-room })
	settled := time.Since(begin)
	g.plane.mu.Lock()
	rounds := g.plane.applied
	g.plane.mu.Unlock()
	t.Logf("%d chains: stored after %v, all with a status after %v, %d applies", n, stored, settled, rounds)

	// An alias that moves takes all of them along.
	begin = time.Now()
	g.alias("acme", "prod=1.1.0")
	d := trim(must[*api.Function](t)(g.library("acme").Get("flowstat", "1.1.0")).Spec.Digest)
	moved := slow(func() bool {
		g.plane.mu.Lock()
		defer g.plane.mu.Unlock()
		for _, c := range g.plane.chains {
			if c.Code["flowstat@prod"] != d {
				return false
			}
		}
		return true
	})
	t.Logf("an alias of all moved: %v", moved)

	with := heap()
	g.stop()
	g.r = nil
	without := heap()
	t.Logf("%d MiB for the reconciler's part of %d chains", (with-without)>>20, n)
	if with-without > 256<<20 {
		t.Errorf("%d MiB", (with-without)>>20)
	}
	// From a restart to everything applied again.
	g.plane.mu.Lock()
	rounds = g.plane.applied
	g.plane.mu.Unlock()
	begin = time.Now()
	g.start()
	again := slow(func() bool {
		g.plane.mu.Lock()
		defer g.plane.mu.Unlock()
		return g.plane.applied > rounds
	})
	t.Logf("control restarted: applied after %v", again)
}

// From the store's acknowledgement to the data plane's Apply, and to the status,
// of a chain whose module is stored, with 100 others there.
func TestCreateLatency(t *testing.T) {
	g := newRig(t, nil)
	g.tenant("acme", api.TenantSpec{})
	g.deploy("acme", "1.0.0")
	g.alias("acme", "prod=1.0.0")
	g.start()
	g.fill(100)
	g.await(func() string {
		if n := g.count("True/Active"); n != 100 {
			return fmt.Sprintf("%d are ready", n)
		}
		return ""
	})
	var applied, written []time.Duration
	for i := range 50 {
		name := fmt.Sprint("new", i)
		seen := make(chan time.Time, 1)
		g.plane.set(func() {
			g.plane.check = func(d plane.Desired, _ map[string]bool) {
				if slices.ContainsFunc(d.Chains, func(c plane.Chain) bool { return c.Name == name }) {
					select {
					case seen <- time.Now():
					default:
					}
				}
			}
		})
		b := g.bucket("acme", api.BucketStatus)
		w := must[*store.Watcher](t)(b.Watch(api.StatusKey(api.BucketChains, name), b.Revision()))
		begin := time.Now()
		g.chain("acme", name, nil, "flowstat@prod")
		applied = append(applied, (<-seen).Sub(begin))
		for {
			ev := must[store.Event](t)(w.Next(t.Context()))
			if strings.Contains(string(ev.Value), `"active":true`) {
				break
			}
		}
		written = append(written, time.Since(begin))
	}
	for name, l := range map[string][]time.Duration{"applied": applied, "status written": written} {
		slices.Sort(l)
		t.Logf("%s: median %v, worst %v, from the client's write on", name, l[len(l)/2], l[len(l)-1])
	}
	if applied[len(applied)/2] > 50*time.Millisecond {
		t.Errorf("a chain takes %v to the data plane", applied[len(applied)/2])
	}
}
