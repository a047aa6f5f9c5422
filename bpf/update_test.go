package bpf

import (
	"context"
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"sfc/dataplane/classify"
)

// attachedID returns the id of the program on a near end.
func attachedID(t *testing.T, w *wires, ifindex int) (id uint32) {
	t.Helper()
	in(t, w.near, func() error {
		attrs, err := attributes(ifindex)
		if err == nil && attrs.Xdp != nil {
			id = attrs.Xdp.ProgId
		}
		return err
	})
	return id
}

// Tables change while traffic runs: every frame is counted, by the old table or
// the new one, and once an update is back no frame meets the old one.
func TestUpdateUnderTraffic(t *testing.T) {
	w := newWires(t)
	all := compile(t, []classify.Rule{{VLAN: classify.AnyVLAN, Proto: classify.AnyProto}})
	many := compile(t, fixtureRules)
	s := w.load(t, nil, classify.Drop)
	w.attachBoth(t, s)
	g := w.generator(t)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.far.Do(func() error {
			g.repeat = 1 << 14 // so that it stops soon
			_, err := g.Run(ctx, 1<<40)
			return err
		})
	}()
	waitFor(t, "traffic", func() bool { return counters(t, s, 0).NoPath > 0 })
	for i := range 12 {
		table := []*classify.Table{nil, all, many}[i%3]
		if err := s.Update(Rules{Table: table}); err != nil {
			t.Error(err)
			break
		}
		before := counters(t, s, 0)
		waitFor(t, "traffic after the update", func() bool { return counters(t, s, 0).Frames() > before.Frames()+1000 })
		after := counters(t, s, 0)
		// A frame that was under way may still count by the old table.
		claimed, dropped := after.NoSocket-before.NoSocket, after.NoPath-before.NoPath
		if table == nil && claimed > 64 || table != nil && dropped > 64 {
			t.Errorf("update %d: %d frames claimed, %d not", i, claimed, dropped)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var c Counters
	waitFor(t, "quiet", func() bool {
		was := c
		c = counters(t, s, 0)
		return c == was
	})
	seq, err := s.Seq(0)
	if err != nil {
		t.Fatal(err)
	}
	if uint64(seq) != c.Frames() || c.NoSocket+c.NoPath != c.Frames() || c.Unmatched != c.NoPath {
		t.Errorf("%d frames arrived, counters %+v", seq, c)
	}
}

// An update that fails half way leaves every port as it was.
func TestUpdateThatFailsIsTakenBack(t *testing.T) {
	w := newWires(t)
	s := w.load(t, nil, classify.Drop)
	w.attachBoth(t, s)
	idA, idB := attachedID(t, w, w.nearA.Index), attachedID(t, w, w.nearB.Index)
	broken := errors.New("broken")
	progs, err := programsFor(s, compile(t, fixtureRules))
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	err = s.replace(progs, func(l link.Link, p *ebpf.Program) error {
		if calls++; calls == 2 {
			return broken
		}
		return l.Update(p)
	})
	if !errors.Is(err, broken) || calls != 3 {
		t.Errorf("%d steps, error %v", calls, err)
	}
	if a, b := attachedID(t, w, w.nearA.Index), attachedID(t, w, w.nearB.Index); a != idA || b != idB {
		t.Errorf("programs %d and %d, were %d and %d", a, b, idA, idB)
	}
	if action, _, _ := run(t, s, 0, dns4); action != xdpDrop {
		t.Errorf("the old table claims nothing, the action is %d", action)
	}
	// And when even that fails, the port has the program that it really runs.
	if progs, err = programsFor(s, compile(t, fixtureRules)); err != nil {
		t.Fatal(err)
	}
	calls = 0
	err = s.replace(progs, func(l link.Link, p *ebpf.Program) error {
		if calls++; calls >= 2 {
			return broken
		}
		return l.Update(p)
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	in(t, w.near, func() error {
		_, err := modeOf(s.ports[0].prog, w.nearA.Index)
		return err
	})
	// A later update succeeds.
	if err := s.Update(Rules{}); err != nil {
		t.Error(err)
	}
}

// programsFor loads the programs of a table, to be exchanged.
func programsFor(s *Steering, table *classify.Table) ([]*ebpf.Program, error) {
	maps, err := newTableMaps(layoutOf(shapeOf(table)), table, (&Rules{}).claim)
	if err != nil {
		return nil, err
	}
	defer maps.close()
	return s.loadPrograms(maps)
}
