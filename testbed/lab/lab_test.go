package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sfc/testbed/gate"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envChild); dir != "" {
		child(dir)
	}
	os.Exit(gate.Main(m))
}

// chainFile writes a chain with a way back: the firewall lets private addresses
// begin flows, from either side of it, and nothing else.
func chainFile(t *testing.T) string {
	t.Helper()
	catalog, err := filepath.Abs("../../nf/catalog")
	if err != nil {
		t.Fatal(err)
	}
	return writeChain(t, fmt.Sprintf(`spec:
  match: [{port: in}]
  egress: out
  return: mirrored
  flows: 4096
  functions:
    - module: %[1]s/firewall/firewall.wasm
      config: {default: deny, rules: [{action: deny, proto: tcp, dst_ports: "23"}, {action: permit, src: 10.0.0.0/8}, {action: permit, src: "fd00::/8"}]}
    - module: %[1]s/flowstat/flowstat.wasm
      config: {tcp_rtt: true}
`, catalog))
}

func writeChain(t *testing.T, spec string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "chain.yaml")
	text := "apiVersion: sfc/v1\nkind: Chain\nmetadata: {name: guard, tenant: test}\n" + spec
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// run starts a lab in this process, as long as the test runs, and returns who
// can ask it.
func run(t *testing.T, opts Options) *Client {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	if opts.Chains == nil && !opts.NoEngine {
		opts.Chains = []string{chainFile(t)}
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Run(ctx, opts, func(Status) { close(up) }) }()
	select {
	case <-up:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dial(t, opts)
}

func dial(t *testing.T, opts Options) *Client {
	t.Helper()
	c, err := Dial(opts.Dir, opts.Name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// on runs fn in the network of a host, as a program would.
func on(t *testing.T, c *Client, h Host, fn func() error) {
	t.Helper()
	if err := c.within(t.Context(), h, fn); err != nil {
		t.Errorf("%s: %v", h, err)
	}
}

// echo has the server send back what it gets on a port, over TCP and UDP.
func echo(t *testing.T, c *Client, port int) {
	t.Helper()
	on(t, c, HostServer, func() error {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		p, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close(); p.Close() })
		go echoStreams(l)
		go echoDatagrams(p)
		return nil
	})
}

func echoStreams(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				if _, err := conn.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func echoDatagrams(p net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := p.ReadFrom(buf)
		if err != nil {
			return
		}
		if _, err := p.WriteTo(buf[:n], from); err != nil {
			return
		}
	}
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}
