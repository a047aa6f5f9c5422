package bpf

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sfc/dataplane/classify"
)

// An interface vanishes under a port: the others go on and take new rules, also
// such that need other programs; the port says what happened, and takes another
// interface.
func TestInterfaceVanishes(t *testing.T) {
	w := newWires(t)
	in(t, w.near, func() error {
		s := steering(t, Config{Ports: []PortConfig{
			{Ifindex: w.nearA.Index}, {Ifindex: w.nearB.Index, Unmatched: classify.Forward, Pair: 0},
		}})
		for port := range 2 {
			if _, err := s.Attach(port, Native); err != nil {
				return err
			}
		}
		l, err := netlink.LinkByIndex(w.nearA.Index)
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(l); err != nil {
			return err
		}
		for end := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
			st, err := s.Status(0)
			if err != nil {
				return err
			}
			if st.Gone && !st.Attached {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("status %+v", st)
			}
		}
		if err := s.Update(Rules{Table: compile(t, fixtureRules)}); err != nil {
			t.Errorf("update: %v", err)
		}
		if _, err := s.Attach(0, Native); !errors.Is(err, ErrGone) {
			t.Errorf("attach: %v", err)
		}
		if action, _, _ := run(t, s, 1, web4); action != xdpDrop {
			t.Errorf("forwarded to a port that is gone: action %d", action)
		}
		if st, err := s.Status(1); err != nil || !st.Attached || st.Gone {
			t.Errorf("the other port: %+v, %v", st, err)
		}
		if err := s.SetPort(0, PortConfig{Ifindex: loopback}); err != nil {
			t.Errorf("another interface: %v", err)
		}
		if st, err := s.Status(0); err != nil || st.Attached || st.Gone {
			t.Errorf("after that: %+v, %v", st, err)
		}
		_, err = s.Attach(0, Generic)
		return err
	})
}
