package dataplane

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"sfc/dataplane/packet"
	"sfc/nf"
)

// emptySet is a set of one worker without ports or chains.
func emptySet(t *testing.T) (*Set, []byte, *packet.Pool) {
	t.Helper()
	region := make([]byte, 256*packet.ChunkSize)
	pool := packet.NewPool(len(region))
	s, err := NewSet([]Config{{Core: -1, Region: region, Pool: pool, GuestBase: nf.FramesStart, MaxPorts: 4, MaxPaths: 8, MaxChains: 4}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return s, region, pool
}

// sendOn is a path whose function sends everything on by a port.
func sendOn(index, egress uint16) func(int) []IndexedPath {
	return func(int) []IndexedPath {
		return []IndexedPath{{index, Path{Runner: &nothing{port: egress}, Descs: new([packet.BurstSize]packet.Desc), Egress: egress}}}
	}
}

// A set begins with nothing; ports and chains come and go, also before it
// starts, and what has no path or no port to leave by is dropped by name.
func TestEverythingComesLater(t *testing.T) {
	for _, started := range []bool{false, true} {
		s, region, pool := emptySet(t)
		in := &fakePort{region: region, pool: pool, room: 32}
		out := &fakePort{region: region, pool: pool, room: 32}
		if started {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		step := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		w := s.workers[0]
		offer := func(path uint16) Counters {
			t.Helper()
			do := func(f func()) {
				if started {
					_, err := w.Do(f)
					step(err)
				} else {
					f()
				}
			}
			var c Counters
			do(func() {
				for range 10 {
					in.in = append(in.in, Template{Frame: make([]byte, 60), Meta: packet.Meta{Path: path}})
				}
				for len(in.in) > 0 {
					w.turn()
				}
				c = w.local
				w.local = Counters{}
			})
			return c
		}
		step(s.AddPort(0, false, func(int) []Port { return []Port{in} }))
		if c := offer(5); c.Engine[packet.ReasonNoPath] != 10 {
			t.Errorf("no chain yet: %+v", c)
		}
		step(s.AddChain(3, sendOn(5, 2)))
		if c := offer(5); c.Engine[packet.ReasonPortGone] != 10 {
			t.Errorf("no port yet: %+v", c)
		}
		step(s.AddPort(2, false, func(int) []Port { return []Port{out} }))
		if c := offer(5); c.Sent != 10 || len(out.sent) != 10 {
			t.Errorf("all there: %+v", c)
		}
		if a, err := s.Account(3); err != nil || a.Packets != 20 || a.Bytes != 1200 || a.Sent != 10 || a.Engine[packet.ReasonPortGone] != 10 {
			t.Errorf("%+v, %v", a, err)
		}
		n := 0
		step(s.Accounts(func(chain uint16, a *Account) {
			if n++; chain != 3 || a.Packets != 20 {
				t.Errorf("chain %d: %+v", chain, a)
			}
		}))
		if n != 1 {
			t.Errorf("%d accounts", n)
		}
		if rx, tx, err := s.RemovePort(2); err != nil || rx+tx != 0 {
			t.Errorf("%d and %d frames left, %v", rx, tx, err)
		}
		if c := offer(5); c.Engine[packet.ReasonPortGone] != 10 {
			t.Errorf("port removed: %+v", c)
		}
		step(s.RemoveChain(3))
		if c := offer(5); c.Engine[packet.ReasonNoPath] != 10 {
			t.Errorf("chain removed: %+v", c)
		}
		step(s.AddChain(3, sendOn(5, 0)))
		if c := offer(5); c.Sent != 10 {
			t.Errorf("chain is back: %+v", c)
		}
		step(s.Stop())
		if err := w.Verify(); err != nil {
			t.Error(err)
		}
	}
}

func TestChangesAreRefused(t *testing.T) {
	s, region, pool := emptySet(t)
	port := func(int) []Port { return []Port{&fakePort{region: region, pool: pool}} }
	if err := errors.Join(s.AddPort(1, false, port), s.AddChain(1, sendOn(2, 1))); err != nil {
		t.Fatal(err)
	}
	remove := func(i int) error { _, _, err := s.RemovePort(i); return err }
	noDescs := func(int) []IndexedPath { return []IndexedPath{{4, Path{Runner: &nothing{}}}} }
	twice := func(int) []IndexedPath { return append(sendOn(4, 1)(0), sendOn(4, 1)(0)...) }
	for _, c := range []struct {
		err  error
		is   error
		text string
	}{
		{s.AddChain(1, sendOn(3, 1)), ErrExists, "chain 1"},
		{s.AddChain(2, sendOn(2, 1)), ErrExists, "path 2"},
		{s.AddChain(2, twice), ErrExists, "path 4 is there twice"},
		{s.AddChain(4, sendOn(3, 1)), nil, "there can be 4 chains"},
		{s.AddChain(2, sendOn(8, 1)), nil, "there can be 8 paths"},
		{s.AddChain(2, sendOn(3, 4)), nil, "leaves by port 4"},
		{s.AddChain(2, noDescs), nil, "no runner or no descriptors"},
		{s.AddChain(2, func(int) []IndexedPath { return nil }), nil, "no paths"},
		{s.RemoveChain(2), ErrAbsent, "remove chain 2"},
		{s.RemoveChain(99), ErrAbsent, "remove chain 99"},
		{s.AddPort(1, false, port), ErrExists, "add port 1"},
		{s.AddPort(4, false, port), nil, "there can be 4 ports"},
		{s.AddPort(-1, false, port), nil, "there can be 4 ports"},
		{s.AddPort(2, true, port), nil, "no routes"},
		{s.AddPort(2, false, func(int) []Port { return nil }), nil, "no queues"},
		{s.AddPort(2, false, func(int) []Port { return []Port{nil} }), nil, "queue 0 is missing"},
		{remove(2), ErrAbsent, "remove port 2"},
		{remove(64), ErrAbsent, "remove port 64"},
	} {
		if c.err == nil || c.is != nil && !errors.Is(c.err, c.is) || !strings.Contains(c.err.Error(), c.text) {
			t.Errorf("%v: want %q, %v", c.err, c.text, c.is)
		}
	}
	if _, err := s.Account(0); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.AddChain(2, sendOn(3, 1)), s.RemoveChain(1), s.AddPort(2, false, port), remove(1)} {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("%v: want %v", err, ErrStopped)
		}
	}
}

// A chain stays while packets of it wait for their flow, and says how many.
func TestBusyChainStays(t *testing.T) {
	b := newPlayed(t, 2, 64)
	s, rnd := &b.sources(1)[0], rand.New(rand.NewPCG(1, 2))
	bucket := s.at[0].Bucket
	w := b.set.workers[b.owners.Owner(0, bucket)]
	if _, err := w.Do(func() { w.chains[0].buckets[bucket] = arriving }); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		b.send(s, 0, rnd)
	}
	err := b.set.RemoveChain(0)
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), ": 20 wait") || !b.set.HasChain(0) {
		t.Errorf("%v, and the chain is there: %t", err, b.set.HasChain(0))
	}
	if _, err := w.Do(func() { w.chains[0].buckets[bucket] &^= stateBits; w.letGo(0, bucket) }); err != nil {
		t.Fatal(err)
	}
	if err := b.set.RemoveChain(0); err != nil || b.set.HasChain(0) {
		t.Errorf("%v, and the chain is there: %t", err, b.set.HasChain(0))
	}
	if err := b.set.Stop(); err != nil {
		t.Fatal(err)
	}
	if c := b.set.Counters(); c.Sent != 20 {
		t.Errorf("%d of 20 packets were sent", c.Sent)
	}
	b.account()
}
