package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"sfc/ctrl/plane"
)

// fakePlane is a data plane for tests: it keeps what it is told as the real one does,
// and fails when it is told to.
type fakePlane struct {
	mu       sync.Mutex
	codes    map[string]bool
	chains   map[string]plane.Chain
	reasons  map[string]string // of chains that were refused
	ports    []plane.Port
	tenants  []plane.Tenant
	revision uint64
	started  time.Time
	restarts int
	changed  chan struct{} // closed with each change that an event tells

	down     error
	room     int                                                // chains; 0: no bound
	refuse   func(c *plane.Chain) string                        // a reason
	stutter  func() error                                       // fails an Apply, before or after it was done
	badCode  map[string]bool                                    // digests that PutCode refuses
	applied  int                                                // how often
	observed func(o *plane.Observed)                            // changes what is told
	handed   map[string]int                                     // PutCode calls by digest
	check    func(desired plane.Desired, codes map[string]bool) // sees each Apply
}

func newFakePlane() *fakePlane {
	p := &fakePlane{changed: make(chan struct{}), badCode: map[string]bool{}, handed: map[string]int{}}
	p.restart(true)
	p.restarts = 0
	return p
}

// restart starts it again: with what it kept, or cold.
func (p *fakePlane) restart(cold bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started = p.started.Add(time.Second)
	p.restarts++
	if cold {
		p.codes, p.chains, p.reasons, p.revision, p.restarts = map[string]bool{}, map[string]plane.Chain{}, map[string]string{}, 0, 0
	}
	p.tell()
}

func (p *fakePlane) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// set changes how it behaves.
func (p *fakePlane) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.tell()
}

func (p *fakePlane) PutCode(_ context.Context, digest string, code *os.File) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return p.down
	}
	text, err := io.ReadAll(io.NewSectionReader(code, 0, 1<<20))
	if err != nil || string(text) != "code of "+digest {
		return fmt.Errorf("it is %q: %w", text, err)
	}
	if p.badCode[digest] {
		return errors.New("code is for another machine")
	}
	p.codes[digest] = true
	p.handed[digest]++
	return nil
}

func (p *fakePlane) Apply(_ context.Context, d plane.Desired) (plane.Observed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return plane.Observed{}, p.down
	}
	p.applied++
	if p.check != nil {
		p.check(d, p.codes)
	}
	var early, late error
	if p.stutter != nil {
		if early = p.stutter(); early != nil {
			return plane.Observed{}, early
		}
		late = p.stutter()
	}
	p.revision, p.ports, p.tenants = d.Revision, d.Ports, d.Tenants
	wanted, named := map[string]bool{}, map[string]bool{}
	for _, c := range d.Chains {
		wanted[c.Tenant+"/"+c.Name] = true
	}
	for title := range p.chains {
		if !wanted[title] {
			delete(p.chains, title)
		}
	}
	clear(p.reasons)
	for i := range d.Chains {
		c := d.Chains[i]
		title := c.Tenant + "/" + c.Name
		if reason := p.take(title, &c); reason != "" {
			p.reasons[title] = reason
		} else {
			p.chains[title] = c
		}
		for _, is := range []plane.Chain{c, p.chains[title]} {
			for _, digest := range codesOf(&is) {
				named[digest] = true
			}
		}
	}
	for digest := range p.codes {
		if !named[digest] {
			delete(p.codes, digest)
		}
	}
	if late != nil {
		return plane.Observed{}, late
	}
	return p.observe(), nil
}

// take says why a chain cannot be what it should. The lock is held.
func (p *fakePlane) take(title string, c *plane.Chain) string {
	for _, digest := range codesOf(c) {
		if !p.codes[digest] {
			return "CodeMissing"
		}
	}
	if _, runs := p.chains[title]; !runs && p.room > 0 && len(p.chains) >= p.room {
		return "NoCapacity"
	}
	if p.refuse != nil {
		return p.refuse(c)
	}
	return ""
}

func codesOf(c *plane.Chain) (all []string) {
	for _, d := range c.Code {
		all = append(all, d)
	}
	for _, y := range c.Canaries {
		all = append(all, y.Code)
	}
	return all
}

// observe says what runs. The lock is held.
func (p *fakePlane) observe() plane.Observed {
	o := plane.Observed{Revision: p.revision, Restarts: p.restarts, Started: p.started}
	for _, x := range p.ports {
		o.Ports = append(o.Ports, plane.PortStatus{Name: x.Name, Up: true, Attach: "native", Bind: "copy", Queues: 1})
	}
	for title, c := range p.chains {
		o.Chains = append(o.Chains, p.status(title, &c))
	}
	for title, reason := range p.reasons {
		if _, runs := p.chains[title]; !runs {
			t, n, _ := cut(title)
			o.Chains = append(o.Chains, plane.ChainStatus{Tenant: t, Name: n, Reason: reason, Message: "no: " + reason})
		}
	}
	if p.observed != nil {
		p.observed(&o)
	}
	return o
}

func (p *fakePlane) status(title string, c *plane.Chain) plane.ChainStatus {
	s := plane.ChainStatus{Tenant: c.Tenant, Name: c.Name, Generation: c.Generation, Active: true, Reason: p.reasons[title]}
	var doc struct {
		Spec struct {
			Functions []struct{ Name, Module string }
		}
	}
	if err := json.Unmarshal(c.Spec, &doc); err != nil {
		panic(err)
	}
	for _, f := range doc.Spec.Functions {
		fs := plane.FunctionStatus{Name: f.Name, Code: c.Code[f.Module], Version: "1.0.0", State: "running"}
		if i := slices.IndexFunc(c.Canaries, func(y plane.Canary) bool { return y.Function == f.Name }); i >= 0 {
			fs.Canary = c.Canaries[i].Code
		}
		s.Functions = append(s.Functions, fs)
	}
	return s
}

func cut(title string) (tenant, name string, ok bool) {
	for i := range title {
		if title[i] == '/' {
			return title[:i], title[i+1:], true
		}
	}
	return "", "", false
}

func (p *fakePlane) Observe(context.Context) (plane.Observed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return plane.Observed{}, p.down
	}
	return p.observe(), nil
}

func (p *fakePlane) Events(ctx context.Context, after uint64) ([]plane.Event, error) {
	p.mu.Lock()
	changed, down := p.changed, p.down
	p.mu.Unlock()
	if down != nil {
		return nil, down
	}
	select {
	case <-changed:
		return []plane.Event{{Seq: after + 1, Kind: "plane"}}, nil
	case <-ctx.Done():
		return nil, nil
	}
}

func (p *fakePlane) Stats(context.Context) (plane.Stats, error) {
	return plane.Stats{}, errors.ErrUnsupported
}

func (p *fakePlane) Flows(context.Context, plane.FlowQuery) ([]plane.Flow, error) {
	return nil, errors.ErrUnsupported
}

func (p *fakePlane) Trace(context.Context, plane.TraceRequest) ([]plane.Trace, error) {
	return nil, errors.ErrUnsupported
}

func (p *fakePlane) Capture(context.Context, plane.CaptureRequest, *os.File) (plane.CaptureReport, error) {
	return plane.CaptureReport{}, errors.ErrUnsupported
}

// fakeCompiler makes code that says what it is of.
type fakeCompiler struct {
	mu     sync.Mutex
	built  map[string]int  // attempts by digest
	broken map[string]bool // digests that do not compile
	delay  time.Duration
	dir    string
}

func (c *fakeCompiler) Artifact(ctx context.Context, digest string, open func(context.Context) (io.Reader, error)) (*os.File, error) {
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != digest {
		return nil, fmt.Errorf("the module is %s, not %s", got, digest)
	}
	select {
	case <-time.After(c.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.built[digest]++
	if c.broken[digest] {
		return nil, errors.New("it does not compile")
	}
	f, err := os.CreateTemp(c.dir, "code")
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteString("code of " + digest); err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}
