package replay

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Print writes the report for people.
func (r *Report) Print(out io.Writer) error {
	w := &printer{Writer: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	var names []string
	for _, c := range r.Chains {
		names = append(names, c.Tenant+"/"+c.Name)
	}
	w.line("capture\t%s: %d packets%s, sent %s", r.Capture.File, r.Capture.Packets, cutNote(r.Capture.Cut), times(r.Capture.Loops))
	w.line("chain\t%s", strings.Join(names, ", "))
	if r.Mode.Attach == attachOffline {
		w.line("mode\toffline, %smemory %s, clock %s", several(len(r.Workers)), r.Mode.Memory, r.Mode.Clock)
	} else {
		w.line("mode\tXDP %s, bind %s, %s, memory %s, clock %s", r.Mode.Attach, r.Mode.Bind, r.workers(), r.Mode.Memory, r.Mode.Clock)
	}
	w.line("")
	w.line("sent\t%d", r.Sent)
	w.line("received\t%d", r.Received)
	w.line("passed\t%d\tto the kernel's stack", r.Passed)
	for _, reason := range slices.Sorted(maps.Keys(r.Dropped)) {
		w.line("dropped\t%d\t%s", r.Dropped[reason], reason)
	}
	w.line("lost\t%d", r.Lost)
	w.line("reordered\t%d", r.Reordered)
	w.line("bad checksums\t%d in, %d out", r.BadChecksumsIn, r.BadChecksumsOut)
	if r.Damaged > 0 {
		w.line("damaged\t%d\toverwritten by functions that they were not given to", r.Damaged)
	}
	if r.Foreign > 0 {
		w.line("foreign\t%d\tframes at the far ends that nobody sent", r.Foreign)
	}
	w.line("")
	for _, c := range r.Chains {
		if f := c.Flows; f != nil {
			w.line("flows of %s\t%d created, %d live at the end, %d expired, %d evicted, %d refused (at most %d)",
				c.Name, f.Created, f.Live, f.Expired, f.Evicted, f.Refused, f.Max)
		}
	}
	w.line("time\t%.3f s, %.0f packets/s", r.Seconds, r.PPS)
	span := "XDP receive to transmit"
	if r.Mode.Attach == "offline" {
		span = "read to transmit, in memory"
	}
	w.line("latency\tp50 %v, p99 %v, p99.9 %v, max %v\t%s", ns(r.Latency.P50), ns(r.Latency.P99), ns(r.Latency.P999), ns(r.Latency.Max), span)
	r.printWorkers(w)
	w.line("")
	w.line("function\tpackets\tnext\tdrop\ttx\tpass\tns/packet\tfaults\tstate")
	for _, f := range r.Functions {
		name := f.Name
		if len(r.Chains) > 1 {
			name = f.Chain + "." + name
		}
		w.line("%s\t%d\t%d\t%d\t%d\t%d\t%.1f\t%d\t%s", name, f.Packets, f.Verdicts["next"], f.Verdicts["drop"], f.Verdicts["tx"],
			f.Verdicts["pass"], f.NsPerPacket, f.Faults, f.State)
	}
	if r.Capture.Error != "" {
		w.line("")
		w.line("note: %s", r.Capture.Error)
	}
	for _, n := range r.Notes {
		w.line("note: %s", n)
	}
	return w.flush()
}

// printer keeps the first error of many lines.
type printer struct {
	*tabwriter.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if _, err := fmt.Fprintf(p, format+"\n", args...); err != nil && p.err == nil {
		p.err = err
	}
}

func (p *printer) flush() error {
	if p.err != nil {
		return p.err
	}
	return p.Flush()
}

func ns(n int64) time.Duration { return time.Duration(n).Round(100 * time.Nanosecond) }

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func cutNote(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d of them cut by the snap length)", n)
}

// several says how many workers there are when there are more than one.
func several(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf("%d workers, ", n)
}

// workers says how many there are, and on which cores.
func (r *Report) workers() string {
	text, on := fmt.Sprintf("%d worker", len(r.Workers)), " on core "
	if len(r.Workers) != 1 {
		text, on = text+"s", " on cores "
	}
	for _, w := range r.Workers {
		if w.Core < 0 {
			return text
		}
		text, on = text+on+fmt.Sprint(w.Core), ", "
	}
	return text
}

// printWorkers writes what there is to say of several workers, of flows that
// moved between them, and of functions that were replaced.
func (r *Report) printWorkers(w *printer) {
	if m := r.Moves; m != nil {
		w.line("moves\t%d of %d flows, %d forced, %d stuck; %d packets held: %s", m.Count, m.Flows, m.Forced, m.Stuck, m.Hold.Count, m.Hold.text())
	}
	if s := r.Swaps; s != nil {
		w.line("replaced\t%d functions; pause %s", s.Count, s.Pause.text())
	}
	if len(r.Workers) < 2 {
		return
	}
	w.line("")
	w.line("worker\treceived\tsent\tpassed\tdropped\thanded out\thanded in\theld")
	for i, c := range r.Workers {
		w.line("%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", i, c.Received, c.Sent, c.Passed, c.Dropped, c.HandedOut, c.HandedIn, c.Held)
	}
}

func (d *DelayReport) text() string {
	return fmt.Sprintf("p50 %v, p99 %v, max %v", ns(d.P50), ns(d.P99), ns(d.Max))
}
