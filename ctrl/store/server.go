package store

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// engine is the embedded server, and the accounts it lets in. The server is
// replaced when it has given up writing (see heal.go); its clients connect
// through engine.InProcessConn and find the new one by themselves.
type engine struct {
	opts   Options
	dir    string
	secret string // of this process: nobody else can know it

	looking sync.Mutex // held by the one writer who asks how the server is

	mu       sync.RWMutex
	srv      *server.Server // nil while there is none
	accounts map[string]*account
}

// account is the engine's side of a space.
type account struct {
	name  string
	bytes int64 // limit, 0 for none
	acc   *server.Account
}

// slack is what an account may hold beyond the limit of its space, in bytes.
// The space enforces the limit; the server's own is the net below it, and must
// not refuse the markers that deleting writes.
const slack = 16 << 20

func newEngine(dir string, opts Options) *engine {
	return &engine{opts: opts, dir: dir, secret: rand.Text(), accounts: map[string]*account{}}
}

// start starts a server and gives it all accounts. On an error nothing runs.
func (e *engine) start(ctx context.Context) error {
	o := &server.Options{
		ServerName: "sfcd",
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   e.dir,
		SyncAlways: true,
		MaxPayload: int32(max(e.opts.MaxValue, chunkSize) + headroom),
		// The room on disk is this package's to watch, per write.
		JetStreamMaxMemory:         1 << 20,
		JetStreamMaxStore:          math.MaxInt64 / 4,
		CustomClientAuthentication: e,
	}
	if e.opts.Listen != "" {
		host, port, err := loopback(e.opts.Listen)
		if err != nil {
			return err
		}
		o.DontListen, o.Host, o.Port = false, host, port
	}
	srv, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("configure the store's server: %w", err)
	}
	srv.SetLoggerV2(engineLog{e.opts.Logger}, false, false, false)
	srv.Start()
	fail := func(err error) error {
		stopServer(ctx, srv)
		return err
	}
	wait := e.opts.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	if !srv.ReadyForConnections(wait) {
		return fail(fmt.Errorf("%w: its server did not start within %v", ErrUnavailable, wait))
	}
	if !srv.JetStreamEnabled() {
		return fail(fmt.Errorf("%w: its server could not open %s", ErrUnavailable, e.dir))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.accounts {
		if err := a.enable(srv); err != nil {
			return fail(err)
		}
	}
	e.srv = srv
	return nil
}

// stop ends the server, if there is one. The time is bounded by ctx.
func (e *engine) stop(ctx context.Context) error {
	e.mu.Lock()
	srv := e.srv
	e.srv = nil
	e.mu.Unlock()
	if srv == nil {
		return nil
	}
	return stopServer(ctx, srv)
}

func stopServer(ctx context.Context, srv *server.Server) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: its server did not stop in time: %w", ErrUnavailable, ctx.Err())
	}
}

// add gives the server an account, or gives an account another limit. Data that
// the account has on disk is recovered before add returns.
func (e *engine) add(name string, bytes int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.srv == nil {
		return ErrUnavailable
	}
	a := &account{name: name, bytes: bytes}
	if old := e.accounts[name]; old != nil {
		a.acc = old.acc
		if err := a.acc.UpdateJetStreamLimits(a.limits()); err != nil {
			return fmt.Errorf("limit account %s: %w", name, err)
		}
	} else if err := a.enable(e.srv); err != nil {
		return err
	}
	e.accounts[name] = a
	return nil
}

// enable registers the account with a server.
func (a *account) enable(srv *server.Server) error {
	acc, _ := srv.LookupOrRegisterAccount(a.name)
	if err := acc.EnableJetStream(a.limits(), nil); err != nil {
		return fmt.Errorf("open account %s: %w", a.name, err)
	}
	a.acc = acc
	return nil
}

func (a *account) limits() map[string]server.JetStreamAccountLimits {
	l := server.JetStreamAccountLimits{
		MaxMemory: 0, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}
	if a.bytes > 0 {
		// Half of the bound leaves the server's sum over many tenants its room.
		l.MaxStore = min(a.bytes, 1<<50) + slack
	}
	return map[string]server.JetStreamAccountLimits{"": l}
}

// remove takes an account out of service.
func (e *engine) remove(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.accounts[name]
	if a == nil {
		return nil
	}
	delete(e.accounts, name)
	return a.acc.DisableJetStream()
}

// used returns the bytes an account has on disk.
func (e *engine) used(name string) int64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	a := e.accounts[name]
	if a == nil || e.srv == nil {
		return 0
	}
	return int64(a.acc.JetStreamUsage().Store)
}

// failed returns why the server does not write any more to an account's stream,
// or with "" to any at all, nil if it does. That it is slow, that it is being
// replaced, or that the account has just gone is no failure: only what another
// server would cure is.
func (e *engine) failed(account, stream string) error {
	e.mu.RLock()
	srv := e.srv
	e.mu.RUnlock()
	if srv == nil {
		return nil
	}
	h := srv.Healthz(&server.HealthzOptions{Account: account, Stream: stream, Details: true})
	for _, trouble := range h.Errors {
		switch trouble.Type {
		case server.HealthzErrorJetStream: // it has given up altogether
		case server.HealthzErrorStream:
			lost := strings.HasSuffix(trouble.Error, "could not be recovered")
			if !lost && !strings.Contains(trouble.Error, "write error") || !e.has(trouble.Account) {
				continue
			}
		default: // of the look itself, or what it looked for is gone
			continue
		}
		return errors.New(trouble.Error)
	}
	return nil
}

// has says whether an account is in service.
func (e *engine) has(name string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.accounts[name] != nil
}

// failedNow is failed for those who wait: one of them looks at a time, the others
// learn nothing.
func (e *engine) failedNow(account, stream string) error {
	if !e.looking.TryLock() {
		return nil
	}
	defer e.looking.Unlock()
	return e.failed(account, stream)
}

// address returns where the server listens, "" if it does not.
func (e *engine) address() string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.srv == nil || e.opts.Listen == "" {
		return ""
	}
	return e.srv.ClientURL()
}

// InProcessConn connects a client to the server that runs now.
func (e *engine) InProcessConn() (net.Conn, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.srv == nil {
		return nil, ErrUnavailable
	}
	return e.srv.InProcessConn()
}

// Check lets a client into the account that it names as its user, if it knows
// the process's secret.
func (e *engine) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if subtle.ConstantTimeCompare([]byte(o.Password), []byte(e.secret)) != 1 {
		return false
	}
	e.mu.RLock()
	a := e.accounts[o.Username]
	e.mu.RUnlock()
	if a == nil {
		return false
	}
	c.RegisterUser(&server.User{Username: o.Username, Account: a.acc})
	return true
}

// loopback splits an address and refuses those that others could reach.
func loopback(address string) (host string, port int, err error) {
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return "", 0, fmt.Errorf("store address %q: %w", address, err)
	}
	if !tcp.IP.IsLoopback() {
		return "", 0, fmt.Errorf("store address %q: %w", address, errors.New("only loopback is allowed, as 127.0.0.1:4222"))
	}
	if tcp.Port == 0 {
		tcp.Port = server.RANDOM_PORT
	}
	return tcp.IP.String(), tcp.Port, nil
}

// engineLog passes on what the server says, a level below what it thinks of it
// where it is only talk.
type engineLog struct{ log *slog.Logger }

func (l engineLog) say(level slog.Level, format string, v []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, fmt.Sprintf(format, v...), "component", "store")
	}
}

func (l engineLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l engineLog) Debugf(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
func (l engineLog) Tracef(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
func (l engineLog) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l engineLog) Errorf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l engineLog) Fatalf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
