package netns

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/ethtool"
	"sfc/testbed/gate"
)

// Two ends with the kernel's stack talk at once, over IPv4 and IPv6, and the
// offloads that would change frames stay off.
func TestStackLinksTalk(t *testing.T) {
	gate.Leaks(t)
	a, b := newNS(t), newNS(t)
	la, lb, err := Veth(a, "left", b, "right", VethOptions{Stack: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ a, b string }{{"10.1.0.1/24", "10.1.0.2/24"}, {"fd00:1::1/64", "fd00:1::2/64"}} {
		for l, cidr := range map[*Link]string{la: tt.a, lb: tt.b} {
			if err := l.AddAddress(netip.MustParsePrefix(cidr)); err != nil {
				t.Fatal(err)
			}
		}
		var server, client net.Conn
		address := func(cidr string) *net.UDPAddr {
			return net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParsePrefix(cidr).Addr(), 7000))
		}
		err := b.Do(func() (err error) {
			server, err = net.ListenUDP("udp", address(tt.b))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		err = a.Do(func() (err error) {
			client, err = net.DialUDP("udp", address(tt.a), address(tt.b))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 16)
		if n, err := server.Read(buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("%s received %q, %v", tt.b, buf[:n], err)
		}
	}
	for _, l := range []*Link{la, lb} {
		err := l.NS.Do(func() error {
			c, err := ethtool.Open()
			if err != nil {
				return err
			}
			defer c.Close()
			features, err := c.Features(l.Name)
			for name, f := range features {
				if alters(name) && f.On && !f.Fixed {
					t.Errorf("%s: offload %s is on", l.Name, name)
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestAddAddressSaysWhere(t *testing.T) {
	gate.Leaks(t)
	a, b := newNS(t), newNS(t)
	la, _, err := Veth(a, "left", b, "right", VethOptions{Stack: true})
	if err != nil {
		t.Fatal(err)
	}
	prefix := netip.MustParsePrefix("10.1.0.1/24")
	if err := la.AddAddress(prefix); err != nil {
		t.Fatal(err)
	}
	if err := la.AddAddress(prefix); err == nil || !strings.Contains(err.Error(), "add address 10.1.0.1/24 to left") {
		t.Errorf("second time: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := la.AddAddress(prefix); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
