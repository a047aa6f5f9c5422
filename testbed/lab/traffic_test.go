package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/testbed/capture"
	"sfc/testbed/gate"
)

// Real stacks talk through a stateful chain, over both versions of IP, on two
// workers: what arrives is what was sent, and the account of it adds up.
func TestTraffic(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	c := run(t, Options{Workers: 2})
	echo(t, c, 7)
	for _, server := range []string{"10.0.1.2", "[fd00:1::2]"} {
		for range 4 {
			on(t, c, HostClient, func() error { return stream(server+":7", 1<<20) })
			on(t, c, HostClient, func() error { return datagrams(server+":7", 50) })
		}
	}
	on(t, c, HostClient, func() error { return ping("10.0.1.2") })
	// Telnet may not begin, from neither side.
	on(t, c, HostClient, func() error { return silent("10.0.1.2:23") })
	on(t, c, HostServer, func() error { return silent("10.0.1.1:23") })

	s, err := c.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkStats(t, s)
	list, err := c.Flows(t.Context(), FlowQuery{Bucket: -1, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	checkFlows(t, list)
}

func checkStats(t *testing.T, s *Stats) {
	t.Helper()
	var received, left, redirected uint64
	for _, w := range s.Workers {
		received += w.Received + w.HandedIn
		left += w.Sent + w.Passed + w.Dropped + w.HandedOut
		if w.Received == 0 || w.BusyNs == 0 || len(w.Buckets) != 1 || w.Buckets[0] != 512 {
			t.Errorf("worker %+v", w)
		}
	}
	if received != left {
		t.Errorf("workers received %d and got rid of %d", received, left)
	}
	for _, p := range s.Ports {
		redirected += p.Redirected
		if p.Forwarded == 0 || p.Frames < p.Redirected+p.Forwarded {
			t.Errorf("port %+v", p)
		}
	}
	// The workers' counters are 100 ms old at most.
	if redirected < received || len(s.Chains) != 1 || len(s.Chains[0].Functions) != 2 {
		t.Fatalf("%d frames to workers, %d taken: %+v", redirected, received, s.Chains)
	}
	f := s.Chains[0].Functions[0]
	if f.Name != "firewall" || f.State != "running" || f.Packets == 0 || f.Dropped["denied"] < 2 || f.Faults != 0 {
		t.Errorf("%+v", f)
	}
	if n := s.Chains[0].Flows; n == nil || n.Live < 17 || n.Created < 17 || n.Refused != 0 {
		t.Errorf("%+v", n)
	}
}

func checkFlows(t *testing.T, list *FlowList) {
	t.Helper()
	found, workers := map[string]int{}, map[int]int{}
	for _, f := range list.Flows {
		workers[f.Worker]++
		if f.Chain != "test/guard" || f.Bucket < 0 || f.Bucket >= 1024 || f.IdleMs > 60_000 {
			t.Errorf("%+v", f)
		}
		if f.Src == "10.0.1.1" || strings.HasPrefix(f.Src, "10.0.1.1:") && strings.HasPrefix(f.Dst, "10.0.1.2:") {
			found[f.Protocol+"4"]++
		}
		if strings.HasPrefix(f.Src, "[fd00:1::1]:") && f.Dst == "[fd00:1::2]:7" {
			found[f.Protocol+"6"]++
		}
	}
	if found["tcp4"] < 4 || found["udp4"] != 4 || found["icmp4"] < 1 || found["tcp6"] != 4 || found["udp6"] != 4 {
		t.Errorf("flows %v in %+v", found, list.Flows)
	}
	if len(list.Flows) != list.Live || workers[0] == 0 || workers[1] == 0 {
		t.Errorf("%d flows live, %d are listed, by worker %v", list.Live, len(list.Flows), workers)
	}
}

// stream sends random bytes and compares what comes back.
func stream(to string, n int) error {
	conn, err := net.DialTimeout("tcp", to, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	sent := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(sent)
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		wrote <- err
	}()
	sum := sha256.New()
	_, err = io.CopyN(sum, conn, int64(n))
	want := sha256.Sum256(sent)
	if err := errors.Join(err, <-wrote); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), want[:]) {
		return fmt.Errorf("%s sent back something else", to)
	}
	return nil
}

// datagrams sends some, one after the other, and wants each of them back.
func datagrams(to string, n int) error {
	conn, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 2048)
	for i := range n {
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		text := fmt.Sprintf("datagram %d%s", i, strings.Repeat(".", i*20))
		if _, err := conn.Write([]byte(text)); err != nil {
			return err
		}
		got, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if string(buf[:got]) != text {
			return fmt.Errorf("%s sent back %q for %q", to, buf[:got], text)
		}
	}
	return nil
}

// ping sends an echo request and waits for the reply.
func ping(to string) error {
	conn, err := net.Dial("ip4:icmp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	msg := append([]byte{8, 0, 0, 0, 0x5f, 0xc0, 0, 1}, "are you there?"...)
	binary.BigEndian.PutUint16(msg[2:], packet.Checksum(msg, 0))
	if _, err := conn.Write(msg); err != nil {
		return err
	}
	for buf := make([]byte, 1500); ; {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		reply := buf[min(20, n):n] // behind the IP header
		if len(reply) == len(msg) && reply[0] == 0 && bytes.Equal(reply[4:], msg[4:]) {
			return nil
		}
	}
}

// silent succeeds when nothing answers a connection.
func silent(to string) error {
	conn, err := net.DialTimeout("tcp", to, 300*time.Millisecond)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%s is connected", to)
	}
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		return fmt.Errorf("%s answers: %w", to, err)
	}
	return nil
}

// A capture has what crossed the link, both ways, and what the chain dropped on
// this side of it only.
func TestCapture(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	c := run(t, Options{})
	echo(t, c, 7)
	file := filepath.Join(t.TempDir(), "in.pcapng")
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		packets, missed, err := c.Capture(t.Context(), CaptureOptions{
			Host: HostClient, Out: file, Packets: 8, Started: func() { close(started) },
		})
		if err == nil && (packets != 8 || missed != 0) {
			err = fmt.Errorf("%d packets, %d missed", packets, missed)
		}
		done <- err
	}()
	select {
	case <-started:
	case err := <-done:
		t.Fatal(err)
	}
	on(t, c, HostClient, func() error { return datagrams("10.0.1.2:7", 4) })
	on(t, c, HostClient, func() error { return datagrams("10.0.1.2:7", 4) }) // where ARP is in the way
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	packets, err := capture.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var sent, back int
	for _, p := range packets {
		if !bytes.Contains(p.Data, []byte("datagram ")) {
			continue
		}
		if !packet.VerifyChecksums(p.Data) {
			t.Errorf("bad checksum in %x", p.Data)
		}
		if bytes.Equal(p.Data[6:12], macs[0]) {
			sent++
		} else if bytes.Equal(p.Data[6:12], macs[3]) { // a bump in the wire: the server's own address
			back++
		}
	}
	if sent < 3 || back < 3 {
		t.Errorf("%d there, %d back", sent, back)
	}
}

// The example of a chain without a way back works in a lab too: what comes back
// is nobody's, and goes to the other side.
func TestExampleEdge(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	c := run(t, Options{Chains: []string{"../examples/edge.yaml"}})
	echo(t, c, 7)
	on(t, c, HostClient, func() error { return stream("10.0.1.2:7", 1<<20) })
	on(t, c, HostClient, func() error { return datagrams("[fd00:1::2]:7", 10) })
	on(t, c, HostClient, func() error { return silent("10.0.1.2:23") })
	s, err := c.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f := s.Chains[0].Functions[3]; f.Name != "hop" || f.Packets < 100 || s.Chains[0].Flows != nil {
		t.Errorf("%+v", s.Chains[0])
	}
}
