package bpf

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/testbed/netns"
)

// wires are two veth pairs: near ends in one namespace, where the steering
// program is, far ends in another.
type wires struct {
	near, far    *netns.NS
	nearA, nearB *netns.Link
	farA, farB   *netns.Link
}

func newWires(t *testing.T) *wires { return newWiresOf(t, netns.VethOptions{}) }

func newWiresOf(t *testing.T, o netns.VethOptions) *wires {
	t.Helper()
	needKernel(t)
	ns := func() *netns.NS {
		n, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
		return n
	}
	w := &wires{near: ns(), far: ns()}
	var err error
	if w.nearA, w.farA, err = netns.Veth(w.near, "neara", w.far, "fara", o); err != nil {
		t.Fatal(err)
	}
	if w.nearB, w.farB, err = netns.Veth(w.near, "nearb", w.far, "farb", o); err != nil {
		t.Fatal(err)
	}
	return w
}

// in runs fn inside a namespace; an error fails the test.
func in(t *testing.T, ns *netns.NS, fn func() error) {
	t.Helper()
	if err := ns.Do(fn); err != nil {
		t.Fatal(err)
	}
}

// load loads a table on both near ends.
func (w *wires) load(t *testing.T, table *classify.Table, unmatched classify.Policy) (s *Steering) {
	t.Helper()
	in(t, w.near, func() error {
		s = steering(t, Config{Table: table, Ports: []PortConfig{
			{Ifindex: w.nearA.Index, Unmatched: unmatched, Pair: 1},
			{Ifindex: w.nearB.Index, Unmatched: unmatched, Pair: 0},
		}})
		return nil
	})
	return s
}

// attachBoth attaches both ports natively.
func (w *wires) attachBoth(t *testing.T, s *Steering) {
	t.Helper()
	in(t, w.near, func() error {
		for port := range 2 {
			if mode, err := s.Attach(port, Native); err != nil || mode != Native {
				return fmt.Errorf("attach: %v, %w", mode, err)
			}
		}
		return nil
	})
}

// generator sends dns4 in 16 flows from the far end of pair A.
func (w *wires) generator(t *testing.T) *Generator {
	t.Helper()
	frame := append([]byte(nil), dns4...)
	packet.SetChecksums(frame)
	g, err := OpenGenerator(w.farA.Index, GeneratorOptions{Frame: frame, Flows: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestAttachModes(t *testing.T) {
	w := newWires(t)
	for _, tt := range []struct {
		ask, want Mode
		ifindex   int
		err       error
	}{
		{Auto, Native, w.nearA.Index, nil},
		{Native, Native, w.nearA.Index, nil},
		{Generic, Generic, w.nearA.Index, nil},
		{Auto, Generic, loopback, nil},
		{Generic, Generic, loopback, nil},
		{Native, 0, loopback, ErrNoNative},
		{Mode(9), 0, w.nearA.Index, ErrConfig},
	} {
		in(t, w.near, func() error {
			s, err := Load(Config{Ports: []PortConfig{{Ifindex: tt.ifindex}}})
			if err != nil {
				return err
			}
			got, err := s.Attach(0, tt.ask)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%v on interface %d: %v, %v; want %v, %v", tt.ask, tt.ifindex, got, err, tt.want, tt.err)
			}
			if err == nil {
				if _, err := s.Attach(0, tt.ask); !errors.Is(err, ErrAttached) {
					t.Errorf("attached twice: %v", err)
				}
			}
			return s.Close()
		})
	}
}

func TestAttachNamesWhoIsThere(t *testing.T) {
	w := newWires(t)
	in(t, w.near, func() error {
		for _, mode := range []Mode{Native, Generic} {
			p, err := OpenPass(w.nearA.Index, mode)
			if err != nil {
				return err
			}
			info, err := p.objs.Pass.Info()
			if err != nil {
				return err
			}
			id, _ := info.ID()
			s, err := Load(Config{Ports: []PortConfig{{Ifindex: w.nearA.Index}}})
			if err != nil {
				return err
			}
			_, err = s.Attach(0, Auto)
			if !errors.Is(err, ErrOccupied) || !strings.Contains(err.Error(), fmt.Sprintf("%q (id %d)", "pass", id)) ||
				!strings.Contains(err.Error(), "neara") {
				t.Errorf("%v: the error is %v", mode, err)
			}
			// The one that is there stays, and once it is gone we may come.
			if mode, err := modeOf(p.objs.Pass, w.nearA.Index); err != nil {
				t.Errorf("%v: the other program: %v", mode, err)
			}
			if err := errors.Join(p.Close(), p.Close()); err != nil {
				return err
			}
			if _, err := s.Attach(0, Auto); err != nil {
				t.Errorf("after it is gone: %v", err)
			}
			if err := s.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestAttachToNothing(t *testing.T) {
	w := newWires(t)
	in(t, w.near, func() error {
		s := steering(t, Config{Ports: []PortConfig{{Ifindex: 1 << 20}}})
		if _, err := s.Attach(0, Auto); err == nil || !strings.Contains(err.Error(), "1048576") {
			t.Errorf("error %v", err)
		}
		if _, err := s.Attach(1, Auto); !errors.Is(err, ErrNoPort) {
			t.Errorf("port 1 of 1: %v", err)
		}
		return nil
	})
}

// What nothing claims crosses to the paired port and arrives unchanged.
func TestForwardToPair(t *testing.T) {
	w := newWires(t)
	s := w.load(t, nil, classify.Forward)
	w.attachBoth(t, s)
	var sink *Sink
	in(t, w.far, func() (err error) {
		sink, err = OpenSink(w.farB.Index, Native)
		return err
	})
	defer sink.Close()
	if sink.Mode() != Native {
		t.Errorf("sink in %v mode", sink.Mode())
	}
	g := w.generator(t)
	const bursts, perBurst = 4, 64 // below the 256 frames that a veth ring holds
	for range bursts {
		in(t, w.far, func() error {
			_, err := g.Run(context.Background(), perBurst)
			return err
		})
	}
	waitFor(t, "the sink's frames", func() bool {
		n, _, err := sink.Totals()
		return err == nil && n == bursts*perBurst
	})
	if _, bytes, _ := sink.Totals(); bytes != bursts*perBurst*uint64(len(dns4)) {
		t.Errorf("%d bytes arrived", bytes)
	}
	c := counters(t, s, 0)
	if want := (Counters{Forwarded: bursts * perBurst, Unmatched: bursts * perBurst}); c != want {
		t.Errorf("counters %+v, want %+v", c, want)
	}
	if c := counters(t, s, 1); c != (Counters{}) {
		t.Errorf("port 1: %+v, want none", c)
	}
}

// Frames of several buffers are counted, not lost: too long for a chain, and
// nothing special for everybody else.
func TestJumboFrames(t *testing.T) {
	w := newWiresOf(t, netns.VethOptions{MTU: 9000})
	s := w.load(t, compile(t, fixtureRules), classify.Pass)
	w.attachBoth(t, s)
	in(t, w.far, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, size := range []int{packet.MaxFrame + 1, 5000, 9014} {
			for _, dport := range []uint16{53, 54} {
				frame := build(eth(0x0800), ip4(out4, 17, 0), udp(1, dport), data(size-42))
				if err := sendPatiently(fd, w.farA.Index, frame); err != nil {
					return err
				}
			}
		}
		return nil
	})
	want := Counters{TooLong: 3, Passed: 3, Unmatched: 3}
	waitFor(t, "six frames", func() bool { return counters(t, s, 0).Frames() == 6 })
	if c := counters(t, s, 0); c != want {
		t.Errorf("counters %+v, want %+v", c, want)
	}
}

// A forward whose interface is gone is a drop with a name.
func TestPairGone(t *testing.T) {
	w := newWires(t)
	s := w.load(t, nil, classify.Forward)
	if err := w.near.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the pair's map to lose the interface", func() bool {
		before := counters(t, s, 0)
		action, _, _ := run(t, s, 0, dns4)
		return action == xdpDrop && outcome(t, before, counters(t, s, 0)) == "no_pair unmatched"
	})
}

// waitFor polls until ok, at most 5 seconds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no sign of %s after 5 s", what)
		}
	}
}
