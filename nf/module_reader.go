package nf

import (
	"fmt"
	"unicode/utf8"
)

// reader reads the primitives of the Wasm binary format (core specification,
// chapter 5) from untrusted bytes. After the first error every read returns
// zero, so that callers check err once per loop turn. It never allocates in
// proportion to a number it reads.
type reader struct {
	buf []byte // ends where the section ends; positions count from the module's start
	pos int
	err error
}

func (r *reader) remaining() int { return len(r.buf) - r.pos }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: byte %d: %s; build or copy it again", ErrMalformed, r.pos, fmt.Sprintf(format, args...))
		r.pos = len(r.buf)
	}
}

func (r *reader) byte() byte {
	if r.pos >= len(r.buf) {
		r.fail("cut short")
		return 0
	}
	b := r.buf[r.pos]
	r.pos++
	return b
}

// bytes returns the next n bytes; they alias the input.
func (r *reader) bytes(n int) []byte {
	if n < 0 || n > r.remaining() {
		r.fail("%d bytes announced, %d left", n, r.remaining())
		return nil
	}
	b := r.buf[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

// sub returns a reader of the next n bytes and skips them.
func (r *reader) sub(n int) reader {
	start := r.pos
	if r.bytes(n) == nil && n != 0 {
		return reader{err: r.err}
	}
	return reader{buf: r.buf[:start+n], pos: start}
}

// uleb reads an unsigned LEB128 number of the given width, no longer than the
// specification allows and without bits beyond the width.
func (r *reader) uleb(width uint) uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		b := r.byte()
		if r.err != nil {
			return 0
		}
		if shift+7 >= width && b>>(width-shift) != 0 {
			r.fail("number longer than %d bits", width)
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return v
		}
	}
}

func (r *reader) u32() uint32 { return uint32(r.uleb(32)) }

// sleb reads a signed LEB128 number of the given width.
func (r *reader) sleb(width uint) int64 {
	var v int64
	for shift := uint(0); ; shift += 7 {
		b := r.byte()
		if r.err != nil {
			return 0
		}
		if left := width - shift; left <= 7 {
			// The last byte: no continuation, and the bits above the
			// number's sign bit repeat it.
			high := int8(b<<1) >> left
			if b&0x80 != 0 || (high != 0 && high != -1) {
				r.fail("number longer than %d bits", width)
				return 0
			}
		}
		v |= int64(b&0x7f) << shift
		if b&0x80 == 0 {
			if shift+7 < 64 && b&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

// count reads the length of a vector of which each element takes at least
// minBytes, and refuses what cannot fit or is above limit.
func (r *reader) count(what string, minBytes, limit int) int {
	n := int(r.u32())
	switch {
	case r.err != nil:
		return 0
	case n > r.remaining()/minBytes:
		r.fail("%d %s announced, %d bytes left", n, what, r.remaining())
		return 0
	case n > limit:
		r.err = &Refusal{ErrLimit, fmt.Sprintf("%d %s", n, what), fmt.Sprintf("at most %d are read", limit)}
		return 0
	}
	return n
}

// name reads a UTF-8 string; the result does not alias the input.
func (r *reader) name() string {
	b := r.bytes(int(r.u32()))
	if !utf8.Valid(b) {
		r.fail("name %q is not UTF-8", b)
		return ""
	}
	return string(b)
}
