package dataplane

import (
	"fmt"
	"testing"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/nf"
)

// nothing is a runner that sends every packet on: what is left is the worker.
type nothing struct {
	runnerFunc
	port uint16
}

func (r *nothing) Process(b *packet.Burst) {
	for k := range int(b.N) {
		b.Out[k] = packet.Outcome{Verdict: packet.Tx, Port: r.port}
	}
}

// benchWorker makes a worker on memory ports with so many chains, whose packets
// come in turn from the first busy of them.
func benchWorker(tb testing.TB, chains, busy int, change func(*Config)) *Worker {
	tb.Helper()
	region := make([]byte, 1024*packet.ChunkSize)
	pool := packet.NewPool(len(region))
	frame := make([]byte, 64)
	frame[12], frame[13] = 8, 0
	templates := make([]Template, busy)
	for i := range templates {
		templates[i] = Template{Frame: frame, Meta: packet.Meta{Path: uint16(i), L3: 14, L4: 34, Flags: packet.FlagIPv4, Proto: 17, Version: packet.MetaVersion, RxNs: 1}}
	}
	cfg := Config{Core: -1, Region: region, Pool: pool, GuestBase: nf.FramesStart, Ports: []Port{
		NewMemPort(region, pool, templates, 0, 1<<60), NewMemPort(region, pool, nil, 0, 0)}}
	for i := range chains {
		cfg.Paths = append(cfg.Paths, Path{Chain: uint16(i), Runner: &nothing{port: 1}, Descs: new([packet.BurstSize]packet.Desc), Egress: 1})
	}
	if change != nil {
		change(&cfg)
	}
	w, err := NewWorker(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = w.Stop() })
	return w
}

// BenchmarkWorker is the worker's own cost: memory ports, functions that do
// nothing, packets of busy chains in turn.
func BenchmarkWorker(b *testing.B) {
	for _, c := range []struct{ chains, busy int }{{1, 1}, {1000, 1}, {8, 8}, {1000, 64}} {
		b.Run(fmt.Sprintf("chains=%d/busy=%d", c.chains, c.busy), func(b *testing.B) {
			w := benchWorker(b, c.chains, c.busy, nil)
			for range 64 {
				w.turn()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += packet.BurstSize {
				w.turn()
			}
		})
	}
}

// BenchmarkIdleChains is a round of periodic calls, ten of which a worker makes
// a second, for a thousand chains that have no packets.
func BenchmarkIdleChains(b *testing.B) {
	tuples, err := flow.NewReader(flow.ReaderOptions{})
	if err != nil {
		b.Fatal(err)
	}
	w := benchWorker(b, 1000, 1, func(c *Config) {
		c.Tuples = tuples
		for i := range c.Paths {
			table, err := flow.New(flow.Options{Max: 1024, Buckets: steer.Buckets, Sparse: true})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { table.Close() })
			c.Paths[i].Flows = table
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range w.list {
			c.nextTick = 0
		}
		w.tickAgain = 0
		for w.quietTick(); w.ticked != noTicks; {
			w.moreTicks()
		}
	}
}
