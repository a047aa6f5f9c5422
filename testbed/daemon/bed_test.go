package daemon

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

// The network: a client, and a server on the other side of the daemon's ports.
// Nobody asks for hardware addresses, so that nothing is on the links but what
// tests send.
const (
	clientAddress = "10.0.1.1"
	serverAddress = "10.0.1.2"
)

var (
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	serverMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

// bed is a daemon between two hosts.
type bed struct {
	tb                     testing.TB
	dir                    string // data, run directory, socket, log
	client, engine, server *netns.NS
	near                   [2]*netns.Link // the hosts' ends: client's, server's
	ports                  [2]*netns.Link // the daemon's ends: in, out
	api                    *client.Client
	ended                  chan error // of the supervisor
	cmd                    *exec.Cmd
	log                    *os.File
}

// newBed makes the hosts and starts a daemon that serves nobody yet. At the end
// of the test all of it is taken down, and nothing may be left.
func newBed(tb testing.TB) *bed {
	tb.Helper()
	gate.Root(tb)
	binaries(tb)
	gate.Leaks(tb)
	b := &bed{tb: tb}
	var err error
	// Short: sockets have 108 bytes for their path. For other users, too.
	b.dir, err = os.MkdirTemp("", "sfcd-")
	check(tb, err)
	tb.Cleanup(func() { check(tb, os.RemoveAll(b.dir)) })
	check(tb, os.Chmod(b.dir, 0o755))
	b.links()
	b.log, err = os.Create(filepath.Join(b.dir, "log"))
	check(tb, err)
	tb.Cleanup(func() { b.log.Close() })
	b.api, err = client.New("unix://"+filepath.Join(b.dir, "s"), client.Options{Timeout: time.Minute})
	check(tb, err)
	tb.Cleanup(b.api.Close)
	tb.Cleanup(b.end)
	b.start()
	b.healthy()
	return b
}

// links makes hosts and links.
func (b *bed) links() {
	b.tb.Helper()
	for _, ns := range []**netns.NS{&b.client, &b.engine, &b.server} {
		var err error
		*ns, err = netns.New()
		check(b.tb, err)
		b.tb.Cleanup(func() { check(b.tb, (*ns).Close()) })
	}
	for i, host := range []struct {
		ns            *netns.NS
		port          string
		address, peer string
		mac, peerMAC  net.HardwareAddr
	}{
		{b.client, "in", clientAddress, serverAddress, clientMAC, serverMAC},
		{b.server, "out", serverAddress, clientAddress, serverMAC, clientMAC},
	} {
		l, port, err := netns.Veth(host.ns, "eth0", b.engine, host.port, netns.VethOptions{Stack: true, MACA: host.mac, MACB: net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}})
		check(b.tb, err)
		stub, err := l.EnableNAPI()
		check(b.tb, err)
		b.tb.Cleanup(func() { check(b.tb, stub.Close()) })
		check(b.tb, l.AddAddress(netip.PrefixFrom(netip.MustParseAddr(host.address), 24)))
		check(b.tb, host.ns.Do(func() error {
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(host.peer), HardwareAddr: host.peerMAC})
		}))
		b.near[i], b.ports[i] = l, port
	}
}

// start starts the daemon as a service would be: its children are another user.
func (b *bed) start() {
	b.tb.Helper()
	cmd := exec.Command(filepath.Join(binaries(b.tb), "sfcd"), "--config", "/dev/null", "--data-dir", filepath.Join(b.dir, "data"),
		"--run-dir", filepath.Join(b.dir, "run"), "--listen", "unix://"+filepath.Join(b.dir, "s"))
	cmd.Stdout, cmd.Stderr = b.log, b.log
	// When this process dies, the daemon ends in order; until then the thread
	// that started it stays.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		ended <- b.engine.Do(func() error {
			err := cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return cmd.Wait()
		})
	}()
	check(b.tb, <-started)
	b.cmd, b.ended = cmd, ended
}

// end ends the daemon, and looks for what it left.
func (b *bed) end() {
	b.tb.Helper()
	if b.cmd != nil {
		check(b.tb, b.cmd.Process.Signal(syscall.SIGTERM))
		select {
		case err := <-b.ended:
			if err != nil {
				b.tb.Errorf("sfcd ended with %v", err)
			}
		case <-time.After(endWait):
			b.tb.Errorf("sfcd does not end within %v", endWait)
			check(b.tb, b.cmd.Process.Kill())
			<-b.ended
		}
	}
	nobodyLeft(b.tb, b.dir)
	if b.tb.Failed() {
		b.tb.Logf("the end of its log:\n%s", b.tail())
	}
}

// tail returns the last lines of the log.
func (b *bed) tail() []byte {
	text, err := os.ReadFile(b.log.Name())
	check(b.tb, err)
	const enough = 8000
	if len(text) > enough {
		text = text[len(text)-enough:]
	}
	_, text, _ = bytes.Cut(text, []byte("\n"))
	return text
}

// within does something again and again until it succeeds or time is over.
func (b *bed) within(d time.Duration, what string, do func(ctx context.Context) error) {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(b.tb.Context(), d)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			b.tb.Fatalf("%s: not within %v: %v", what, d, err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// answerWait is how long the daemon may take to serve after whatever happened.
const answerWait = 20 * time.Second

// healthy waits until control and data plane serve.
func (b *bed) healthy() {
	b.tb.Helper()
	b.within(answerWait, "the daemon answers", func(ctx context.Context) error {
		h, err := b.api.Health(ctx)
		if err == nil && h.Status != "ok" {
			err = errors.New("status " + h.Status)
		}
		if err == nil {
			_, err = b.api.Stats(ctx, "")
		}
		return err
	})
}

// role returns the process id of the daemon's process in a role.
func (b *bed) role(role string) (pid int) {
	b.tb.Helper()
	b.within(answerWait, "find the process "+role, func(context.Context) error {
		var of []process
		for _, p := range processes(b.tb, b.dir) {
			if p.name == "sfcd: "+role {
				of = append(of, p)
			}
		}
		if len(of) != 1 {
			return errors.New("there are " + strings.Repeat("I", len(of)))
		}
		pid = of[0].pid
		return nil
	})
	return pid
}

// tenant makes a tenant with that share of the workers' time in 1/1000, and all
// the chains that a test makes.
func (b *bed) tenant(name string, share api.Share) {
	b.tb.Helper()
	_, err := b.api.Tenants().Create(b.tb.Context(), &api.Tenant{Metadata: api.Metadata{Name: name}, Spec: api.TenantSpec{Share: share, Chains: thousand}})
	check(b.tb, err)
}

// upload stores a module and waits until it is compiled.
func (b *bed) upload(tenant, function, version string, module []byte) {
	b.tb.Helper()
	_, err := b.api.Upload(b.tb.Context(), tenant, client.Upload{Function: function, Version: version, Module: bytes.NewReader(module), Size: int64(len(module))})
	check(b.tb, err)
	b.within(answerWait, function+" is compiled", func(ctx context.Context) error {
		f, err := b.api.Function(ctx, tenant, function, version)
		if err == nil && !f.Status.Conditions.IsTrue(api.Ready) {
			err = errors.New("not ready")
		}
		return err
	})
}

// attach attaches both ports, and waits until they are up.
func (b *bed) attach(unmatched string) {
	b.tb.Helper()
	for port, peer := range map[string]string{"in": "out", "out": "in"} {
		_, err := b.api.Ports().Create(b.tb.Context(), &api.Port{Metadata: api.Metadata{Name: port}, Spec: api.PortSpec{Peer: peer, Unmatched: unmatched}})
		check(b.tb, err)
	}
	for _, port := range []string{"in", "out"} {
		b.within(answerWait, "port "+port+" is up", func(ctx context.Context) error {
			p, err := b.api.Ports().Get(ctx, port)
			if err == nil && !p.Status.Up {
				err = errors.New("it is down")
			}
			return err
		})
	}
}

// chain makes a chain.
func (b *bed) chain(tenant, name string, spec api.ChainSpec) {
	b.tb.Helper()
	_, err := b.api.Chains(tenant).Create(b.tb.Context(), &api.Chain{Metadata: api.Metadata{Name: name}, Spec: spec})
	check(b.tb, err)
}

// active waits until a chain has its packets.
func (b *bed) active(tenant, name string) {
	b.tb.Helper()
	b.within(answerWait, "chain "+name+" is active", func(ctx context.Context) error {
		c, err := b.api.Chains(tenant).Get(ctx, name)
		if err == nil && !c.Status.Active {
			err = errors.New("it is not")
		}
		return err
	})
}
