package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"sfc/chains"
	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// BenchmarkEngine is the engine alone: packets from and to memory, one core,
// no kernel. Flows come in random order. Each operation is one packet.
func BenchmarkEngine(b *testing.B) {
	for _, chain := range []string{"empty", "edge"} {
		for _, size := range []int{64, 1500} {
			for _, flows := range []int{1_000, 100_000} {
				b.Run(fmt.Sprintf("chain=%s/size=%d/flows=%d", chain, size, flows), func(b *testing.B) {
					benchmarkEngine(b, size, flows, oneWay("bench", portIn, statelessChain(b, chain)...))
				})
			}
		}
	}
}

// BenchmarkMemoryMode compares the two memory modes: functions that see the
// port's own frames, and one copy in and one out.
func BenchmarkMemoryMode(b *testing.B) {
	for _, size := range []int{64, 1500} {
		for _, shared := range []bool{false, true} {
			name := map[bool]string{false: "exclusive", true: "shared"}[shared]
			b.Run(fmt.Sprintf("size=%d/memory=%s", size, name), func(b *testing.B) {
				specs := []chains.Spec{oneWay("bench", portIn, statelessChain(b, "edge")...)}
				if shared { // a second tenant makes the ports shared
					other := oneWay("other", portIn)
					other.Tenant, other.Match[0].Src, other.Priority = "two", netip.MustParsePrefix("11.0.0.0/8"), 1
					specs = append(specs, other)
				}
				benchmarkEngine(b, size, 1_000, specs...)
			})
		}
	}
}

func benchmarkEngine(b *testing.B, size, flows int, specs ...chains.Spec) {
	e, err := agent.Open(agent.Options{Specs: specs, Ports: ports})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	templates := udpTemplates(b, e, size, flows)
	var in, out *dataplane.MemPort
	err = e.ConnectMemory(func(m agent.Memory) []dataplane.Port {
		in = dataplane.NewMemPort(m.Region, m.Pool, templates, 0, 1_000_000) // warms up
		out = dataplane.NewMemPort(m.Region, m.Pool, nil, 0, 0)
		return []dataplane.Port{in, out}
	}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	err = e.Run(func() bool {
		if in.Left > 0 {
			return false
		}
		if out.Transmitted < 1_000_000+uint64(b.N) {
			in.Left = b.N
			b.ResetTimer()
			return false
		}
		return true
	})
	b.StopTimer()
	if err != nil {
		b.Fatal(err)
	}
	c := e.Workers()[0]
	if c.Dropped != 0 || c.Sent != c.Received {
		b.Fatalf("received %d, sent %d, dropped %d: the traffic must pass; %+v", c.Received, c.Sent, c.Dropped, e.Functions(0))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mpps")
}

// udpTemplates makes UDP packets of size bytes (FCS not counted), one per
// flow, in random order.
func udpTemplates(b *testing.B, e *agent.Engine, size, flows int) []dataplane.Template {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	size -= 4 // a 64-byte packet on the wire has 60 bytes and the FCS
	if size > 1000 {
		size += 4
	}
	out := make([]dataplane.Template, flows)
	for i := range out {
		f := make([]byte, size)
		f[12], f[13] = 8, 0
		ip := f[14:]
		ip[0], ip[8], ip[9] = 0x45, 64, 17
		binary.BigEndian.PutUint16(ip[2:], uint16(size-14))
		ip[12], ip[13], ip[14], ip[15] = 10, byte(rng.Uint32()), byte(rng.IntN(16)), byte(rng.Uint32())
		ip[16], ip[17], ip[18], ip[19] = 10, byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())
		binary.BigEndian.PutUint16(ip[20:], uint16(1024+rng.IntN(60000)))
		binary.BigEndian.PutUint16(ip[22:], uint16(1024+rng.IntN(60000)))
		binary.BigEndian.PutUint16(ip[24:], uint16(size-34))
		binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip[:20], 0))
		d := e.Table().Steer(portIn, classify.Drop, f)
		if d.Action != classify.Claim {
			b.Fatalf("flow %d is not claimed: %+v", i, d)
		}
		out[i] = dataplane.Template{Frame: f, Meta: packet.Meta{
			Hash: packet.FlowHash(e.HashKey(), &d.Info), Path: d.Path, L3: d.Info.L3, L4: d.Info.L4,
			Flags: d.Info.Flags, Proto: d.Info.Proto, Version: packet.MetaVersion,
		}}
	}
	return out
}
