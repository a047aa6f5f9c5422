package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"sfc/bpf"
	"sfc/chains"
	"sfc/ctrl/agent"
	"sfc/ctrl/place"
	"sfc/nf/wasm"
	"sfc/testbed/netns"
)

// Lab is a network with a data plane in it. Its methods may be called from any
// goroutine.
type Lab struct {
	opts  Options
	net   *network
	eng   *agent.Engine // nil without one
	born  time.Time
	notes []string
	// unbalance ends the balancer, if there is one.
	unbalance func()
	// records is the file for what functions export, and lines its writer; nil
	// when nobody asked.
	records *os.File
	lines   *wasm.RecordLines

	close sync.Once
	err   error
}

// Open builds a lab and returns when packets flow. It has no socket yet: see
// [Run].
func Open(opts Options) (_ *Lab, err error) {
	opts = opts.withDefaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	l := &Lab{opts: opts, born: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if opts.NoEngine {
		if l.opts.Mode == "" {
			l.opts.Mode = Inline
		}
		l.net, err = openNetwork(l.opts.Mode)
		return l, err
	}
	specs, err := agent.LoadSpecs(opts.Chains)
	if err != nil {
		return nil, err
	}
	if l.opts.Mode == "" {
		l.opts.Mode = modeFor(specs)
	}
	l.unmatched(specs)
	log := &eventLog{w: opts.Log}
	o := agent.Options{Specs: specs, Ports: portNames, Workers: opts.Workers, Limits: opts.Limits, Events: log.event}
	if opts.Records != "" {
		if l.records, err = os.Create(opts.Records); err != nil {
			return nil, fmt.Errorf("records: %w", err)
		}
		l.lines = wasm.NewRecordLines(l.records)
		o.Records = l.lines.Add
	}
	if l.eng, err = agent.Open(o); err != nil {
		return nil, err
	}
	if l.net, err = openNetwork(l.opts.Mode); err != nil {
		return nil, err
	}
	err = l.net.engine.Do(func() error {
		routed := l.opts.Mode == Routed
		return l.eng.Connect([]agent.Port{
			{Ifindex: l.net.in.Index, Mode: bpf.Native, Routed: routed},
			{Ifindex: l.net.out.Index, Mode: bpf.Native, Routed: routed},
		})
	})
	if err != nil {
		return nil, err
	}
	if why := l.eng.Mode().NoStack; why != nil {
		l.notes = append(l.notes, fmt.Sprintf("packets that functions pass to the kernel are dropped as stack_full: %v", why))
	}
	if err := l.eng.Start(); err != nil {
		return nil, err
	}
	l.balance(log)
	return l, l.net.meet()
}

// balance moves buckets from busy workers to idle ones, if that was asked for,
// until the lab is closed.
func (l *Lab) balance(log *eventLog) {
	if l.opts.RebalanceEvery == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	l.unbalance = func() { cancel(); <-done }
	go func() {
		defer close(done)
		type bucket struct{ chain, bucket uint16 }
		told := map[bucket]bool{}
		err := l.eng.Balance(ctx, l.opts.RebalanceEvery, place.Options{}, nil, func(found []place.Elephant) {
			for _, e := range found {
				b := bucket{e.Chain, e.Bucket}
				if told[b] {
					continue
				}
				told[b] = true
				log.line("chain %s bucket %d is more than worker %d's share: no move helps, only fewer packets or cheaper functions",
					l.eng.Plan().Chains[e.Chain].Title(), e.Bucket, e.Owner)
			}
		})
		if err != nil {
			log.line("rebalancing has ended: %v", err)
		}
	}()
}

// modeFor returns the mode that chains need: a chain that stands for addresses
// of its own needs a router, which answers for them.
func modeFor(specs []chains.Spec) Mode {
	for i := range specs {
		if len(specs[i].Addresses) > 0 {
			return Routed
		}
	}
	return Inline
}

// unmatched decides what becomes of packets that no chain claims. Inline they
// go to the other side, or the hosts could not find each other; a router's
// kernel answers for it.
func (l *Lab) unmatched(specs []chains.Spec) {
	want, why := chains.UnmatchedForward, "the engine is a bump in the wire"
	if l.opts.Mode == Routed {
		want, why = chains.UnmatchedPass, "the engine's kernel answers for it"
	}
	for i := range specs {
		s := &specs[i]
		if s.Unmatched != chains.UnmatchedUnset && s.Unmatched != want {
			l.notes = append(l.notes, fmt.Sprintf("chain %s/%s: unmatched is %s here, not %s: %s", s.Tenant, s.Name, want, s.Unmatched, why))
		}
		s.Unmatched = want
	}
}

// host returns a host's namespace.
func (l *Lab) host(h Host) (*netns.NS, error) {
	switch h {
	case HostClient:
		return l.net.client, nil
	case HostEngine:
		return l.net.engine, nil
	case HostServer:
		return l.net.server, nil
	}
	return nil, fmt.Errorf("no host %q: there are %s, %s and %s", h, HostClient, HostEngine, HostServer)
}

// Close takes everything down. Programs that run on the hosts keep running,
// without a network. Closing again does nothing.
func (l *Lab) Close() error {
	l.close.Do(func() {
		var errs []error
		if l.unbalance != nil {
			l.unbalance()
		}
		if l.eng != nil {
			errs = append(errs, l.eng.Close())
		}
		if l.records != nil {
			errs = append(errs, l.lines.Err(), l.records.Close())
		}
		if l.net != nil {
			errs = append(errs, l.net.close())
		}
		l.err = errors.Join(errs...)
	})
	return l.err
}

// maxLog is how many bytes of events are written: guests may not fill a disk.
const maxLog = 1 << 20

// eventLog writes events, each a line.
type eventLog struct {
	mu   sync.Mutex
	w    io.Writer
	size int
	over bool
}

func (g *eventLog) event(ev agent.Event) {
	g.line("chain %s worker %d function %s: %s: %s", ev.Chain, ev.Worker, ev.Function, ev.Kind, ev.Text)
}

func (g *eventLog) line(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return
	}
	line := time.Now().UTC().Format(time.RFC3339) + " " + fmt.Sprintf(format, args...) + "\n"
	if g.size += len(line); g.size > maxLog {
		g.over, line = true, "the log is full\n"
	}
	// Who reads the log may have gone; the lab has not.
	_, _ = io.WriteString(g.w, line)
}
