package agent

import (
	"bytes"
	"context"
	"fmt"

	"sfc/chains"
	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/packet"
)

// Bounds of traces.
const (
	maxTraces = 1000
	traceSnap = 256
	// maxOpen is how many packets are followed at a time: one whose end is lost
	// makes room for another.
	maxOpen = 4096
)

// Trace is plane.Plane's.
func (d *Dataplane) Trace(ctx context.Context, r plane.TraceRequest) ([]plane.Trace, error) {
	if r.Count < 1 || r.Count > maxTraces {
		return nil, fmt.Errorf("trace of %d packets: 1 to %d are possible", r.Count, maxTraces)
	}
	p, probe, err := d.look(r.Tenant, r.Chain, func(*chains.Chain) (dataplane.ProbeOptions, error) {
		return dataplane.ProbeOptions{
			Points: 1<<dataplane.AtIngress | 1<<dataplane.AtHop | 1<<dataplane.AtEgress | 1<<dataplane.AtDrop, Follow: true, Snap: traceSnap,
		}, nil
	}, r.Filter)
	if err != nil {
		return nil, err
	}
	t := tracing{p: p, want: r.Count, open: map[traced]*plane.Trace{}}
	p.follow(ctx, probe, t.see, func() bool { return true })
	return t.done, p.close(probe)
}

// traced tells a packet from others.
type traced struct {
	worker, port uint16
	seq          uint32
}

// tracing puts the ways of packets together.
type tracing struct {
	p    *probed
	want int
	open map[traced]*plane.Trace
	done []plane.Trace
}

// see takes a record, and says whether more are wanted.
func (t *tracing) see(r *dataplane.Record) bool {
	id := traced{r.Worker, r.InPort, r.Seq}
	if r.Point == dataplane.AtIngress {
		if len(t.open) >= maxOpen {
			clear(t.open)
		}
		way := "forward"
		if len(t.p.run.part.Paths) > 1 && r.Path == t.p.run.seat.Paths[1] {
			way = "return"
		}
		t.open[id] = &plane.Trace{
			Time: t.p.wall(r.TimeNs), Worker: int(r.Worker), Port: t.p.port(r.InPort), Path: way, Frame: bytes.Clone(r.Data), Length: int(r.Len),
		}
		return true
	}
	one := t.open[id]
	if one == nil {
		return true // it came in before anybody looked
	}
	switch r.Point {
	case dataplane.AtHop:
		hop := plane.TraceHop{
			Function: t.p.function(r.Hop), Verdict: r.Verdict.String(), Reason: t.p.reason(r),
			Changes: changes(r.Before, r.Data), Burst: int(r.Burst),
		}
		if r.Burst > 0 {
			hop.TookNs = r.TookNs / uint64(r.Burst)
		}
		hop.Version = t.p.version(r.Hop)
		one.Hops = append(one.Hops, hop)
		return true
	case dataplane.AtEgress:
		one.Verdict, one.Egress = "sent", t.p.port(r.OutPort)
		if r.Verdict == packet.Pass {
			one.Verdict, one.Egress = "passed", ""
		}
	default:
		one.Verdict, one.Reason = "dropped", t.p.reason(r)
	}
	one.TookNs, one.Flow = r.TookNs, t.p.flow(r)
	delete(t.open, id)
	t.done = append(t.done, *one)
	return len(t.done) < t.want
}

// changes are the ranges in which two frames differ. Bytes that only one of them
// has are a range, too.
func changes(before, after []byte) (list []plane.Change) {
	n := min(len(before), len(after))
	for i := 0; i < n; i++ {
		if before[i] == after[i] {
			continue
		}
		from := i
		for i < n && before[i] != after[i] {
			i++
		}
		list = append(list, plane.Change{Offset: from, Before: bytes.Clone(before[from:i]), After: bytes.Clone(after[from:i])})
	}
	if len(before) != len(after) {
		list = append(list, plane.Change{Offset: n, Before: bytes.Clone(before[n:]), After: bytes.Clone(after[n:])})
	}
	return list
}
