package route

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"sfc/testbed/netns"
)

// Ports come and go while a table is followed, and a process that may not ask
// the kernel itself has another one ask.
func TestSetPort(t *testing.T) {
	p := newPair(t)
	helper := (*Proxies)(nil)
	p.must(p.engine.Do(func() (err error) { helper, err = OpenProxies(); return err }))
	t.Cleanup(helper.Close)
	var mu sync.Mutex
	var asked []Neighbour
	p.must(p.engine.Do(func() (err error) {
		p.table, err = Open(nil, Options{Use: func(list []Neighbour) error {
			mu.Lock()
			asked = append(asked, list...)
			mu.Unlock()
			return helper.Use(list)
		}})
		return err
	}))
	table := p.table
	t.Cleanup(func() { table.Close() })
	p.view = table.View()
	if v, _ := p.send("10.0.0.2"); v != NoRoute {
		t.Errorf("without a port: %v", v)
	}
	p.must(table.SetPort(0, p.wan.Index))
	if v, _ := p.send("10.0.0.2"); v != NoNeighbour && v != Ready {
		t.Errorf("with a port, at once: %v", v)
	}
	p.becomes("10.0.0.2", Ready)
	p.becomes("2001:db8::2", Ready)
	mu.Lock()
	if !slices.Contains(asked, Neighbour{p.wan.Index, netip.MustParseAddr("2001:db8::2")}) {
		t.Errorf("asked for %v", asked)
	}
	mu.Unlock()
	other, far, err := netns.Veth(p.engine, "lan", p.peer, "near", netns.VethOptions{Stack: true})
	p.must(err)
	p.must(other.AddAddress(netip.MustParsePrefix("10.9.0.1/24")))
	p.must(far.AddAddress(netip.MustParsePrefix("10.9.0.2/24")))
	wan := p.wan
	p.wan = other // whose address frames are to bear
	p.must(table.SetPort(0, other.Index))
	p.becomes("10.9.0.2", Ready)
	p.becomes("10.0.0.2", NoRoute)
	p.must(table.SetPort(5, wan.Index))
	p.must(table.SetPort(0, 0))
	p.becomes("10.9.0.2", NoRoute)
	p.must(table.SetPort(5, 1<<20)) // one that is gone
	for _, port := range []int{-1, maxPorts} {
		if err := table.SetPort(port, p.wan.Index); !errors.Is(err, ErrNoPort) {
			t.Errorf("port %d: %v", port, err)
		}
	}
	p.must(table.Close())
	if err := table.SetPort(0, p.wan.Index); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
