package main

import (
	"fmt"
	"io"

	"sfc/ctrl/api"
)

// printTop prints the rates between two accounts, in no more than so many rows
// (0: any number) unless one chain alone needs more.
func printTop(w io.Writer, now, before *api.Stats, v topView, rows int) error {
	c := counts{seconds: max(now.Time.Sub(before.Time).Seconds(), 0.001)}
	t := &sections{table: newTable(w)}
	list := pairs(now, before)
	sortPairs(list, v.sort)
	shown := v.shown(now, list, rows)
	t.workers(c, now, before)
	t.ports(c, now, before)
	t.chains(c, list[:shown])
	if rest := len(list) - shown; rest > 0 {
		t.line("... and %s: see --all and --sort", plural(rest, "more chain"))
	}
	t.functions(c, list[:shown])
	t.tenants(c, now, before, shown)
	return t.flush()
}

// shown is how many chains are shown.
func (v *topView) shown(now *api.Stats, list []pair, rows int) int {
	switch {
	case v.all:
		return len(list)
	case v.limit > 0:
		return min(v.limit, len(list))
	case rows == 0:
		return min(topLimit, len(list))
	}
	// Headings, and an empty line above each but the first.
	left := rows - 2 - len(now.Workers) - 2
	if len(now.Workers) > 0 {
		left -= 2
	}
	if len(now.Ports) > 0 {
		left -= 2 + len(now.Ports)
	}
	if n := len(now.Tenants); n > 0 {
		left -= 2 + min(n, 3)
	}
	n := 0
	for ; n < len(list); n++ {
		need := 1 + list[n].rows()
		if n+1 < len(list) {
			need++ // for the line that says how many more there are
		}
		if need > left {
			break
		}
		left -= 1 + list[n].rows()
	}
	return min(max(n, 1), len(list))
}

// sections are tables with an empty line between them.
type sections struct {
	*table
	any bool
}

func (t *sections) heading(names ...any) {
	if t.any {
		t.line("")
	}
	t.any = true
	t.row(names...)
}

func (t *sections) workers(c counts, now, before *api.Stats) {
	if len(now.Workers) > 0 {
		t.heading("WORKER", "CORE", "LOAD", "RECEIVED", "SENT", "PASSED", "DROPPED", "HANDED ON", "HELD", "ENGINE'S DROPS")
	}
	for i, n := range now.Workers {
		var b api.WorkerStats
		if i < len(before.Workers) {
			b = before.Workers[i]
		}
		core := fmt.Sprint(n.Core)
		if n.Core < 0 {
			core = ""
		}
		t.row(i, core, fmt.Sprintf("%.0f%%", c.percent(n.BusyNs, b.BusyNs)), c.of(n.Received, b.Received), c.of(n.Sent, b.Sent),
			c.of(n.Passed, b.Passed), c.of(n.Dropped, b.Dropped), c.of(n.HandedOut, b.HandedOut), n.Held, c.list(n.Drops, b.Drops))
	}
}

// percent is the part of the time that so many ns were.
func (c counts) percent(now, before uint64) float64 {
	return float64(now-min(before, now)) / 1e7 / c.seconds
}

func (t *sections) ports(c counts, now, before *api.Stats) {
	if len(now.Ports) > 0 {
		t.heading("PORT", "FRAMES", "TO WORKERS", "PASSED", "FORWARDED", "DROPS")
	}
	for i, n := range now.Ports {
		var b api.PortStats
		if i < len(before.Ports) && before.Ports[i].Name == n.Name {
			b = before.Ports[i]
		}
		t.row(n.Name, c.of(n.Frames, b.Frames), c.of(n.Redirected, b.Redirected), c.of(n.Passed, b.Passed), c.of(n.Forwarded, b.Forwarded), c.list(n.Drops, b.Drops))
	}
}

func (t *sections) chains(c counts, list []pair) {
	t.heading("CHAIN", "PACKETS", "BYTES", "SENT", "PASSED", "FLOWS", "P50", "P99", "DROPS")
	for _, p := range list {
		n, b := p.now, p.before
		t.row(n.Tenant+"/"+n.Name, c.of(n.Packets, b.Packets), c.of(n.Bytes, b.Bytes), c.of(n.Sent, b.Sent), c.of(n.Passed, b.Passed),
			fmt.Sprintf("%d of %d", n.Flows, n.MaxFlows), us(n.Latency.P50), us(n.Latency.P99), c.list(n.Drops, b.Drops))
	}
}

func (t *sections) functions(c counts, list []pair) {
	t.heading("CHAIN", "FUNCTION", "VERSION", "STATE", "PACKETS", "NS/PACKET", "BURST P50", "BURST P99", "FAULTS", "DROPS")
	for _, p := range list {
		n, b := p.now, p.before
		for k := range n.Functions {
			f := &n.Functions[k]
			var was api.ChainFunctionStats
			if k < len(b.Functions) && b.Functions[k].Name == f.Name {
				was = b.Functions[k]
			}
			t.row(n.Tenant+"/"+n.Name, f.Name, f.Version, f.State, c.of(f.Packets, was.Packets), fmt.Sprintf("%.1f", f.NsPerPacket),
				us(f.Latency.P50), us(f.Latency.P99), f.Traps+f.Overruns, c.list(f.Drops, was.Drops))
			if y := f.Canary; y != nil {
				if was.Canary == nil || was.Canary.Code != y.Code {
					was.Canary = &api.CanaryStats{}
				}
				t.row(n.Tenant+"/"+n.Name, f.Name, y.Version, fmt.Sprintf("canary %d%%", y.Percent), c.of(y.Packets, was.Canary.Packets),
					fmt.Sprintf("%.1f", y.NsPerPacket), us(y.Latency.P50), us(y.Latency.P99), "", "")
			}
		}
	}
}

// tenants shows those who took most time, as many as chains or at least three.
func (t *sections) tenants(c counts, now, before *api.Stats, shown int) {
	list := busiest(now, before)
	if len(list) == 0 {
		return
	}
	t.heading("TENANT", "TIME", "GUARANTEED", "OVER SHARE", "FLOWS", "MEMORY")
	for _, p := range list[:min(max(shown, 3), len(list))] {
		n, b := p.now, p.before
		t.row(n.Name, fmt.Sprintf("%.1f%%", c.percent(n.BusyNs, b.BusyNs)), n.Share, c.of(n.OverShare, b.OverShare),
			n.Flows, mebibytes(n.MemoryBytes))
	}
}

// mebibytes prints bytes that nobody counts one by one.
func mebibytes(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// us prints ns as microseconds; nothing for 0.
func us(ns uint64) string {
	if ns == 0 {
		return ""
	}
	return fmt.Sprintf("%.1fus", float64(ns)/1e3)
}
