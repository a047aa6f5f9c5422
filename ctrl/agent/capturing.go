package agent

import (
	"context"
	"fmt"
	"os"
	"strings"

	"sfc/chains"
	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/packet"
	"sfc/testbed/capture"
)

// captureSlots is how many packets wait to be written, per worker: 16 MiB with
// whole packets.
const captureSlots = 4096

// Capture is plane.Plane's.
func (d *Dataplane) Capture(ctx context.Context, r plane.CaptureRequest, out *os.File) (report plane.CaptureReport, err error) {
	if r.Count < 0 || r.Snap < 0 || r.Snap > packet.ChunkSize {
		return report, fmt.Errorf("capture of %d packets of %d bytes: want 0 or more, and 0 to %d", r.Count, r.Snap, packet.ChunkSize)
	}
	var at captured
	p, probe, err := d.look(r.Tenant, r.Chain, func(c *chains.Chain) (o dataplane.ProbeOptions, err error) {
		if at, err = capturedAt(c, r.At); err != nil {
			return o, err
		}
		o = dataplane.ProbeOptions{Points: 1 << at.point, Snap: r.Snap, Slots: captureSlots}
		if r.Snap == 0 {
			o.Snap = packet.ChunkSize
		}
		if at.point == dataplane.AtHop {
			o.Hops, o.Sides = 1<<at.hop, at.side
		}
		return o, nil
	}, r.Filter)
	if err != nil {
		return report, err
	}
	names := make([]string, 0, len(p.ports))
	for i, name := range p.ports {
		if name == "" {
			name = fmt.Sprintf("port %d", i) // was removed
		}
		names = append(names, name)
	}
	w, err := capture.NewWriter(out, names...)
	if err == nil {
		err = w.Flush() // readers see the header at once
	}
	if err == nil {
		p.follow(ctx, probe, func(rec *dataplane.Record) bool {
			frame, length := rec.Data, int(rec.Len)
			if at.side == packet.TraceBefore {
				frame, length = rec.Before, int(rec.BeforeLen)
			}
			if err = w.WriteOn(int(p.link(rec)), p.wall(rec.TimeNs).UnixNano(), frame, max(length, len(frame)), p.comment(rec)); err != nil {
				return false // the reader has gone
			}
			report.Written++
			return r.Count == 0 || report.Written < uint64(r.Count)
		}, func() bool { return w.Flush() == nil })
	}
	report.Seen, report.Lost = probe.Counts()
	return report, p.close(probe)
}

// captured is where packets are captured.
type captured struct {
	point dataplane.Point
	hop   int
	side  uint16
}

// capturedAt reads plane.CaptureRequest.At.
func capturedAt(c *chains.Chain, text string) (at captured, err error) {
	switch text {
	case "", "ingress":
		return captured{point: dataplane.AtIngress}, nil
	case "egress":
		return captured{point: dataplane.AtEgress}, nil
	case "drops":
		return captured{point: dataplane.AtDrop}, nil
	}
	name, side, _ := strings.Cut(text, ":")
	at.point, at.hop = dataplane.AtHop, -1
	var names []string
	for i, f := range c.Functions {
		if names = append(names, f.Name); f.Name == name {
			at.hop = i
		}
	}
	switch side {
	case "in":
		at.side = packet.TraceBefore
	case "out":
		at.side = packet.TraceAfter
	}
	if at.hop < 0 || at.side == 0 {
		return at, fmt.Errorf("capture at %q: say ingress, egress, drops, or one of %s with :in or :out", text, strings.Join(names, ", "))
	}
	return at, nil
}

// link is the port that a packet is shown at: where it leaves, or came in.
func (p *probed) link(r *dataplane.Record) uint16 {
	if r.Point == dataplane.AtEgress && r.Verdict != packet.Pass {
		return r.OutPort
	}
	return r.InPort
}

// comment says of a packet where it was seen, and what became of it there.
func (p *probed) comment(r *dataplane.Record) string {
	var where string
	switch r.Point {
	case dataplane.AtIngress:
		return fmt.Sprintf("ingress %s, worker %d", p.port(r.InPort), r.Worker)
	case dataplane.AtHop:
		where = "function " + p.function(r.Hop)
	case dataplane.AtEgress:
		where = "egress " + p.port(r.OutPort)
	default:
		where = "drop"
	}
	text := fmt.Sprintf("%s, worker %d, verdict %v", where, r.Worker, r.Verdict)
	if reason := p.reason(r); reason != "" {
		text += ", " + reason
	}
	return text
}
