package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/dataplane/packet"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// ownMounts is set in a process that has mounts of its own: where the programs are.
const ownMounts = "SFC_DAEMON_MOUNTS"

// inOwnMounts runs the test again in a process with a mount namespace of its own,
// and returns false; in that process it mounts a file system of a size, and
// returns true with its directory.
func inOwnMounts(t *testing.T, size string) (dir string, ok bool) {
	t.Helper()
	gate.Root(t)
	if os.Getenv(ownMounts) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), ownMounts+"="+binaries(t))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("with mounts of its own: %v\n%s", err, out)
		}
		return "", false
	}
	programs.once.Do(func() { programs.dir = os.Getenv(ownMounts) })
	t.Cleanup(func() { programs.dir = "" }) // they are the other process's
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir = publicDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, true
}

// publicDir is a directory that the daemon's unprivileged half can reach, with a
// name short enough for sockets.
func publicDir(t testing.TB) string {
	t.Helper()
	dir := must[string](t)(os.MkdirTemp("/tmp", "sfcd-"))
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// is fails the test unless err is a problem with a status and a reason.
func is(tb testing.TB, err error, status int, reason string) *api.Problem {
	tb.Helper()
	p, ok := errors.AsType[*api.Problem](err)
	if !ok || p.Status != status || p.Reason != reason {
		tb.Fatalf("%v, want a problem %d %s", err, status, reason)
	}
	return p
}

// faulty is a daemon as it is installed, in a network namespace of its own that
// two links lead into: in and out. Nothing of it is in the test's process.
type faulty struct {
	t    testing.TB
	dir  string // holds data and run
	args []string
	ns   *netns.NS
	far  [2]*netns.Link
	api  *client.Client
	log  lines

	cmd   *exec.Cmd
	ended chan error
}

// lines is a log that is written and read at the same time.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newFaulty makes the links and starts a daemon with its data below dir.
func newFaulty(t testing.TB, dir string, args ...string) *faulty {
	t.Helper()
	gate.Root(t)
	f := &faulty{t: t, dir: dir, args: args}
	closing := func(close func() error) {
		t.Cleanup(func() {
			if err := close(); err != nil {
				t.Error(err)
			}
		})
	}
	far := must[*netns.NS](t)(netns.New())
	closing(far.Close)
	f.ns = must[*netns.NS](t)(netns.New())
	closing(f.ns.Close)
	for i, name := range []string{"in", "out"} {
		l, _, err := netns.Veth(far, fmt.Sprint("far", i), f.ns, name, netns.VethOptions{})
		if err != nil {
			t.Fatal(err)
		}
		closing(must[*netns.Stub](t)(l.EnableNAPI()).Close)
		f.far[i] = l
	}
	f.api = must[*client.Client](t)(client.New(f.address(), client.Options{}))
	t.Cleanup(f.api.Close)
	t.Cleanup(func() {
		if t.Failed() {
			text := f.log.String()
			t.Logf("the daemon's log ends:\n%s", text[max(0, len(text)-8000):])
		}
	})
	f.start()
	t.Cleanup(f.stop)
	return f
}

func (f *faulty) address() string { return "unix://" + filepath.Join(f.dir, "run", "s") }
func (f *faulty) data() string    { return filepath.Join(f.dir, "data") }

// command is the daemon's, with these arguments after its own.
func (f *faulty) command(args ...string) *exec.Cmd {
	f.t.Helper()
	all := append([]string{"--config", "/dev/null", "--data-dir", f.data(), "--run-dir", filepath.Join(f.dir, "run"), "--listen", f.address()}, args...)
	cmd := exec.Command(filepath.Join(binaries(f.t), "sfcd"), all...)
	cmd.WaitDelay = time.Second // children of one that was killed have its log open
	return cmd
}

// launch runs a command in the daemon's namespace; ended has how it ended. When
// this process dies, the command ends: the thread that started it stays.
func (f *faulty) launch(cmd *exec.Cmd) (ended chan error) {
	f.t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		ended <- f.ns.Do(func() error {
			err := cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return cmd.Wait()
		})
	}()
	check(f.t, <-started)
	return ended
}

// start starts the daemon and waits until it serves.
func (f *faulty) start() {
	f.t.Helper()
	f.cmd = f.command(f.args...)
	f.cmd.Stderr = &f.log
	ready := strings.Count(f.log.String(), "sfcd is ready")
	f.ended = f.launch(f.cmd)
	f.await("ready", func() string {
		select {
		case err := <-f.ended:
			f.ended <- err
			f.t.Fatalf("it ended: %v\n%s", err, f.log.String())
		default:
		}
		if strings.Count(f.log.String(), "sfcd is ready") == ready {
			return "it is not ready"
		}
		return ""
	})
}

// stop ends the daemon in order.
func (f *faulty) stop() {
	f.t.Helper()
	if f.cmd == nil {
		return
	}
	if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		f.t.Error(err)
	}
	select {
	case err := <-f.ended:
		if err != nil {
			f.t.Errorf("the daemon ended: %v", err)
		}
	case <-time.After(30 * time.Second):
		f.t.Error("the daemon does not end")
		_ = f.cmd.Process.Kill() // the wait below says how that went
		<-f.ended
	}
	f.cmd = nil
}

// refused starts a daemon that must not begin, and returns what it says.
func (f *faulty) refused(cmd *exec.Cmd) string {
	f.t.Helper()
	var out lines
	cmd.Stdout, cmd.Stderr = &out, &out
	done := f.launch(cmd)
	select {
	case err := <-done:
		if err == nil {
			f.t.Errorf("it ended without an error: %s", out.String())
		}
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Signal(syscall.SIGTERM) // the wait says how that went
		<-done
		f.t.Errorf("it was not refused: %s", out.String())
	}
	return out.String()
}

// child is the process of a role.
func (f *faulty) child(role string) (pid int, ok bool) {
	f.t.Helper()
	tasks := must[[]string](f.t)(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", f.cmd.Process.Pid)))
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			name, err := os.ReadFile("/proc/" + field + "/cmdline")
			if err == nil && strings.HasPrefix(string(name), "sfcd: "+role) {
				return must[int](f.t)(strconv.Atoi(field)), true
			}
		}
	}
	return 0, false
}

// await waits until says is empty, and fails with the last it said.
func (f *faulty) await(what string, says func() string) {
	f.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text := says()
		if text == "" {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("never %s: %s", what, text)
		}
	}
}

// tenant makes a tenant with the function hop.
func (f *faulty) tenant(name string) {
	f.t.Helper()
	must[*api.Tenant](f.t)(f.api.Tenants().Create(context.Background(), &api.Tenant{Metadata: api.Metadata{Name: name}, Spec: api.TenantSpec{Chains: 10_000}}))
	hop := module(f.t, "hop")
	must[*api.Function](f.t)(f.api.Upload(context.Background(), name, client.Upload{
		Function: "hop", Version: "1.0.0", Module: bytes.NewReader(hop), Size: int64(len(hop)),
	}))
}

// ports attaches both links, unclaimed packets as they say.
func (f *faulty) ports(unmatched string) {
	f.t.Helper()
	for name, peer := range map[string]string{"in": "out", "out": "in"} {
		must[*api.Port](f.t)(f.api.Ports().Create(context.Background(), &api.Port{
			Metadata: api.Metadata{Name: name}, Spec: api.PortSpec{Peer: peer, Unmatched: unmatched},
		}))
	}
	for _, name := range []string{"in", "out"} {
		f.portReady(name)
	}
}

func (f *faulty) portReady(name string) {
	f.t.Helper()
	f.await("attached", func() string {
		p, err := f.api.Ports().Get(context.Background(), name)
		if err != nil || !p.Status.Conditions.IsTrue(api.Ready) {
			return fmt.Sprint(p, err)
		}
		return ""
	})
}

// chainOn is one from in to out for a VLAN.
func chainOn(name string, vlan int, module string) *api.Chain {
	return &api.Chain{Metadata: api.Metadata{Name: name}, Spec: api.ChainSpec{
		Match: []api.ChainMatch{{Port: "in", VLAN: &vlan}}, Egress: "out", Functions: []api.ChainFunction{{Module: module}},
	}}
}

// active makes a chain of hop and waits until it runs.
func (f *faulty) active(tenant, name string, vlan int) {
	f.t.Helper()
	must[*api.Chain](f.t)(f.api.Chains(tenant).Create(context.Background(), chainOn(name, vlan, "hop@1.0.0")))
	f.condition(tenant, name, api.Ready, api.True, "")
}

// condition waits for a condition of a chain; an empty reason is any.
func (f *faulty) condition(tenant, name, typ, status, reason string) {
	f.t.Helper()
	f.await(fmt.Sprintf("%s %s %s", typ, status, reason), func() string {
		c, err := f.api.Chains(tenant).Get(context.Background(), name)
		if err != nil {
			return err.Error()
		}
		have := c.Status.Conditions.Find(typ)
		if have == nil || have.Status != status || reason != "" && have.Reason != reason {
			return fmt.Sprintf("%+v", c.Status.Conditions)
		}
		return ""
	})
}

// running waits until the data plane has both ports and these chains: after a start
// objects say how they were before.
func (f *faulty) running(chains ...string) {
	f.t.Helper()
	f.await("running", func() string {
		s, err := f.api.Stats(context.Background(), "")
		if err != nil || len(s.Ports) != 2 {
			return fmt.Sprint(s, err)
		}
		var have []string
		for _, c := range s.Chains {
			have = append(have, c.Tenant+"/"+c.Name)
		}
		for _, c := range chains {
			if !slices.Contains(have, c) {
				return fmt.Sprintf("%s is not among %v", c, have)
			}
		}
		return ""
	})
}

// problem waits until the daemon's health says something.
func (f *faulty) problem(want string) {
	f.t.Helper()
	f.await("heard of", func() string {
		h, err := f.api.Health(context.Background())
		if err != nil {
			return err.Error()
		}
		if !strings.Contains(strings.Join(h.Problems, "; "), want) {
			return fmt.Sprintf("%q is not among %q", want, h.Problems)
		}
		return ""
	})
}

// well waits until the daemon's health is good.
func (f *faulty) well() {
	f.t.Helper()
	f.await("well", func() string {
		h, err := f.api.Health(context.Background())
		if err != nil || h.Status != "ok" {
			return fmt.Sprint(h, err)
		}
		return ""
	})
}

// probe is a UDP packet of a VLAN with a number in it.
func probe(vlan, n int) []byte {
	f := make([]byte, 64)
	copy(f, "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a\x08\x00")
	copy(f[14:], "\x45\x00\x00\x32\x00\x00\x40\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x01\x00\x01")
	f[34], f[35], f[37], f[39] = byte(20+n%200), byte(n), 53, 30
	packet.SetChecksums(f)
	return append(append(append([]byte{}, f[:12]...), 0x81, 0, byte(vlan>>8), byte(vlan)), f[12:]...)
}

// stream sends packets of a VLAN into in until stop, and counts what comes out of
// out.
type stream struct {
	stopped  chan struct{}
	wait     sync.WaitGroup
	sent     int
	received int
	longest  time.Duration // without a packet
}

func (f *faulty) stream(vlan int, every time.Duration) *stream {
	f.t.Helper()
	s := &stream{stopped: make(chan struct{})}
	send := must[*trafgen.Sender](f.t)(trafgen.OpenSender(f.far[0]))
	recv := must[*trafgen.Receiver](f.t)(trafgen.OpenReceiver(f.far[1]))
	over := make(chan struct{})
	s.wait.Go(func() {
		defer close(over)
		defer send.Close()
		for {
			select {
			case <-s.stopped:
				return
			default:
			}
			n, err := send.Send([][]byte{probe(vlan, s.sent)})
			if s.sent += n; err != nil {
				f.t.Errorf("send: %v", err)
				return
			}
			time.Sleep(every)
		}
	})
	s.wait.Go(func() {
		defer recv.Close()
		last, end := time.Now(), time.Time{}
		for end.IsZero() || time.Now().Before(end) {
			select {
			case <-over:
				if end.IsZero() {
					end = time.Now().Add(300 * time.Millisecond)
				}
			default:
			}
			if _, err := recv.Wait(20 * time.Millisecond); err != nil {
				f.t.Errorf("receive: %v", err)
				return
			}
			frames, err := recv.Receive()
			if err != nil {
				f.t.Errorf("receive: %v", err)
				return
			}
			for _, frame := range frames {
				if len(frame) < 18 || int(frame[14])<<8|int(frame[15]) != vlan {
					continue // of another stream
				}
				s.longest, last = max(s.longest, time.Since(last)), time.Now()
				s.received++
			}
		}
	})
	return s
}

// lost ends the stream and returns how many packets did not come.
func (s *stream) lost() int {
	close(s.stopped)
	s.wait.Wait()
	return s.sent - s.received
}

// raw sends a request that no client would, and returns what is answered.
func (f *faulty) raw(method, path, contentType string, body io.Reader) (status int, answer string) {
	f.t.Helper()
	r := must[*http.Request](f.t)(http.NewRequest(method, "http://sfcd"+path, body))
	r.Header.Set("Content-Type", contentType)
	socket := strings.TrimPrefix(f.address(), "unix://")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(text)
}
