package replay

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/packet"
)

// BenchmarkEngine is the engine alone: packets from and to memory, one core,
// no kernel. Flows come in random order. Each operation is one packet.
func BenchmarkEngine(b *testing.B) {
	for _, chain := range []string{"empty", "edge"} {
		for _, size := range []int{64, 1500} {
			for _, flows := range []int{1_000, 100_000} {
				b.Run(fmt.Sprintf("chain=%s/size=%d/flows=%d", chain, size, flows), func(b *testing.B) {
					benchmarkEngine(b, benchChain(b, chain, false), size, flows)
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
				benchmarkEngine(b, benchChain(b, "edge", shared), size, 1_000)
			})
		}
	}
}

func benchmarkEngine(b *testing.B, chainFiles []string, size, flows int) {
	e, err := benchEngine(chainFiles)
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	st := &steering{table: e.Table(), port: e.Plan().Ports[portIn]}
	templates := benchTemplates(b, st, e.HashKey(), size, flows)
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

// benchEngine is a data plane that nobody watches.
func benchEngine(chainFiles []string) (*agent.Engine, error) {
	specs, err := agent.LoadSpecs(chainFiles)
	if err != nil {
		return nil, err
	}
	return agent.Open(agent.Options{Specs: specs, Ports: ports})
}

// benchChain writes a chain file: no functions, or the four of the example
// with an acl of 100 rules of which the traffic matches the last. A second
// tenant makes the ports shared.
func benchChain(b *testing.B, name string, shared bool) []string {
	b.Helper()
	catalog, err := filepath.Abs("../../nf/catalog")
	if err != nil {
		b.Fatal(err)
	}
	module := func(n string) string { return fmt.Sprintf("    - module: %s/%s/%s.wasm\n", catalog, n, n) }
	functions := "  functions: []\n"
	if name == "edge" {
		var rules strings.Builder
		for i := range 99 {
			fmt.Fprintf(&rules, "          - {action: deny, proto: %s, src: 172.%d.%d.0/24, dst: 10.%d.0.0/16, dst_ports: \"%d-%d\"}\n",
				[]string{"tcp", "udp"}[i%2], 16+i%16, i, i, 1000+i, 2000+i)
		}
		functions = "  functions:\n" +
			module("acl") + "      config:\n        default: deny\n        rules:\n" + rules.String() +
			"          - {action: permit, src: 10.0.0.0/8}\n" +
			module("ratelimit") + "      config: {rate: 1000000000, burst: 1000000000, unit: pps, max_sources: 4096, prefix4: 24}\n" +
			module("dnsguard") + "      config: {block: [ads.example]}\n" +
			module("hop") + "      config: {src_mac: \"02:00:00:00:00:02\", dst_mac: \"02:00:00:00:00:03\"}\n"
	}
	write := func(name, tenant, match, functions string) string {
		file := filepath.Join(b.TempDir(), name+".yaml")
		text := fmt.Sprintf("apiVersion: sfc/v1\nkind: Chain\nmetadata: {name: %s, tenant: %s}\nspec:\n  match: [%s]\n  egress: out\n%s",
			name, tenant, match, functions)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
		return file
	}
	files := []string{write("bench", "one", "{port: in, src: 10.0.0.0/8}", functions)}
	if shared {
		files = append(files, write("other", "two", "{port: in, src: 11.0.0.0/8}", "  functions: []\n"))
	}
	return files
}

// benchTemplates makes UDP packets of size bytes (FCS not counted), one per
// flow, in random order.
func benchTemplates(b *testing.B, st *steering, key [2]uint64, size, flows int) []dataplane.Template {
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
		s := st.steer(f, false)
		if s.verdict != steerPath {
			b.Fatalf("flow %d is not claimed: %+v", i, s)
		}
		out[i] = dataplane.Template{Frame: f, Meta: packet.Meta{
			Hash: packet.FlowHash(key, &s.info), Path: s.path, L3: s.info.L3, L4: s.info.L4,
			Flags: s.info.Flags, Proto: s.info.Proto, Version: packet.MetaVersion,
		}}
	}
	return out
}
