package xsk

import (
	"maps"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/dataplane/ethtool"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

// settings returns a link's offloads and how many ask for promiscuous mode.
func settings(t *testing.T, l *netns.Link) (features map[string]ethtool.Feature, promisc int) {
	t.Helper()
	err := l.NS.Do(func() error {
		c, err := ethtool.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		if features, err = c.Features(l.Name); err != nil {
			return err
		}
		nl, err := netlink.LinkByName(l.Name)
		if err != nil {
			return err
		}
		promisc = nl.Attrs().Promisc
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return features, promisc
}

func prepare(l *netns.Link) (n *NIC, err error) {
	err = l.NS.Do(func() error {
		n, err = PrepareNIC(l.Name)
		return err
	})
	return n, err
}

func turnOn(t *testing.T, l *netns.Link, features ...string) {
	t.Helper()
	on := map[string]bool{}
	for _, f := range features {
		on[f] = true
	}
	err := l.NS.Do(func() error {
		c, err := ethtool.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.SetFeatures(l.Name, on)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPrepareNICPutsEverythingBack(t *testing.T) {
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
	gate.Leaks(t)
	a, b := newNS(t), newNS(t)
	la, _ := veth(t, a, "left", b, "right")
	turnOn(t, la, "rx-gro", "rx-vlan-hw-parse", "rx-checksum")
	before, promisc := settings(t, la)
	if promisc != 0 || !before["rx-gro"].On || !before["rx-vlan-hw-parse"].On {
		t.Fatalf("promiscuous %d, rx-gro %+v, rx-vlan-hw-parse %+v", promisc, before["rx-gro"], before["rx-vlan-hw-parse"])
	}
	n, err := prepare(la)
	if err != nil {
		t.Fatal(err)
	}
	during, promisc := settings(t, la)
	if promisc == 0 {
		t.Error("not promiscuous")
	}
	for _, f := range ethtool.Altering {
		if during[f].On && !during[f].Fixed {
			t.Errorf("%s is on", f)
		}
	}
	if !during["rx-checksum"].On {
		t.Error("rx-checksum was turned off: it does no harm")
	}
	if got := strings.Join(n.TurnedOff(), " "); got != "rx-gro rx-vlan-hw-parse" {
		t.Errorf("TurnedOff = %q", got)
	}
	for range 2 {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if after, promisc := settings(t, la); promisc != 0 || !maps.Equal(before, after) {
		t.Errorf("after Close: promiscuous %d\nbefore %v\nafter  %v", promisc, before, after)
	}
}

func TestPrepareNICWithoutInterface(t *testing.T) {
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
	gate.Leaks(t)
	a, b := newNS(t), newNS(t)
	la, _ := veth(t, a, "left", b, "right")
	gone := *la
	gone.Name = "gone"
	if _, err := prepare(&gone); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("err = %v, want one that names the interface", err)
	}
	// An interface that goes away while it is prepared needs nothing back.
	turnOn(t, la, "rx-gro")
	n, err := prepare(la)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.TurnedOff()) != 1 {
		t.Errorf("TurnedOff = %q", n.TurnedOff())
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
