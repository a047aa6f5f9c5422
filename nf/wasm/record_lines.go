package wasm

import (
	"io"
	"sync"
)

// RecordLines writes records as lines of JSON. Its Add is a GroupOptions.Records
// that groups of all workers may share.
type RecordLines struct {
	mu   sync.Mutex
	w    io.Writer
	line []byte
	err  error
}

// NewRecordLines writes to w, one call per record: give it a buffered writer
// where they are many, and flush that when the groups are closed.
func NewRecordLines(w io.Writer) *RecordLines { return &RecordLines{w: w} }

// Add writes a record. After an error it does nothing.
func (l *RecordLines) Add(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.line = append(r.AppendJSON(l.line[:0]), '\n')
	_, l.err = l.w.Write(l.line)
}

// Err returns the first error of the writer.
func (l *RecordLines) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
