package agent

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// maxFlowList is how many flows are listed when nobody says.
const maxFlowList = 100

// Flows is plane.Plane's.
func (d *Dataplane) Flows(ctx context.Context, q plane.FlowQuery) (out []plane.Flow, err error) {
	if q.Limit == 0 {
		q.Limit = maxFlowList
	}
	match, err := flowFilter(q.Filter)
	if err != nil {
		return nil, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, c := range d.sorted() {
		if c.run == nil || q.Tenant != "" && q.Tenant != c.want.Tenant || q.Chain != "" && q.Chain != c.want.Name {
			continue
		}
		for i, w := range d.workers {
			t := c.run.posts[i].flows
			if t == nil || q.Worker >= 0 && q.Worker != i {
				continue
			}
			look := flowLook{table: t, end: steer.Buckets}
			for look.bucket < look.end && len(out) < q.Limit && ctx.Err() == nil {
				look.room = flowsPerLook
				w.between(look.copy)
				now := uint32(dataplane.NewClock().Now() / uint64(time.Millisecond))
				for k := range look.found {
					f := &look.found[k]
					if len(out) < q.Limit && match(f) {
						out = append(out, describeFlow(c, i, f, now))
					}
				}
			}
		}
	}
	return out, ctx.Err()
}

// describeFlow says of a flow what users are told.
func describeFlow(c *liveChain, worker int, f *FlowInfo, nowMs uint32) plane.Flow {
	out := plane.Flow{
		Tenant: c.want.Tenant, Chain: c.want.Name, Worker: worker, Bucket: f.Bucket, State: f.State.String(),
		Idle: time.Duration(max(int32(nowMs-f.SeenMs), 0)) * time.Millisecond,
	}
	out.Proto, out.Src, out.Dst = tupleText(&f.Tuple)
	for i := range f.N {
		_, src, dst := tupleText(&f.Bound[i])
		out.Bound = append(out.Bound, src+" -> "+dst)
	}
	return out
}

// tupleText is a tuple in words.
func tupleText(t *flow.Tuple) (proto, src, dst string) {
	if name, ok := protoNames[t.Proto]; ok {
		proto = name
	} else {
		proto = strconv.Itoa(int(t.Proto))
	}
	if !packet.HasPorts(t.Proto) {
		return proto, t.Src.String(), t.Dst.String()
	}
	return proto, netip.AddrPortFrom(t.Src, t.SrcPort).String(), netip.AddrPortFrom(t.Dst, t.DstPort).String()
}

var protoNames = map[uint8]string{
	packet.ProtoICMP: "icmp", packet.ProtoTCP: "tcp", packet.ProtoUDP: "udp", packet.ProtoICMPv6: "icmp6", packet.ProtoSCTP: "sctp",
}
