package bpf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

const (
	// liveFrames is BPF_F_TEST_XDP_LIVE_FRAMES: the test run really sends.
	liveFrames = 1 << 1
	// liveBatch is how many frames the kernel makes between two looks at
	// whether it should stop. 64 is its default, and one NAPI budget.
	liveBatch = 64
	// maxTemplate bounds the template: one page less headroom and tailroom.
	maxTemplate = 3000
	// genHeaderBytes is how much of the template is written anew per frame:
	// MAX_HEADER_WORDS in generate.bpf.c.
	genHeaderBytes = 128
)

// GeneratorOptions describe a load.
type GeneratorOptions struct {
	// Frame is the template: IPv4 or IPv6 with TCP or UDP in the first 128
	// bytes, at most 3000 bytes, checksums right. A UDP checksum of 0 on IPv4
	// stays 0.
	Frame []byte
	// Flows is the number of flows, a power of two up to 2^20. The n-th adds
	// n%4096 to the template's source port and n/4096 to its source address,
	// and they come in a scattered order. Default 1.
	Flows int
	// Spread adds n/4096 to the destination address as well: flows with the
	// same ports differ in both, so that one address can stand for all sources.
	Spread bool
	// Repeat is the number of frames per system call. Each call sleeps some
	// 25 ms before it starts, so that small numbers leave the link idle; a call
	// cannot be stopped. Default 2^22.
	Repeat uint32
}

// Generator sends frames from inside the kernel, several million a second on
// one core, so that a benchmark measures its subject and not its load.
type Generator struct {
	objs   generateObjects
	frame  []byte
	repeat uint32
}

// OpenGenerator loads a generator for the interface. Frames enter the device's
// transmit side as a redirect would: a veth takes them only if its peer has a
// program or GRO on (see [Pass]).
func OpenGenerator(ifindex int, o GeneratorOptions) (_ *Generator, err error) {
	if o.Flows == 0 {
		o.Flows = 1
	}
	if o.Repeat == 0 {
		o.Repeat = 1 << 22
	}
	if o.Flows < 0 || o.Flows > 1<<20 || bits.OnesCount(uint(o.Flows)) != 1 {
		return nil, fmt.Errorf("%w: %d flows, want a power of two up to %d", ErrConfig, o.Flows, 1<<20)
	}
	if ifindex <= 0 {
		return nil, fmt.Errorf("%w: interface index %d", ErrConfig, ifindex)
	}
	spec, err := loadGenerate()
	if err != nil {
		return nil, fmt.Errorf("read the generator object: %w", err)
	}
	var specs generateSpecs
	if err := spec.Assign(&specs); err != nil {
		return nil, fmt.Errorf("read the generator object: %w", err)
	}
	v := &specs.generateVariableSpecs
	if err := errors.Join(setTemplate(v, o.Frame, o.Spread), v.GenIfindex.Set(uint32(ifindex)), v.GenFlowMask.Set(uint32(o.Flows-1))); err != nil {
		return nil, err
	}
	g := &Generator{frame: slices.Clone(o.Frame), repeat: o.Repeat}
	if err := spec.LoadAndAssign(&g.objs, nil); err != nil {
		return nil, explain(fmt.Errorf("load the generator: %w", err))
	}
	return g, nil
}

// setTemplate sets the constants that describe the template.
func setTemplate(v *generateVariableSpecs, frame []byte, spread bool) error {
	in, result := packet.Parse(frame)
	if result != packet.ParsedIP || in.L4 == 0 || in.Flags&packet.FlagFragment != 0 ||
		in.Proto != packet.ProtoTCP && in.Proto != packet.ProtoUDP || len(frame) > maxTemplate {
		return fmt.Errorf("%w: the generator's template (%d bytes, %v) is not a whole TCP or UDP packet of at most %d bytes", ErrConfig, len(frame), result, maxTemplate)
	}
	addrAt, toAt, ipSumAt, l4SumAt := in.L3+20, in.L3+36, uint16(0), in.L4+16
	if in.Flags&packet.FlagIPv4 != 0 {
		addrAt, toAt, ipSumAt = in.L3+12, in.L3+16, in.L3+10
	}
	to := binary.BigEndian.Uint32(frame[toAt:])
	if !spread {
		toAt = 0
	}
	at16 := func(at uint16) uint16 { return binary.BigEndian.Uint16(frame[at:]) }
	udp := in.Proto == packet.ProtoUDP
	if udp {
		l4SumAt = in.L4 + 6
	}
	if int(l4SumAt)+2 > genHeaderBytes {
		return fmt.Errorf("%w: the template's headers end behind byte %d", ErrConfig, genHeaderBytes)
	}
	var ipSum uint16
	if ipSumAt != 0 {
		ipSum = at16(ipSumAt)
	}
	l4Sum := at16(l4SumAt)
	if udp && l4Sum == 0 {
		l4SumAt = 0
	}
	var header [genHeaderBytes / 8]uint64
	words := min(len(frame)/8, len(header))
	for i := range words {
		header[i] = binary.LittleEndian.Uint64(frame[8*i:])
	}
	var isUDP uint8
	if udp {
		isUDP = 1
	}
	return errors.Join(
		v.GenHeader.Set(header), v.GenHeaderWords.Set(uint32(words)),
		v.GenAddrAt.Set(uint32(addrAt)), v.GenAddr.Set(binary.BigEndian.Uint32(frame[addrAt:])),
		v.GenToAt.Set(uint32(toAt)), v.GenTo.Set(to),
		v.GenPortAt.Set(uint32(in.L4)), v.GenPort.Set(in.SrcPort),
		v.GenIpSumAt.Set(uint32(ipSumAt)), v.GenIpSum.Set(ipSum),
		v.GenL4SumAt.Set(uint32(l4SumAt)), v.GenL4Sum.Set(l4Sum),
		v.GenUdp.Set(isUDP),
	)
}

// Run sends frames until there were n of them, or ctx is done, which is looked
// at between two system calls. A signal to the thread can make it send more than
// n. It returns how many were made; how many of them
// the link took, the receiver must count. It must run in the interface's network
// namespace, and keeps one core busy.
func (g *Generator) Run(ctx context.Context, n uint64) (made uint64, err error) {
	start, err := g.made()
	if err != nil {
		return 0, err
	}
	for made < n && ctx.Err() == nil {
		_, err := g.objs.Generate.Run(&ebpf.RunOptions{
			Data:      g.frame,
			Repeat:    uint32(min(n-made, uint64(g.repeat))),
			Flags:     liveFrames,
			BatchSize: liveBatch,
		})
		now, readErr := g.made()
		made = now - start
		if errors.Is(err, unix.EINVAL) {
			err = errors.Join(err, &UnsupportedError{"test runs with live frames", "5.18"})
		}
		if err := errors.Join(err, readErr); err != nil {
			return made, explain(fmt.Errorf("generate %d frames: %w", n, err))
		}
	}
	return made, nil
}

// made returns how many frames the program made so far.
func (g *Generator) made() (uint64, error) {
	var s generateGenState
	if err := g.objs.State.Lookup(uint32(0), &s); err != nil {
		return 0, fmt.Errorf("read the generator's count: %w", err)
	}
	return s.Frames, nil
}

// Close releases the generator. It must not run.
func (g *Generator) Close() error { return g.objs.Close() }
