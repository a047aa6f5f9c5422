package wasm

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
)

// footprint is what the process holds.
type footprint struct{ mappings, fds, rssKiB int }

func measure(t *testing.T) (f footprint) {
	t.Helper()
	runtime.GC()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return footprint{bytes.Count(maps, []byte("\n")), len(fds), anonymousKiB(t)}
}

// grew complains when now is much more than before.
func (f footprint) grew(t *testing.T, now footprint, rssKiB int) {
	t.Helper()
	t.Logf("before %+v, after %+v", f, now)
	if now.mappings > f.mappings+40 || now.fds > f.fds+4 || now.rssKiB > f.rssKiB+rssKiB {
		t.Errorf("grew from %+v to %+v", f, now)
	}
}

// Ten thousand instances, and groups that cannot be made, leave nothing.
func TestInstancesLeaveNothing(t *testing.T) {
	f := newFixture(t, fixtureOptions{}, "stamp", "stack_first", "log_once")
	bad := []Hop{}
	for _, name := range []string{"configure_traps", "configure_refuses", "start_traps"} {
		m, err := f.rt.Compile(module(t, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		bad = append(bad, Hop{Name: name, Module: m, Config: []byte("{}")})
	}
	good := f.group.hops[0].cur.Load().spec
	mem := newMemory(t, 64)
	round := func(instances int) {
		for i := range instances {
			inst, err := f.group.spawn(f.group.hops[i%len(f.group.hops)].cur.Load())
			if err != nil {
				t.Fatal(err)
			}
			inst.close()
		}
		for i := range instances / 50 {
			if _, err := f.rt.NewGroup(mem, []Hop{good, bad[i%len(bad)]}, GroupOptions{}); err == nil {
				t.Fatalf("%s: made", bad[i%len(bad)].Name)
			}
		}
	}
	round(2000)
	before := measure(t)
	round(10_000)
	before.grew(t, measure(t), 8<<10)
}

// A thousand paths at once, twice: the second time finds what it needs where
// the first left it.
func TestThousandGroups(t *testing.T) {
	if n := maxMapCount(); n < 60_000 {
		t.Skipf("vm.max_map_count is %d, a thousand groups need 50,000", n)
	}
	rt := openRuntime(t)
	m, err := rt.Compile(module(t, "empty"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	mem := newMemory(t, 64)
	var closed [2]footprint
	for round := range closed {
		before := measure(t)
		groups := make([]*Group, 1000)
		for i := range groups {
			if groups[i], err = rt.NewGroup(mem, []Hop{{Name: "empty", Module: m, Config: []byte("{}")}}, GroupOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		full := measure(t)
		instances := 2 * len(groups)
		t.Logf("%.1f mappings and %.1f KiB an instance", float64(full.mappings-before.mappings)/float64(instances),
			float64(full.rssKiB-before.rssKiB)/float64(instances))
		for _, g := range groups {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}
		closed[round] = measure(t)
	}
	// What stays is the allocators' own, 10 to 25 MiB more or less each time;
	// two thousand instances are some 60.
	closed[0].grew(t, closed[1], 40<<10)
}

// A runtime whose mappings are used up says so, and goes on when some are free
// again.
func TestMappingsRunOut(t *testing.T) {
	rt, err := Open(Options{Mappings: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	m, err := rt.Compile(module(t, "empty"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	mem := newMemory(t, 64)
	for range 2 {
		var groups []*Group
		for {
			g, err := rt.NewGroup(mem, []Hop{{Name: "empty", Module: m, Config: []byte("{}")}}, GroupOptions{})
			if err != nil {
				if !errors.Is(err, ErrInstantiate) || !strings.Contains(err.Error(), "up to 23 memory mappings, and all together may have 100") {
					t.Errorf("got %v", err)
				}
				break
			}
			groups = append(groups, g)
		}
		if len(groups) != 2 {
			t.Errorf("%d groups of two instances in 100 mappings, want 2", len(groups))
		}
		for _, g := range groups {
			g.Close()
		}
	}
}
