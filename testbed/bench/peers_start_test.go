package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/bpf"
	"sfc/chains"
	"sfc/ctrl/agent"
)

// startSFC runs this engine: the chain forward, and an empty one back.
func startSFC(t *testing.T, w *peerWorld, chain string) (func(), func() time.Duration) {
	t.Helper()
	return startEngine(t, w, false, peerChains(t, chain))
}

// startEngine runs this engine with one worker, as a bump in the wire or as a
// router.
func startEngine(t *testing.T, w *peerWorld, routed bool, specs []chains.Spec) (func(), func() time.Duration) {
	t.Helper()
	e := must(agent.Open(agent.Options{Specs: specs, Ports: ports}))(t)
	err := w.dut.Do(func() error {
		return e.Connect([]agent.Port{{Ifindex: w.in.Index, Mode: bpf.Native, Routed: routed}, {Ifindex: w.out.Index, Mode: bpf.Native, Routed: routed}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
		c := e.Workers()[0]
		if c.Received != c.Sent+c.Passed+c.Dropped {
			t.Errorf("%+v does not add up", c)
		}
		if routed && c.Dropped > c.Received/1000 {
			t.Errorf("%+v: dropped more than one in a thousand", c)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	return stop, func() time.Duration { return coreBusy(t, 1) }
}

// startTestpmd runs dpdk-testpmd with its af_xdp driver: it moves packets from
// one port to the other and looks at nothing.
func startTestpmd(t *testing.T, w *peerWorld) (func(), func() time.Duration) {
	t.Helper()
	var cmd *exec.Cmd
	var stdin io.Closer // testpmd ends when its input does
	err := w.dut.Do(func() (err error) {
		cmd = exec.Command("dpdk-testpmd", "--no-huge", "--no-pci", "-m", "512", "-l", "0,1", "--main-lcore", "0",
			"--file-prefix", "sfc"+strconv.Itoa(os.Getpid()), "--vdev", "net_af_xdp0,iface=in", "--vdev", "net_af_xdp1,iface=out",
			"--", "--forward-mode=io", "--auto-start", "--nb-cores=1", "--total-num-mbufs=16384", "--no-lsc-interrupt")
		cmd.Stdout, cmd.Stderr = nil, nil
		if stdin, err = cmd.StdinPipe(); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	stop := func() {
		if err := cmd.Process.Signal(unix.SIGINT); err != nil {
			t.Error(err)
		}
		done := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		done.Stop()
		stdin.Close()
	}
	return stop, func() time.Duration { return coreBusy(t, 1) }
}

// coreBusy returns how long a core has not been idle.
func coreBusy(t *testing.T, core int) time.Duration {
	t.Helper()
	b := must(os.ReadFile("/proc/stat"))(t)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if f[0] != "cpu"+strconv.Itoa(core) {
			continue
		}
		var busy int64
		for i, s := range f[1:8] {
			if n, _ := strconv.ParseInt(s, 10, 64); i != 3 && i != 4 {
				busy += n
			}
		}
		return time.Duration(busy) * 10 * time.Millisecond
	}
	t.Fatalf("no core %d in /proc/stat", core)
	return 0
}

// addressed gives the dut's ports addresses, routes to the networks of both ends,
// and their hardware addresses, which nobody has to ask for.
func addressed(w *peerWorld) error {
	return sh(fmt.Sprintf(`set -e
ip addr add 10.0.0.254/24 dev in; ip addr add 10.0.1.254/24 dev out
ip link set in arp on; ip link set out arp on
ip neigh replace 10.0.1.2 lladdr %s dev out nud permanent
ip neigh replace 10.0.0.1 lladdr %s dev in nud permanent
ip route add 10.1.0.0/16 via 10.0.0.1; ip route add 10.2.0.0/16 via 10.0.1.2`, w.s0.MAC, w.g0.MAC))
}

// startLinux turns the dut namespace into a router; receive processing is
// moved to core 1 (RPS), so that it does not share the generator's.
func startLinux(t *testing.T, w *peerWorld) (func(), func() time.Duration) {
	t.Helper()
	pass := new(bpf.Pass)
	err := w.dut.Do(func() (err error) {
		if pass, err = bpf.OpenPass(w.in.Index, bpf.Native); err != nil {
			return err
		}
		if err := addressed(w); err != nil {
			return err
		}
		return sh(`set -e
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.in.rp_filter=0
unshare -m sh -c 'mount -t sysfs s /sys; echo 2 > /sys/class/net/in/queues/rx-0/rps_cpus; echo 2 > /sys/class/net/out/queues/rx-0/rps_cpus'`)
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() { pass.Close() }, func() time.Duration { return coreBusy(t, 1) }
}

func sh(script string) error {
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
