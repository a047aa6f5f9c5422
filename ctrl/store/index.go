package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minio/highwayhash"
)

// indexMagic begins the file in which the server notes what its blocks hold,
// index.db, when it stops and every few minutes. Then come the version (a byte)
// and, as variable-length numbers, messages, bytes, first sequence, time, last
// sequence; at the end its HighwayHash. See writeFullState in filestore.go.
const indexMagic = 11

// index reads how many messages there were, and the last sequence, when the
// server noted it. ok is false if there is no note, or one that is not whole,
// which the server does not use either.
func (e *examination) index() (messages, last uint64, ok bool, err error) {
	data, err := os.ReadFile(filepath.Join(e.path(), "msgs", "index.db"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, false, nil
	} else if err != nil {
		return 0, 0, false, err
	}
	if len(data) < 2+recordHash || data[0] != indexMagic {
		return 0, 0, false, nil
	}
	key := sha256.Sum256([]byte(e.stream))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		return 0, 0, false, err
	}
	body, sum := data[:len(data)-recordHash], data[len(data)-recordHash:]
	h.Write(body)
	if !bytes.Equal(h.Sum(nil), sum) {
		return 0, 0, false, nil
	}
	var n [5]uint64
	body = body[2:]
	for i := range n {
		v, size := binary.Uvarint(body)
		if size <= 0 {
			return 0, 0, false, nil
		}
		n[i], body = v, body[size:]
	}
	return n[0], n[4], true, nil
}

// missing notes messages that the server once counted and of which there is
// nothing in the blocks: files that are gone altogether.
func (e *examination) missing(files []*blockFile) error {
	noted, lastNoted, ok, err := e.index()
	if err != nil || !ok {
		return err
	}
	var here, last, broken uint64
	subjects := map[string]uint64{}
	for _, f := range files {
		broken += uint64(len(f.gaps))
		for _, r := range f.records {
			seq := r.seq &^ (erasedBit | markBit)
			last = max(last, seq)
			if r.seq&(markBit|erasedBit) == 0 {
				if e.stream == modulesStream || subjects[r.subject] == 0 {
					here++
				}
				subjects[r.subject] = seq
			}
		}
	}
	// A note that is older than the blocks counts what may be gone rightly. One
	// that is newer knows more than the blocks do.
	if lastNoted < last || lastNoted <= last+broken && noted <= here+broken {
		return nil
	}
	d := e.damage()
	d.What = fmt.Sprintf("%d messages were noted, the last with sequence %d; there are %d, the last with %d: files are missing or cut off, and which keys they held cannot be told",
		noted, lastNoted, here, last)
	e.found = append(e.found, d)
	return nil
}
