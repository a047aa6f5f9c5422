package agent

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/plane"
	"sfc/dataplane/arena"
	"sfc/dataplane/keep"
	"sfc/testbed/gate"
)

// shelf holds what a data plane keeps, for the next one.
type shelf struct {
	t     *testing.T
	files map[string]*os.File
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{t, map[string]*os.File{}}
	t.Cleanup(func() {
		for _, f := range s.files {
			f.Close()
		}
	})
	return s
}

// store is what one process has of the shelf.
func (s *shelf) store() *keep.Files {
	dup := func(fd int) int {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		return own
	}
	theirs := map[string]*os.File{}
	for name, f := range s.files {
		theirs[name] = os.NewFile(uintptr(dup(int(f.Fd()))), name)
	}
	store := keep.Adopted(theirs,
		func(name string, fd int) error { s.files[name] = os.NewFile(uintptr(dup(fd)), name); return nil },
		func(name string) error { defer delete(s.files, name); return s.files[name].Close() })
	s.t.Cleanup(func() { store.Close() })
	return store
}

// A data plane goes on where the one before it ended: chains at their places,
// flows with what functions keep of them, counters that do not fall. What was
// being made when that one ended leaves nothing.
func TestPlaneRestored(t *testing.T) {
	gate.Leaks(t)
	s, k := newShelf(t), &inMemory{t: t}
	codes := codesOf(t, "firewall", "flowstat", "hop", "nat44")
	open := func() *rig {
		t.Helper()
		d, err := OpenPlane(PlaneOptions{Kernel: k, Keep: s.store(), Workers: 2, Cores: []int{-1, -1}})
		if err != nil {
			t.Fatal(err)
		}
		k.owners = d.owners
		return &rig{d, k, codes}
	}
	nat := chainOf("acme", "nat", 7, fn{"nat", "nat44", `{"pool": ["192.0.2.0/28"], "inside": ["10.0.0.0/16"]}`})
	chains := []plane.Chain{chainOf("acme", "gone", 4, guards...), chainOf("acme", "a", 5, guards...), chainOf("acme", "b", 6, fn{"hop", "hop", ""}), nat}
	r := open()
	if o := r.apply(t, chains...); reasons(o) != "acme/a:true: acme/b:true: acme/gone:true: acme/nat:true: " {
		t.Fatalf("%s: %+v", reasons(o), o)
	}
	chains = chains[1:]
	r.apply(t, chains...) // now places are not those that a new data plane would give
	send := func(n int) {
		t.Helper()
		for i := range n {
			for _, vlan := range []int{5, 7} {
				if !k.offer(0, tagged(vlan, i)) {
					t.Fatal("not claimed")
				}
			}
		}
	}
	count := func(r *rig, packets uint64) plane.Stats {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			st, err := r.Stats(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if st.Chains[0].Packets == packets && st.Chains[2].Packets == packets {
				return st
			}
			if time.Now().After(end) {
				t.Fatalf("%d packets of %d", st.Chains[0].Packets, packets)
			}
		}
	}
	send(200)
	before := count(r, 200)
	seats := map[string]seat{}
	for title, c := range r.chains {
		seats[title] = c.run.seat
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if lost, _, err := s.store().Open("flows/acme/lost/9/0", 4096, arena.Options{}); err != nil {
		t.Fatal(err)
	} else if err := lost.Close(); err != nil {
		t.Fatal(err)
	}

	k.kept = true
	start := time.Now()
	r = open()
	t.Logf("restored in %v", time.Since(start))
	defer r.Close()
	o, err := r.Observe(context.Background())
	if err != nil || reasons(o) != "acme/a:true: acme/b:true: acme/nat:true: " {
		t.Fatalf("%s %v: %+v", reasons(o), err, o)
	}
	for title, c := range r.chains {
		if c.run.seat != seats[title] {
			t.Errorf("chain %s has place %+v, and had %+v", title, c.run.seat, seats[title])
		}
	}
	if _, there := s.files["flows/acme/lost/9/0"]; there {
		t.Error("flow state of no chain was kept")
	}
	after := count(r, 200)
	for i := range after.Chains {
		if a, b := &after.Chains[i], &before.Chains[i]; a.Flows != b.Flows || a.Packets < b.Packets || a.FlowsCreated < b.FlowsCreated || a.Functions[0].Packets < b.Functions[0].Packets {
			t.Errorf("%+v, and was %+v", a, b)
		}
	}
	send(200)
	if st := count(r, 400); st.Chains[0].Flows != 200 || st.Chains[0].FlowsCreated != 200 || st.Chains[2].FlowsCreated != 200 || len(st.Chains[2].Drops) > 0 {
		t.Errorf("flows were not as before: %+v", st.Chains)
	}
	// The same again changes nothing.
	updates := k.updates
	if o := r.apply(t, chains...); reasons(o) != "acme/a:true: acme/b:true: acme/nat:true: " || k.updates != updates {
		t.Errorf("%s, %d updates", reasons(o), k.updates-updates)
	}
	events, err := r.Events(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Level == levelWarning || e.Level == levelError {
			t.Errorf("%+v", e)
		}
	}
}
