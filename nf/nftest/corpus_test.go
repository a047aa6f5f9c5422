package nftest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sfc/chains"
	"sfc/dataplane/packet"
	"sfc/nf/build"
	"sfc/nf/native"
	"sfc/nf/wasm"
	"sfc/testbed/capture"
	"sfc/testbed/gate"
)

// The reference can take a guest's place in a chain.
var _ chains.Function = (*native.Function)(nil)

// runners returns every implementation of a catalogue function that this machine
// can run, the reference first.
func runners(tb testing.TB, name string) []Runner {
	tb.Helper()
	all := []Runner{newReference(tb, name), newSandboxed(tb, name)}
	if err := compiler(); err != nil {
		tb.Logf("not compared with a native build: %v", err)
		return all
	}
	return append(all, newCompiled(tb, name))
}

// compiler says why nothing can be compiled here.
func compiler() error {
	_, err := library("hop")
	return err
}

// libraries are the catalogue's functions compiled for this machine, made when
// first asked for. TestMain removes them.
var libraries struct {
	sync.Mutex
	dir  string
	made map[string]string // paths
}

// library returns the path of a function's library.
func library(name string, flags ...string) (string, error) {
	libraries.Lock()
	defer libraries.Unlock()
	key := strings.Join(append([]string{name}, flags...), " ")
	if path := libraries.made[key]; path != "" {
		return path, nil
	}
	path := filepath.Join(libraries.dir, fmt.Sprintf("%d.so", len(libraries.made)))
	if err := build.Native(filepath.Join("..", "catalog", name), path, flags...); err != nil {
		return "", err
	}
	libraries.made[key] = path
	return path, nil
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sfc-nftest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	libraries.dir, libraries.made = dir, map[string]string{}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// newReference returns a function's reference.
func newReference(tb testing.TB, name string) *Reference {
	tb.Helper()
	r := NewReference(name)
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// newCompiled returns a catalogue function compiled for this machine; it skips
// the test where there is no compiler.
func newCompiled(tb testing.TB, name string, flags ...string) *Compiled {
	tb.Helper()
	path, err := library(name, flags...)
	if errors.Is(err, build.ErrNoCompiler) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	manifest, err := readManifest(filepath.Join("..", "catalog", name))
	if err != nil {
		tb.Fatal(err)
	}
	c, err := LoadCompiled(path, manifest)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// newSandboxed returns a catalogue function's module in the engine's runtime.
func newSandboxed(tb testing.TB, name string) *Sandboxed {
	tb.Helper()
	code, err := os.ReadFile(filepath.Join("..", "catalog", name, name+".wasm"))
	if err != nil {
		tb.Fatal(err)
	}
	rt, err := wasm.Open(wasm.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := NewSandboxed(rt, code)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(s.Close(), rt.Close()); err != nil {
			tb.Error(err)
		}
	})
	return s
}

var captures struct {
	once    sync.Once
	packets map[string][]Packet
	err     error
}

// capturePackets returns the packets of every capture of real traffic.
func capturePackets(tb testing.TB) map[string][]Packet {
	files := gate.Pcaps(tb)
	captures.once.Do(func() {
		captures.packets = map[string][]Packet{}
		for _, path := range files {
			list, err := capture.ReadFile(path)
			var cut *capture.TruncatedError
			if err != nil && !errors.As(err, &cut) {
				captures.err = err
				return
			}
			for _, p := range list {
				frame := p.Data[:min(len(p.Data), packet.MaxFrame)]
				captures.packets[path] = append(captures.packets[path], NewPacket(frame, uint64(p.TimeNs)))
			}
			assignFlows(tb, captures.packets[path])
		}
	})
	if captures.err != nil {
		tb.Fatal(captures.err)
	}
	return captures.packets
}

// configs are configurations that decide both ways on ordinary traffic.
var configs = map[string][]string{
	"acl": {
		`{}`,
		`{"default":"deny","rules":[{"action":"permit","proto":"tcp","dst_ports":[80,443,"1024-5000"]},
			{"action":"permit","proto":"udp","src_ports":"53"},{"action":"permit","src":"192.168.0.0/16","proto":17},
			{"action":"permit","dst":"ff02::/16"}]}`,
		`{"rules":[{"action":"deny","tcp_flags":{"set":["syn"],"clear":["ack"]},"dst":"0.0.0.0/1"},
			{"action":"permit","src":"10.0.0.0/8"},{"action":"deny","proto":"udp","dst_ports":"1-1023"}]}`,
	},
	"firewall": {
		`{}`,
		`{"default":"deny","rules":[{"action":"permit","src":"10.0.0.0/8"},{"action":"permit","src":"192.168.0.0/16"},
			{"action":"permit","src":"172.16.0.0/12"},{"action":"permit","src":"fe80::/10"}]}`,
		`{"rules":[{"action":"deny","proto":"udp","dst_ports":"1-1023"},{"action":"deny","proto":"tcp","dst_ports":80}]}`,
		`{"pickup":"loose","syn_limits":{"per_source":{"rate":1,"burst":1,"count":"new","prefix4":8},"per_destination":{"rate":1,"burst":2,"prefix4":0,"max":8}}}`,
	},
	"flowstat": {
		`{}`,
		`{"tcp_rtt":true}`,
		`{"tcp_rtt":true,"active_timeout":2}`,
	},
	"ratelimit": {
		`{"rate":20,"burst":5}`,
		`{"rate":200000,"unit":"bps","burst":40000,"prefix4":24,"prefix6":32,"max_sources":8}`,
		`{"rate":1,"burst":1,"prefix4":0,"prefix6":0,"max_sources":1}`,
		`{"key":"flow","rate":30,"burst":8}`,
		`{"key":"flow","rate":40,"burst":20,"also":{"rate":60000,"unit":"bps","burst":30000}}`,
	},
	"hop": {
		`{}`,
		`{"src_mac":"02:aa:bb:cc:dd:ee","dst_mac":"02:11:22:33:44:55"}`,
		`{"decrement":false,"dst_mac":"02:11:22:33:44:FF"}`,
	},
	"lb4": {
		`{"table_size":251,"services":[{"vip":"192.168.1.1","backends":[{"addr":"10.0.1.1"},{"addr":"10.0.1.2"}]},{"vip":"10.0.2.15","backends":[{"addr":"10.0.1.3"}]}]}`,
		`{"table_size":13,"others":"drop","services":[{"vip":"192.168.0.1","mode":"dsr","backends":[{"addr":"10.0.1.1","mac":"02:00:00:00:01:01"}]}]}`,
		`{"services":[{"vip":"192.0.2.10","port":80,"proto":"tcp","backends":[{"addr":"10.0.1.1","port":8080},{"addr":"10.0.1.2"}]}]}`,
	},
	"nat44": {
		`{"inside":["10.0.0.0/8","172.16.0.0/12","192.168.0.0/16"],"pool":["203.0.113.0/28"],"filtering":"endpoint_independent"}`,
		`{"inside":["10.0.0.0/8","172.16.0.0/12","192.168.0.0/16"],"pool":["203.0.113.0-203.0.113.1"],"others":"pass","ports":"1000-1100"}`,
		`{"inside":["10.0.0.0/24"],"pool":["203.0.113.1"],"mapping":"address_and_port_dependent","ports":"4000-4100"}`,
	},
	"dnsguard": {
		`{"block":["com","example.org"]}`,
		`{"block":["skype.com.","microsoft.com","local"],"ports":[53,5353,137],"malformed":"pass"}`,
		`{"block":["net"],"action":"count","ports":[53,5353,1900,443]}`,
	},
}

// TestCaptures compares all implementations on real traffic.
func TestCaptures(t *testing.T) {
	for _, name := range native.Names() {
		t.Run(name, func(t *testing.T) {
			all := runners(t, name)
			seen := map[packet.Verdict]int{}
			for _, packets := range capturePackets(t) {
				for _, config := range configs[name] {
					for _, r := range Compare(t, []byte(config), packets, all...) {
						seen[r.Verdict]++
					}
				}
			}
			if seen[packet.Next] == 0 || seen[packet.Drop] == 0 != neverDrops[name] || len(seen) > 2 {
				t.Errorf("verdicts %v: the captures exercise only part of the function", seen)
			}
			t.Logf("verdicts %v", seen)
		})
	}
}

// TestBurstsDoNotMatter runs real traffic in bursts of random size: decisions
// must not depend on how packets fall into bursts. Those of functions that bind
// tuples do: they hold from the next burst on.
func TestBurstsDoNotMatter(t *testing.T) {
	for _, name := range native.Names() {
		if native.Asks(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r := newSandboxed(t, name)
			rng := rand.New(rand.NewPCG(1, 2))
			for path, packets := range capturePackets(t) {
				config := []byte(pick(newGen(rng.Uint64()), configs[name]...))
				if err := r.Configure(config); err != nil {
					t.Fatal(err)
				}
				want := r.Process(packets)
				if err := r.Configure(config); err != nil {
					t.Fatal(err)
				}
				for i := 0; i < len(packets); {
					n := min(1+rng.IntN(packet.BurstSize), len(packets)-i)
					for k, got := range r.Process(packets[i : i+n]) {
						if diff := want[i+k].Diff(got); diff != "" {
							t.Fatalf("%s: packet %d: %s", path, i+k, diff)
						}
					}
					i += n
				}
			}
		})
	}
}
