package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// Page is a part of a list.
type Page struct {
	Entries []Entry // sorted by key
	// Revision is the one to watch from, so that nothing is missed: that of the
	// first page.
	Revision uint64
	// Continue is what gets the next page; "" on the last.
	Continue string
}

// token is what Page.Continue says. Pages are of the moment they are read, so
// only the place and the first page's revision need to be known.
type token struct {
	After    string `json:"a"`
	Revision uint64 `json:"r"`
}

// List returns the entries whose keys begin with prefix, at most limit of them (0:
// all), from where cont says ("": the start). A key that changes between two
// pages is in at most one of them, as it is then; a watch from Page.Revision
// tells what was missed.
func (b *Bucket) List(prefix string, limit int, cont string) (Page, error) {
	var t token
	if cont != "" {
		raw, err := base64.RawURLEncoding.DecodeString(cont)
		if err == nil {
			err = json.Unmarshal(raw, &t)
		}
		if err != nil || t.Revision == 0 || !strings.HasPrefix(t.After, prefix) {
			return Page{}, fmt.Errorf("list %s: %w: continue %.40q is not from a list of %q", b.name, ErrExpired, cont, prefix)
		}
	}
	entries, revision, more := b.cache.list(prefix, t.After, limit)
	if cont == "" {
		t.Revision = revision
	}
	p := Page{Entries: entries, Revision: t.Revision}
	if more {
		t.After = entries[len(entries)-1].Key
		raw, err := json.Marshal(t)
		if err != nil {
			return Page{}, fmt.Errorf("list %s: %w", b.name, err)
		}
		p.Continue = base64.RawURLEncoding.EncodeToString(raw)
	}
	return p, nil
}

// Watcher reads the changes of a bucket in order. It holds nothing and needs no
// closing; one that is slow costs nobody anything, and falls behind at worst. It
// belongs to one goroutine.
type Watcher struct {
	b      *Bucket
	prefix string
	after  uint64
}

// Watch reads the changes of keys that begin with prefix, from the first after a
// revision, which is that of a list or of an earlier event. Changes long past
// are not kept (Options.Events), nor those before the store was opened: then it
// returns ErrExpired, as for revisions that do not exist yet.
func (b *Bucket) Watch(prefix string, after uint64) (*Watcher, error) {
	b.cache.mu.RLock()
	defer b.cache.mu.RUnlock()
	switch {
	case b.cache.closed:
		return nil, ErrClosed
	case after < b.cache.floor || after > b.cache.applied:
		return nil, fmt.Errorf("watch %s from revision %d: %w: %d to %d are kept", b.name, after, ErrExpired, b.cache.floor, b.cache.applied)
	}
	return &Watcher{b: b, prefix: prefix, after: after}, nil
}

// Next returns the next change, or waits for it. ErrExpired says that the watcher
// was too slow, any other error that the context or the store has ended.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	for {
		ev, scanned, wait, err := w.b.cache.since(w.prefix, w.after)
		if err != nil {
			return Event{}, fmt.Errorf("watch %s after revision %d: %w", w.b.name, w.after, err)
		}
		w.after = scanned
		if wait == nil {
			return ev, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// Revision returns the revision up to which the watcher has seen everything: a
// watch that begins there misses nothing.
func (w *Watcher) Revision() uint64 { return w.after }
