package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Reader reads the packets of one capture in order. It is not safe for
// concurrent use.
type Reader struct {
	name    string
	src     *bufio.Reader
	off     int64 // bytes consumed from src
	record  int64 // offset of the record being read
	packets int   // whole packets given so far
	next    func() (Packet, error)
	err     error  // sticky: what Next returned last, when not nil
	slab    []byte // memory for the next packets' data
}

// NewReader recognises the format of r by its first bytes and reads its
// header. The name stands for r in errors.
func NewReader(r io.Reader, name string) (*Reader, error) {
	rd := &Reader{name: name, src: bufio.NewReaderSize(r, 1<<16)}
	magic, err := rd.src.Peek(4)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read capture %s: %w", name, err)
	}
	if len(magic) < 4 {
		return nil, fmt.Errorf("%w: %s has only %d bytes; record it again, for example with tcpdump -w", ErrNotCapture, name, len(magic))
	}
	if binary.BigEndian.Uint32(magic) == blockSection {
		return rd.opened(rd.openPcapng())
	}
	for _, f := range []struct {
		order binary.ByteOrder
		magic uint32
		scale int64
	}{
		{binary.LittleEndian, magicMicro, 1000},
		{binary.BigEndian, magicMicro, 1000},
		{binary.LittleEndian, magicNano, 1},
		{binary.BigEndian, magicNano, 1},
	} {
		if f.order.Uint32(magic) == f.magic {
			return rd.opened(rd.openPcap(f.order, f.scale))
		}
	}
	return nil, fmt.Errorf("%w: %s begins with bytes % x%s", ErrNotCapture, name, magic, cure(magic))
}

func (r *Reader) opened(err error) (*Reader, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// cure says what to do with a file that begins with magic.
func cure(magic []byte) string {
	switch {
	case magic[0] == 0x1f && magic[1] == 0x8b:
		return ", which is gzip; unpack it with gunzip first"
	case binary.LittleEndian.Uint32(magic) == 0xfd2fb528:
		return ", which is zstd; unpack it with zstd -d first"
	case string(magic) == "snoo":
		return ", which is snoop; convert it with editcap -F pcapng"
	}
	return "; give a pcap or pcapng file, or convert it with editcap -F pcapng"
}

// Next returns the next packet, [io.EOF] after the last, or the error that
// ends the capture early ([*TruncatedError], [*CorruptError],
// [*LinkTypeError], or an error of reading). An error is final.
func (r *Reader) Next() (Packet, error) {
	if r.err != nil {
		return Packet{}, r.err
	}
	p, err := r.next()
	if err != nil {
		r.err = err
		return Packet{}, err
	}
	r.packets++
	return p, nil
}

// Offset returns how many bytes of the capture have been read.
func (r *Reader) Offset() int64 { return r.off }

// read fills b. At the end of the input it returns io.EOF when nothing was
// read, else a *TruncatedError; need is how many bytes the record needs from
// here on, len(b) included.
func (r *Reader) read(b []byte, need int64) error {
	n, err := io.ReadFull(r.src, b)
	r.off += int64(n)
	switch {
	case err == nil:
		return nil
	case err == io.EOF:
		return io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return r.truncated(need - int64(n))
	}
	return fmt.Errorf("read capture %s at byte %d: %w", r.name, r.off, err)
}

// readRest is read inside a record, where the end of the input is always a
// truncation.
func (r *Reader) readRest(b []byte, need int64) error {
	err := r.read(b, need)
	if errors.Is(err, io.EOF) {
		return r.truncated(need)
	}
	return err
}

// skip passes over n bytes inside a record.
func (r *Reader) skip(n int64) error {
	if n == 0 {
		return nil
	}
	done, err := io.CopyN(io.Discard, r.src, n)
	r.off += done
	if errors.Is(err, io.EOF) {
		return r.truncated(n - done)
	}
	if err != nil {
		return fmt.Errorf("read capture %s at byte %d: %w", r.name, r.off, err)
	}
	return nil
}

func (r *Reader) truncated(missing int64) error {
	return &TruncatedError{File: r.name, Offset: r.record, Packets: r.packets, Missing: missing}
}

func (r *Reader) corrupt(format string, args ...any) error {
	return &CorruptError{File: r.name, Offset: r.record, Packets: r.packets, What: fmt.Sprintf(format, args...)}
}

// slabBytes is how much memory is taken at once for the data of packets.
const slabBytes = 1 << 18

// data reads n bytes of packet data; n is at most MaxPacket and need as in
// read. However much a record claims, at most MaxPacket bytes are taken ahead
// of what the input really holds.
func (r *Reader) data(n int, need int64) ([]byte, error) {
	if n > len(r.slab) {
		r.slab = make([]byte, max(n, slabBytes))
	}
	b := r.slab[:n:n]
	if n > 0 {
		if err := r.readRest(b, need); err != nil {
			return nil, err
		}
	}
	r.slab = r.slab[n:]
	return b, nil
}
