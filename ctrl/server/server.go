package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
	"sfc/ctrl/store"
)

// Grant is what members of a group of the host may do.
type Grant struct {
	Tenant string // "" for the whole host
	Role   api.Role
}

// Options say what a server works with. Store, Functions and AuditFile are
// required.
type Options struct {
	Store     *store.Store
	Functions FunctionStore
	// Plane answers about what runs; nil when there is none.
	Plane plane.Plane
	// Health says what else is wrong with the daemon, for everybody to read; nil
	// when there is nobody to ask.
	Health func() []string
	// Metrics serves /metrics; nil for none.
	Metrics http.Handler
	// AuditFile is where the audit log is appended to.
	AuditFile string
	// Groups are those of the host, by id, whose members may come in by the
	// unix socket. Root and the daemon's own user always may, as admin.
	Groups map[uint32]Grant
	// Version of the daemon.
	Version string
	// Logger receives what goes wrong. Default: nobody.
	Logger *slog.Logger
	Limits Limits
}

// Limits bound what clients may cost. Zero fields select the defaults.
type Limits struct {
	// Body is the largest JSON body in bytes. Default 1 MiB.
	Body int64
	// Module is the largest module in bytes. Default 64 MiB.
	Module int64
	// Rate and Burst are the requests per second of a token or user. Default
	// 100, at once 200. Root by the unix socket is not limited.
	Rate, Burst int
	// Strangers is how many attempts to come in that fail an address may make per
	// second, four times as many at once. Default 5.
	Strangers int
	// Streams is how many watches, followed events, traces and captures a token
	// or user may have at a time. Default 64.
	Streams int
	// Connections is how many a listener has at a time. Default 1024.
	Connections int
	// Header is how long a client may take for a request's header or a TLS
	// handshake. Default 10 s.
	Header time.Duration
	// Read is how long a client may take for a JSON body, and for each 64 KiB
	// of a module. Default 30 s.
	Read time.Duration
	// Upload is how long a client may take for a module. Default 10 min.
	Upload time.Duration
	// Write is how long a client may take to read an answer, or each part of a
	// stream. Default 30 s.
	Write time.Duration
	// Idle is how long a connection stays without requests. Default 2 min.
	Idle time.Duration
	// Bookmark is how often a quiet stream is written to. Default 15 s.
	Bookmark time.Duration
}

func (l Limits) withDefaults() Limits {
	pick(&l.Body, 1<<20)
	pick(&l.Module, 64<<20)
	pick(&l.Rate, 100)
	pick(&l.Burst, 2*l.Rate)
	pick(&l.Strangers, 5)
	pick(&l.Streams, 64)
	pick(&l.Connections, 1024)
	pick(&l.Header, 10*time.Second)
	pick(&l.Read, 30*time.Second)
	pick(&l.Upload, 10*time.Minute)
	pick(&l.Write, 30*time.Second)
	pick(&l.Idle, 2*time.Minute)
	pick(&l.Bookmark, 15*time.Second)
	return l
}

// pick sets what was left at zero.
func pick[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Server serves the API. Its methods are safe for concurrent use.
type Server struct {
	opts   Options
	limits Limits
	log    *slog.Logger
	uid    uint32 // the daemon's

	handler http.Handler
	spaces  *spaces
	tokens  *tokens
	audit   *auditLog
	events  *hub
	rates   *rates
	streams *streams

	// ending is done when the server is: streams end then.
	ending context.Context
	end    context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	serving []*http.Server

	closing sync.Once
	closed  error // how closing went
}

// New makes a server. It serves nothing yet; the caller closes it.
func New(ctx context.Context, opts Options) (*Server, error) {
	if opts.Store == nil || opts.Functions == nil || opts.AuditFile == "" {
		return nil, errors.New("make a server: a store, a function store and a file for the audit log are required")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: opts, limits: opts.Limits.withDefaults(), log: opts.Logger, uid: uint32(os.Getuid())}
	system, err := opts.Store.System(ctx)
	if err != nil {
		return nil, err
	}
	if s.spaces, err = openSpaces(ctx, opts.Store, system); err != nil {
		return nil, err
	}
	s.tokens = &tokens{spaces: s.spaces}
	if s.audit, err = openAudit(opts.AuditFile); err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	s.ending, s.end = context.WithCancel(context.Background())
	s.events = newHub()
	s.rates = newRates()
	s.streams = &streams{count: map[string]int{}}
	if s.handler, err = newRouter(s); err != nil {
		return nil, errors.Join(err, s.audit.close())
	}
	if opts.Plane != nil {
		s.work.Go(func() { s.events.follow(s.ending, opts.Plane, s.log) })
	}
	return s, nil
}

// Handler returns the handler of all routes. Requests that did not come in by a
// listener of Serve are let in by token only.
func (s *Server) Handler() http.Handler { return s.handler }

// Publish makes an event known to those who read events. It numbers it, and
// gives it the time if it has none.
func (s *Server) Publish(e api.Event) { s.events.publish(e) }

// Close ends all streams and requests under way, those that change something
// within the time of ctx, and closes the listeners and the audit log. Closing
// again does nothing.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closed = s.shut(ctx) })
	return s.closed
}

func (s *Server) shut(ctx context.Context) error {
	s.end()
	s.mu.Lock()
	serving := s.serving
	s.serving = nil
	s.mu.Unlock()
	var errs []error
	for _, h := range serving {
		if err := h.Shutdown(ctx); err != nil {
			errs = append(errs, err, h.Close())
		}
	}
	s.work.Wait()
	return errors.Join(append(errs, s.audit.close())...)
}
