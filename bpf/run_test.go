package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/testbed/gate"
)

// testKey is the hash key of all tests.
var testKey = [2]uint64{0x0123456789abcdef, 0xfedcba9876543210}

// loopback is an interface that every namespace has.
const loopback = 1

// needKernel skips tests that cannot load programs.
func needKernel(tb testing.TB) {
	tb.Helper()
	gate.Root(tb)
	gate.Caps(tb, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN)
	gate.Kernel(tb, "6.1", "the steering program")
}

// socket returns an AF_XDP socket with a receive ring: all that a socket map
// asks of it. Nothing is ever received, so it needs no memory and no interface.
func socket(tb testing.TB) int {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatalf("AF_XDP socket: %v", err)
	}
	tb.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_XDP, unix.XDP_RX_RING, 64); err != nil {
		tb.Fatalf("receive ring: %v", err)
	}
	return fd
}

// compile compiles rules that are known to be good.
func compile(tb testing.TB, rules []classify.Rule) *classify.Table {
	tb.Helper()
	table, err := classify.Compile(rules)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

// steering loads c with testKey; it is closed when tb ends.
func steering(tb testing.TB, c Config) *Steering {
	tb.Helper()
	c.HashKey = testKey
	s, err := Load(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

// onePort loads a table on one port that passes what nothing claims and has a
// socket on queue 0.
func onePort(tb testing.TB, table *classify.Table) *Steering {
	tb.Helper()
	s := steering(tb, Config{Table: table, Ports: []PortConfig{{Ifindex: loopback}}})
	if err := s.SetSocket(0, 0, 0, socket(tb)); err != nil {
		tb.Fatal(err)
	}
	return s
}

// xdpMD is struct xdp_md.
type xdpMD struct{ Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32 }

// run gives one frame to the program of a port and returns the program's action,
// the metadata if there is any, and the frame as it left.
func run(tb testing.TB, s *Steering, port int, frame []byte) (action uint32, meta *packet.Meta, out []byte) {
	tb.Helper()
	ctx := xdpMD{DataEnd: uint32(len(frame))}
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+packet.MetaSize), Context: xdpMD{DataEnd: ctx.DataEnd}, ContextOut: &ctx}
	action, err := s.ports[port].prog.Run(&opts)
	if err != nil {
		tb.Fatalf("run over %d bytes: %v", len(frame), err)
	}
	out = opts.DataOut
	if n := int(ctx.Data - ctx.DataMeta); n != 0 {
		if n != packet.MetaSize {
			tb.Fatalf("%d bytes of metadata, want %d", n, packet.MetaSize)
		}
		m := *packet.MetaAt(out, n)
		return action, &m, out[n:]
	}
	return action, nil, out
}

// placing is the Go mirror of what the programs know of owners.
func (s *Steering) placing(pins *steer.Pins) *classify.Placing {
	p := &classify.Placing{Key: s.config.HashKey, Workers: s.config.Workers, Chains: len(s.config.Chains), PathChain: s.config.PathChain, Pins: pins}
	for _, c := range s.config.Chains {
		p.Pinned = append(p.Pinned, c.Pins)
	}
	return p
}
