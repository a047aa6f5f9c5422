package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// blockFile is one of a stream's blocks.
type blockFile struct {
	path string
	n    int
	*block
	sum     []byte // of its last record
	changed bool
}

// blocks reads all of the stream's records, and takes out those that are broken,
// so that the server reads the others.
func (e *examination) blocks() error {
	files, err := e.blockFiles()
	if err != nil {
		return err
	}
	broken := false
	for i, f := range files {
		data, err := os.ReadFile(f.path)
		if err != nil {
			return &beyondRepair{"a block cannot be read: " + err.Error()}
		}
		if f.block, err = parseBlock(e.stream, f.n, data); err != nil {
			return err
		}
		last := i == len(files)-1
		// What a process leaves that dies while it writes was acknowledged to
		// nobody; the server cuts it off.
		f.gaps = slices.DeleteFunc(f.gaps, func(g gap) bool { return last && g.torn })
		broken = broken || len(f.gaps) > 0
		if n := len(f.records); n > 0 {
			r := f.records[n-1]
			f.sum = slices.Clone(data[r.off+r.len-recordHash : r.off+r.len])
		}
		if len(f.gaps) == 0 {
			f.data = nil // the records stay, for what follows
		}
	}
	if err := e.missing(files); err != nil {
		return err
	}
	if !broken {
		if err := e.bury(files); err != nil {
			return err
		}
		return e.compact(files, e.markers)
	}
	return e.repair(files)
}

// blockFiles lists the stream's blocks in order.
func (e *examination) blockFiles() ([]*blockFile, error) {
	paths, err := filepath.Glob(filepath.Join(e.path(), "msgs", "*.blk"))
	if err != nil {
		return nil, err
	}
	var files []*blockFile
	for _, p := range paths {
		n, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(p), ".blk"))
		if err != nil {
			continue // not the server's
		}
		files = append(files, &blockFile{path: p, n: n})
	}
	slices.SortFunc(files, func(a, b *blockFile) int { return a.n - b.n })
	return files, nil
}

// repair makes every gap of the blocks a record that says so. A key whose latest
// value is lost must not show the one before: those still on disk are marked as
// deleted, behind the last record of all.
func (e *examination) repair(files []*blockFile) error {
	live := map[string][]uint64{} // by subject
	for _, f := range files {
		for _, r := range f.records {
			if r.seq&(erasedBit|markBit) == 0 {
				live[r.subject] = append(live[r.subject], r.seq)
			}
		}
	}
	var stale []uint64
	for i, f := range files {
		if len(f.gaps) == 0 {
			continue
		}
		kept, err := e.keep(f)
		if err != nil {
			return err
		}
		f.changed = true
		for _, g := range f.gaps {
			d, subject := e.lost(g)
			d.Quarantine = kept
			next := following(files[i:], g.off)
			older, newer := split(live[subject], next)
			if newer {
				d.Key, d.Revision = "", 0
				d.What += ": a value that was replaced since, nothing is lost"
			} else {
				stale = append(stale, older...)
			}
			e.found = append(e.found, d)
			if err := f.erase(g); err != nil {
				if !g.tail {
					return &beyondRepair{fmt.Sprintf("%s: %v", f.path, err)}
				}
				f.data = f.data[:g.off]
			}
		}
	}
	if len(stale) > 0 {
		last := files[len(files)-1]
		if err := last.load(); err != nil {
			return err
		}
		for _, seq := range stale {
			last.mark(seq)
		}
		last.changed = true
	}
	// What the server remembers of the blocks is no longer so.
	if err := os.Remove(filepath.Join(e.path(), "msgs", "index.db")); err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, f := range files {
		if f.changed {
			if err := replaceFile(f.path, f.data); err != nil {
				return err
			}
		}
	}
	return nil
}

// following returns the sequence of the first message behind an offset of the
// first block, or the highest there is. A broken record's own may be broken too.
func following(files []*blockFile, off int) uint64 {
	for i, f := range files {
		for _, r := range f.records {
			if r.seq&markBit == 0 && (i > 0 || r.off > off) {
				return r.seq &^ erasedBit
			}
		}
	}
	return ^uint64(0)
}

// split returns those sequences that are lower than next, and whether there are
// others.
func split(seqs []uint64, next uint64) (older []uint64, newer bool) {
	for _, seq := range seqs {
		if seq < next {
			older = append(older, seq)
		} else {
			newer = true
		}
	}
	return older, newer
}

// end is where the last whole record ends.
func (b *block) end() int {
	if len(b.records) == 0 {
		return 0
	}
	r := b.records[len(b.records)-1]
	return r.off + r.len
}

// lost says what was in a gap, and with which subject it can be found elsewhere.
func (e *examination) lost(g gap) (d Damage, subject string) {
	d = e.damage()
	d.What = fmt.Sprintf("%d bytes do not match their checksum", g.len)
	if e.stream == modulesStream {
		return d, "" // a module that lost something says so when it is read
	}
	if g.seq&(erasedBit|markBit) != 0 {
		d.What += ": they marked a deletion"
		return d, ""
	}
	escaped, ok := strings.CutPrefix(g.subject, keySubjects(d.Name))
	if !ok {
		d.What += "; which key they were of cannot be told, it may show an older value"
		return d, ""
	}
	key, ok := unescape(escaped, true)
	if !ok {
		d.What += "; which key they were of cannot be told, it may show an older value"
		return d, ""
	}
	d.Key, d.Revision = key, g.seq
	if g.tail {
		d.What += "; if the machine lost power while they were written, they were acknowledged to nobody"
	}
	return d, g.subject
}

// keep copies a block to the quarantine as it was found.
func (e *examination) keep(f *blockFile) (string, error) {
	to, err := freePath(filepath.Join(e.dir, quarantineDir, "blocks", e.account+"."+e.stream+"."+filepath.Base(f.path)))
	if err != nil {
		return "", err
	}
	return to, replaceFile(to, f.data)
}

// replaceFile writes a file so that it is there as a whole or as it was before,
// whatever happens meanwhile.
func replaceFile(path string, data []byte) error {
	tmp := path + ".repair"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	if err := syncPath(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}
