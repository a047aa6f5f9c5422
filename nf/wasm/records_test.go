package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/nf"
)

// take keeps a record.
func (h *hostile) take(r Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Data = bytes.Clone(r.Data)
	h.records = append(h.records, r)
}

// passing sends bursts, all of whose packets must go on.
func (h *hostile) passing(t *testing.T, bursts int) {
	t.Helper()
	for range bursts {
		h.burst64()
		h.all(t, func(o packet.Outcome) bool { return o.Verdict == packet.Tx })
	}
}

// settled waits until as many records as were emitted are passed on or lost.
func (h *hostile) settled(t *testing.T, emitted uint64) FunctionStats {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s := h.group.Stats()[0]
		if s.Records+s.RecordsLost == emitted {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records and %d lost of %d", s.Records, s.RecordsLost, emitted)
		}
	}
}

// checkRecords expects one record a burst, and five that are none.
func (h *hostile) checkRecords(t *testing.T) {
	const bursts = 100
	h.passing(t, bursts)
	if s := h.settled(t, 6*bursts); s.Records != bursts {
		t.Errorf("%d records, want %d", s.Records, bursts)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.records {
		if got, want := string(r.AppendJSON(nil)), `{"record":"r","function":"guest","octetDeltaCount":7}`; got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// checkRecordFlood emits more than there is room for while the reader is stuck.
func (h *hostile) checkRecordFlood(t *testing.T) {
	const bursts, each = 40, 1024
	h.mu.Lock() // whoever takes records waits here
	h.passing(t, bursts)
	h.mu.Unlock()
	s := h.settled(t, bursts*each)
	if s.RecordsLost == 0 || s.Records < 4000 {
		t.Errorf("%d records passed, %d lost", s.Records, s.RecordsLost)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var seq []uint64
	for _, r := range h.records {
		seq = append(seq, binary.LittleEndian.Uint64(r.Data[8:]))
		if len(r.Data) != nf.RecordMax || !bytes.Equal(r.Data[16:], make([]byte, nf.RecordMax-16)) {
			t.Fatalf("a record of %d bytes: %x", len(r.Data), r.Data)
		}
	}
	if !slices.IsSorted(seq) || len(slices.Compact(seq)) != int(s.Records) {
		t.Error("records are not in order, or came twice")
	}
}

// Records of a function are read when its group is closed at the latest, and
// emitting to nobody does nothing.
func TestRecordsAtTheEnd(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		var got []string
		var group GroupOptions
		if wanted {
			group.Records = func(r Record) { got = append(got, r.Layout.Name) }
		}
		f := newFixture(t, fixtureOptions{group: group}, "emits_garbage")
		f.fill(1, 100)
		f.group.Process(&f.burst)
		s := f.group.Stats()[0]
		if err := f.group.Close(); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{true: "r", false: ""}[wanted]
		if strings.Join(got, " ") != want || !wanted && s.RecordsLost != 0 {
			t.Errorf("wanted %v: records %v, %d lost", wanted, got, s.RecordsLost)
		}
	}
}

// failing is a writer that takes some lines and then no more.
type failing struct {
	strings.Builder
	lines int
}

func (f *failing) Write(p []byte) (int, error) {
	if f.lines--; f.lines < 0 {
		return 0, errors.New("disk full")
	}
	return f.Builder.Write(p)
}

// Workers share a writer of lines; its first error is kept.
func TestRecordLines(t *testing.T) {
	l := &nf.RecordLayout{Name: "r", Fields: []nf.RecordField{{Name: "octetDeltaCount", Type: "unsigned8", Offset: 4}}}
	w := &failing{lines: 8}
	lines := NewRecordLines(w)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 4 {
				lines.Add(Record{Function: `a"b`, Layout: l, Data: []byte{0, 0, 0, 0, 7}})
			}
		})
	}
	wg.Wait()
	if want := strings.Repeat(`{"record":"r","function":"a\"b","octetDeltaCount":7}`+"\n", 8); w.String() != want || lines.Err() != nil {
		t.Errorf("got %s, error %v", w, lines.Err())
	}
	for range 2 {
		lines.Add(Record{Layout: l, Data: make([]byte, 5)})
	}
	if lines.Err() == nil || w.lines != -1 {
		t.Errorf("error %v after %d attempts", lines.Err(), -w.lines)
	}
}

// BenchmarkEmit is the cost of one record of 512 bytes, most of them lost.
func BenchmarkEmit(b *testing.B) {
	f := newFixture(b, fixtureOptions{group: GroupOptions{Records: func(Record) {}, Budget: time.Second}}, "emits_without_end")
	f.fill(1, 100)
	for b.Loop() {
		f.fill(1, 100)
		f.group.Process(&f.burst)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/record")
	b.ReportMetric(0, "ns/op")
}
