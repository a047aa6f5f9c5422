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
// sequence and more; at the end the hash of the last record of the last block,
// and its own HighwayHash. See writeFullState in filestore.go.
const indexMagic = 11

// note is what the server noted of its blocks.
type note struct {
	messages, last uint64 // how many there were, and the last sequence
	sum            []byte // of the last record
}

// index reads the server's note. ok is false if there is none, or one that is not
// whole, which the server does not use either.
func (e *examination) index() (n note, ok bool, err error) {
	data, err := os.ReadFile(filepath.Join(e.path(), "msgs", "index.db"))
	if errors.Is(err, fs.ErrNotExist) {
		return n, false, nil
	} else if err != nil {
		return n, false, err
	}
	if len(data) < 2+2*recordHash || data[0] != indexMagic {
		return n, false, nil
	}
	key := sha256.Sum256([]byte(e.stream))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		return n, false, err
	}
	body, sum := data[:len(data)-recordHash], data[len(data)-recordHash:]
	h.Write(body)
	if !bytes.Equal(h.Sum(nil), sum) {
		return n, false, nil
	}
	n.sum = body[len(body)-recordHash:]
	var v [5]uint64
	body = body[2:]
	for i := range v {
		size := 0
		if v[i], size = binary.Uvarint(body); size <= 0 {
			return n, false, nil
		}
		body = body[size:]
	}
	n.messages, n.last = v[0], v[4]
	return n, true, nil
}

// missing notes messages that the server once counted and of which there is
// nothing in the blocks: files that are gone altogether.
func (e *examination) missing(files []*blockFile) error {
	noted, ok, err := e.index()
	if err != nil || !ok {
		return err
	}
	var here, last, broken uint64
	var sum []byte
	subjects := map[string]uint64{}
	for _, f := range files {
		broken += uint64(len(f.gaps))
		if f.sum != nil {
			sum = f.sum
		}
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
	// A note that is older than the blocks counts what may be gone rightly: what
	// was written since need not be a message, and then has no sequence of its
	// own. One that is newer knows more than the blocks do.
	older := noted.last < last || noted.last == last && !bytes.Equal(noted.sum, sum)
	if older || noted.last <= last+broken && noted.messages <= here+broken {
		return nil
	}
	d := e.damage()
	d.What = fmt.Sprintf("%d messages were noted, the last with sequence %d; there are %d, the last with %d: files are missing or cut off, and which keys they held cannot be told",
		noted.messages, noted.last, here, last)
	e.found = append(e.found, d)
	return nil
}
