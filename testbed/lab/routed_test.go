package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
)

// natChain is a firewall and a translation to a pool that the engine answers
// for on the server's side, and more functions behind them: lines of YAML in
// which %[1]s is the catalogue. The budget is generous: on a saturated core the
// kernel's softirqs run in the midst of a guest's call, and kernels without
// IRQ_TIME_ACCOUNTING count their time as the thread's.
func natChain(t *testing.T, more string) string {
	t.Helper()
	catalog, err := filepath.Abs("../../nf/catalog")
	if err != nil {
		t.Fatal(err)
	}
	return writeChain(t, fmt.Sprintf(`spec:
  match: [{port: in}]
  egress: out
  return: mirrored
  flows: 16384
  budget: 50ms
  addresses: [{port: out, prefix: 10.0.1.128/28}]
  functions:
    - module: %[1]s/firewall/firewall.wasm
      config: {default: deny, rules: [{action: permit, src: 10.0.0.0/8}, {action: permit, src: "fd00::/8"}]}
    - module: %[1]s/nat44/nat44.wasm
      config: {inside: [10.0.0.0/24], pool: [10.0.1.128/28], others: pass}
`+more, catalog))
}

// A chain that stands for addresses makes a router of the engine: hosts reach
// each other across it, the server sees the pool, answers and ICMP errors find
// their way back, and moves change nothing about that.
func TestRouted(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	c := run(t, Options{Chains: []string{natChain(t, "")}, Workers: 2})
	if s, err := c.Status(t.Context()); err != nil || s.Mode != Routed || len(s.Hosts[1].Addresses) != 4 {
		t.Fatalf("%+v, %v", s, err)
	}
	echo(t, c, 7)
	for i := range 8 {
		on(t, c, HostClient, func() error { return stream("10.0.1.2:7", 1<<18) })
		on(t, c, HostClient, func() error { return datagrams("10.0.1.2:7", 10) })
		if _, err := c.Move(t.Context(), MoveArgs{Bucket: i, To: i % 2}); err != nil {
			t.Error(err)
		}
	}
	on(t, c, HostClient, func() error { return stream("[fd00:1::2]:7", 1<<18) }) // as it is
	on(t, c, HostClient, func() error { return ping("10.0.1.2") })
	on(t, c, HostClient, func() error { return ping("10.0.0.1") }) // the engine
	on(t, c, HostClient, func() error { return unreachable("10.0.1.2:9") })
	who := sender(t, c)
	if !netip.MustParsePrefix("10.0.1.128/28").Contains(who) {
		t.Errorf("the server sees %v", who)
	}

	list, err := c.Flows(t.Context(), FlowQuery{Bucket: -1, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	translated := 0
	for _, f := range list.Flows {
		if !strings.HasPrefix(f.Src, "10.0.0.2") || !strings.HasPrefix(f.Dst, "10.0.1.2") {
			continue
		}
		translated++
		if len(f.Translated) != 1 || !strings.HasPrefix(f.Translated[0].Src, "10.0.1.1") || f.Translated[0].Dst != f.Dst {
			t.Errorf("%+v", f)
		}
	}
	if translated < 16 {
		t.Errorf("%d flows are translated: %+v", translated, list.Flows)
	}
}

// unreachable sends a datagram where nobody listens, and succeeds when the
// refusal arrives: an ICMP error.
func unreachable(to string) error {
	conn, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("anybody?")); err != nil {
		return err
	}
	if _, err = conn.Read(make([]byte, 100)); !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("want %v, have %v", unix.ECONNREFUSED, err)
	}
	return nil
}

// sender has the client send a datagram and returns from whom the server gets
// it.
func sender(t *testing.T, c *Client) (who netip.Addr) {
	t.Helper()
	var conn net.PacketConn
	on(t, c, HostServer, func() (err error) {
		conn, err = net.ListenPacket("udp4", ":53")
		return err
	})
	if conn == nil {
		t.FailNow()
	}
	defer conn.Close()
	on(t, c, HostClient, func() error {
		conn, err := net.Dial("udp", "10.0.1.2:53")
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("it is me"))
		return errors.Join(err, conn.Close())
	})
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, from, err := conn.ReadFrom(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	return from.(*net.UDPAddr).AddrPort().Addr().Unmap()
}
