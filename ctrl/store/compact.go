package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A deleted key leaves a marker, and the server can be told to forget markers;
// but it may still have an older value of the key in a block, without a note
// that it is gone, and would serve that after a crash. So markers stay while the
// server runs, and are taken out of the blocks here, before it starts, together
// with all that they hide.

// compaction is the rewriting of a bucket's blocks without what is not needed.
type compaction struct {
	files  []*blockFile
	latest map[string]uint64 // sequence of the last message of each subject
	gone   map[uint64]bool   // sequences marked as deleted
	last   uint64            // highest sequence, which is not used again
}

// compact takes markers of deletions, and values that were replaced, out of the
// blocks if there are at least min markers. The blocks are whole.
func (e *examination) compact(files []*blockFile, min int) error {
	if !strings.HasPrefix(e.stream, "KV_") {
		return nil
	}
	c := compaction{files: files, latest: map[string]uint64{}, gone: map[uint64]bool{}}
	for _, f := range files {
		for _, r := range f.records {
			seq := r.seq &^ (erasedBit | markBit)
			c.last = max(c.last, seq)
			switch {
			case r.seq&markBit != 0:
				c.gone[seq] = true
			case r.seq&erasedBit == 0:
				c.latest[r.subject] = max(c.latest[r.subject], seq)
			}
		}
	}
	markers, err := c.markers()
	if err != nil || markers < min {
		return err
	}
	if err := os.Remove(filepath.Join(e.path(), "msgs", "index.db")); err != nil && !os.IsNotExist(err) {
		return err
	}
	// The oldest first: at no time is a marker gone and what it hides is not.
	for _, f := range files {
		if err := c.rewrite(f); err != nil {
			return fmt.Errorf("compact %s: %w", f.path, err)
		}
	}
	return nil
}

// markers counts the keys whose last message says that they were deleted.
func (c *compaction) markers() (n int, err error) {
	for _, f := range c.files {
		if err := f.load(); err != nil {
			return 0, err
		}
		for _, r := range f.records {
			if r.seq == c.latest[r.subject] && f.marker(r) {
				n++
			}
		}
		f.data = nil
	}
	return n, nil
}

// keep says whether a record is needed: values that are there, and whatever has
// the last sequence.
func (c *compaction) keep(f *blockFile, r record) bool {
	seq := r.seq &^ (erasedBit | markBit)
	if seq == c.last {
		return true
	}
	return r.seq == seq && seq == c.latest[r.subject] && !c.gone[seq] && !f.marker(r)
}

func (c *compaction) rewrite(f *blockFile) error {
	if err := f.load(); err != nil {
		return err
	}
	var out []byte
	for _, r := range f.records {
		if c.keep(f, r) {
			out = append(out, f.data[r.off:r.off+r.len]...)
		}
	}
	was := len(f.data)
	f.data = nil
	switch len(out) {
	case was:
		return nil
	case 0:
		if err := os.Remove(f.path); err != nil {
			return err
		}
		return syncPath(filepath.Dir(f.path))
	}
	return replaceFile(f.path, out)
}

// load reads the block again if it was let go.
func (f *blockFile) load() error {
	if f.data != nil {
		return nil
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	f.data = data[:f.end()] // without what is torn
	return nil
}

// marker says whether a record is a key-value bucket's marker of a deletion.
func (b *block) marker(r record) bool {
	rec := b.data[r.off : r.off+r.len]
	if binary.LittleEndian.Uint32(rec)&headersBit == 0 {
		return false
	}
	at := recordHead + len(r.subject)
	n := int(binary.LittleEndian.Uint32(rec[at:]))
	if at += 4; n > len(rec)-recordHash-at {
		return false
	}
	return bytes.Contains(rec[at:at+n], []byte("\r\n"+opHeader+": "))
}

// bury overwrites the messages of modules that are marked as deleted but still
// stand in a block: the process died between the two (see Modules.Delete). Marks
// get lost in the end, and what is not overwritten by then would be back.
func (e *examination) bury(files []*blockFile) error {
	if e.stream != modulesStream {
		return nil
	}
	gone := map[uint64]bool{}
	for _, f := range files {
		for _, r := range f.records {
			if r.seq&markBit != 0 {
				gone[r.seq&^markBit] = true
			}
		}
	}
	for _, f := range files {
		changed := false
		for _, r := range f.records {
			if !gone[r.seq] || !strings.HasPrefix(r.subject, metaSubjects) {
				continue
			}
			if err := f.load(); err != nil {
				return err
			}
			if err := f.erase(gap{off: r.off, len: r.len, seq: r.seq}); err != nil {
				return err
			}
			changed = true
		}
		if changed {
			if err := replaceFile(f.path, f.data); err != nil {
				return err
			}
			f.data = nil
		}
	}
	return nil
}
