package store

import "strings"

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
