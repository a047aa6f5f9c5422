package store

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Space is one tenant's part of the store, or the control plane's own. It is
// open as long as its Store is.
type Space struct {
	store   *Store
	name    string
	account string
	nc      *nats.Conn
	js      jetstream.JetStream
	gone    chan struct{} // closed with the space

	// opening is held while a bucket or the modules are opened.
	opening sync.Mutex

	mu      sync.Mutex
	limits  Limits
	objects int               // of all open buckets and modules, with those claimed
	claims  map[string]*claim // keys and modules that are being made
	buckets map[string]*Bucket
	modules *Modules
	closed  bool
}

func newSpace(ctx context.Context, s *Store, name, account string, l Limits) (*Space, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	sp := &Space{store: s, name: name, account: account, limits: l, buckets: map[string]*Bucket{}, claims: map[string]*claim{}, gone: make(chan struct{})}
	wait := s.opts.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = time.Until(deadline)
	}
	var err error
	sp.nc, err = nats.Connect("",
		nats.Name(account),
		nats.InProcessServer(s.engine),
		nats.UserInfo(account, s.engine.secret),
		nats.Timeout(wait),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond),
		nats.ReconnectJitter(0, 0),
		// What was sent to a server that is gone is not sent again: the caller
		// has been told that its write is in doubt.
		nats.ReconnectBufSize(-1),
		nats.ReconnectHandler(func(*nats.Conn) { sp.resume() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.opts.Logger.Debug("store client", "space", name, "err", err)
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("open space %s: %w: %w", name, ErrUnavailable, err)
	}
	if sp.js, err = jetstream.New(sp.nc, jetstream.WithPublishAsyncTimeout(s.opts.Timeout)); err != nil {
		sp.nc.Close()
		return nil, fmt.Errorf("open space %s: %w", name, err)
	}
	return sp, nil
}

// Name returns the name of the tenant, or "system".
func (sp *Space) Name() string { return sp.name }

// Bucket opens a bucket of keys, and makes it if need be. There is one handle
// per name. Opening reads all of it.
func (sp *Space) Bucket(ctx context.Context, name string) (*Bucket, error) {
	if err := checkBucket(name); err != nil {
		return nil, err
	}
	sp.opening.Lock()
	defer sp.opening.Unlock()
	sp.mu.Lock()
	b, closed := sp.buckets[name], sp.closed
	sp.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if b != nil {
		return b, nil
	}
	if err := sp.store.quarantined(sp, name, bucketStream(name)); err != nil {
		return nil, err
	}
	b, err := openBucket(ctx, sp, name)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s of %s: %w", name, sp.name, err)
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.closed {
		b.close()
		return nil, ErrClosed
	}
	sp.buckets[name] = b
	return b, nil
}

// Modules opens the space's modules, and makes room for them if need be.
func (sp *Space) Modules(ctx context.Context) (*Modules, error) {
	sp.opening.Lock()
	defer sp.opening.Unlock()
	sp.mu.Lock()
	m, closed := sp.modules, sp.closed
	sp.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if m != nil {
		return m, nil
	}
	if err := sp.store.quarantined(sp, "modules", modulesStream); err != nil {
		return nil, err
	}
	m, err := openModules(ctx, sp)
	if err != nil {
		return nil, fmt.Errorf("open modules of %s: %w", sp.name, err)
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.modules = m
	return m, nil
}

// making is for what is waited for once it was begun: a server that ends while it
// makes a stream leaves that stream's goroutines and files behind.
func (sp *Space) making(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), sp.store.opts.Timeout)
}

// persist makes the directories of a stream that was just made last: the server
// syncs what is in them, but not that they are there.
func (sp *Space) persist(stream string) error {
	dir := filepath.Join(sp.store.dir, engineDir, sp.account, "streams", stream)
	for range 5 { // up to the one that holds the store's
		if err := syncPath(dir); err != nil {
			return fmt.Errorf("sync %s: %w", dir, named(err))
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

// connected waits for the server, which may just be started anew.
func (sp *Space) connected(ctx context.Context) error {
	for !sp.nc.IsConnected() {
		if sp.nc.IsClosed() {
			return ErrClosed
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: its server is away: %w", ErrUnavailable, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// compacted makes all buckets forget the markers that may have gone.
func (sp *Space) compacted() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, b := range sp.buckets {
		b.cache.compacted()
	}
}

// resume makes all buckets read on where they were: the server is another one.
func (sp *Space) resume() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, b := range sp.buckets {
		b.resume()
	}
}

// close ends the space's handles. Operations under way return ErrClosed or
// ErrUnavailable.
func (sp *Space) close() {
	sp.mu.Lock()
	if sp.closed {
		sp.mu.Unlock()
		return
	}
	sp.closed = true
	close(sp.gone)
	buckets := sp.buckets
	sp.buckets = nil
	sp.mu.Unlock()
	for _, b := range buckets {
		b.close()
	}
	sp.opening.Lock() // what is being made is there then
	defer sp.opening.Unlock()
	sp.nc.Close()
}
