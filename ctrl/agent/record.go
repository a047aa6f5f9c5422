package agent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"

	"sfc/dataplane/arena"
	"sfc/dataplane/keep"
)

// record is a piece of plain data that is kept, as JSON. Each time it is kept
// anew under a name with a higher number; the one before is forgotten only then,
// so that one of the two is always whole.
type record struct {
	folder string // of names: folder/number/size
	number uint64
	name   string // of the latest one, "" when there is none
}

// recordHead is what lies in front of a record: its length and its CRC-32, a
// word each.
const recordHead = 16

// keepRecord keeps v as the newest of its kind.
func (d *Dataplane) keepRecord(r *record, v any) error {
	if d.opts.Keep == keep.Local() {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("keep %s: %w", r.folder, err)
	}
	page := os.Getpagesize()
	size := (recordHead + len(text) + page - 1) / page * page
	next := record{folder: r.folder, number: r.number + 1}
	next.name = fmt.Sprintf("%s/%d/%d", r.folder, next.number, size)
	region, _, err := d.opts.Keep.Open(next.name, size, arena.Options{})
	if err != nil {
		return fmt.Errorf("keep %s: %w", r.folder, err)
	}
	defer region.Close()
	mem := region.Bytes()
	copy(mem[recordHead:], text)
	binary.LittleEndian.PutUint64(mem[8:], uint64(crc32.ChecksumIEEE(text)))
	binary.LittleEndian.PutUint64(mem, uint64(len(text)))
	before := r.name
	*r = next
	if before == "" {
		return nil
	}
	return d.opts.Keep.Forget(before)
}

// loadRecord reads the newest record that is whole into v, and says whether
// there is one. All others are forgotten.
func (d *Dataplane) loadRecord(r *record, v any) (found bool) {
	for _, name := range d.opts.Keep.Names() {
		rest, ok := strings.CutPrefix(name, r.folder+"/")
		if !ok {
			continue
		}
		text, number, err := d.readRecord(name, rest)
		stale := name
		if err != nil {
			d.events.ofPlane("RecordLost", levelWarning, fmt.Sprintf("kept record %s: %v", name, err))
		} else if !found || number > r.number {
			if err := json.Unmarshal(text, v); err != nil {
				d.events.ofPlane("RecordLost", levelWarning, fmt.Sprintf("kept record %s: %v", name, err))
			} else {
				stale, found = r.name, true
				r.number, r.name = number, name
			}
		}
		if stale != "" {
			_ = d.opts.Keep.Forget(stale) // it is of no use
		}
	}
	return found
}

// readRecord returns a copy of what a record holds.
func (d *Dataplane) readRecord(name, rest string) (text []byte, number uint64, err error) {
	n, size, _ := strings.Cut(rest, "/")
	number, err1 := strconv.ParseUint(n, 10, 64)
	bytes, err2 := strconv.Atoi(size)
	if err := errors.Join(err1, err2); err != nil {
		return nil, 0, err
	}
	region, _, err := d.opts.Keep.Open(name, bytes, arena.Options{})
	if err != nil {
		return nil, 0, err
	}
	defer region.Close()
	mem := region.Bytes()
	length := binary.LittleEndian.Uint64(mem)
	if length == 0 || length > uint64(len(mem)-recordHead) {
		return nil, 0, fmt.Errorf("%d bytes in memory of %d", length, len(mem))
	}
	text = append(text, mem[recordHead:][:length]...)
	if sum := uint64(crc32.ChecksumIEEE(text)); sum != binary.LittleEndian.Uint64(mem[8:]) {
		return nil, 0, fmt.Errorf("its sum is %x, not what is written there", sum)
	}
	return text, number, nil
}
