package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/chains"
	"sfc/dataplane/packet"
	"sfc/testbed/netns"
)

// peerFrame is a UDP packet of size bytes on the wire from gen to sink.
func peerFrame(w *peerWorld, size int) []byte {
	if size == 64 {
		size = 60 // the FCS is the link's
	}
	f := make([]byte, size)
	copy(f, w.in.MAC)
	copy(f[6:], w.g0.MAC)
	f[12], f[13] = 8, 0
	ip := f[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(size-14))
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 1, 2})
	binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip[:20], 0))
	binary.BigEndian.PutUint16(ip[20:], 20000)
	binary.BigEndian.PutUint16(ip[22:], 30000)
	binary.BigEndian.PutUint16(ip[24:], uint16(size-34))
	return f
}

// peerChains are the chains of this engine: the one that is measured from in to
// out, and an empty one back.
func peerChains(t *testing.T, name string) []chains.Spec {
	t.Helper()
	var forward []chains.FunctionSpec
	if name == "edge" {
		forward = []chains.FunctionSpec{
			function(t, "acl", `{"default":"permit","rules":[{"action":"deny","proto":"tcp","dst_ports":"23"}]}`),
			function(t, "ratelimit", `{"rate":1000000000,"burst":1000000000,"unit":"pps","max_sources":4096}`),
			function(t, "dnsguard", `{"block":["ads.example"]}`),
			function(t, "hop", `{"decrement":true}`),
		}
	}
	return []chains.Spec{oneWay("forward", portIn, forward...), oneWay("back", portOut)}
}

// roundTrips prints the round trip of a 64-byte UDP packet at low load. Both
// ends block in the kernel, as ordinary programs do.
func roundTrips(t *testing.T, rounds int) {
	ps := append(peers(t), peer{name: "no hop"})
	p50 := make([][]float64, len(ps))
	p99 := make([][]float64, len(ps))
	for range rounds {
		for i, p := range ps {
			a, b := roundTrip(t, p)
			p50[i], p99[i] = append(p50[i], a), append(p99[i], b)
		}
	}
	fmt.Printf("\n### round trip of 64-byte UDP, 2,000 a second, %d rounds, medians, us\n\n| forwarder | p50 | p99 | p50 of testpmd | all p50 |\n|---|---|---|---|---|\n", rounds)
	for i, p := range ps {
		fmt.Printf("| %s | %.1f | %.1f | %.2f | %s |\n", p.name, median(p50[i]), median(p99[i]), median(p50[i])/median(p50[0]), list(p50[i]))
	}
}

func roundTrip(t *testing.T, p peer) (p50, p99 float64) {
	w := newPeerWorld(t)
	defer w.close(t)
	far, peerMAC, backMAC := w.sink, w.in.MAC, w.out.MAC
	farLink := w.s0
	if p.start == nil {
		far, farLink, peerMAC, backMAC = w.dut, w.in, w.in.MAC, w.g0.MAC
	} else {
		stop, _ := p.start(t, w)
		defer stop()
		if p.name != "Linux forwarding" { // a bump in the wire
			peerMAC, backMAC = w.s0.MAC, w.g0.MAC
		}
	}
	end := func(ns *netns.NS, link *netns.Link, addr, other string, mac net.HardwareAddr) {
		err := ns.Do(func() error {
			return sh(fmt.Sprintf("set -e; ip addr add %s/32 dev %s; ip link set %[2]s arp on; ip route add %[3]s dev %[2]s; ip neigh replace %[3]s lladdr %[4]s dev %[2]s nud permanent",
				addr, link.Name, other, mac))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	end(w.gen, w.g0, "10.0.0.1", "10.0.1.2", peerMAC)
	end(far, farLink, "10.0.1.2", "10.0.0.1", backMAC)

	server := udpSocket(t, far, [4]byte{10, 0, 1, 2}, 30000)
	client := udpSocket(t, w.gen, [4]byte{10, 0, 0, 1}, 20000)
	defer unix.Close(client)
	const trips = 2000
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with its affinity
		onCore(t, 0)
		buf := make([]byte, 64)
		for {
			n, from, err := unix.Recvfrom(server, buf, 0)
			if err == unix.EAGAIN {
				return // a second without a packet: the client is done
			}
			if err == nil {
				unix.Sendto(server, buf[:n], 0, from)
			}
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := onCore(t, 0)
	defer unix.SchedSetaffinity(0, &before)
	var us []float64
	buf, lost := make([]byte, 18), 0
	for range trips {
		start := time.Now()
		if err := unix.Sendto(client, buf, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 0, 1, 2}, Port: 30000}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := unix.Recvfrom(client, buf, 0); err != nil {
			if lost++; lost > 5 {
				t.Errorf("%s: no answers", p.name)
				break
			}
			continue
		}
		us = append(us, float64(time.Since(start).Nanoseconds())/1000)
		pause := unix.NsecToTimespec(400_000) // time.Sleep would take a millisecond
		unix.Nanosleep(&pause, nil)
	}
	<-done
	unix.Close(server)
	if len(us) == 0 {
		return 0, 0
	}
	slices.Sort(us)
	return us[len(us)/2], us[len(us)*99/100]
}

// onCore keeps the calling thread on one core, the ends of a round trip on
// that of the load, and returns where it could run before.
func onCore(t *testing.T, core int) (before unix.CPUSet) {
	var set unix.CPUSet
	set.Set(core)
	if err := errors.Join(unix.SchedGetaffinity(0, &before), unix.SchedSetaffinity(0, &set)); err != nil {
		t.Error(err)
	}
	return before
}

// udpSocket opens a UDP socket in a namespace that waits at most a second.
func udpSocket(t *testing.T, ns *netns.NS, addr [4]byte, port int) (fd int) {
	t.Helper()
	err := ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: addr, Port: port})
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
