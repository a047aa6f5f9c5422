package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// cursor is how far a watch is: objects and what is observed of them are in
// buckets of their own, with revisions of their own.
type cursor struct{ spec, status uint64 }

func (c cursor) String() string { return fmt.Sprintf("%d.%d", c.spec, c.status) }

func parseCursor(text string) (c cursor, err error) {
	if n, err := fmt.Sscanf(text, "%d.%d", &c.spec, &c.status); n != 2 || err != nil || c.String() != text {
		return c, badRequest("resourceVersion: %.60q is not from a list or watch of this kind", text)
	}
	return c, nil
}

// change is what a store's watcher found.
type change struct {
	store.Event
	observed bool   // it is in the bucket of statuses
	at       uint64 // the watcher has seen everything up to here
	err      error
}

// watch answers with a stream of changes. Nothing is queued for a reader who is
// slow: the store keeps so many changes for all, and who falls behind them, or
// does not read for a while, has to list again.
func (k *kind[T, P]) watch(r *request) (*answer, error) {
	done, err := r.openStream()
	if err != nil {
		return nil, err
	}
	a, err := k.startWatch(r)
	if err != nil {
		done()
		return nil, err
	}
	a.done = done
	return a, nil
}

// openStream counts a stream of the caller.
func (r *request) openStream() (done func(), err error) {
	own, ok := r.s.streams.open(r.who.name, r.s.limits.Streams)
	if !ok {
		return nil, tooMany(time.Second, "%s has %d streams open", r.who.name, r.s.limits.Streams)
	}
	if r.who.tenant == "" {
		return own, nil
	}
	most := streamsPerTenant * r.s.limits.Streams
	tenants, ok := r.s.streams.open("tenant:"+r.who.tenant, most)
	if !ok {
		own()
		return nil, tooMany(time.Second, "tenant %s has %d streams open", r.who.tenant, most)
	}
	return func() { own(); tenants() }, nil
}

// streamsPerTenant is how many times as many streams all tokens of a tenant may
// have together as one of them: it can make any number of tokens.
const streamsPerTenant = 4

func (k *kind[T, P]) startWatch(r *request) (*answer, error) {
	bucket, err := k.open(r)
	if err != nil {
		return nil, err
	}
	statuses, err := k.statuses(r)
	if err != nil {
		return nil, err
	}
	w := &watch[T, P]{k: k, r: r, bucket: bucket, statuses: statuses}
	if from := r.URL.Query().Get("resourceVersion"); from != "" {
		if w.at, err = parseCursor(from); err != nil {
			return nil, err
		}
	} else {
		// What is there comes first, as a list would have it.
		w.at.status = statuses.Revision()
		page, err := bucket.List(k.keyPrefix(r), 0, "")
		if err != nil {
			return nil, err
		}
		w.at.spec, w.first = page.Revision, page.Entries
	}
	if w.specs, err = bucket.Watch(k.keyPrefix(r), w.at.spec); err != nil {
		return nil, err
	}
	if w.observed, err = statuses.Watch(api.StatusKey(k.bucket, k.keyPrefix(r)), w.at.status); err != nil {
		return nil, err
	}
	return &answer{stream: w.run, header: http.Header{"Content-Type": {string(api.BodyStream)}}}, nil
}

// watch is a stream of changes of a kind's objects.
type watch[T any, P object[T]] struct {
	k                *kind[T, P]
	r                *request
	bucket, statuses *store.Bucket
	specs, observed  *store.Watcher
	first            []store.Entry
	at               cursor
}

func (w *watch[T, P]) run(out *streamWriter) error {
	for _, e := range w.first {
		if err := w.tell(out, api.Added, e); err != nil {
			return err
		}
	}
	w.first = nil
	if err := w.bookmark(out); err != nil {
		return err
	}
	changes := make(chan change)
	ctx, cancel := context.WithCancel(out.ctx)
	defer cancel()
	pump := func(from *store.Watcher, observed bool) {
		for {
			ev, err := from.Next(ctx)
			select {
			case changes <- change{ev, observed, from.Revision(), err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}
	go pump(w.specs, false)
	go pump(w.observed, true)
	quiet := time.NewTicker(w.r.s.limits.Bookmark)
	defer quiet.Stop()
	for {
		select {
		case c := <-changes:
			if err := w.handle(out, c); err != nil {
				return w.end(out, err)
			}
		case <-quiet.C:
			if err := w.bookmark(out); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *watch[T, P]) bookmark(out *streamWriter) error {
	return out.line(api.WatchEvent[T]{Type: api.Bookmark, ResourceVersion: w.at.String()})
}

// handle tells one change.
func (w *watch[T, P]) handle(out *streamWriter, c change) error {
	switch {
	case c.err != nil:
		return c.err
	case c.observed:
		w.at.status = c.at
		e, err := w.bucket.Get(strings.TrimPrefix(c.Key, api.StatusKey(w.k.bucket, "")))
		if errors.Is(err, store.ErrNotFound) || err == nil && e.Revision > w.at.spec {
			return nil // the object is gone, or its own change is yet to come
		} else if err != nil {
			return err
		}
		return w.tell(out, api.Modified, e)
	case c.Deleted:
		w.at.spec = c.at
		o := P(new(T))
		t, m := o.Header()
		*t = api.Type{APIVersion: api.Version, Kind: o.KindName()}
		m.Name, m.Tenant = lastPart(c.Key), w.r.tenant
		if w.k.bare != nil {
			w.k.bare(o, c.Key)
		}
		m.SetRevision(c.Revision)
		return out.line(api.WatchEvent[T]{Type: api.Deleted, ResourceVersion: w.at.String(), Object: (*T)(o)})
	default:
		w.at.spec = c.at
		return w.tell(out, api.Modified, c.Entry)
	}
}

// tell writes an object as it is. The first generation of one is its addition.
func (w *watch[T, P]) tell(out *streamWriter, typ string, e store.Entry) error {
	o, err := w.k.read(w.r, e, w.statuses)
	if err != nil {
		return err
	}
	if w.k.visible != nil && !w.k.visible(w.r, o) {
		return nil
	}
	if _, m := o.Header(); m.Generation <= 1 && e.Revision == w.at.spec && typ == api.Modified {
		typ = api.Added
	}
	return out.line(api.WatchEvent[T]{Type: typ, ResourceVersion: w.at.String(), Object: (*T)(o)})
}

// end tells why the watch ends, if it is not that the client is gone.
func (w *watch[T, P]) end(out *streamWriter, err error) error {
	if out.ctx.Err() != nil {
		return err
	}
	p, internal := asProblem(err)
	if internal {
		w.r.s.log.Error("a watch failed", "request", w.r.id, "err", err)
	}
	p.RequestID = w.r.id
	return out.line(api.WatchEvent[T]{Type: api.Failed, ResourceVersion: w.at.String(), Problem: p})
}
