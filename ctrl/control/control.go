// Package control puts the control plane together: the store, the API in front
// of it, the reconciler behind it, and what shows both to the outside.
//
//	API --> store --> reconciler --> data plane
//	 |                                  |
//	 '---- live questions, metrics -----'
package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/ctrl/kernelipc"
	"sfc/ctrl/observe"
	"sfc/ctrl/plane"
	"sfc/ctrl/reconcile"
	"sfc/ctrl/server"
	"sfc/ctrl/store"
)

// Options configure the control plane. DataDir, Listeners, Plane and Compiler are
// required.
type Options struct {
	// DataDir is where everything desired is kept. It belongs to this process
	// while it runs.
	DataDir string
	// Listeners are the sockets of the API; they are closed at the end.
	Listeners []Listener
	// TLSCert and TLSKey are PEM files for those that are not unix sockets.
	TLSCert, TLSKey string
	Plane           plane.Plane
	// Supervisor says how the daemon's processes are; nil: there are none.
	Supervisor func(context.Context) (kernelipc.Status, error)
	// Changed has a value when the data plane was started again; nil: it is
	// looked at from time to time.
	Changed  <-chan struct{}
	Compiler reconcile.Compiler
	// Port finds the interface of a port, as reconcile.Options have it. Nil: it
	// is looked for on the host, and what chains must not use is refused.
	Port func(ctx context.Context, p *api.Port) (iface string, capabilities *api.PortCapabilities, err error)
	// Groups are those of the host whose members the unix socket lets in.
	Groups map[uint32]server.Grant
	// Traces is the URL of an OpenTelemetry collector; empty: none.
	Traces  string
	Version string
	// Tenant is made by way of the first unix socket if there is no tenant at
	// all; "" makes none.
	Tenant string
	Log    *slog.Logger
}

// Listener is a socket of the API.
type Listener struct {
	// Address is what it was asked for: unix:///PATH or https://HOST:PORT.
	Address string
	net.Listener
}

// closeTimeout bounds how long requests under way may take at the end.
const closeTimeout = 5 * time.Second

// Run serves until ctx ends, and calls ready when the API answers. The error
// says why it could not begin, or what was left undone at the end.
func Run(ctx context.Context, opts Options, ready func() error) (err error) {
	if opts.DataDir == "" || opts.Plane == nil || opts.Compiler == nil {
		return errors.New("control: DataDir, Plane and Compiler are required")
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Port == nil {
		opts.Port = hostPort
	}
	stopTraces, err := observe.Tracing(ctx, opts.Traces, opts.Version)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopTraces()) }()
	st, err := store.Open(ctx, filepath.Join(opts.DataDir, "store"), store.Options{Logger: opts.Log.With("part", "store")})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		err = errors.Join(err, st.Close(closing))
	}()
	for _, d := range st.Damage() {
		opts.Log.Error("part of the store is damaged and out of service", "damage", d)
	}
	spool := filepath.Join(opts.DataDir, "spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return fmt.Errorf("make room for uploads: %w", err)
	}
	var rec *reconcile.Reconciler
	// Nobody asks before requests are served.
	inUse := func(tenant string) ([]string, bool) { return rec.InUse(tenant) }
	fs := &functionStores{store: st, spool: spool, inUse: inUse}
	kids := &children{ask: opts.Supervisor, log: opts.Log}
	srv, err := server.New(ctx, server.Options{
		Health: kids.problems,
		Store:  st, Functions: fs, Plane: opts.Plane, Metrics: observe.Handler(opts.Plane.Stats), AuditFile: filepath.Join(opts.DataDir, "audit.log"),
		Groups: opts.Groups, Version: opts.Version, Logger: opts.Log.With("part", "api"),
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		err = errors.Join(err, srv.Close(closing))
	}()
	rec, err = reconcile.New(reconcile.Options{
		Store: st, Plane: tracedPlane{opts.Plane}, Compiler: tracedCompiler{opts.Compiler}, Port: opts.Port, Event: srv.Publish, Changed: opts.Changed,
		Space: func(ctx context.Context, t *api.Tenant) (*store.Space, error) {
			return st.Tenant(ctx, t.Metadata.Name, server.StoreLimits(t.Spec))
		},
		Logger: opts.Log.With("part", "reconciler"),
	})
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	var watched sync.WaitGroup
	defer func() { stop(); watched.Wait() }()
	watched.Go(func() { kids.watch(watching, srv.Publish) })
	return serve(ctx, &opts, srv, rec, ready)
}

// serve runs what does not end by itself until ctx does, or one of them fails.
func serve(ctx context.Context, opts *Options, srv *server.Server, rec *reconcile.Reconciler, ready func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(opts.Listeners)+1)
	reconciled := make(chan struct{})
	go func() {
		defer close(reconciled)
		if err := rec.Run(ctx); err != nil {
			failed <- err
		}
	}()
	defer func() { cancel(); <-reconciled }()
	for _, l := range opts.Listeners {
		secured, err := secure(l, opts)
		if err != nil {
			return err
		}
		go func() {
			if err := srv.Serve(secured); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", l.Address, err)
			}
		}()
	}
	if err := errors.Join(firstTenant(ctx, opts), ready()); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// secure wraps a TCP socket in TLS.
func secure(l Listener, opts *Options) (net.Listener, error) {
	if strings.HasPrefix(l.Address, "unix:") {
		return l.Listener, nil
	}
	if opts.TLSCert == "" {
		return nil, fmt.Errorf("serve %s: tokens must not be read on the way: name a certificate (tlsCert, tlsKey)", l.Address)
	}
	if _, err := tls.LoadX509KeyPair(opts.TLSCert, opts.TLSKey); err != nil {
		return nil, fmt.Errorf("serve %s: certificate: %w", l.Address, err)
	}
	return server.TLS(l.Listener, &tls.Config{
		// Read anew for every client, so that a renewed one needs no restart.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(opts.TLSCert, opts.TLSKey)
			return &pair, err
		},
	}), nil
}

// firstTenant makes a tenant where there is none, as a client like any other.
func firstTenant(ctx context.Context, opts *Options) error {
	if opts.Tenant == "" {
		return nil
	}
	for _, l := range opts.Listeners {
		if !strings.HasPrefix(l.Address, "unix:") {
			continue
		}
		c, err := client.New(l.Address, client.Options{UserAgent: "sfcd"})
		if err != nil {
			return err
		}
		defer c.Close()
		list, err := c.Tenants().List(ctx, client.ListOptions{Limit: 1})
		if err != nil || len(list.Items) > 0 {
			return err
		}
		_, err = c.Tenants().Create(ctx, &api.Tenant{Metadata: api.Metadata{Name: opts.Tenant}})
		return err
	}
	return nil
}
