package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"sfc/ctrl/agent"
	"sfc/dataplane/flow"
	"sfc/dataplane/steer"
)

// FlowQuery says which flows are wanted.
type FlowQuery struct {
	// Chain is a name, or tenant/name; empty: all chains.
	Chain string `json:"chain,omitempty"`
	// Bucket is an ownership bucket; -1: all.
	Bucket int `json:"bucket"`
	// Limit is the most that are listed, 1 to MaxFlows.
	Limit int `json:"limit"`
}

// MaxFlows is the most flows of one answer.
const MaxFlows = 100_000

// FlowList is what lives.
type FlowList struct {
	// Live is how many flows there are, listed or not, of all chains.
	Live  int        `json:"live"`
	Flows []FlowInfo `json:"flows"`
}

// FlowInfo is one flow.
type FlowInfo struct {
	Chain    string `json:"chain"` // tenant/name
	Worker   int    `json:"worker"`
	Bucket   int    `json:"bucket"`
	Protocol string `json:"protocol"`
	// Src and Dst are as in the flow's first packet, with ports; of an ICMP
	// query, with its identifier.
	Src    string `json:"src"`
	Dst    string `json:"dst"`
	State  string `json:"state"`
	IdleMs int64  `json:"idle_ms"`
	// Translated are the tuples that functions added, in the same direction.
	Translated []Ends `json:"translated,omitempty"`
}

// Ends are the two ends of a tuple.
type Ends struct {
	Src string `json:"src"`
	Dst string `json:"dst"`
}

// Flows lists flows that live.
func (l *Lab) Flows(q FlowQuery) (*FlowList, error) {
	f := agent.FlowFilter{Chain: -1, Bucket: q.Bucket, Limit: q.Limit}
	if q.Limit < 1 || q.Limit > MaxFlows {
		return nil, fmt.Errorf("limit %d: list 1 to %d flows", q.Limit, MaxFlows)
	}
	if q.Bucket < -1 || q.Bucket >= steer.Buckets {
		return nil, fmt.Errorf("bucket %d: a chain has buckets 0 to %d", q.Bucket, steer.Buckets-1)
	}
	if q.Chain != "" {
		chain, err := l.eng.Chain(q.Chain)
		if err != nil {
			return nil, err
		}
		f.Chain = chain
	}
	list := &FlowList{Flows: []FlowInfo{}}
	for _, c := range l.eng.Stats() {
		if c.Flows != nil {
			list.Live += c.Flows.Live
		}
	}
	for _, info := range l.eng.Flows(f) {
		list.Flows = append(list.Flows, flowInfo(l.eng.Plan().Chains[info.Chain].Title(), &info))
	}
	return list, nil
}

func flowInfo(chain string, f *agent.FlowInfo) FlowInfo {
	ends := endsOf(&f.Tuple)
	info := FlowInfo{
		Chain: chain, Worker: f.Worker, Bucket: int(f.Bucket), Protocol: protocolName(f.Tuple.Proto),
		Src: ends.Src, Dst: ends.Dst, State: f.State.String(), IdleMs: f.Idle.Milliseconds(),
	}
	for i := range f.N {
		info.Translated = append(info.Translated, endsOf(&f.Bound[i]))
	}
	return info
}

func endsOf(t *flow.Tuple) Ends {
	return Ends{endOf(t.Src, t.SrcPort), endOf(t.Dst, t.DstPort)}
}

// endOf is an address with its port, if there is one.
func endOf(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return net.JoinHostPort(a.String(), strconv.Itoa(int(port)))
}

// protocolName is that of chain files, or a number.
func protocolName(n uint8) string {
	switch n {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 58:
		return "icmpv6"
	case 132:
		return "sctp"
	}
	return strconv.Itoa(int(n))
}

// Flows asks for flows.
func (c *Client) Flows(ctx context.Context, q FlowQuery) (l *FlowList, err error) {
	_, err = c.call(ctx, opFlows, q, &l)
	return l, err
}
