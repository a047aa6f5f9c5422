package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is a set of keys with values. Reads are served from memory, where all
// of it is; writes go to disk and return when both have them.
type Bucket struct {
	space  *Space
	name   string
	prefix string // of the subjects of its keys
	stream jetstream.Stream
	kv     jetstream.KeyValue
	cache  *cache
	feed   *feed
}

// headroom is what a message may be larger than its payload: subject, headers.
const headroom = 16 << 10

// overhead is about what the store adds to a value, in bytes on disk.
const overhead = 128

// A key-value bucket of NATS (ADR-8) is a stream with a subject for each key.
func bucketStream(name string) string { return "KV_" + name }
func keySubjects(name string) string  { return "$KV." + name + "." }

func openBucket(ctx context.Context, sp *Space, name string) (*Bucket, error) {
	ctx, cancel := sp.store.within(ctx)
	defer cancel()
	kv, err := sp.js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		if err := sp.admit(overhead); err != nil {
			return nil, err
		}
		making, cancel := sp.making(ctx)
		defer cancel()
		kv, err = sp.js.CreateKeyValue(making, jetstream.KeyValueConfig{Bucket: name, History: 1, Storage: jetstream.FileStorage})
		if err == nil {
			err = sp.persist(bucketStream(name))
		}
	}
	if err != nil {
		return nil, sp.store.explain(err)
	}
	b := &Bucket{space: sp, name: name, prefix: keySubjects(name), kv: kv, cache: newCache(sp.store.opts.Events)}
	if b.stream, err = sp.js.Stream(ctx, bucketStream(name)); err != nil {
		return nil, sp.store.explain(err)
	}
	if b.feed, err = startFeed(ctx, b); err != nil {
		return nil, sp.store.explain(err)
	}
	return b, nil
}

// Name returns the bucket's name.
func (b *Bucket) Name() string { return b.name }

// Revision returns the revision of the last change.
func (b *Bucket) Revision() uint64 {
	b.cache.mu.RLock()
	defer b.cache.mu.RUnlock()
	return b.cache.applied
}

// Get returns a key's value, or ErrNotFound.
func (b *Bucket) Get(key string) (Entry, error) {
	e, ok := b.cache.get(key)
	if !ok {
		return Entry{}, fmt.Errorf("%s %q: %w", b.name, key, ErrNotFound)
	}
	return e, nil
}

// Create makes a key that must not be there (ErrExists) and returns its
// revision.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := b.check(key, value); err != nil {
		return 0, err
	}
	known, live := b.cache.latest(key)
	if live {
		return 0, fmt.Errorf("%s %q: %w", b.name, key, ErrExists)
	}
	if err := b.space.admit(int64(len(value) + len(key) + overhead)); err != nil {
		return 0, fmt.Errorf("create %s %q: %w", b.name, key, err)
	}
	release, err := b.space.claim(b.object(key))
	if err != nil {
		return 0, fmt.Errorf("create %s %q: %w", b.name, key, err)
	}
	defer release()
	// A marker of a deletion may have come or gone meanwhile: once more then.
	for range 3 {
		revision, err := b.write(ctx, key, value, nil, known)
		if !errors.Is(err, ErrConflict) {
			return revision, err
		}
		if known, live, err = b.stored(ctx, key); err != nil {
			return 0, fmt.Errorf("create %s %q: %w", b.name, key, err)
		}
		if live {
			return 0, fmt.Errorf("%s %q: %w", b.name, key, ErrExists)
		}
	}
	return 0, fmt.Errorf("create %s %q: %w", b.name, key, ErrConflict)
}

// Update gives a key another value if it still has the given revision, and
// returns the new one. If it has not, the error is a *ConflictError, or
// ErrNotFound if there is no such key.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if err := b.check(key, value); err != nil {
		return 0, err
	}
	have, err := b.Get(key)
	if err != nil {
		return 0, err
	}
	// The old value goes when the new one is there; until then both count.
	grow := int64(max(0, len(value)-len(have.Value)))
	if err := b.space.admit(grow); err != nil {
		return 0, fmt.Errorf("update %s %q: %w", b.name, key, err)
	}
	if revision == 0 {
		return 0, &ConflictError{Bucket: b.name, Key: key, Want: 0, Have: have.Revision}
	}
	return b.change(ctx, key, value, nil, revision)
}

// Delete removes a key if it still has the given revision, and returns that of
// the deletion. Errors are those of Update.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) (uint64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	have, err := b.Get(key)
	if err != nil {
		return 0, err
	}
	if err := b.space.store.disk.checkDelete(); err != nil {
		return 0, fmt.Errorf("delete %s %q: %w", b.name, key, err)
	}
	if revision == 0 {
		return 0, &ConflictError{Bucket: b.name, Key: key, Want: 0, Have: have.Revision}
	}
	return b.change(ctx, key, nil, nats.Header{opHeader: {opDelete}}, revision)
}

// How a key-value bucket of NATS says that a key was deleted.
const (
	opHeader = "KV-Operation"
	opDelete = "DEL"
)

// change writes what must replace a revision.
func (b *Bucket) change(ctx context.Context, key string, value []byte, header nats.Header, revision uint64) (uint64, error) {
	now, err := b.write(ctx, key, value, header, revision)
	if !errors.Is(err, ErrConflict) {
		return now, err
	}
	have, live, err := b.stored(ctx, key)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s %q: %w: %w", b.name, key, ErrConflict, err)
	case !live:
		return 0, fmt.Errorf("%s %q: %w", b.name, key, ErrNotFound)
	}
	return 0, &ConflictError{Bucket: b.name, Key: key, Want: revision, Have: have}
}

// write sends a message for a key whose last one must be of revision last (0:
// none), and waits until it is stored and has come back to the cache.
func (b *Bucket) write(ctx context.Context, key string, value []byte, header nats.Header, last uint64) (uint64, error) {
	ctx, cancel := b.space.store.within(ctx)
	defer cancel()
	b.space.store.gate.RLock()
	defer b.space.store.gate.RUnlock()
	if err := b.space.connected(ctx); err != nil {
		return 0, fmt.Errorf("write %s %q: %w", b.name, key, err)
	}
	msg := &nats.Msg{Subject: b.prefix + escape(key, true), Data: value, Header: nats.Header{}}
	for k, v := range header {
		msg.Header[k] = v
	}
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(last, 10))
	revision, err := b.space.publish(ctx, bucketStream(b.name), msg)
	if err != nil {
		return 0, fmt.Errorf("write %s %q: %w", b.name, key, err)
	}
	if err := b.reached(ctx, revision); err != nil {
		return revision, fmt.Errorf("write %s %q: it is stored as revision %d, but: %w", b.name, key, revision, err)
	}
	return revision, nil
}

// reached waits until the cache has a revision.
func (b *Bucket) reached(ctx context.Context, revision uint64) error {
	for {
		b.cache.mu.RLock()
		applied, changed, closed := b.cache.applied, b.cache.changed, b.cache.closed
		b.cache.mu.RUnlock()
		switch {
		case applied >= revision:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: it was not heard of in time: %w", ErrUnavailable, ctx.Err())
		}
	}
}

// stored asks the server, not the cache, for the revision of a key. live is
// false for a deletion and for no message at all (0).
func (b *Bucket) stored(ctx context.Context, key string) (revision uint64, live bool, err error) {
	ctx, cancel := b.space.store.within(ctx)
	defer cancel()
	msg, err := b.stream.GetLastMsgForSubject(ctx, b.prefix+escape(key, true))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, b.space.store.explain(err)
	}
	return msg.Sequence, msg.Header.Get(opHeader) == "", nil
}

// check refuses what cannot be written.
func (b *Bucket) check(key string, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if limit := b.space.store.opts.MaxValue; len(value) > limit {
		return &TooLargeError{What: fmt.Sprintf("the value of %s %q", b.name, key), Size: int64(len(value)), Limit: int64(limit)}
	}
	return nil
}

// object names a key among all objects of the space.
func (b *Bucket) object(key string) string { return b.name + "/" + key }

func (b *Bucket) resume() { b.feed.resume() }

func (b *Bucket) close() {
	b.cache.close()
	b.feed.stop()
}
