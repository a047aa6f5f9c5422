package server

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
)

// keptEvents is how many events are kept for those who ask later, or slowly.
const keptEvents = 4096

// hub keeps the latest events, of the data plane and of the control plane.
// Readers come and read; nothing is queued for any of them.
type hub struct {
	up atomic.Bool // the data plane answers

	mu      sync.Mutex
	seq     uint64      // of the last event
	ring    []api.Event // the oldest first
	changed chan struct{}
}

// newHub starts the numbers at the time in us, so that they grow over restarts;
// they stay exact in JSON's doubles.
func newHub() *hub {
	return &hub{seq: uint64(time.Now().UnixMicro()), changed: make(chan struct{})}
}

func (h *hub) connected() bool { return h.up.Load() }

// publish adds an event and wakes the readers.
func (h *hub) publish(e api.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	e.Seq = h.seq
	if len(h.ring) == keptEvents {
		// Half at a time, so that moving them costs little per event.
		h.ring = append(h.ring[:0:0], h.ring[keptEvents/2:]...)
	}
	h.ring = append(h.ring, e)
	close(h.changed)
	h.changed = make(chan struct{})
}

// since returns the events after a number, whether some before them are no
// longer kept, the number of the last one, and what to wait for if there are
// none.
func (h *hub) since(after uint64) (events []api.Event, lost bool, last uint64, wait <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// What is ahead of the numbers is from a clock that was: begin again.
	if after > h.seq {
		after = 0
	}
	first := h.seq + 1 - uint64(len(h.ring))
	skip := uint64(0)
	if after >= first {
		skip = after + 1 - first
	}
	events = append(events, h.ring[min(skip, uint64(len(h.ring))):]...)
	return events, after != 0 && after+1 < first, h.seq, h.changed
}

// follow reads the data plane's events until ctx ends.
func (h *hub) follow(ctx context.Context, p plane.Plane, log *slog.Logger) {
	const shortest, longest = 50 * time.Millisecond, 5 * time.Second
	after, wait := uint64(0), shortest
	var started time.Time
	for ctx.Err() == nil {
		if !h.up.Load() {
			// One that was started anew counts from 1 again.
			o, err := p.Observe(ctx)
			if err != nil {
				log.Debug("the data plane does not answer", "err", err)
				select {
				case <-ctx.Done():
				case <-time.After(wait):
				}
				wait = min(2*wait, longest)
				continue
			}
			if !o.Started.Equal(started) {
				started, after = o.Started, 0
			}
			h.up.Store(true)
		}
		events, err := p.Events(ctx, after)
		if err != nil {
			h.up.Store(false)
			continue
		}
		wait = shortest
		for _, e := range events {
			after = max(after, e.Seq)
			h.publish(event(e))
		}
	}
}

// event is an event of the data plane as the API has it.
func event(e plane.Event) api.Event {
	a := api.Event{
		Time: e.Time, Kind: e.Kind, Reason: e.Reason, Level: e.Level,
		Tenant: e.Tenant, Chain: e.Chain, Function: e.Function, Text: e.Text,
	}
	if e.Worker >= 0 {
		a.Worker = &e.Worker
	}
	return a
}

// listEvents sends the events that are kept, a line each, and with follow those
// that come.
func (s *Server) listEvents(r *request) (*answer, error) {
	after, err := r.number("after", 0, 1<<62)
	if err != nil {
		return nil, err
	}
	limit, err := r.number("limit", keptEvents, keptEvents)
	if err != nil {
		return nil, err
	}
	follow, err := r.flag("follow")
	if err != nil {
		return nil, err
	}
	var since time.Time
	if r.tenant != "" {
		t, err := s.spaces.tenant(r.tenant)
		if err != nil {
			return nil, err
		}
		since = t.Metadata.CreatedAt // what was before concerned another tenant of the name
	}
	a := &answer{}
	if follow {
		if a.done, err = r.openStream(); err != nil {
			return nil, err
		}
	}
	a.stream = func(w *streamWriter) error {
		return s.sendEvents(r, w, after, int(limit), follow, since)
	}
	return a, nil
}

func (s *Server) sendEvents(r *request, w *streamWriter, after uint64, limit int, follow bool, since time.Time) error {
	wanted := eventFilter(r, since)
	quiet := time.NewTicker(s.limits.Bookmark)
	defer quiet.Stop()
	for first := true; ; first = false {
		events, lost, last, wait := s.events.since(after)
		var chosen []api.Event
		for _, e := range events {
			if wanted(&e) {
				chosen = append(chosen, e)
			}
		}
		if first && len(chosen) > limit {
			chosen = chosen[len(chosen)-limit:]
		}
		if lost {
			chosen = append([]api.Event{{
				Seq: after, Time: time.Now().UTC(), Kind: "control", Reason: "EventsLost", Level: "warning",
				Tenant: r.tenant, Text: "events after this number are no longer kept: they were not read in time",
			}}, chosen...)
		}
		for _, e := range chosen {
			if err := w.line(e); err != nil {
				return err
			}
		}
		after = last
		if !follow {
			return nil
		}
		select {
		case <-wait:
		case <-quiet.C:
			// An empty line shows both sides whether the other is there.
			if _, err := w.Write([]byte("\n")); err != nil {
				return err
			}
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
	}
}

// eventFilter says which events since a time a request is for, and takes out what
// is not a tenant's to know.
func eventFilter(r *request, since time.Time) func(*api.Event) bool {
	q := r.URL.Query()
	tenant := r.tenant
	if tenant == "" {
		tenant = q.Get("tenant")
	}
	kind, chain, function := q.Get("kind"), q.Get("chain"), q.Get("function")
	return func(e *api.Event) bool {
		if r.tenant != "" {
			e.Worker = nil
		}
		return !e.Time.Before(since) && (tenant == "" || e.Tenant == tenant) && (kind == "" || e.Kind == kind) &&
			(chain == "" || e.Chain == chain) && (function == "" || e.Function == function)
	}
}
