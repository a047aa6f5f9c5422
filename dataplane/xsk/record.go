package xsk

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// record is who holds which chunk of a UMEM, and what closed sockets did. It is
// plain memory, so that it can outlive the process that writes it:
//
//	recordHead  64 bytes
//	gone        8 bytes for each of maxQueues queues
//	where       2 bytes for each chunk
//
// Owner: where[i] belongs to whoever owns chunk i, gone[q] to who has UMEM.mu.
type record struct {
	mem  []byte
	own  bool // mem is a mapping of the record's own
	head *recordHead
	gone []goneCounts
	// where says for each chunk who of the sockets and queues holds it (see
	// holder); 0 when it is free or in a worker's hands. It costs a store per
	// hand-over, and lets Close give back exactly what the kernel kept. It is
	// not in the heap because chunks pass from worker to worker through rings
	// of the kernel, which the race detector cannot see.
	where []uint16
}

// recordHead tells a record from other memory.
type recordHead struct {
	magic  uint32 // recordMagic; 0: never used
	chunks uint32
	_      [56]byte
}

// goneCounts are the ring indices of a queue's closed sockets, summed up, modulo
// 2^32: how many chunks the kernel gave them, and took from them.
type goneCounts struct{ rx, tx atomic.Uint32 }

const (
	recordMagic = 0x58530001 // "XS", layout 1
	recordBytes = 64         // of recordHead
	goneBytes   = 8          // of goneCounts
	// maxQueues is how many queues a record can tell apart.
	maxQueues = 4096
)

// ErrRecord means that memory holds no record of the UMEM's chunks, or one of
// another UMEM.
var ErrRecord = errors.New("no record of this UMEM's chunks")

// RecordSize returns the bytes of memory that the record of so many chunks
// needs: see [AdoptUMEM].
func RecordSize(chunks int) int {
	page := unix.Getpagesize()
	return (recordBytes + maxQueues*goneBytes + 2*chunks + page - 1) / page * page
}

// newRecord makes a record of the process's own.
func newRecord(chunks int) (record, error) {
	mem, err := unix.Mmap(-1, 0, RecordSize(chunks), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return record{}, fmt.Errorf("map the record of %d chunks: %w", chunks, err)
	}
	r, err := openRecord(mem, chunks)
	r.own = true
	return r, err
}

// openRecord takes memory as a record; what is all zero becomes an empty one.
func openRecord(mem []byte, chunks int) (record, error) {
	if len(mem) < RecordSize(chunks) || !pageAligned(mem) {
		return record{}, fmt.Errorf("%w: %d bytes for %d chunks: want %d, from the start of a page", ErrRecord, len(mem), chunks, RecordSize(chunks))
	}
	r := viewRecord(mem, chunks)
	switch {
	case r.head.magic == 0:
		*r.head = recordHead{magic: recordMagic, chunks: uint32(chunks)}
	case r.head.magic != recordMagic || int(r.head.chunks) != chunks:
		return record{}, fmt.Errorf("%w: magic %#x of %d chunks, want %#x of %d", ErrRecord, r.head.magic, r.head.chunks, uint32(recordMagic), chunks)
	}
	return r, nil
}

// close gives the memory back, if it is the record's own.
func (r *record) close() (err error) {
	if r.own {
		err = unix.Munmap(r.mem)
	}
	*r = record{}
	return err
}
