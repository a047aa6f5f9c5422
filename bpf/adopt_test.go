package bpf

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"sfc/dataplane/classify"
	"sfc/dataplane/steer"
	"sfc/testbed/gate"
)

// viewEnv tells the test's program to open a view as a user without privileges:
// its description, as JSON.
const viewEnv = "BPF_TEST_VIEW"

// viewFiles are the files of a view, in the order in which they are inherited.
var viewFiles = []string{fileOwners, filePins, fileGrace, fileGraceInner, fileCounters + "0", fileSeq + "0"}

func TestMain(m *testing.M) {
	if d := os.Getenv(viewEnv); d != "" {
		if err := useView(d); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(gate.Main(m))
}

// useView uses all of a view as uid 65534, and says what it saw.
func useView(description string) error {
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
		return err
	}
	var d ViewDescription
	if err := json.Unmarshal([]byte(description), &d); err != nil {
		return err
	}
	files := map[string]*os.File{}
	for i, name := range viewFiles {
		files[name] = os.NewFile(uintptr(3+i), name)
	}
	v, err := OpenView(d, files)
	if err != nil {
		return err
	}
	closeFiles(files)
	if _, err := steer.NewPins(v.PinMemory()); err != nil {
		return err
	}
	o, err := steer.NewOwners(v.OwnerMemory(), d.Chains, 2)
	if err != nil {
		return err
	}
	o.Flip(3, 17, 1)
	c, err := v.Counters(0)
	if err != nil {
		return err
	}
	seq, err := v.Seq(0)
	if err != nil {
		return err
	}
	if err := v.Grace(); err != nil {
		return err
	}
	fmt.Printf("uid %d frames %d seq %d", os.Getuid(), c.Frames(), seq)
	return v.Close()
}

// A process without any capability has owners, pins, counters and grace periods,
// by descriptors alone.
func TestViewNeedsNoPrivileges(t *testing.T) {
	needKernel(t)
	s := steering(t, Config{Dynamic: true, MaxChains: 64, Workers: 2, Ports: []PortConfig{{Ifindex: loopback}}})
	for range 5 {
		run(t, s, 0, dns4)
	}
	d, files, err := s.ExportView()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFiles(files)
	env, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), viewEnv+"="+string(env))
	for _, name := range viewFiles {
		cmd.ExtraFiles = append(cmd.ExtraFiles, files[name])
	}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "uid 65534 frames 5 seq 5" {
		t.Errorf("%v: %q", err, out)
	}
	// What it wrote is what the programs read.
	o, _, err := steer.OpenOwners(s.OwnerMemory(), 64, 2)
	if err != nil {
		t.Fatal(err)
	}
	if o.Owner(3, 17) != 1 {
		t.Errorf("owner %d, want 1", o.Owner(3, 17))
	}
	if _, err := OpenView(ViewDescription{Version: DescriptionVersion, Chains: MaxChains, CPUs: 1}, files); err == nil {
		t.Error("a view of more than there is was opened")
	}
}

// chainRules are rules of n chains, one path each.
func chainRules(t testing.TB, n int) Rules {
	r := Rules{}
	var rules []classify.Rule
	for i := range n {
		rules = append(rules, classify.Rule{VLAN: classify.AnyVLAN, Proto: 17, Path: uint16(i),
			Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 32)})
		r.PathChain, r.Pins = append(r.PathChain, uint16(i)), append(r.Pins, i%2 == 0)
	}
	rules = append(rules, classify.Rule{VLAN: classify.AnyVLAN, Proto: 17, Path: uint16(n), DstPorts: classify.PortRange{Lo: 53, Hi: 53}})
	r.PathChain = append(r.PathChain, 0)
	r.Table = compile(t, rules)
	return r
}

// A steering is left to another one, which goes on with it: program and counters
// stay, rules and ports change.
func TestAdopt(t *testing.T) {
	w := newWires(t)
	in(t, w.near, func() error {
		first, err := Load(Config{Dynamic: true, MaxChains: 1024, HashKey: testKey, Ports: []PortConfig{{Ifindex: w.nearA.Index}}})
		if err != nil {
			return err
		}
		if _, err := first.Attach(0, Native); err != nil {
			return err
		}
		run(t, first, 0, dns4)
		d, files, err := first.Export()
		if err != nil {
			return err
		}
		defer closeFiles(files)
		id := attachedID(t, w, w.nearA.Index)
		if err := first.Leave(); err != nil {
			return err
		}
		js, err := json.Marshal(d)
		if err != nil {
			return err
		}
		var back Description
		if err := json.Unmarshal(js, &back); err != nil {
			return err
		}
		s, err := Adopt(back, files)
		if err != nil {
			return err
		}
		defer s.Close()
		if now := attachedID(t, w, w.nearA.Index); now != id || id == 0 {
			t.Errorf("program %d on the interface, was %d", now, id)
		}
		for i, n := range []int{1, 8, 1000, 1001, 1} {
			begin := time.Now()
			if err := s.Update(chainRules(t, n)); err != nil {
				return err
			}
			t.Logf("update %d, %d chains: %v, generation %d", i, n, time.Since(begin), s.Generation())
			if action, _, _ := run(t, s, 0, dns4); action != xdpDrop { // claimed, and no socket
				t.Errorf("update %d: action %d", i, action)
			}
		}
		if c := counters(t, s, 0); c.Frames() != 6 || c.NoSocket != 5 {
			t.Errorf("counters %+v", c)
		}
		// Ports come and go.
		port, err := s.AddPort(PortConfig{Ifindex: w.nearB.Index, Unmatched: classify.Forward, Pair: 0})
		if err != nil || port != 1 {
			return fmt.Errorf("port %d, %w", port, err)
		}
		if err := s.SetPort(0, PortConfig{Ifindex: w.nearA.Index, Unmatched: classify.Drop}); err != nil {
			return err
		}
		if action, _, _ := run(t, s, 0, web4); action != xdpDrop {
			t.Errorf("after the policy changed: action %d", action)
		}
		if err := s.RemovePort(0); err != nil {
			return err
		}
		if attachedID(t, w, w.nearA.Index) != 0 {
			t.Error("a removed port is attached still")
		}
		run(t, s, 1, web4)
		if c := counters(t, s, 1); c.NoPair != 1 {
			t.Errorf("forward to a port that is gone: %+v", c)
		}
		delete(files, fileTables)
		if _, err := Adopt(back, files); !errors.Is(err, ErrDescription) {
			t.Errorf("without a file: %v", err)
		}
		return nil
	})
}
