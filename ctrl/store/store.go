package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options configure a [Store]. The zero value selects the defaults.
type Options struct {
	// MaxValue is the size of the largest value of a key, in bytes. Default
	// 1 MiB, at most 32 MiB.
	MaxValue int
	// MinFree is what writes leave free on the file system, in bytes. Default
	// 64 MiB. It is room for the store's own upkeep and for deleting.
	MinFree int64
	// Events is the number of changes a bucket keeps for watchers that come
	// back. Default 4096.
	Events int
	// Timeout bounds every operation whose context does not. Default 10 s.
	Timeout time.Duration
	// Listen is an address of the loopback interface on which the server
	// listens for tools, as 127.0.0.1:0. Default "": nowhere.
	Listen string
	// Logger receives what the server has to say. Default: nobody.
	Logger *slog.Logger

	// markers of deletions that a bucket may have before it is compacted, for
	// which the server is started anew. When the store is opened anyway, a 64th
	// of them suffices.
	markers int
}

func (o Options) withDefaults() Options {
	if o.MaxValue == 0 {
		o.MaxValue = 1 << 20
	}
	if o.MinFree == 0 {
		o.MinFree = 64 << 20
	}
	if o.Events == 0 {
		o.Events = 4096
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.markers == 0 {
		o.markers = 1 << 16
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.MaxValue < 1 || o.MaxValue > 32<<20:
		return fmt.Errorf("store option MaxValue %d: 1 to %d bytes are allowed", o.MaxValue, 32<<20)
	case o.MinFree < 0:
		return fmt.Errorf("store option MinFree %d: it is negative", o.MinFree)
	case o.Events < 1 || o.Events > 1<<20:
		return fmt.Errorf("store option Events %d: 1 to %d are allowed", o.Events, 1<<20)
	case o.Timeout < 0:
		return fmt.Errorf("store option Timeout %v: it is negative", o.Timeout)
	}
	return nil
}

// systemAccount is the account of the control plane's own space. Those of
// tenants begin with tenantPrefix, so that no name of a tenant can be it.
const (
	systemAccount = "SYSTEM"
	tenantPrefix  = "T_"
)

// Store is an open store. Its methods are safe for concurrent use.
type Store struct {
	dir    string
	opts   Options
	lock   io.Closer
	disk   *disk
	engine *engine

	healing chan struct{} // holds the token of the one who heals; see heal.go
	healed  time.Time     // when a server was started because one failed; the token's holder's
	closing chan struct{} // closed with the store
	gate    sync.RWMutex  // held for writing while the server is replaced on purpose

	mu     sync.Mutex
	damage []Damage
	spaces map[string]*Space // by account
	closed bool
}

// Open opens the store in dir, which is made if need be and belongs to this
// process until Close. Damage that it finds does not stop it; see
// [Store.Damage].
func Open(ctx context.Context, dir string, opts Options) (_ *Store, err error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, opts: opts, lock: lock,
		disk:    &disk{dir: dir, minFree: opts.MinFree},
		engine:  newEngine(dir, opts),
		healing: make(chan struct{}, 1), closing: make(chan struct{}),
		spaces: map[string]*Space{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	if s.damage, err = examine(dir, opts.markers/64, opts.Logger); err != nil {
		return nil, err
	}
	if err := s.engine.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends all operations, stops the server and unlocks the directory, within
// Options.Timeout or when ctx ends. What was acknowledged is on disk already.
func (s *Store) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.closing)
	spaces := s.spaces
	s.spaces = nil
	s.mu.Unlock()
	for _, sp := range spaces {
		sp.close()
	}
	err := s.engine.stop(ctx)
	if err != nil {
		// The server may still write: the directory stays locked until the
		// process ends.
		return fmt.Errorf("close store %s: %w", s.dir, err)
	}
	return s.lock.Close()
}

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

// Damage returns what was found damaged when the store was opened.
func (s *Store) Damage() []Damage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.damage)
}

// Writable says why nothing can be written now, for want of room or because the
// file system is read-only; nil if it can.
func (s *Store) Writable() error { return s.disk.check(0) }

// Access returns where the server listens, if Options.Listen asked for it, and
// what a tool has to say to see a space. The password is this process's, and as
// good as all of the store's data.
func (s *Store) Access(sp *Space) (url, user, password string) {
	return s.engine.address(), sp.account, s.engine.secret
}

// System returns the control plane's own space.
func (s *Store) System(ctx context.Context) (*Space, error) {
	return s.open(ctx, "system", systemAccount, Limits{})
}

// Tenant returns the space of a tenant, with limits, and makes it if need be.
// Limits are not stored: they are what was said last.
func (s *Store) Tenant(ctx context.Context, name string, l Limits) (*Space, error) {
	if err := checkSpace(name); err != nil {
		return nil, err
	}
	return s.open(ctx, name, tenantPrefix+escape(name, false), l)
}

func (s *Store) open(ctx context.Context, name, account string, l Limits) (*Space, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if sp := s.spaces[account]; sp != nil {
		return sp, sp.SetLimits(l)
	}
	if err := s.engine.add(account, l.Bytes); err != nil {
		return nil, fmt.Errorf("open space %s: %w", name, err)
	}
	sp, err := newSpace(ctx, s, name, account, l)
	if err != nil {
		return nil, errors.Join(err, s.engine.remove(account))
	}
	s.spaces[account] = sp
	return sp, nil
}

// Tenants returns the names of the tenants that have data in the store, sorted.
func (s *Store) Tenants() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, engineDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	var names []string
	for _, e := range entries {
		if escaped, ok := strings.CutPrefix(e.Name(), tenantPrefix); ok && e.IsDir() {
			if name, ok := unescape(escaped, false); ok {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// Remove deletes the space of a tenant with all that is in it. Its handles are
// closed. A tenant that has none is ErrNotFound.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := checkSpace(name); err != nil {
		return err
	}
	account := tenantPrefix + escape(name, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	dir := filepath.Join(s.dir, engineDir, account)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) && s.spaces[account] == nil {
		return fmt.Errorf("space %s: %w", name, ErrNotFound)
	}
	if sp := s.spaces[account]; sp != nil {
		sp.close()
		delete(s.spaces, account)
	}
	if err := s.engine.remove(account); err != nil {
		return fmt.Errorf("remove space %s: %w", name, err)
	}
	// Renamed first: a process that dies in the middle leaves nothing that
	// looks like a tenant.
	gone := filepath.Join(s.dir, engineDir, ".removed-"+account)
	if err := os.Rename(dir, gone); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove space %s: %w", name, named(err))
	}
	if err := syncPath(filepath.Join(s.dir, engineDir)); err != nil {
		return fmt.Errorf("remove space %s: %w", name, err)
	}
	return os.RemoveAll(gone)
}

// within bounds the time of an operation whose context has no deadline.
func (s *Store) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.opts.Timeout)
}
