// Package reconcile makes the data plane what the store says it should be, and
// writes down in the store what it is.
//
//	store --watch--> world --desire--> plane.Desired --Apply--> plane
//	  ^                 ^                                         |
//	  |                 '--- compiled modules (Compiler)          |
//	  '------ status <------------- conditions <----- Observed ---'
//
// It goes by levels, not by edges: each round looks at all there is, so it does
// not matter what was missed, repeated, or done by a process that died in the
// middle. A round begins as soon as something changed and the round before has
// ended; what changes meanwhile is taken together by the next. So one change
// alone waits for nothing, and a thousand at once cost a few rounds.
//
// What a chain ran last is kept beside it (bucket "applied"): as long as what its
// spec asks for cannot be had (a module that is missing, does not compile, is no
// longer trusted, is over a quota, or that the data plane refuses), that goes
// on, also after all processes were started anew.
//
// Conditions of a chain, each with reason and message:
//
//	Resolved      its references stand for versions that may run
//	ModulesReady  their modules are compiled
//	Programmed    the data plane runs what was sent to it
//	Ready         the spec in force is the one that is desired, on all workers
//	Progressing   work on it is under way, or will be tried again
//	Degraded      it runs, but not as it should
package reconcile

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
	"sfc/ctrl/store"
)

// BucketApplied is the bucket of a tenant's space that holds what its chains ran
// last, by chain.
const BucketApplied = "applied"

// Compiler turns modules into code that the data plane can load.
type Compiler interface {
	// Artifact returns the code of the module with a digest (64 hexadecimal
	// digits), as a sealed memfd that the caller closes. open returns a reader
	// of the module; it is called only if the code is not there already. Several
	// may be asked for at a time. It ends when ctx does.
	Artifact(ctx context.Context, digest string, open func(context.Context) (io.Reader, error)) (*os.File, error)
}

// Options configure a [Reconciler]. Store, Space, Plane and Compiler are
// required.
type Options struct {
	Store *store.Store
	// Space opens the space of a tenant, with the limits that its spec says.
	Space func(ctx context.Context, t *api.Tenant) (*store.Space, error)
	Plane plane.Plane
	// Compiler is asked from up to Compiles goroutines at once. Default 2.
	Compiler Compiler
	Compiles int
	// Port finds the network interface of a port and says what it can. The error
	// becomes the port's condition, and the port is left out. Default: the name
	// in the spec, or the port's.
	Port func(ctx context.Context, p *api.Port) (iface string, capabilities *api.PortCapabilities, err error)
	// Event is told what an operator may want to read. It must not block.
	Event func(api.Event)
	// Changed, if not nil, makes the data plane be looked at anew with each
	// value: it was started again.
	Changed <-chan struct{}
	// Observe is how often the data plane is looked at when nothing happens.
	// Default 1 s; longer where looking takes long.
	Observe time.Duration
	// Resync is how often everything is sent again as if it had changed.
	// Default 5 min.
	Resync time.Duration
	// Timeout bounds each call of the data plane. Default 1 min.
	Timeout time.Duration
	// Retry and RetryMax bound the back-off of what failed. Default 100 ms and
	// 1 min.
	Retry, RetryMax time.Duration
	Logger          *slog.Logger
}

func (o Options) withDefaults() Options {
	durations := map[*time.Duration]time.Duration{&o.Observe: time.Second, &o.Resync: 5 * time.Minute, &o.Retry: 100 * time.Millisecond, &o.RetryMax: time.Minute, &o.Timeout: time.Minute}
	for d, def := range durations {
		if *d == 0 {
			*d = def
		}
	}
	if o.Compiles == 0 {
		o.Compiles = 2
	}
	if o.Port == nil {
		o.Port = func(_ context.Context, p *api.Port) (string, *api.PortCapabilities, error) {
			if p.Spec.Interface != "" {
				return p.Spec.Interface, nil, nil
			}
			return p.Metadata.Name, nil, nil
		}
	}
	if o.Event == nil {
		o.Event = func(api.Event) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
