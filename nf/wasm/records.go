package wasm

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sfc/nf"
)

// Record is what a function exported with sfc.emit.
type Record struct {
	// Function is its name in its chain.
	Function string
	// Layout says what the bytes mean.
	Layout *nf.RecordLayout
	// Data is the record. It is the reader's only until it returns.
	Data []byte
}

// AppendJSON appends the record to dst as one JSON object: which layout, which
// function, and the fields by their IPFIX names.
func (r Record) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"record":"`...)
	dst = append(dst, r.Layout.Name...)
	dst = append(dst, `","function":`...)
	dst = strconv.AppendQuoteToASCII(dst, r.Function)
	dst = r.Layout.AppendJSON(dst, r.Data)
	return append(dst, '}')
}

// The exporter looks for records after readBusy when there were some, else after
// readIdle. Between two looks a function has room for some 40,000 records of 96
// bytes.
const (
	readBusy = 2 * time.Millisecond
	readIdle = 50 * time.Millisecond
)

// exporter is the group's goroutine that reads what functions emit.
type exporter struct {
	to func(Record)

	mu        sync.Mutex
	sources   []*source
	manifests []*nf.Manifest // by the number in the ring

	started bool
	done    chan struct{}
	wg      sync.WaitGroup
}

// source is the records of one function, whatever its version.
type source struct {
	hop     *hop
	ring    recordRing
	passed  atomic.Uint64
	unknown atomic.Uint64 // of no layout
}

// newExporter returns nil when nobody wants records.
func newExporter(to func(Record)) *exporter {
	if to == nil {
		return nil
	}
	return &exporter{to: to, done: make(chan struct{})}
}

// attach connects a configured instance, if its function emits anything.
func (e *exporter) attach(h *hop, m *nf.Manifest, inst *instance) {
	if e == nil || len(m.Records) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.source(h)
	if s == nil {
		ring := newRecordRing()
		if ring.c == nil {
			return // out of memory: it emits to nobody
		}
		s = &source{hop: h, ring: ring}
		e.sources = append(e.sources, s)
	}
	inst.setRecords(s.ring, e.number(m))
}

// source returns a function's records; nil when it has emitted none.
func (e *exporter) source(h *hop) *source {
	for _, s := range e.sources {
		if s.hop == h {
			return s
		}
	}
	return nil
}

func (e *exporter) number(m *nf.Manifest) uint32 {
	for i, known := range e.manifests {
		if known == m {
			return uint32(i)
		}
	}
	e.manifests = append(e.manifests, m)
	return uint32(len(e.manifests) - 1)
}

func (e *exporter) start() {
	if e == nil {
		return
	}
	e.started = true
	e.wg.Add(1)
	go e.run()
}

// stop reads what is left and ends the goroutine.
func (e *exporter) stop() {
	if e == nil || !e.started {
		return
	}
	close(e.done)
	e.wg.Wait()
}

// close frees the rings. No instance is left.
func (e *exporter) close() {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sources {
		s.ring.close()
	}
	e.sources = nil
}

func (e *exporter) run() {
	defer e.wg.Done()
	buf := make([]byte, nf.RecordMax)
	timer := time.NewTimer(readIdle)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			wait := readIdle
			if e.read(buf) > 0 {
				wait = readBusy
			}
			timer.Reset(wait)
		case <-e.done:
			e.read(buf)
			return
		}
	}
}

// read passes on what is in the rings, and returns how much it was.
func (e *exporter) read(buf []byte) (n int) {
	e.mu.Lock()
	sources, manifests := e.sources, e.manifests
	e.mu.Unlock()
	for _, s := range sources {
		for {
			number, data, ok := s.ring.next(buf)
			if !ok {
				break
			}
			n++
			if int(number) >= len(manifests) {
				e.mu.Lock() // a version that was attached since
				manifests = e.manifests
				e.mu.Unlock()
			}
			layout := manifests[number].RecordLayout(data)
			if layout == nil {
				s.unknown.Add(1)
				continue
			}
			s.passed.Add(1)
			e.to(Record{Function: s.hop.name, Layout: layout, Data: data})
		}
	}
	return n
}

// counts returns how many records of a function were passed on, and how many
// were lost. Not after close.
func (e *exporter) counts(h *hop) (passed, lost uint64) {
	if e == nil {
		return 0, 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.source(h)
	if s == nil {
		return 0, 0
	}
	return s.passed.Load(), s.unknown.Load() + s.ring.lost()
}
