package netns

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/ethtool"
	"sfc/testbed/gate"
)

// sendFrame sends one Ethernet frame from l.
func sendFrame(t *testing.T, l *Link, frame []byte) {
	t.Helper()
	err := l.NS.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// packets returns how many frames the link received and sent.
func packets(t *testing.T, l *Link) (rx, tx uint64) {
	t.Helper()
	c, err := l.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c.RxPackets, c.TxPackets
}

func TestFreshPairIsSilent(t *testing.T) {
	gate.Leaks(t)
	a, b := newNS(t), newNS(t)
	la, lb, err := Veth(a, "left", b, "right", VethOptions{})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	for _, l := range []*Link{la, lb} {
		if rx, tx := packets(t, l); rx != 0 || tx != 0 {
			t.Errorf("%s received %d and sent %d frames that nobody asked for", l.Name, rx, tx)
		}
	}
	// The counters do count, and a received frame (here an ARP request and an
	// IPv6 neighbour solicitation) makes the kernel send no answer.
	arp := make([]byte, 42)
	copy(arp, lb.MAC)
	copy(arp[6:], la.MAC)
	copy(arp[12:], []byte{0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1})
	sendFrame(t, la, arp)
	nd := make([]byte, 86)
	copy(nd, arp[:12])
	copy(nd[12:], []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255})
	nd[54] = 135
	sendFrame(t, la, nd)
	time.Sleep(50 * time.Millisecond)
	if rx, tx := packets(t, lb); rx != 2 || tx != 0 {
		t.Errorf("right received %d and sent %d frames, want 2 and 0", rx, tx)
	}
}

func TestVethHasWhatWasAsked(t *testing.T) {
	gate.Leaks(t)
	a, b := newNS(t), newNS(t)
	mac := net.HardwareAddr{2, 1, 2, 3, 4, 5}
	la, lb, err := Veth(a, "left", b, "right", VethOptions{MTU: 1778, Queues: 2, MACB: mac})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Link{la, lb} {
		err := l.NS.Do(func() error {
			nic, err := net.InterfaceByName(l.Name)
			if err != nil {
				return err
			}
			if nic.Index != l.Index || nic.MTU != 1778 || !slices.Equal(nic.HardwareAddr, l.MAC) {
				t.Errorf("%s is %+v, Link says %+v", l.Name, nic, l)
			}
			if nic.Flags&net.FlagMulticast != 0 {
				t.Errorf("%s has multicast on", l.Name)
			}
			nl, err := l.NS.nl.LinkByName(l.Name)
			if err != nil {
				return err
			}
			if a := nl.Attrs(); a.NumRxQueues != 2 || a.NumTxQueues != 2 {
				t.Errorf("%s has %d receive and %d transmit queues, want 2 and 2", l.Name, a.NumRxQueues, a.NumTxQueues)
			}
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
	if !slices.Equal(lb.MAC, mac) {
		t.Errorf("MAC = %v, want %v", lb.MAC, mac)
	}
	if stats, err := lb.Stats(); err != nil || len(stats) == 0 {
		t.Errorf("Stats = %v, %v", stats, err)
	}
}

func TestVethWithinOneNamespace(t *testing.T) {
	gate.Leaks(t)
	ns := newNS(t)
	la, lb, err := Veth(ns, "left", ns, "right", VethOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if la.Index == lb.Index || la.Index == 0 || lb.Index == 0 {
		t.Errorf("indices %d and %d", la.Index, lb.Index)
	}
}

func TestVethFailureLeavesNothing(t *testing.T) {
	gate.Leaks(t)
	a, b := newNS(t), newNS(t)
	if _, _, err := Veth(a, "first", b, "taken", VethOptions{}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		link string
		peer string
		opts VethOptions
		want string
	}{
		{"peer name taken", "second", "taken", VethOptions{}, "taken"},
		{"own name taken", "first", "other", VethOptions{}, "first"},
		{"name too long", "a-name-of-16-byt", "other", VethOptions{}, "a-name-of-16-byt"},
		{"MTU too small", "second", "other", VethOptions{MTU: 60}, "MTU 60"},
		{"MTU too large", "second", "other", VethOptions{MTU: 70000}, "MTU 70000"},
		{"queues", "second", "other", VethOptions{Queues: -1}, "queues -1"},
		{"multicast address", "second", "other", VethOptions{MACA: net.HardwareAddr{1, 0, 0, 0, 0, 1}}, "01:00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Veth(a, tt.link, b, tt.peer, tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want one that names %s", err, tt.want)
			}
			if hasLink(t, a, "second") || hasLink(t, b, "other") {
				t.Error("a link was left behind")
			}
		})
	}
}

func TestCloseRemovesPeerAtOnce(t *testing.T) {
	gate.Leaks(t)
	a, b := newNS(t), newNS(t)
	if _, _, err := Veth(a, "left", b, "right", VethOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if hasLink(t, b, "right") {
		t.Error("the peer is still there")
	}
}

func TestEnableNAPIKeepsGROOff(t *testing.T) {
	gate.Leaks(t)
	gate.Caps(t, unix.CAP_BPF)
	a, b := newNS(t), newNS(t)
	_, lb, err := Veth(a, "left", b, "right", VethOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stub, err := lb.EnableNAPI()
	if err != nil {
		t.Fatal(err)
	}
	err = b.Do(func() error {
		c, err := ethtool.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		f, err := c.Features("right")
		if f["rx-gro"].On {
			t.Error("GRO is on")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := lb.EnableNAPI(); err == nil {
		t.Error("a second program was attached")
	}
	for range 2 {
		if err := stub.Close(); err != nil {
			t.Error(err)
		}
	}
}
