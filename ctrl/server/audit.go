package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"sfc/ctrl/api"
)

// auditLog is a file of api.AuditEntry lines that is only ever appended to. An
// entry is on disk when append returns; those who append at the same time share
// the disk's time.
type auditLog struct {
	file *os.File

	mu      sync.Mutex
	seq     uint64 // of the last entry
	size    int64  // of the file, whole lines
	written uint64 // number of writes
	broken  error  // of the last write; nil when it went well

	// syncing is held by who syncs; synced is the write up to which it is done.
	syncing sync.Mutex
	synced  uint64
}

// maxAuditLine bounds a line, in bytes: paths are bounded by the header's size.
const maxAuditLine = 128 << 10

// openAudit opens the log and finds its last entry. A line that was cut short by
// a crash is cut off: nobody was told that what it says had been done.
func openAudit(path string) (_ *auditLog, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	a := &auditLog{file: f, size: info.Size()}
	tail := make([]byte, min(a.size, 2*maxAuditLine))
	if _, err := f.ReadAt(tail, a.size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if whole < len(tail) {
		a.size -= int64(len(tail) - whole)
		if err := f.Truncate(a.size); err != nil {
			return nil, fmt.Errorf("cut off a line that was not finished: %w", err)
		}
	}
	for line := range bytes.Lines(tail[:whole]) {
		var e api.AuditEntry
		if json.Unmarshal(line, &e) == nil {
			a.seq = max(a.seq, e.Seq)
		}
	}
	if a.seq == 0 && a.size > 0 {
		return nil, fmt.Errorf("%s: there is no entry at its end: move it away", path)
	}
	return a, nil
}

// failing returns why the last entry could not be written, nil if it could.
func (a *auditLog) failing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.broken
}

// append writes an entry, which gets its number. With durable it returns when
// the entry is on disk.
func (a *auditLog) append(e api.AuditEntry, durable bool) error {
	write, err := a.write(e)
	if err != nil || !durable {
		return err
	}
	a.syncing.Lock()
	defer a.syncing.Unlock()
	if a.synced >= write {
		return nil // with somebody else's
	}
	a.mu.Lock()
	upTo := a.written
	a.mu.Unlock()
	if err := a.file.Sync(); err != nil {
		a.mu.Lock()
		a.broken = err
		a.mu.Unlock()
		return fmt.Errorf("sync the audit log: %w", err)
	}
	a.synced = upTo
	return nil
}

func (a *auditLog) write(e api.AuditEntry) (write uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.Seq = a.seq + 1
	line, err := json.Marshal(e)
	if err != nil {
		return 0, fmt.Errorf("write to the audit log: %w", err)
	}
	line = append(line, '\n')
	if n, err := a.file.Write(line); err != nil {
		a.broken = err
		if n > 0 {
			// Half a line would spoil the next.
			err = errors.Join(err, a.file.Truncate(a.size))
		}
		return 0, fmt.Errorf("write to the audit log: %w", err)
	}
	a.broken = nil
	a.seq, a.size, a.written = e.Seq, a.size+int64(len(line)), a.written+1
	return a.written, nil
}

// read returns at most limit entries of a tenant ("": all) with numbers above
// after, and the number to go on from. latest asks for the last ones instead.
func (a *auditLog) read(after uint64, latest bool, tenant string, limit int) (*api.AuditList, error) {
	a.mu.Lock()
	seq, size := a.seq, a.size
	a.mu.Unlock()
	if latest {
		after = seq - min(seq, uint64(limit))
	}
	list := &api.AuditList{Items: []api.AuditEntry{}, Next: after}
	at, err := a.find(after, size)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewReaderSize(io.NewSectionReader(a.file, at, size-at), maxAuditLine)
	for len(list.Items) < limit {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		var e api.AuditEntry
		if json.Unmarshal(line, &e) != nil || e.Seq <= after {
			continue
		}
		list.Next = e.Seq
		if tenant == "" || e.Tenant == tenant {
			list.Items = append(list.Items, e)
		}
	}
	return list, nil
}

// find returns an offset at or before the first entry above a number: numbers
// grow along the file, so it halves.
func (a *auditLog) find(after uint64, size int64) (int64, error) {
	lo, hi := int64(0), size // lo begins a line
	buf := make([]byte, 2*maxAuditLine)
	for hi-lo > int64(len(buf)) {
		mid := lo + (hi-lo)/2
		n, err := a.file.ReadAt(buf[:min(int64(len(buf)), size-mid)], mid)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read the audit log: %w", err)
		}
		_, rest, _ := bytes.Cut(buf[:n], []byte("\n"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		var e api.AuditEntry
		if json.Unmarshal(line, &e) != nil || e.Seq > after {
			hi = mid
			continue
		}
		lo = mid + int64(n-len(rest))
	}
	return lo, nil
}

func (a *auditLog) close() error {
	return errors.Join(a.file.Sync(), a.file.Close())
}
