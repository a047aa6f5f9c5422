package agent

import (
	"context"
	"sync"
	"time"

	"sfc/chains"
	"sfc/ctrl/plane"
	"sfc/nf/wasm"
)

// Levels of events.
const (
	levelInfo    = "info"
	levelWarning = "warning"
	levelError   = "error"
)

// logLevels are those of functions' log lines.
var logLevels = [...]string{"debug", levelInfo, levelWarning, levelError}

// maxEvents is how many are remembered for those who ask.
const maxEvents = 4096

// events are what happened lately. Safe for concurrent use.
type events struct {
	mu     sync.Mutex
	seq    uint64 // of the last one
	list   []plane.Event
	more   chan struct{} // closed when there is another one
	closed bool
}

func newEvents() *events { return &events{more: make(chan struct{})} }

func (e *events) add(ev plane.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.seq++
	ev.Seq, ev.Time = e.seq, time.Now()
	if len(e.list) >= 2*maxEvents {
		e.list = append(e.list[:0], e.list[maxEvents:]...)
	}
	e.list = append(e.list, ev)
	close(e.more)
	e.more = make(chan struct{})
}

// close lets everybody go who waits.
func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.closed = true
		close(e.more)
	}
}

// after returns the events that follow number seq, and else what to wait for;
// over says that there will be no more. A number that is yet to come, of a data
// plane that was started again, is before all of them.
func (e *events) after(seq uint64) (list []plane.Event, more <-chan struct{}, over bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seq > e.seq {
		seq = 0
	}
	n := min(int(e.seq-seq), len(e.list), maxEvents)
	return append(list, e.list[len(e.list)-n:]...), e.more, e.closed
}

// Events is plane.Plane's.
func (d *Dataplane) Events(ctx context.Context, after uint64) ([]plane.Event, error) {
	for {
		list, more, over := d.events.after(after)
		if len(list) > 0 || over {
			return list, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-more:
		}
	}
}

// ofPlane adds an event that concerns no chain.
func (e *events) ofPlane(reason, level, text string) {
	e.add(plane.Event{Kind: "plane", Reason: reason, Level: level, Worker: -1, Text: text})
}

// ofChain adds an event of a chain.
func (e *events) ofChain(c *plane.Chain, kind, reason, level, text string) {
	e.add(plane.Event{Kind: kind, Reason: reason, Level: level, Tenant: c.Tenant, Chain: c.Name, Worker: -1, Text: text})
}

// ofFunction adds what a function did on a worker.
func (e *events) ofFunction(c *chains.Chain, worker int, w wasm.Event) {
	ev := plane.Event{Kind: string(w.Kind), Tenant: c.Tenant, Chain: c.Name, Function: w.Function, Worker: worker, Text: w.Text}
	switch w.Kind {
	case wasm.EventLog:
		ev.Reason, ev.Level = "Log", logLevels[min(int(w.Level), len(logLevels)-1)]
	case wasm.EventFault:
		ev.Reason, ev.Level = "FunctionFault", levelWarning
	case wasm.EventAlarm:
		ev.Reason, ev.Level = "FunctionAlarm", levelError
	default:
		ev.Reason, ev.Level = "FunctionReplaced", levelInfo
	}
	e.add(ev)
}
