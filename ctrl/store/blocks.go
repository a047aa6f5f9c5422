package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"

	"github.com/minio/highwayhash"
)

// Blocks are the files in which the server keeps records, one after the other:
//
//	 0  u32 length of all, the top bit says that there are headers
//	 4  u64 sequence, the top bit says erased, the next one a mark of deletion
//	12  u64 time, ns
//	20  u16 length of the subject
//	22  subject, [u32 length of headers, headers,] message
//	-8  HighwayHash of sequence, time, subject, [headers,] message
//
// All numbers are little-endian; the hash is keyed with the stream's name and
// the block's number. See filestore.go of nats-server, version 2.15.
const (
	recordHead = 22
	recordHash = 8
	recordMin  = recordHead + recordHash
	recordMax  = 32 << 20

	headersBit = uint32(1) << 31
	erasedBit  = uint64(1) << 63
	markBit    = uint64(1) << 62
)

// record is one whole record of a block.
type record struct {
	off, len int
	seq      uint64 // with the bits
	subject  string
}

// gap is a part of a block that is no record.
type gap struct {
	off, len int
	// seq and subject are what the broken record's head says, if that makes
	// sense, else 0 and "".
	seq     uint64
	subject string
	tail    bool // nothing but this is left of the block
	torn    bool // as a process or machine leaves it that ends while writing
}

// block is a file of records as it was read.
type block struct {
	data    []byte
	hash    hash.Hash64
	prefix  []byte // of the subjects of messages
	records []record
	gaps    []gap
}

// searchBudget bounds the bytes hashed while looking for the record after a gap.
const searchBudget = 256 << 20

// parseBlock finds the records of block number n of a stream, and what is between
// them that should not be.
func parseBlock(stream string, n int, data []byte) (*block, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, n))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		return nil, err
	}
	b := &block{data: data, hash: h, prefix: []byte(subjectPrefix(stream))}
	budget := searchBudget
	for off := 0; off < len(data); {
		if r, ok := b.record(off); ok {
			b.records = append(b.records, r)
			off += r.len
			continue
		}
		next := b.resync(off, &budget)
		b.gaps = append(b.gaps, b.gap(off, next))
		off = next
	}
	return b, nil
}

// subjectPrefix is what the subjects of a stream's messages begin with.
func subjectPrefix(stream string) string {
	if name, ok := strings.CutPrefix(stream, "KV_"); ok {
		return keySubjects(name)
	}
	return "$O."
}

// record reads the record at off; ok is false if there is none that is whole.
func (b *block) record(off int) (r record, ok bool) {
	length, slen, headers, ok := b.head(off)
	if !ok {
		return record{}, false
	}
	rec := b.data[off : off+length]
	body, sum := rec[recordHead:length-recordHash], rec[length-recordHash:]
	b.hash.Reset()
	b.hash.Write(rec[4:20])
	b.hash.Write(body[:slen])
	if headers {
		if !wholeHeaders(body[slen:]) {
			return record{}, false
		}
		slen += 4
	}
	b.hash.Write(body[slen:])
	if !bytes.Equal(b.hash.Sum(nil), sum) {
		return record{}, false
	}
	return record{off: off, len: length, seq: binary.LittleEndian.Uint64(rec[4:]), subject: b.subject(off)}, true
}

// wholeHeaders says whether the length in front of headers is theirs: the hash
// does not cover it.
func wholeHeaders(body []byte) bool {
	n := int(binary.LittleEndian.Uint32(body))
	body = body[4:]
	return n <= len(body) && bytes.HasPrefix(body, []byte("NATS/1.0")) && bytes.Index(body, []byte("\r\n\r\n")) == n-4
}

// head reads the lengths of the record at off; ok is false if they make no
// sense or lead past the end.
func (b *block) head(off int) (length, slen int, headers, ok bool) {
	if len(b.data)-off < recordMin {
		return 0, 0, false, false
	}
	word := binary.LittleEndian.Uint32(b.data[off:])
	headers = word&headersBit != 0
	length = int(word &^ headersBit)
	slen = int(binary.LittleEndian.Uint16(b.data[off+20:]))
	need := recordMin + slen
	if headers {
		need += 4
	}
	return length, slen, headers, length >= need && length <= recordMax && off+length <= len(b.data)
}

func (b *block) subject(off int) string {
	slen := int(binary.LittleEndian.Uint16(b.data[off+20:]))
	return string(b.data[off+recordHead : off+recordHead+slen])
}

// resync returns where the next whole record after a broken one at off begins, or
// the end. The broken record's length may be what is broken, so what looks like
// a record before its end is one. Whoever chose the bytes of a value may have
// made it look so, and can deceive nobody but their own space.
func (b *block) resync(off int, budget *int) int {
	end := len(b.data)
	if length, _, _, ok := b.head(off); ok {
		if _, ok := b.record(off + length); ok || off+length == end {
			end = off + length
		}
	}
	for at := off + 1; at < end; at++ {
		length, ok := b.likely(at)
		if !ok {
			continue
		}
		if *budget -= length; *budget < 0 {
			break
		}
		if _, ok := b.record(at); ok {
			return at
		}
	}
	return end
}

// likely says whether a record may begin at off, from its head alone: one with a
// subject of the stream's, or a mark.
func (b *block) likely(off int) (length int, ok bool) {
	length, slen, headers, ok := b.head(off)
	if !ok {
		return 0, false
	}
	if slen == 0 {
		return length, length == recordMin && !headers
	}
	return length, bytes.HasPrefix(b.data[off+recordHead:], b.prefix) && slen > len(b.prefix)
}

// gap describes what is broken from off to end.
func (b *block) gap(off, end int) gap {
	g := gap{off: off, len: end - off, tail: end == len(b.data)}
	length, _, _, sane := b.head(off)
	if sane && length == g.len {
		g.seq = binary.LittleEndian.Uint64(b.data[off+4:])
		g.subject = b.subject(off)
	}
	if g.tail {
		// Cut short, or of a length that is there but not yet filled.
		g.torn = !sane || len(bytes.Trim(b.data[end-recordHash:end], "\x00")) == 0
	}
	return g
}

// erase makes a gap one record that says: what was here is gone. Readers of the
// block go on behind it, which they do not behind something broken.
func (b *block) erase(g gap) error {
	if g.len < recordMin || g.len > recordMax {
		return fmt.Errorf("%d broken bytes at %d: %d to %d can be replaced", g.len, g.off, recordMin, recordMax)
	}
	rec := b.data[g.off : g.off+g.len]
	clear(rec)
	binary.LittleEndian.PutUint32(rec, uint32(g.len))
	binary.LittleEndian.PutUint64(rec[4:], g.seq&^(erasedBit|markBit)|erasedBit)
	b.seal(rec)
	return nil
}

// mark appends a record that says: the message of this sequence was deleted.
func (b *block) mark(seq uint64) {
	rec := make([]byte, recordMin)
	binary.LittleEndian.PutUint32(rec, recordMin)
	binary.LittleEndian.PutUint64(rec[4:], seq|markBit)
	b.seal(rec)
	b.data = append(b.data, rec...)
}

// seal writes the hash of a record without subject and headers.
func (b *block) seal(rec []byte) {
	b.hash.Reset()
	b.hash.Write(rec[4:20])
	b.hash.Write(rec[recordHead : len(rec)-recordHash])
	b.hash.Sum(rec[:len(rec)-recordHash])
}
