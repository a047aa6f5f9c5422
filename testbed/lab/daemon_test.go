package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/testbed/gate"
)

// service is the daemon on host engine of a lab without an engine of its own.
type service struct {
	t      *testing.T
	lab    *Client
	binary string
	dir    string // data, run directory, socket
	api    *client.Client
	cmd    *exec.Cmd
	ended  chan error
	log    *os.File
}

func newService(t *testing.T) *service {
	t.Helper()
	gate.Root(t)
	tool := gate.Tool(t, "go")
	gate.Leaks(t)
	s := &service{t: t, lab: run(t, Options{NoEngine: true, Mode: Routed})}
	var err error
	// Short, as sockets need it, and for other users, too.
	if s.dir, err = os.MkdirTemp("", "sfc-lab-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	s.binary = filepath.Join(s.dir, "sfcd")
	build := exec.Command(tool, "build", "-buildvcs=false", "-o", s.binary, "sfc/cmd/sfcd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.log.Close() })
	if s.api, err = client.New("unix://"+filepath.Join(s.dir, "s"), client.Options{Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.api.Close)
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *service) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "--config", "/dev/null", "--data-dir", filepath.Join(s.dir, "data"),
		"--run-dir", filepath.Join(s.dir, "run"), "--listen", "unix://"+filepath.Join(s.dir, "s"), "--workers", "2")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	// That of the thread that starts it, which waits for it.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started, ended := make(chan error), make(chan error, 1)
	go func(cmd *exec.Cmd) {
		ended <- s.lab.within(context.Background(), HostEngine, func() error {
			err := cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return cmd.Wait()
		})
	}(s.cmd)
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
	s.ended = ended
	s.within("the daemon serves", func() error {
		h, err := s.api.Health(s.t.Context())
		if err == nil && h.Status != "ok" {
			err = fmt.Errorf("%+v", h)
		}
		return err
	})
}

func (s *service) stop() {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	if err := <-s.ended; err != nil {
		s.t.Errorf("the daemon ended: %v", err)
	}
	if s.t.Failed() {
		text, _ := os.ReadFile(s.log.Name())
		s.t.Logf("the daemon's log:\n%s", text[max(0, len(text)-6000):])
	}
}

// within does something again and again until it succeeds.
func (s *service) within(what string, do func() error) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := do()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s: %v", what, err)
		}
	}
}

// role returns the process in a role.
func (s *service) role(name string) (pid int) {
	s.t.Helper()
	s.within("find "+name, func() error {
		all, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		for _, path := range all {
			args, _ := os.ReadFile(path) // it may have ended
			environ, _ := os.ReadFile(strings.TrimSuffix(path, "cmdline") + "environ")
			if bytes.HasPrefix(args, []byte("sfcd: "+name)) && bytes.Contains(environ, []byte(s.dir)) {
				_, err := fmt.Sscanf(path, "/proc/%d/", &pid)
				return err
			}
		}
		return errors.New("there is none")
	})
	return pid
}

// prepare makes a tenant with functions, and two routed ports.
func (s *service) prepare() {
	s.t.Helper()
	ctx := s.t.Context()
	must := func(_ any, err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	must(s.api.Tenants().Create(ctx, &api.Tenant{Metadata: api.Metadata{Name: "acme"}}))
	for _, name := range []string{"firewall", "nat44", "flowstat"} {
		module, err := os.ReadFile("../../nf/catalog/" + name + "/" + name + ".wasm")
		must(nil, err)
		must(s.api.Upload(ctx, "acme", client.Upload{Function: name, Version: "1.0.0", Module: bytes.NewReader(module), Size: int64(len(module))}))
	}
	s.attach("in")
	s.attach("out")
}

func (s *service) attach(port string) {
	s.t.Helper()
	if _, err := s.api.Ports().Create(s.t.Context(), &api.Port{Metadata: api.Metadata{Name: port}, Spec: api.PortSpec{Mode: api.ModeRouted}}); err != nil {
		s.t.Fatal(err)
	}
	s.within("port "+port+" is up", func() error {
		p, err := s.api.Ports().Get(s.t.Context(), port)
		if err == nil && !p.Status.Up {
			err = fmt.Errorf("%+v", p.Status)
		}
		return err
	})
}

// pools are what the chain of nat stands for.
var pools = []api.ChainAddress{{Port: "out", Prefix: "10.0.1.128/28"}, {Port: "out", Prefix: "fd00:1::100/126"}}

// nat makes the chain, and waits until it has its packets.
func (s *service) nat() {
	s.t.Helper()
	_, err := s.api.Chains("acme").Create(s.t.Context(), &api.Chain{Metadata: api.Metadata{Name: "nat"}, Spec: api.ChainSpec{
		Match: []api.ChainMatch{{Port: "in"}}, Egress: "out", Return: &api.ChainReturn{Word: "mirrored"}, Flows: 16384, Budget: "50ms",
		Addresses: pools,
		Functions: []api.ChainFunction{
			{Module: "firewall@1.0.0", Config: json.RawMessage(`{"default":"deny","rules":[{"action":"permit","src":"10.0.0.0/8"},{"action":"permit","src":"fd00::/8"}]}`)},
			{Module: "nat44@1.0.0", Config: json.RawMessage(`{"inside":["10.0.0.0/24"],"pool":["10.0.1.128/28"],"others":"pass"}`)},
			{Module: "flowstat@1.0.0"},
		},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.within("the chain runs", func() error {
		c, err := s.api.Chains("acme").Get(s.t.Context(), "nat")
		if err == nil && !(c.Status.Active && c.Status.Conditions.IsTrue(api.Ready)) {
			err = fmt.Errorf("%+v", c.Status)
		}
		return err
	})
}

// answered are the entries that make the engine's kernel answer for pools.
func (s *service) answered() (list []string) {
	s.t.Helper()
	on(s.t, s.lab, HostEngine, func() error {
		link, err := netlink.LinkByName("out")
		if err != nil {
			return err
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
		for _, r := range routes {
			if r.Dst != nil && r.Dst.String() == pools[0].Prefix {
				list = append(list, r.Dst.String())
			}
		}
		addresses, addressErr := netlink.AddrList(link, netlink.FAMILY_V6)
		for _, a := range addresses {
			if netip.MustParsePrefix(pools[1].Prefix).Contains(netip.MustParseAddr(a.IP.String())) {
				list = append(list, a.IPNet.String())
			}
		}
		return errors.Join(err, addressErr)
	})
	slices.Sort(list)
	return list
}

// talk is a TCP connection that is spoken on from time to time.
type talk struct{ net.Conn }

func (c talk) say(text string) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if string(back) != text {
		return fmt.Errorf("%q came back of %q", back, text)
	}
	return nil
}

// end closes the connection when the other end has.
func (c talk) end() error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%d bytes and %v came instead of the end", n, err)
	}
	return nil
}

// The daemon as a router with address translation: hosts reach each other across
// it, it answers for the pool, and neither the death of its data plane nor that
// of its supervisor ends a connection. What is answered for goes with the chain
// and with the port.
func TestDaemonRoutes(t *testing.T) {
	s := newService(t)
	s.prepare()
	echo(t, s.lab, 7)
	s.nat()
	traffic := func(when string) {
		t.Helper()
		on(t, s.lab, HostClient, func() error { return stream("10.0.1.2:7", 1<<18) })
		on(t, s.lab, HostClient, func() error { return datagrams("10.0.1.2:7", 10) })
		on(t, s.lab, HostClient, func() error { return stream("[fd00:1::2]:7", 1<<18) }) // as it is
		on(t, s.lab, HostClient, func() error { return ping("10.0.1.2") })
		on(t, s.lab, HostClient, func() error { return ping("10.0.0.1") }) // the engine
		on(t, s.lab, HostClient, func() error { return unreachable("10.0.1.2:9") })
		on(t, s.lab, HostServer, func() error { return ping("10.0.1.1") })
		if who := sender(t, s.lab); !netip.MustParsePrefix(pools[0].Prefix).Contains(who) {
			t.Errorf("%s: the server sees %v", when, who)
		}
		for _, a := range []string{"10.0.1.130", "10.0.1.143", "fd00:1::103"} {
			on(t, s.lab, HostServer, func() error {
				link, err := netlink.LinkByName(hostLink)
				if err != nil {
					return err
				}
				return resolve(link.Attrs().Index, netip.MustParseAddr(a))
			})
		}
		if t.Failed() {
			t.Fatal(when)
		}
	}
	entries := s.answered() // once a chain is ready
	if len(entries) != 1+4 {
		t.Errorf("the kernel answers for %v", entries)
	}
	traffic("in the beginning")
	var c talk
	on(t, s.lab, HostClient, func() (err error) { c.Conn, err = net.Dial("tcp", "10.0.1.2:7"); return err })
	if c.Conn == nil {
		t.FailNow()
	}
	on(t, s.lab, HostClient, func() error { return c.say("is anybody there?") })
	goesOn := func(when string) {
		t.Helper()
		on(t, s.lab, HostClient, func() error { return c.say("still there, " + when + "?") })
		if now := s.answered(); !slices.Equal(now, entries) {
			t.Errorf("%s: the kernel answers for %v", when, now)
		}
		traffic(when)
	}
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGKILL, unix.SIGSTOP} { // the last has to be noticed
		pid := s.role("dataplane")
		if err := unix.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		on(t, s.lab, HostClient, func() error { return c.say("and now?") })
		t.Logf("data plane met by %v: an answer %v later", signal, time.Since(began))
		s.within("another data plane", func() error {
			if s.role("dataplane") == pid {
				return errors.New("it is the one that was killed")
			}
			return nil
		})
		goesOn("data plane met by " + signal.String())
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.ended
	goesOn("without a supervisor")
	s.start()
	goesOn("supervisor back")
	on(t, s.lab, HostClient, c.end)

	if err := s.api.Chains("acme").Delete(t.Context(), "nat", ""); err != nil {
		t.Fatal(err)
	}
	s.within("nobody answers for the chain that is gone", func() error {
		if list := s.answered(); len(list) > 0 {
			return fmt.Errorf("%v", list)
		}
		return nil
	})
	s.nat()
	if now := s.answered(); !slices.Equal(now, entries) {
		t.Errorf("with the chain back the kernel answers for %v", now)
	}
	traffic("with the chain back")
	if err := s.api.Ports().Delete(t.Context(), "out", ""); err != nil {
		t.Fatal(err)
	}
	s.within("nobody answers on the port that is gone", func() error {
		if list := s.answered(); len(list) > 0 {
			return fmt.Errorf("%v", list)
		}
		return nil
	})
	s.attach("out")
	s.within("the port is back", func() error {
		if list := s.answered(); !slices.Equal(list, entries) {
			return fmt.Errorf("%v", list)
		}
		return nil
	})
	traffic("with the port back")
}
