package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"sfc/ctrl/plane"
)

// keptPlane is a data plane that keeps what it is told and tells what it is given:
// the real one has tests of its own.
type keptPlane struct {
	mu      sync.Mutex
	codes   map[string]bool
	now     plane.Observed
	chains  []plane.Chain
	tenants []plane.Tenant
	applied chan struct{} // closed with each change, then another

	refuse func(*plane.Chain) (reason, message string) // nil: nobody
	stats  plane.Stats
	looked int // how often stats were asked for
	flows  []plane.Flow
	events []plane.Event
	traces []plane.Trace
	asked  plane.CaptureRequest
}

func newKeptPlane() *keptPlane {
	return &keptPlane{codes: map[string]bool{}, applied: make(chan struct{}), now: plane.Observed{Started: time.Now()}}
}

// set changes what it tells.
func (p *keptPlane) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.applied)
	p.applied = make(chan struct{})
}

func (p *keptPlane) PutCode(_ context.Context, digest string, code *os.File) error {
	text, err := io.ReadAll(io.NewSectionReader(code, 0, 1<<20))
	if err != nil || string(text) != digest {
		return fmt.Errorf("code of %s: %.80q, %w", digest, text, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[digest] = true
	return nil
}

func (p *keptPlane) Apply(_ context.Context, d plane.Desired) (plane.Observed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Revision, p.now.Ports, p.now.Chains = d.Revision, nil, nil
	for _, x := range d.Ports {
		p.now.Ports = append(p.now.Ports, plane.PortStatus{Name: x.Name, Up: true, Attach: "native", Bind: "copy", Queues: 1})
	}
	for i := range d.Chains {
		s, err := p.run(&d.Chains[i])
		if err != nil {
			return plane.Observed{}, err
		}
		p.now.Chains = append(p.now.Chains, s)
	}
	p.chains, p.tenants = d.Chains, d.Tenants
	return p.now, nil
}

// run says how a chain runs. The lock is held.
func (p *keptPlane) run(c *plane.Chain) (plane.ChainStatus, error) {
	s := plane.ChainStatus{Tenant: c.Tenant, Name: c.Name}
	if p.refuse != nil {
		if s.Reason, s.Message = p.refuse(c); s.Reason != "" {
			return s, nil
		}
	}
	s.Generation, s.Active = c.Generation, true
	var doc struct {
		Spec struct {
			Functions []struct{ Name, Module string }
		}
	}
	if err := json.Unmarshal(c.Spec, &doc); err != nil {
		return s, err
	}
	for _, f := range doc.Spec.Functions {
		code := c.Code[f.Module]
		if !p.codes[code] {
			return s, errors.New("no code " + code)
		}
		fs := plane.FunctionStatus{Name: f.Name, Code: code, Version: "0.0.1", State: "running"}
		for _, y := range c.Canaries {
			if y.Function == f.Name {
				fs.Canary = y.Code
			}
		}
		s.Functions = append(s.Functions, fs)
	}
	return s, nil
}

func (p *keptPlane) Observe(context.Context) (plane.Observed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now, nil
}

// Stats is an account in which each look finds a second more.
func (p *keptPlane) Stats(context.Context) (plane.Stats, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looked++
	s := p.stats
	s.Time = time.Unix(int64(p.looked), 0)
	s.Chains = append([]plane.ChainStats(nil), s.Chains...)
	for i := range s.Chains {
		s.Chains[i].Packets *= uint64(p.looked)
		s.Chains[i].Bytes *= uint64(p.looked)
	}
	return s, nil
}

func (p *keptPlane) Flows(_ context.Context, q plane.FlowQuery) (list []plane.Flow, err error) {
	if strings.Contains(q.Filter, "nonsense") {
		return nil, fmt.Errorf("filter %q: syntax error", q.Filter)
	}
	for _, f := range p.flows {
		if (q.Tenant == "" || f.Tenant == q.Tenant) && (q.Chain == "" || f.Chain == q.Chain) && len(list) < q.Limit {
			list = append(list, f)
		}
	}
	return list, nil
}

func (p *keptPlane) Events(ctx context.Context, after uint64) ([]plane.Event, error) {
	for {
		p.mu.Lock()
		list, applied := p.events, p.applied
		p.mu.Unlock()
		if uint64(len(list)) > after {
			return list[after:], nil
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (p *keptPlane) Trace(ctx context.Context, r plane.TraceRequest) ([]plane.Trace, error) {
	if len(p.traces) >= r.Count {
		return p.traces[:r.Count], nil
	}
	<-ctx.Done()
	return p.traces, nil
}

func (p *keptPlane) Capture(ctx context.Context, r plane.CaptureRequest, out *os.File) (plane.CaptureReport, error) {
	p.set(func() { p.asked = r })
	if strings.Contains(r.Filter, "nonsense") {
		return plane.CaptureReport{}, fmt.Errorf("filter %q: syntax error", r.Filter)
	}
	if r.At == "nowhere" {
		return plane.CaptureReport{}, fmt.Errorf("capture at %q: there is no such point", r.At)
	}
	for i := 0; i < r.Count || r.Count == 0; i++ {
		if _, err := out.WriteString("packet\n"); err != nil || ctx.Err() != nil {
			break
		}
		if r.Count == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return plane.CaptureReport{}, nil
}

// digestCompiler makes code that is nothing but the module's digest.
type digestCompiler struct{ dir string }

func (c digestCompiler) Artifact(ctx context.Context, digest string, open func(context.Context) (io.Reader, error)) (*os.File, error) {
	if _, err := open(ctx); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(c.dir, "code")
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteString(digest); err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}
