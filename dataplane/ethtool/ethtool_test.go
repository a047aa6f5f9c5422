package ethtool_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/ethtool"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// inside runs fn in a namespace with a veth pair "left" and "right".
func inside(t *testing.T, fn func(c *ethtool.Conn) error) {
	t.Helper()
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN)
	gate.Leaks(t)
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if _, _, err := netns.Veth(ns, "left", ns, "right", netns.VethOptions{}); err != nil {
		t.Fatal(err)
	}
	err = ns.Do(func() error {
		c, err := ethtool.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		return fn(c)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFeaturesChangeAndChangeBack(t *testing.T) {
	inside(t, func(c *ethtool.Conn) error {
		for _, name := range []string{"tx-checksum-ip-generic", "rx-gro", "rx-checksum"} {
			before, err := c.Features("left")
			if err != nil {
				return err
			}
			f, ok := before[name]
			if !ok || f.Fixed {
				t.Fatalf("%s = %+v, there: %v", name, f, ok)
			}
			for _, on := range []bool{!f.On, f.On} {
				if err := c.SetFeatures("left", map[string]bool{name: on}); err != nil {
					return err
				}
				now, err := c.Features("left")
				if err != nil {
					return err
				}
				if now[name].On != on {
					t.Errorf("%s = %+v after it was set to %v", name, now[name], on)
				}
			}
		}
		features, err := c.Features("lo")
		if err == nil && (!features["loopback"].Fixed || !features["loopback"].On) {
			t.Errorf("loopback of lo = %+v, want on and fixed", features["loopback"])
		}
		return err
	})
}

func TestStats(t *testing.T) {
	inside(t, func(c *ethtool.Conn) error {
		stats, err := c.Stats("left")
		if _, ok := stats["peer_ifindex"]; err != nil || !ok {
			t.Errorf("Stats = %v, %v: want veth's peer_ifindex", stats, err)
		}
		if stats, err := c.Stats("lo"); err != nil || len(stats) != 0 {
			t.Errorf("Stats of lo = %v, %v", stats, err)
		}
		return nil
	})
}

func TestErrorsNameTheInterface(t *testing.T) {
	inside(t, func(c *ethtool.Conn) error {
		if _, err := c.Features("absent"); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "absent") {
			t.Errorf("Features = %v", err)
		}
		if _, err := c.Stats("absent"); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "absent") {
			t.Errorf("Stats = %v", err)
		}
		if err := c.SetFeatures("left", map[string]bool{"warp": true}); err == nil || !strings.Contains(err.Error(), `"warp"`) {
			t.Errorf("SetFeatures = %v", err)
		}
		for _, name := range []string{"", "a-name-of-16-byt"} {
			if _, err := c.Features(name); err == nil || !strings.Contains(err.Error(), "interface name") {
				t.Errorf("Features(%q) = %v", name, err)
			}
		}
		return nil
	})
}
