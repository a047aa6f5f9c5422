package store

import (
	"slices"
	"strings"
	"sync"
)

// Entry is a key with its value. The value belongs to the store and must not be
// changed.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64 // of the write that made it; grows with every write to the bucket
}

// Event is a change of a key.
type Event struct {
	Entry
	Deleted bool // Value is nil, Revision that of the deletion
}

// maxEventBytes bounds the values that are kept for watchers alone.
const maxEventBytes = 16 << 20

// cache holds all of a bucket, as its one reader (feed.go) hears of it, and the
// latest changes for those who watch.
//
//	server -> feed -> apply -+-> entries, keys      Get, List
//	                         '-> events             Watcher.Next
type cache struct {
	maxEvents int

	mu          sync.RWMutex
	entries     map[string]Entry
	keys        []string          // of entries, sorted
	deleted     map[string]uint64 // markers the server still keeps, by key
	markerBytes int64             // of deleted, on disk
	applied     uint64            // revision of the last change applied
	floor       uint64            // events after this one are all in events
	events      []Event           // in order of revision
	bytes       int               // of values in events
	changed     chan struct{}     // closed at the next change
	closed      bool
}

func newCache(maxEvents int) *cache {
	return &cache{
		maxEvents: maxEvents,
		entries:   map[string]Entry{},
		deleted:   map[string]uint64{},
		changed:   make(chan struct{}),
	}
}

// apply takes in a change and returns by how many the number of keys grew.
// Changes that were applied already, which a reader that resumes sees again, are
// left out. Called by the feed only.
func (c *cache) apply(ev Event) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ev.Revision <= c.applied || c.closed {
		return 0
	}
	_, had := c.entries[ev.Key]
	grown := 0
	if ev.Deleted {
		if had {
			delete(c.entries, ev.Key)
			i, _ := slices.BinarySearch(c.keys, ev.Key)
			c.keys = slices.Delete(c.keys, i, i+1)
			grown = -1
		}
		c.mark(ev.Key, ev.Revision)
	} else {
		if !had {
			i, _ := slices.BinarySearch(c.keys, ev.Key)
			c.keys = slices.Insert(c.keys, i, ev.Key)
			grown = 1
		}
		c.entries[ev.Key] = ev.Entry
		c.mark(ev.Key, 0)
	}
	c.applied = ev.Revision
	c.remember(ev)
	c.wake()
	return grown
}

// remember keeps the event, and forgets the oldest beyond what is kept.
func (c *cache) remember(ev Event) {
	c.events = append(c.events, ev)
	c.bytes += len(ev.Value)
	n := 0
	for n < len(c.events)-1 && (len(c.events)-n > c.maxEvents || c.bytes > maxEventBytes) {
		c.floor = c.events[n].Revision
		c.bytes -= len(c.events[n].Value)
		c.events[n] = Event{} // let go of the value
		n++
	}
	c.events = c.events[n:]
}

// begin ends the first reading: what was in the bucket is no change.
func (c *cache) begin(revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applied = max(c.applied, revision)
	c.floor, c.events, c.bytes = c.applied, nil, 0
	c.wake()
}

// wake wakes all who wait. The lock is held.
func (c *cache) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.wake()
	}
}

func (c *cache) get(key string) (Entry, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.entries[key]
	return e, ok
}

// latest returns the revision a key has on the server, with a marker that says
// it was deleted counted as such; 0 if there is none.
func (c *cache) latest(key string) (revision uint64, live bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e, ok := c.entries[key]; ok {
		return e.Revision, true
	}
	return c.deleted[key], false
}

// list returns at most limit entries whose keys begin with prefix and come after
// the key after, the revision they are of, and whether there are more.
func (c *cache) list(prefix, after string, limit int) (entries []Entry, revision uint64, more bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	i, _ := slices.BinarySearch(c.keys, max(prefix, after))
	if i < len(c.keys) && c.keys[i] == after {
		i++
	}
	for ; i < len(c.keys) && strings.HasPrefix(c.keys[i], prefix); i++ {
		if limit > 0 && len(entries) == limit {
			return entries, c.applied, true
		}
		entries = append(entries, c.entries[c.keys[i]])
	}
	return entries, c.applied, false
}

// since returns the next event after a revision whose key begins with prefix. If
// there is none yet, it returns a channel that is closed at the next change.
// scanned is the revision up to which there is nothing else.
func (c *cache) since(prefix string, after uint64) (ev Event, scanned uint64, wait <-chan struct{}, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return Event{}, after, nil, ErrClosed
	}
	if after < c.floor {
		return Event{}, after, nil, ErrExpired
	}
	i, _ := slices.BinarySearchFunc(c.events, after+1, func(e Event, rev uint64) int {
		switch {
		case e.Revision < rev:
			return -1
		case e.Revision > rev:
			return 1
		}
		return 0
	})
	for ; i < len(c.events); i++ {
		if strings.HasPrefix(c.events[i].Key, prefix) {
			return c.events[i], c.events[i].Revision, nil, nil
		}
	}
	return Event{}, max(after, c.applied), c.changed, nil
}

// markers returns how many markers of deletions the server keeps, and about how
// many bytes they are on disk.
func (c *cache) markers() (n int, bytes int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.deleted), c.markerBytes
}

// compacted notes that the server no longer keeps markers.
func (c *cache) compacted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deleted, c.markerBytes = map[string]uint64{}, 0
}

// mark notes that a key was deleted, or (0) that it is there. The lock is held.
func (c *cache) mark(key string, revision uint64) {
	_, had := c.deleted[key]
	switch {
	case revision != 0 && !had:
		c.markerBytes += int64(len(key) + overhead)
	case revision == 0 && had:
		c.markerBytes -= int64(len(key) + overhead)
	}
	if revision == 0 {
		delete(c.deleted, key)
	} else {
		c.deleted[key] = revision
	}
}
