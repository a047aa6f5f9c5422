package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"sfc/testbed/netns"
)

// losses are counters of packets that went no further, by place and reason.
type losses map[string]uint64

// losses reads those of links, hosts and daemon.
func (b *bed) losses() losses {
	b.tb.Helper()
	all := losses{}
	for name, l := range map[string]*netns.Link{"client": b.near[0], "in": b.ports[0], "out": b.ports[1], "server": b.near[1]} {
		stats, err := l.Stats()
		check(b.tb, err)
		for k, n := range stats {
			if strings.Contains(k, "drop") || strings.Contains(k, "err") {
				all[name+" "+k] = n
			}
		}
		counters, err := l.Counters()
		check(b.tb, err)
		all[name+" rx_dropped"], all[name+" tx_dropped"] = counters.RxDropped, counters.TxDropped
	}
	for name, ns := range map[string]*netns.NS{"client": b.client, "server": b.server} {
		check(b.tb, ns.Do(func() error { return all.sockets(name) }))
	}
	b.within(answerWait, "read the account", func(ctx context.Context) error {
		s, err := b.api.Stats(ctx, "")
		if err != nil {
			return err
		}
		for i, w := range s.Workers {
			name := fmt.Sprint("worker ", i, " ")
			all.add(name, w.Drops)
			all.add(name, map[string]uint64{"rx ring full": w.RxRingFull, "fill ring empty": w.RxFillEmpty, "tx invalid": w.TxInvalid})
		}
		for _, p := range s.Ports {
			all.add("port "+p.Name+" ", p.Drops)
		}
		for _, c := range s.Chains {
			all.add("chain "+c.Name+" ", c.Drops)
		}
		return nil
	})
	return all
}

func (l losses) add(prefix string, counters map[string]uint64) {
	for k, n := range counters {
		l[prefix+k] += n
	}
}

// sockets adds the datagrams that found a full socket buffer on this host.
func (l losses) sockets(host string) error {
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		return err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = f
		} else if i := slices.Index(names, "RcvbufErrors"); i >= 0 {
			if l[host+" socket buffer full"], err = strconv.ParseUint(f[i], 10, 64); err != nil {
				return err
			}
		}
	}
	return nil
}

// since returns those that have grown.
func (l losses) since(before losses) losses {
	grown := losses{}
	for k, n := range l {
		if n > before[k] {
			grown[k] = n - before[k]
		}
	}
	return grown
}
