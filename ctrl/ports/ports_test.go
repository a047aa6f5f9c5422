package ports_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/ctrl/ports"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// inside runs fn in a namespace of its own.
func inside(t *testing.T, fn func(ns *netns.NS) error) {
	t.Helper()
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN)
	gate.Leaks(t)
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := ns.Do(func() error { return fn(ns) }); err != nil {
		t.Fatal(err)
	}
}

func TestFindTellsWhatAnInterfaceCan(t *testing.T) {
	inside(t, func(ns *netns.NS) error {
		a, _, err := netns.Veth(ns, "left", ns, "right", netns.VethOptions{Queues: 2})
		if err != nil {
			return err
		}
		if err := a.AddAddress(netip.MustParsePrefix("10.1.0.1/24")); err != nil {
			return err
		}
		i, err := ports.Find("left")
		if err != nil {
			return err
		}
		if i.Type != "veth" || i.Driver != "veth" || i.PCI != "" || i.MTU != 1500 || !i.Up || !i.Carrier || i.Queues != 2 || i.Master != "" || i.Program != 0 {
			t.Errorf("%+v", i)
		}
		if len(i.Addresses) != 1 || i.Addresses[0] != netip.MustParsePrefix("10.1.0.1/24") {
			t.Errorf("addresses %v", i.Addresses)
		}
		if i.XDP.Known && (!i.XDP.Native || i.XDP.ZeroCopy) {
			t.Errorf("a veth runs XDP natively and copies: %+v", i.XDP)
		}
		if err := i.Fit(); err != nil {
			t.Errorf("a veth is unfit: %v", err)
		}
		list, err := ports.List()
		if err != nil || len(list) != 3 {
			t.Errorf("%d interfaces, want lo and the pair: %v", len(list), err)
		}
		return nil
	})
}

func TestRefusals(t *testing.T) {
	inside(t, func(ns *netns.NS) error {
		if _, _, err := netns.Veth(ns, "left", ns, "right", netns.VethOptions{MTU: 3000}); err != nil {
			return err
		}
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}}
		if err := netlink.LinkAdd(bridge); err != nil {
			t.Skipf("the kernel has no bridges: %v", err)
		}
		defer netlink.LinkDel(bridge)
		right, err := netlink.LinkByName("right")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(right, bridge); err != nil {
			return err
		}
		for _, tt := range []struct {
			ref, want string
			is        error
		}{
			{"nothere", "left", ports.ErrNoInterface},
			{"ffff:ff:1f.7", "PCI address ffff:ff:1f.7", ports.ErrNoInterface},
			{"1f:1f.7", "PCI address 0000:1f:1f.7", ports.ErrNoInterface},
		} {
			if _, err := ports.Find(tt.ref); !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Find(%q): %v, want %q", tt.ref, err, tt.want)
			}
		}
		for name, want := range map[string]string{"lo": "loopback", "right": "nomaster", "left": "MTU of 3000"} {
			i, err := ports.Find(name)
			if err != nil {
				return err
			}
			if err := i.Fit(); !errors.Is(err, ports.ErrUnfit) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		return nil
	})
}

func TestManagementIsKept(t *testing.T) {
	inside(t, func(ns *netns.NS) error {
		first, _, err := netns.Veth(ns, "m0", ns, "m1", netns.VethOptions{})
		if err != nil {
			return err
		}
		second, _, err := netns.Veth(ns, "d0", ns, "d1", netns.VethOptions{})
		if err != nil {
			return err
		}
		verdict := func(name string) error {
			i, err := ports.Find(name)
			if err != nil {
				t.Fatal(err)
			}
			return ports.Management(i)
		}
		if err := verdict("m0"); err != nil {
			t.Errorf("without addresses: %v", err)
		}
		if err := first.AddAddress(netip.MustParsePrefix("10.1.0.1/24")); err != nil {
			return err
		}
		if err := verdict("m0"); !errors.Is(err, ports.ErrManagement) || !strings.Contains(err.Error(), "10.1.0.1") {
			t.Errorf("with the only address: %v", err)
		}
		if err := second.AddAddress(netip.MustParsePrefix("10.2.0.1/24")); err != nil {
			return err
		}
		if err := verdict("m0"); err != nil {
			t.Errorf("another interface has an address: %v", err)
		}
		route := func(index int, via string, metric int) error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: net.ParseIP(via), Priority: metric})
		}
		if err := route(first.Index, "10.1.0.254", 1); err != nil {
			return err
		}
		if err := verdict("m0"); !errors.Is(err, ports.ErrManagement) || !strings.Contains(err.Error(), "default route") {
			t.Errorf("with the only default route: %v", err)
		}
		if err := verdict("d0"); err != nil {
			t.Errorf("beside the default route: %v", err)
		}
		if err := route(second.Index, "10.2.0.254", 2); err != nil {
			return err
		}
		if err := verdict("m0"); err != nil {
			t.Errorf("with two default routes: %v", err)
		}
		return nil
	})
}

func TestWatchSeesComingAndGoing(t *testing.T) {
	inside(t, func(ns *netns.NS) error {
		done := make(chan struct{})
		changes, err := ports.Watch(done, func(err error) { t.Error(err) })
		if err != nil {
			return err
		}
		until := func(what string, want func(ports.Change) bool) {
			timeout := time.After(5 * time.Second)
			for {
				select {
				case c := <-changes:
					if want(c) {
						return
					}
				case <-timeout:
					t.Fatalf("%s was not told", what)
				}
			}
		}
		if _, _, err := netns.Veth(ns, "left", ns, "right", netns.VethOptions{}); err != nil {
			return err
		}
		until("the carrier of left", func(c ports.Change) bool { return c.Name == "left" && c.Up && c.Carrier && !c.Gone })
		left, err := netlink.LinkByName("left")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetDown(left); err != nil {
			return err
		}
		until("left going down", func(c ports.Change) bool { return c.Name == "left" && !c.Up })
		if err := netlink.LinkDel(left); err != nil {
			return err
		}
		until("the end of left", func(c ports.Change) bool { return c.Name == "left" && c.Gone })
		close(done)
		for range changes {
		}
		return nil
	})
}
