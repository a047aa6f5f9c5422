package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// meterKernel is the kernel's half in memory, with ports that offer what they
// are given and take the worker's time.
type meterKernel struct {
	*inMemory
	in *meterPort
}

func (k *meterKernel) OpenPort(index int, _ plane.Port, _ int) (PortLink, error) {
	end := &meterPort{MemPort: dataplane.NewMemPort(k.opts.Frames.Bytes(), k.opts.Pools[0], nil, 0, 0), done: make(chan time.Duration, 1)}
	if index == 0 {
		k.in = end
	}
	return &meterLink{memLink{k: k.inMemory, index: uint16(index)}, end}, nil
}

func (k *meterKernel) ClosePort(int) error { return nil }

type meterLink struct {
	memLink
	end *meterPort
}

func (l *meterLink) Ends(int) []dataplane.Port { return []dataplane.Port{l.end} }

// meterPort offers frames, and tells when all are through how much CPU time that
// took. Whatever else runs on the machine is not in it, but for its caches.
type meterPort struct {
	*dataplane.MemPort
	begun int64
	done  chan time.Duration
}

func threadNanos() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now) // never fails
	return now.Nano()
}

func (p *meterPort) Receive(f []packet.Frame) int {
	switch n := p.MemPort.Receive(f); {
	case n > 0 && p.begun == 0:
		p.begun = threadNanos()
		return n
	case n == 0 && p.begun != 0:
		p.done <- time.Duration(threadNanos() - p.begun)
		p.begun = 0
		return n
	default:
		return n
	}
}

// template is a frame with what the steering program says of it.
func (k *meterKernel) template(b *testing.B, frame []byte) dataplane.Template {
	b.Helper()
	d := k.table.Steer(0, classify.Drop, frame)
	if d.Action != classify.Claim {
		b.Fatal("a frame is not claimed")
	}
	at := k.placing.Place(d.Path, &d.Info)
	return dataplane.Template{Frame: frame, Meta: packet.Meta{
		RxNs: dataplane.NewClock().Now(), Hash: uint32(at.Hash), Path: d.Path, L3: d.Info.L3, L4: d.Info.L4,
		Flags: d.Info.Flags, Proto: d.Info.Proto, Version: packet.MetaVersion, Bucket: at.Bucket,
	}}
}

// BenchmarkPlaneChains is what a packet costs with so many chains of one function
// with flow state: all of them on one chain, spread over all in trains of so many
// of one flow, and one by one. Packets come from memory and go there, on one
// worker; 64 flows of each chain. It is the worker's CPU time.
func BenchmarkPlaneChains(b *testing.B) {
	code := codeOf(b, "flowstat")
	for _, c := range []struct{ chains, busy, train int }{
		{1, 1, 1}, {1000, 1, 1}, {1000, 1000, 32}, {1000, 1000, 8}, {1000, 1000, 1},
	} {
		b.Run(fmt.Sprintf("chains=%d/busy=%d/train=%d", c.chains, c.busy, c.train), func(b *testing.B) {
			k := &meterKernel{inMemory: &inMemory{}}
			d, err := OpenPlane(PlaneOptions{Kernel: k})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			var list []plane.Chain
			for i := range c.chains {
				list = append(list, chainOf("acme", fmt.Sprint("c", i), 1+i, fn{"stat", "flowstat", ""}))
			}
			if err := d.PutCode(context.Background(), "flowstat", code); err != nil {
				b.Fatal(err)
			}
			if _, err := d.Apply(context.Background(), plane.Desired{Ports: twoPorts, Chains: list}); err != nil {
				b.Fatal(err)
			}
			const flows = 64
			rng := rand.New(rand.NewPCG(1, 2))
			templates := make([]dataplane.Template, 0, c.busy*flows*c.train)
			for _, i := range rng.Perm(c.busy * flows) {
				t := k.template(b, tagged(1+i%c.busy, i/c.busy))
				for range c.train {
					templates = append(templates, t)
				}
			}
			run := func(n int) time.Duration {
				d.workers[0].between(func() {
					k.in.MemPort = dataplane.NewMemPort(k.opts.Frames.Bytes(), k.opts.Pools[0], templates, 0, n)
				})
				return <-k.in.done
			}
			run(max(2*len(templates), 100_000)) // every flow is known
			took := run(b.N)
			b.ReportMetric(float64(took)/float64(b.N), "ns/pkt")
			s, err := d.Stats(context.Background())
			if err != nil || s.Workers[0].Dropped != 0 {
				b.Fatalf("%+v %v", s.Workers, err)
			}
		})
	}
}
